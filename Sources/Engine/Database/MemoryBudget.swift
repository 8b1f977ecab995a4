// One bound for memtables and caches together (`StoreOptions.memoryBytes`). Memtables go first, for
// their size is the log's affair: the caches give way while they are large, in proportion to what
// each was given, and take their bytes back after flushes. They keep an eighth; memtables that want
// more than the rest make new writes wait for the flushes under way. Only the active memtable may
// pass the bound, when no other is left to be flushed.

package struct MemoryBudget: Sendable, Equatable {
    /// For memtables and caches together.
    package let total: Int
    /// What the block cache holds while memtables leave room for it.
    package let cacheBytes: Int
    /// Likewise the row cache.
    package let rowCacheBytes: Int

    /// What is too much for the total is cut: rows to half of it, and blocks to the rest.
    package init(total: Int, cacheBytes: Int, rowCacheBytes: Int = 0) {
        invariant(
            total > 0 && cacheBytes >= 0 && rowCacheBytes >= 0,
            "a memory budget of \(total) bytes")
        self.total = total
        self.rowCacheBytes = min(rowCacheBytes, total / 2)
        self.cacheBytes = min(cacheBytes, total - self.rowCacheBytes)
    }

    private var bothBytes: Int { cacheBytes + rowCacheBytes }

    /// What memtables may take at most.
    package var memtableBytesMax: Int { total - bothBytes / 8 }

    /// The block cache's bytes while memtables hold `memtableBytes`. They move in steps of a 64th
    /// of the total, so that not every write moves them.
    package func cacheLimit(memtableBytes: Int) -> Int {
        bothLimit(memtableBytes) - rowCacheLimit(memtableBytes: memtableBytes)
    }

    /// Likewise the row cache's.
    package func rowCacheLimit(memtableBytes: Int) -> Int {
        guard rowCacheBytes > 0 else { return 0 }
        let product = rowCacheBytes.multipliedFullWidth(by: bothLimit(memtableBytes))
        return bothBytes.dividingFullWidth(product).quotient
    }

    private func bothLimit(_ memtableBytes: Int) -> Int {
        let step = max(total / 64, 1)
        let steps = memtableBytes / step + (memtableBytes % step == 0 ? 0 : 1)
        let taken = memtableBytes < total ? steps * step : total
        return min(max(total - taken, bothBytes / 8), bothBytes)
    }
}

/// What the data of a store takes in memory.
public struct MemoryUse: Sendable, Equatable {
    /// Of writes that are not in a table yet.
    public var memtableBytes: Int
    /// Decoded blocks, and what open tables keep decoded.
    public var cacheBytes: Int
    /// What the cache of these may hold now.
    public var cacheLimitBytes: Int
    /// Nil without `StoreOptions.rowCacheBytes`.
    public var rowCache: RowCacheUse?
    /// For all together; nil without `StoreOptions.memoryBytes`.
    public var budgetBytes: Int?
}
