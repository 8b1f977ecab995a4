// Whose clock is wrong, from answered heartbeats.
import Engine
import Replication
import Testing

@Suite struct ClockCheckTests {
    private let voters = (1...3).map { MemberID($0) }

    /// Member 1 leads; each of the others answers with a lead over its clock, after `delay`.
    private func verdict(
        _ leads: [UInt64: Int], delay: UInt64 = 10, voters: [MemberID]? = nil
    ) -> ClockCheck.Verdict {
        var check = ClockCheck(maxOffsetMilliseconds: 500)
        let wall: UInt64 = 1_700_000_000_000
        for (member, lead) in leads {
            check.sent(round: 4, to: MemberID(member), wall: wall)
            check.answered(
                round: 4, by: MemberID(member), clock: UInt64(Int(wall + delay / 2) + lead),
                wall: wall + delay)
        }
        return check.verdict(voters: voters ?? self.voters, own: MemberID(1))
    }

    @Test func nothingIsKnownWithoutAMajority() {
        #expect(verdict([:]) == .unknown)
        #expect(verdict([2: 0], voters: (1...5).map { MemberID($0) }) == .unknown)
        #expect(verdict([:], voters: [MemberID(1)]) == .agrees)
    }

    @Test func theMedianJudges() {
        #expect(verdict([2: 0, 3: 0]) == .agrees)
        #expect(verdict([2: -400, 3: 400]) == .agrees)
        // One other is wrong, or this one: two clocks cannot tell.
        #expect(verdict([2: -90_000]) == .agrees)
        #expect(verdict([2: -90_000, 3: 0]) == .agrees)
        #expect(verdict([2: -90_000, 3: 90_000]) == .agrees)
        #expect(verdict([2: -90_000, 3: -80_000]) == .deviates(milliseconds: 79_995))
        #expect(verdict([2: 700, 3: 600]) == .deviates(milliseconds: -595))
    }

    @Test func aSlowNetworkProvesNothing() {
        // An answer after four seconds says little: it may have been read at either end.
        #expect(verdict([2: -900, 3: -900], delay: 4_000) == .agrees)
        #expect(verdict([2: -9_000, 3: -9_000], delay: 4_000) == .deviates(milliseconds: 7_000))
    }

    @Test func answersToEarlierHeartbeatsDoNotCount() {
        var check = ClockCheck(maxOffsetMilliseconds: 500)
        for member in voters.dropFirst() {
            check.sent(round: 7, to: member, wall: 10_000)
            check.answered(round: 6, by: member, clock: 2_000, wall: 10_005)
        }
        #expect(check.verdict(voters: voters, own: MemberID(1)) == .unknown)
        for member in voters.dropFirst() {
            check.answered(round: 8, by: member, clock: 10_001, wall: 10_006)
        }
        #expect(check.verdict(voters: voters, own: MemberID(1)) == .agrees)
        check.reset()
        #expect(check.verdict(voters: voters, own: MemberID(1)) == .unknown)
    }
}
