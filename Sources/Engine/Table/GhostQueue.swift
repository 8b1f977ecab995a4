// What left the small queue of an S3-FIFO lately, as fingerprints: as many as stand for the bytes
// that main may hold. Eight bytes each, in buckets of one cache line; a full bucket forgets its
// oldest. Age is counted in bytes that left since, so nothing has to be taken out at the old end.
//
// It may be wrong, and then costs one wrong place in a queue: a fingerprint may be another item's,
// one may be forgotten early in a full bucket, and one that was not written over while a tebibyte
// went by looks young again.

package struct GhostQueue: Sendable {
    private struct Entry {
        /// 0: empty.
        var fingerprint: UInt32 = 0
        /// When it left.
        var left: UInt32 = 0
    }

    private static let ways = 8
    /// Bytes in a tick of the clock, as a shift.
    private static let tickShift = 8
    /// Buckets are a power of two.
    private var entries: [Entry] = []
    /// Bytes that have left.
    private var clock: UInt64 = 0

    package init() {}

    package var residentBytes: Int { entries.count * MemoryLayout<Entry>.stride }

    private var now: UInt32 { UInt32(truncatingIfNeeded: clock >> GhostQueue.tickShift) }

    private static func ticks(_ bytes: Int) -> UInt32 {
        UInt32(clamping: bytes >> tickShift)
    }

    private static func stored(_ fingerprint: UInt32) -> UInt32 { max(fingerprint, 1) }

    /// Remembers what leaves. `residents` is how many items the cache holds: there is room for so
    /// many fingerprints.
    package mutating func note(
        _ fingerprint: UInt32, bytes: Int, residents: Int, within window: Int
    ) {
        if entries.count < residents || entries.isEmpty { grow(to: residents, window) }
        clock &+= UInt64(bytes)
        put(Entry(fingerprint: GhostQueue.stored(fingerprint), left: now))
    }

    /// Whether it left while at most `window` bytes have left since; it is forgotten then.
    package mutating func take(_ fingerprint: UInt32, within window: Int) -> Bool {
        let wanted = GhostQueue.stored(fingerprint)
        for at in bucket(of: wanted) where entries[at].fingerprint == wanted {
            let age = now &- entries[at].left
            entries[at].fingerprint = 0
            return age <= GhostQueue.ticks(window)
        }
        return false
    }

    private func bucket(of fingerprint: UInt32) -> Range<Int> {
        if entries.isEmpty { return 0..<0 }
        let number = Int(fingerprint) & (entries.count / GhostQueue.ways - 1)
        return number * GhostQueue.ways..<(number + 1) * GhostQueue.ways
    }

    /// Over its own older entry, an empty one or the oldest of the bucket.
    private mutating func put(_ entry: Entry) {
        let bucket = bucket(of: entry.fingerprint)
        if let own = bucket.first(where: { entries[$0].fingerprint == entry.fingerprint })
            ?? bucket.first(where: { entries[$0].fingerprint == 0 })
        {
            entries[own] = entry
            return
        }
        var oldest = bucket.lowerBound
        for at in bucket where now &- entries[at].left > now &- entries[oldest].left {
            oldest = at
        }
        entries[oldest] = entry
    }

    private mutating func grow(to residents: Int, _ window: Int) {
        var count = max(entries.count, GhostQueue.ways)
        while count < residents { count *= 2 }
        let old = entries
        entries = Array(repeating: Entry(), count: count)
        let limit = GhostQueue.ticks(window)
        for entry in old where entry.fingerprint != 0 && now &- entry.left <= limit { put(entry) }
    }
}
