// When the requests of an open loop are due: at a fixed rate, whatever the answers do. Latency is
// counted from these times, so that a stall of the server counts for every request that came due in
// it (no coordinated omission). Pure.

package struct RateSchedule: Sendable, Equatable {
    private let start: UInt64
    private let nanosecondsApart: Double
    private let count: UInt64
    package private(set) var issued: UInt64 = 0

    /// `share` of `shares` that make up `perSecond` together, their requests taking turns.
    /// `start` and times are nanoseconds; nothing is due `seconds` after the start or later.
    package init(
        start: UInt64, perSecond: Double, seconds: Double, share: Int = 0, of shares: Int = 1
    ) {
        nanosecondsApart = 1e9 * Double(shares) / perSecond
        self.start = start + UInt64(1e9 * Double(share) / perSecond)
        let left = seconds * perSecond - Double(share)
        count = left > 0 ? UInt64((left / Double(shares)).rounded(.up)) : 0
    }

    /// When the next request is due; nil if there is none any more.
    package var next: UInt64? {
        issued < count ? start + UInt64(Double(issued) * nanosecondsApart) : nil
    }

    /// Takes the next request if it is due; returns when it was.
    package mutating func take(at now: UInt64) -> UInt64? {
        guard let next, next <= now else { return nil }
        issued += 1
        return next
    }

    /// Requests that were not taken yet.
    package var left: UInt64 { count - issued }
}
