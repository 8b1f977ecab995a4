// Whether a leader's clock agrees with those of the others. Its clock decides what has expired, so
// one that is years ahead would expire everything: such a leader steps down, and serves nothing
// before it knows. Pure.
//
// Each heartbeat answered gives bounds, whatever the network's delay: the member's clock was read
// after the heartbeat left and before the answer came, so its lead lies between (its clock −
// arrival) and (its clock − departure). Both are taken on the monotonic clock, which nobody sets:
// when this member's own wall clock jumps, the verdict changes at once, before anybody answers.
import Engine

package struct ClockCheck {
    package enum Verdict: Equatable {
        /// Too few members have answered yet.
        case unknown
        case agrees
        /// Most of those heard are this much behind (positive) or ahead of this clock, at least.
        case deviates(milliseconds: Int64)
    }

    private struct Departure {
        var round: UInt64
        var at: UInt64
    }

    private struct Lead {
        /// Of the member's wall clock over this member's monotonic clock, milliseconds.
        var range: ClosedRange<Int64>
        var measuredAt: UInt64
    }

    private let maxOffset: Int64
    /// Who is this much behind a leader refuses its entries.
    private let refusalOffset = Int64(ReplicaOptions.clockAheadMilliseconds)
    /// What a silent member said counts for this long.
    private static let leadMilliseconds: UInt64 = 30_000
    /// The oldest heartbeat to each member that is not answered yet.
    private var departures: [MemberID: Departure] = [:]
    private var leads: [MemberID: Lead] = [:]

    package init(maxOffsetMilliseconds: UInt64) {
        maxOffset = Int64(clamping: maxOffsetMilliseconds)
    }

    /// A leadership begins: what was measured in another may be long ago.
    package mutating func reset() {
        departures.removeAll()
        leads.removeAll()
    }

    /// `now`, here and below: monotonic milliseconds.
    package mutating func sent(round: UInt64, to member: MemberID, now: UInt64) {
        if departures[member] == nil { departures[member] = Departure(round: round, at: now) }
    }

    package mutating func answered(
        round: UInt64, by member: MemberID, clock: ClockMilliseconds, now: UInt64
    ) {
        guard let departure = departures[member], round >= departure.round, now >= departure.at
        else { return }
        departures[member] = nil
        leads[member] = Lead(
            range: ClockCheck.lead(clock, over: now)...ClockCheck.lead(clock, over: departure.at),
            measuredAt: now)
    }

    /// A clock from the network may say anything: cut to what cannot overflow.
    private static func lead(_ clock: UInt64, over other: UInt64) -> Int64 {
        Int64(min(clock, 1 << 60)) - Int64(min(other, 1 << 60))
    }

    /// Judged by the median of those heard: more than half of them, this one included, must differ
    /// from this clock in one direction for it to be the one that is wrong. And a clock so far
    /// ahead that no quorum would take its entries is as good as wrong: of two who differ by that
    /// much the other one can lead.
    package func verdict(
        voters: [MemberID], own: MemberID, wall: ClockMilliseconds, now: UInt64
    ) -> Verdict {
        let ownLead = ClockCheck.lead(wall, over: now)
        let known = voters.filter { $0 != own }.compactMap { leads[$0] }
            .filter { now &- $0.measuredAt <= ClockCheck.leadMilliseconds }
            .map { ($0.range.lowerBound - ownLead)...($0.range.upperBound - ownLead) }
        let heard = known.count + 1
        guard heard * 2 > voters.count else { return .unknown }
        let behind = known.filter { $0.upperBound < -maxOffset }
        if behind.count * 2 > heard, let least = behind.map(\.upperBound).max() {
            return .deviates(milliseconds: -least)
        }
        let ahead = known.filter { $0.lowerBound > maxOffset }
        if ahead.count * 2 > heard, let least = ahead.map(\.lowerBound).min() {
            return .deviates(milliseconds: -least)
        }
        let refusing = known.filter { $0.upperBound < -refusalOffset }
        if (heard - refusing.count) * 2 <= voters.count,
            let least = refusing.map(\.upperBound).max()
        {
            return .deviates(milliseconds: -least)
        }
        return .agrees
    }
}
