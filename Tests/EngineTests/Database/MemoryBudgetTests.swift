// One budget for memtables and caches: who gives way to whom, and how far.
import Engine
import Testing

@Suite struct MemoryBudgetTests {
    @Test func theCacheGivesWayInStepsAndKeepsAnEighth() {
        let budget = MemoryBudget(total: 6400, cacheBytes: 4000)
        #expect(budget.cacheLimit(memtableBytes: 0) == 4000)
        #expect(budget.cacheLimit(memtableBytes: 2400) == 4000)
        #expect(budget.cacheLimit(memtableBytes: 2401) == 3900)
        #expect(budget.cacheLimit(memtableBytes: 2500) == 3900)
        #expect(budget.cacheLimit(memtableBytes: 5900) == 500)
        #expect(budget.cacheLimit(memtableBytes: 6400) == 500)
        #expect(budget.cacheLimit(memtableBytes: .max) == 500)
        #expect(budget.memtableBytesMax == 5900)
    }

    @Test(arguments: [(1, 0), (1, 9), (63, 63), (1000, 7), (100_000, 1 << 40)])
    func bothTogetherStayWithinTheTotal(total: Int, cacheBytes: Int) {
        let budget = MemoryBudget(total: total, cacheBytes: cacheBytes)
        var last = budget.cacheLimit(memtableBytes: 0)
        #expect(last == budget.cacheBytes && last <= total)
        for bytes in stride(from: 0, through: budget.memtableBytesMax, by: max(total / 200, 1)) {
            let limit = budget.cacheLimit(memtableBytes: bytes)
            #expect(limit <= last && limit >= budget.cacheBytes / 8)
            #expect(bytes + limit <= total)
            last = limit
        }
    }

    @Test(arguments: [(1, 9, 9), (64, 64, 64), (6400, 3000, 1000), (1 << 40, 1 << 50, 12_345_679)])
    func twoCachesGiveWayInProportion(total: Int, cacheBytes: Int, rowCacheBytes: Int) {
        let budget = MemoryBudget(
            total: total, cacheBytes: cacheBytes, rowCacheBytes: rowCacheBytes)
        #expect(budget.rowCacheBytes == min(rowCacheBytes, total / 2))
        #expect(budget.cacheBytes + budget.rowCacheBytes <= total)
        #expect(budget.cacheLimit(memtableBytes: 0) == budget.cacheBytes)
        #expect(budget.rowCacheLimit(memtableBytes: 0) == budget.rowCacheBytes)
        for bytes in stride(from: 0, through: budget.memtableBytesMax, by: max(total / 200, 1)) {
            let blocks = budget.cacheLimit(memtableBytes: bytes)
            let rows = budget.rowCacheLimit(memtableBytes: bytes)
            #expect(bytes + blocks + rows <= total)
            // Each an eighth at least, but for what rounding takes.
            #expect(blocks >= budget.cacheBytes / 8 && rows + 1 >= budget.rowCacheBytes / 8)
        }
    }

    private func rig(memoryBytes: Int?, memtablesMax: Int = 30) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions(segmentBytes: 16 << 10)
        options.store.cacheBytes = 128 << 10
        options.store.memoryBytes = memoryBytes
        options.store.memtablesMax = memtablesMax
        options.store.standInsMax = 100
        options.store.compaction.isEnabled = false
        return try DatabaseRig(options, jobs: .first)
    }

    private func key(_ number: Int) -> [UInt8] { [UInt8]("key\(100_000 + number)".utf8) }

    @Test func aStoreMovesItsMemoryBetweenMemtablesAndCache() throws {
        let rig = try rig(memoryBytes: 192 << 10)
        let value = [UInt8](repeating: 7, count: 200)
        var lowest = Int.max
        for number in 0..<1500 {
            try rig.database.put(key(number), value)
            let use = rig.database.memoryUse
            lowest = min(lowest, use.cacheLimitBytes)
            #expect(use.budgetBytes == 192 << 10)
            // The write that came last may not have fitted.
            #expect(use.memtableBytes + use.cacheLimitBytes <= (192 << 10) + 512)
        }
        // It gave nearly everything away before writes waited for flushes.
        #expect(lowest == 16 << 10)
        rig.jobs.runAll()
        try rig.database.flush()
        rig.jobs.runAll()
        try rig.database.put(key(0), value)
        #expect(rig.database.memoryUse.cacheLimitBytes == 128 << 10)
        for number in 1..<1500 { #expect(try rig.database.get(key(number)) == value) }
    }

    @Test func withoutABudgetTheCacheKeepsWhatItHas() throws {
        let rig = try rig(memoryBytes: nil, memtablesMax: 3)
        for number in 0..<400 {
            try rig.database.put(key(number), [UInt8](repeating: 7, count: 200))
        }
        let use = rig.database.memoryUse
        #expect(use.budgetBytes == nil && use.cacheLimitBytes == 128 << 10)
        #expect(use.memtableBytes > 10 << 10)
    }
}
