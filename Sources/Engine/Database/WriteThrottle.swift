// Smooth delay before a stall: from the slowdown trigger on each byte that is written costs a
// little time, the more the nearer level 0 is to where writes stop. So writers slow down to what
// compaction can take, instead of running into a wall. Pure: bytes and the count of tables in,
// milliseconds to wait out. The owner is the embedded commit path, which waits with no lock held.

package struct WriteThrottle: Hashable, Sendable {
    /// Tables of level 0 at which the delay begins, and at which writes stop.
    private let slowdown: Int
    private let stop: Int
    /// Time of written bytes that was not waited for yet.
    private var owedNanoseconds: UInt64 = 0

    /// What a MiB costs where the delay begins (64 MiB/s), and just before writes stop (1 MiB/s).
    private static let leastNanoseconds: Double = 1e9 / 64
    private static let mostNanoseconds: Double = 1e9
    /// No write waits longer at a time; what it owes beyond is left to the next ones.
    package static let waitMax: UInt64 = 40
    private static let owedMax: UInt64 = 1_000_000_000

    package init(slowdown: Int, stop: Int) {
        self.slowdown = slowdown
        let (least, isOverflow) = slowdown.addingReportingOverflow(1)
        self.stop = isOverflow ? .max : max(stop, least)
    }

    /// Milliseconds that a write of so many bytes waits before it begins.
    package mutating func delay(bytes: Int, level0 count: Int) -> UInt64 {
        guard count >= slowdown else {
            owedNanoseconds = 0
            return 0
        }
        // Any of them may be as large, or as far below zero, as a number gets.
        let range = max(1, Double(stop) - Double(slowdown))
        let way = min(1, (Double(count) - Double(slowdown)) / range)
        let spread = WriteThrottle.mostNanoseconds - WriteThrottle.leastNanoseconds
        let cost = WriteThrottle.leastNanoseconds + way * way * spread
        let added = Double(max(0, bytes)) / Double(1 << 20) * cost
        // Bounded before it is a whole number: one write may be half a GiB.
        owedNanoseconds = min(
            owedNanoseconds + UInt64(min(added, Double(WriteThrottle.owedMax))),
            WriteThrottle.owedMax)
        // Waits of less than a millisecond are gathered until they are worth one.
        let wait = min(owedNanoseconds / 1_000_000, WriteThrottle.waitMax)
        owedNanoseconds -= wait * 1_000_000
        return wait
    }
}
