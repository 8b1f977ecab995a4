// One bound for memtables and block cache together (`StoreOptions.memoryBytes`). Memtables go
// first, for their size is the log's affair: the cache gives way while they are large and takes its
// bytes back after flushes. It keeps an eighth of what it was given; memtables that want more than
// the rest make new writes wait for the flushes under way. Only the active memtable may pass the
// bound, when no other is left to be flushed.

package struct MemoryBudget: Sendable, Equatable {
    /// For memtables and cache together.
    package let total: Int
    /// What the cache holds while memtables leave room for it.
    package let cacheBytes: Int

    package init(total: Int, cacheBytes: Int) {
        invariant(total > 0 && cacheBytes >= 0, "a memory budget of \(total) bytes")
        self.total = total
        self.cacheBytes = min(cacheBytes, total)
    }

    /// What memtables may take at most.
    package var memtableBytesMax: Int { total - cacheBytes / 8 }

    /// The cache's bytes while memtables hold `memtableBytes`. It moves in steps of a 64th of the
    /// total, so that not every write moves it.
    package func cacheLimit(memtableBytes: Int) -> Int {
        let step = max(total / 64, 1)
        let steps = memtableBytes / step + (memtableBytes % step == 0 ? 0 : 1)
        let taken = memtableBytes < total ? steps * step : total
        return min(max(total - taken, cacheBytes / 8), cacheBytes)
    }
}

/// What the data of a store takes in memory.
public struct MemoryUse: Sendable, Equatable {
    /// Of writes that are not in a table yet.
    public var memtableBytes: Int
    /// Decoded blocks, and what open tables keep decoded.
    public var cacheBytes: Int
    /// What the cache may hold now.
    public var cacheLimitBytes: Int
    /// For both together; nil without `StoreOptions.memoryBytes`.
    public var budgetBytes: Int?
}
