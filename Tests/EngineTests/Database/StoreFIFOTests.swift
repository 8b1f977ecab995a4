// FIFO in a whole database: the oldest tables go whole, nothing that was deleted or overwritten comes
// back, and who pinned them still reads them.

import Engine
import Testing

@Suite struct StoreFIFOTests {
    private func rig(bytesMax: UInt64 = 0, age: UInt64 = 0) throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.strategy = .fifo(bytesMax: bytesMax, ageMilliseconds: age)
        // Far more tables than leveled compaction would bear.
        options.store.level0StopTables = 2
        return try DatabaseRig(options)
    }

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }

    private func fill(_ rig: DatabaseRig, _ keys: Range<Int>, _ byte: UInt8) throws {
        for key in keys {
            try rig.database.put(self.key(key), [UInt8](repeating: byte, count: 100))
        }
        try rig.database.flush()
    }

    @Test func `What is too much goes, oldest first, unread`() throws {
        let rig = try rig(bytesMax: 30_000)
        var snapshots: [Snapshot] = []
        for part in 0..<20 {
            try fill(rig, (part * 40)..<(part * 40 + 40), UInt8(part))
            if part == 3 { snapshots.append(rig.database.snapshot()) }
        }
        rig.jobs.runAll()
        let tables = rig.database.tables()
        #expect(tables.reduce(0) { $0 + $1.canonicalBytes } <= 30_000)
        #expect(tables.count > 3 && tables.allSatisfy { $0.id.kind == .flush && $0.level == 0 })
        let live = try rig.database.scan(.everything).map(\.key)
        #expect(live == (800 - live.count..<800).map { key($0) }, "the youngest, without a gap")
        #expect(live.count >= 100 && live.count < 400)
        #expect(try snapshots[0].scan(.everything).count == 160, "pinned")
        snapshots.removeAll()
        // Compacting by hand merges nothing.
        try rig.database.compactAll()
        #expect(rig.database.tables() == tables)
        try fill(rig, 800..<801, 1)
        rig.jobs.runAll()
        let names = Set(try rig.memory.list(DatabaseRig.group + "/sst"))
        #expect(
            names == Set(rig.database.tables().map { TableHandle.fileName($0.id, generation: 0) }))
        try rig.close()
        try rig.open()
        #expect(try rig.database.get(key(0)) == nil)
        #expect(try rig.database.get(key(800)) != nil)
    }

    /// A write is enough, however small: no flush has to come first.
    @Test func `What is too old goes with any write`() throws {
        let rig = try rig(age: 60_000)
        try fill(rig, 0..<40, 1)
        rig.jobs.runAll()
        let tables = rig.database.tables()
        rig.clock.advance(30_000)
        try rig.database.put(key(100), [1])
        rig.jobs.runAll()
        #expect(!tables.isEmpty && rig.database.tables() == tables)
        rig.clock.advance(31_000)
        try rig.database.put(key(101), [1])
        rig.jobs.runAll()
        #expect(rig.database.tables().isEmpty)
        #expect(try rig.database.get(key(0)) == nil)
        #expect(try rig.database.get(key(101)) == [1])
    }

    @Test func `Deletes and overwrites hold until they are dropped, too`() throws {
        let rig = try rig(bytesMax: 30_000)
        try fill(rig, 0..<40, 1)
        for key in 0..<20 { try rig.database.delete(self.key(key)) }
        try rig.database.deleteRange(key(20), key(30))
        try fill(rig, 30..<40, 2)
        for part in 1..<20 {
            try fill(rig, (part * 40)..<(part * 40 + 40), 3)
            rig.runJobs(part % 5)
            for key in 0..<30 { #expect(try rig.database.get(self.key(key)) == nil) }
            for key in 30..<40 {
                let value = try rig.database.get(self.key(key))
                #expect(value == nil || value?.first == 2, "part \(part)")
            }
        }
        rig.jobs.runAll()
        #expect(try rig.database.get(key(35)) == nil, "gone with its table")
    }

    @Test func `What is too old goes`() throws {
        let rig = try rig(age: 10_000)
        try fill(rig, 0..<40, 1)
        rig.jobs.runAll()
        rig.clock.advance(9_000)
        try fill(rig, 40..<80, 2)
        rig.jobs.runAll()
        #expect(try rig.database.scan(.everything).count == 80)
        rig.clock.advance(2_000)
        try fill(rig, 80..<120, 3)
        rig.jobs.runAll()
        #expect(try rig.database.scan(.everything).map(\.key) == (40..<120).map { key($0) })
    }

    @Test func `A strategy that keeps nothing down is refused`() {
        #expect(throws: EngineError.self) { try rig() }
    }
}
