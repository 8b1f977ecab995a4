// Who gets the memory: see `MemoryBudget`.

extension Store {
    /// Any thread.
    package var memoryUse: MemoryUse {
        MemoryUse(
            memtableBytes: pin().view.memtables.reduce(0) { $0 + $1.byteCount },
            cacheBytes: cache.residentBytes, cacheLimitBytes: cache.limit,
            rowCache: cache.rows?.use, budgetBytes: memory?.total)
    }

    private var memtableBytes: Int {
        frozen.reduce(active.memtable.byteCount) { $0 + $1.memtable.byteCount }
    }

    /// Gives the caches what memtables leave. The owner calls it when they have changed.
    func shareMemory() {
        guard let memory else { return }
        let taken = memtableBytes
        cache.setLimit(memory.cacheLimit(memtableBytes: taken))
        cache.rows?.setLimit(memory.rowCacheLimit(memtableBytes: taken))
    }

    /// Flushes must come before more is applied. One memtable alone never counts as too many:
    /// nothing would make it smaller.
    var areMemtablesFull: Bool {
        if frozen.count >= options.memtablesMax { return true }
        guard let memory, !frozen.isEmpty else { return false }
        return memtableBytes > memory.memtableBytesMax
    }
}
