// The row cache in a database: whatever is written, deleted, expired or compacted after a row was
// cached, a read sees what it would have seen without the cache.
import Engine
import Testing

@Suite struct DatabaseRowCacheTests {
    private func rig(_ change: (inout DatabaseOptions) -> Void = { _ in }) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions(segmentBytes: 32 << 10)
        options.store.cacheBytes = 0
        options.store.rowCacheBytes = 256 << 10
        change(&options)
        return try DatabaseRig(options, jobs: .first)
    }

    private func key(_ number: Int) -> [UInt8] { [UInt8]("key\(1000 + number)".utf8) }

    /// Neighbours are far apart: rows of the blocks that were read last are not copied.
    private let scattered = (0..<300).map { $0 * 7_919 % 300 }

    /// 300 keys in tables, each with its number as value, and read often.
    private func fill(_ rig: DatabaseRig) throws {
        for number in 0..<300 { try rig.database.put(key(number), value(number)) }
        try rig.database.flush()
        rig.jobs.runAll()
        for _ in 0..<4 { try expect(rig) { value($0) } }
    }

    private func value(_ number: Int, _ version: Int = 0) -> [UInt8] {
        [UInt8]("\(number) in version \(version), and some more of it".utf8)
    }

    private func expect(_ rig: DatabaseRig, _ wanted: (Int) -> [UInt8]?) throws {
        let wrong = try scattered.filter { try rig.database.get(key($0)) != wanted($0) }
        #expect(wrong.isEmpty)
        let found = try rig.database.multiGet(scattered.map { key($0) })
        #expect(found == scattered.map { wanted($0) })
    }

    private func hits(_ rig: DatabaseRig) throws -> UInt64 {
        try #require(rig.database.memoryUse.rowCache).hits
    }

    @Test func `Without the option there is none`() throws {
        let rig = try rig { $0.store.rowCacheBytes = 0 }
        try fill(rig)
        #expect(rig.database.memoryUse.rowCache == nil)
    }

    @Test func `Single gets, batches and transactions at the latest state are answered`() throws {
        let rig = try rig()
        try fill(rig)
        var before = try hits(rig)
        #expect(before > 500)
        // Some blocks stay in memory for want of others, and their rows with them.
        for number in 0..<100 { #expect(try rig.database.get(key(number)) == value(number)) }
        #expect(try hits(rig) >= before + 50)
        before = try hits(rig)
        #expect(
            try rig.database.multiGet((0..<100).map { key($0) }) == (0..<100).map { value($0) })
        #expect(try hits(rig) >= before + 50)
        before = try hits(rig)
        try rig.database.transact { transaction in
            for number in 0..<100 {
                let found = try transaction.get(key(number))
                #expect(found == value(number))
            }
        }
        #expect(try hits(rig) >= before + 50)
        // Scans walk over blocks.
        before = try hits(rig)
        #expect(try rig.database.scan(.everything).count == 300)
        #expect(try hits(rig) == before)
    }

    @Test func `What is written after a row was cached is seen at once`() throws {
        let rig = try rig()
        try fill(rig)
        let snapshot = rig.database.snapshot()
        func wanted(_ number: Int) -> [UInt8]? {
            switch number {
            case 200..<250: return nil
            case _ where number % 3 == 1: return nil
            default: return value(number, number % 3 == 0 ? 1 : 0)
            }
        }
        for number in 0..<300 {
            if number % 3 == 0 { try rig.database.put(key(number), value(number, 1)) }
            if number % 3 == 1 { try rig.database.delete(key(number)) }
        }
        try rig.database.deleteRange(key(200), key(250))
        func expectBoth() throws {
            try expect(rig, wanted)
            let old = try snapshot.multiGet((0..<300).map { key($0) })
            #expect(old == (0..<300).map { value($0) })
            for number in 0..<300 { #expect(try snapshot.get(key(number)) == value(number)) }
        }
        // In the memtable, in a table above the first, and in those that replaced both.
        try expectBoth()
        try rig.database.flush()
        try expectBoth()
        try expectBoth()
        rig.jobs.runAll()
        try rig.database.compactAll()
        for _ in 0..<3 { try expectBoth() }
        try rig.close()
        try rig.open()
        for _ in 0..<2 { try expect(rig, wanted) }
    }

    @Test func `A cached row expires when its time has come`() throws {
        let rig = try rig()
        for number in 0..<300 {
            try rig.database.put(key(number), value(number), expiry: 1_000 + rig.clock.milliseconds)
        }
        try rig.database.flush()
        for _ in 0..<3 { try expect(rig) { value($0) } }
        let before = try hits(rig)
        rig.clock.advance(999)
        try expect(rig) { value($0) }
        rig.clock.advance(1)
        try expect(rig) { _ in nil }
        #expect(try hits(rig) > before + 500)
    }

    @Test func `Operands are folded onto what a cached row stood for`() throws {
        let rig = try rig()
        try fill(rig)
        for round in 0..<3 {
            for number in 0..<300 { try rig.database.merge(key(number), [33], by: .append) }
            let tail = [UInt8](repeating: 33, count: round + 1)
            try expect(rig) { value($0) + tail }
            try rig.database.flush()
            for _ in 0..<2 { try expect(rig) { value($0) + tail } }
        }
        rig.jobs.runAll()
        try rig.database.compactAll()
        for _ in 0..<2 { try expect(rig) { value($0) + [33, 33, 33] } }
    }

    @Test func `Rows count in the one budget and give way to memtables`() throws {
        let rig = try rig {
            $0.settings.segmentBytes = 16 << 10
            $0.store.cacheBytes = 64 << 10
            $0.store.rowCacheBytes = 64 << 10
            $0.store.memoryBytes = 192 << 10
            $0.store.memtablesMax = 30
            $0.store.standInsMax = 100
            $0.store.compaction.isEnabled = false
        }
        try fill(rig)
        var lowest = Int.max
        for number in 0..<1500 {
            try rig.database.put(key(number), [UInt8](repeating: 7, count: 200))
            let use = rig.database.memoryUse
            let rows = try #require(use.rowCache)
            lowest = min(lowest, rows.limitBytes)
            #expect(rows.bytes <= rows.limitBytes)
            #expect(
                use.memtableBytes + use.cacheLimitBytes + rows.limitBytes <= (192 << 10) + 512)
        }
        #expect(lowest == 8 << 10)
        rig.jobs.runAll()
        try rig.database.flush()
        rig.jobs.runAll()
        try rig.database.put(key(0), [7])
        #expect(rig.database.memoryUse.rowCache?.limitBytes == 64 << 10)
        #expect(rig.database.memoryUse.cacheLimitBytes == 64 << 10)
    }
}
