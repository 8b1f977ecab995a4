// Whose clock is wrong, from answered heartbeats.
import Engine
import Replication
import Testing

@Suite struct ClockCheckTests {
    private let voters = (1...3).map { MemberID($0) }
    private let wall: UInt64 = 1_700_000_000_000

    /// Member 1 leads; each of the others answers with a lead over its clock, after `delay`.
    private func verdict(
        _ leads: [UInt64: Int], delay: UInt64 = 10, jump: UInt64 = 0, silence: UInt64 = 0,
        voters: [MemberID]? = nil
    ) -> ClockCheck.Verdict {
        var check = ClockCheck(maxOffsetMilliseconds: 500)
        for (member, lead) in leads {
            check.sent(round: 4, to: MemberID(member), now: 1_000)
            check.answered(
                round: 4, by: MemberID(member), clock: UInt64(Int(wall + delay / 2) + lead),
                now: 1_000 + delay)
        }
        return check.verdict(
            voters: voters ?? self.voters, own: MemberID(1), wall: wall + delay + silence + jump,
            now: 1_000 + delay + silence)
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
        #expect(verdict([2: -9_000]) == .agrees)
        #expect(verdict([2: 90_000]) == .agrees)
        #expect(verdict([2: -90_000, 3: 0]) == .agrees)
        #expect(verdict([2: -90_000, 3: 90_000]) == .agrees)
        #expect(verdict([2: -90_000, 3: -80_000]) == .deviates(milliseconds: 79_995))
        #expect(verdict([2: 700, 3: 600]) == .deviates(milliseconds: -595))
    }

    /// Who would refuse this leader's entries is no part of a quorum that could commit them.
    @Test func aClockThatNoQuorumWouldTakeIsWrong() {
        #expect(verdict([2: -90_000]) == .deviates(milliseconds: 89_995))
        let five = (1...5).map { MemberID($0) }
        #expect(verdict([2: -90_000, 3: 0], voters: five) == .deviates(milliseconds: 89_995))
        #expect(verdict([2: -90_000, 3: 0, 4: 0], voters: five) == .agrees)
    }

    @Test func aJumpOfTheOwnClockShowsBeforeAnybodyAnswers() {
        #expect(verdict([2: 0, 3: 0], jump: 90_000) == .deviates(milliseconds: 89_995))
        #expect(verdict([2: 0, 3: 0], jump: 300) == .agrees)
    }

    @Test func whatASilentMemberSaidIsForgotten() {
        #expect(verdict([2: 0, 3: 0], silence: 29_000) == .agrees)
        #expect(verdict([2: 0, 3: 0], silence: 31_000) == .unknown)
    }

    @Test func anyClockMayComeFromTheNetwork() {
        for clock in [0, 1, UInt64.max - 1, .max] {
            var check = ClockCheck(maxOffsetMilliseconds: 500)
            for member in voters.dropFirst() {
                check.sent(round: 1, to: member, now: 5)
                check.answered(round: 1, by: member, clock: clock, now: 9)
            }
            let verdict = check.verdict(voters: voters, own: MemberID(1), wall: wall, now: 10)
            guard case .deviates = verdict else {
                Issue.record("\(clock): \(verdict)")
                return
            }
        }
    }

    @Test func aSlowNetworkProvesNothing() {
        // An answer after four seconds says little: it may have been read at either end.
        #expect(verdict([2: -900, 3: -900], delay: 4_000) == .agrees)
        #expect(verdict([2: -9_000, 3: -9_000], delay: 4_000) == .deviates(milliseconds: 7_000))
    }

    @Test func answersToEarlierHeartbeatsDoNotCount() {
        var check = ClockCheck(maxOffsetMilliseconds: 500)
        func verdict() -> ClockCheck.Verdict {
            check.verdict(voters: voters, own: MemberID(1), wall: 10_006, now: 10_006)
        }
        for member in voters.dropFirst() {
            check.sent(round: 7, to: member, now: 10_000)
            check.answered(round: 6, by: member, clock: 2_000, now: 10_005)
        }
        #expect(verdict() == .unknown)
        for member in voters.dropFirst() {
            check.answered(round: 8, by: member, clock: 10_001, now: 10_006)
        }
        #expect(verdict() == .agrees)
        check.reset()
        #expect(verdict() == .unknown)
    }
}
