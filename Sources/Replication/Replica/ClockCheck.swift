// Whether a leader's clock agrees with those of the others. Its clock decides what has expired, so
// one that is years ahead would expire everything: such a leader steps down, and serves nothing
// before it knows. Pure.
//
// Each heartbeat answered gives bounds, whatever the network's delay: the member's clock was read
// after the heartbeat left and before the answer came, so its lead over this clock lies between
// (its clock − arrival) and (its clock − departure), both on this clock.
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
        var wall: ClockMilliseconds
    }

    private let maxOffset: Int64
    /// The oldest heartbeat to each member that is not answered yet.
    private var departures: [MemberID: Departure] = [:]
    /// The lead of each member's clock over this one, milliseconds.
    private var leads: [MemberID: ClosedRange<Int64>] = [:]

    package init(maxOffsetMilliseconds: UInt64) {
        maxOffset = Int64(clamping: maxOffsetMilliseconds)
    }

    /// A leadership begins: what was measured in another may be long ago.
    package mutating func reset() {
        departures.removeAll()
        leads.removeAll()
    }

    package mutating func sent(round: UInt64, to member: MemberID, wall: ClockMilliseconds) {
        if departures[member] == nil { departures[member] = Departure(round: round, wall: wall) }
    }

    package mutating func answered(
        round: UInt64, by member: MemberID, clock: ClockMilliseconds, wall: ClockMilliseconds
    ) {
        guard let departure = departures[member], round >= departure.round else { return }
        departures[member] = nil
        let (clock, arrival) = (Int64(clamping: clock), Int64(clamping: wall))
        let left = Int64(clamping: departure.wall)
        // A clock that was set back meanwhile measured nothing.
        guard left <= arrival else { return }
        leads[member] = (clock - arrival)...(clock - left)
    }

    /// Judged by the median of those heard: more than half of them, this one included, must differ
    /// from this clock in one direction for it to be the one that is wrong.
    package func verdict(voters: [MemberID], own: MemberID) -> Verdict {
        let known = voters.filter { $0 != own }.compactMap { leads[$0] }
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
        return .agrees
    }
}
