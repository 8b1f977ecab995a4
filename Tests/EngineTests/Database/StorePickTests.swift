// Picks beside size in a whole database: a range by hand, reads that find nothing, tombstones and
// age; and tables that move while they are written anew under another key.

import Engine
import Testing

@Suite struct StorePickTests {
    private func fill(_ rig: DatabaseRig, _ keys: some Sequence<Int>, _ byte: UInt8 = 1) throws {
        for key in keys {
            try rig.database.put(
                KeyValueModel.key(key), [UInt8](repeating: byte, count: 100))
        }
        try rig.database.flush()
    }

    private func expect(_ rig: DatabaseRig, _ keys: some Sequence<Int>, _ byte: UInt8 = 1) throws {
        for key in keys {
            let value = try rig.database.get(KeyValueModel.key(key))
            #expect(value == [UInt8](repeating: byte, count: 100), "key \(key)")
        }
    }

    @Test func `A range is compacted and the rest left alone`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<400)
        try rig.database.compactAll()
        let before = Set(rig.database.tables().map(\.id))
        try fill(rig, 100..<110, 2)
        let span = KeySpan(start: KeyValueModel.key(100), end: KeyValueModel.key(110))
        try rig.database.compact(span)
        let tables = rig.database.tables()
        #expect(tables.allSatisfy { $0.level > 0 })
        let kept = tables.filter { before.contains($0.id) }
        #expect(kept.count > 5 && kept.allSatisfy { !$0.span.overlaps(span) })
        try expect(rig, 0..<100)
        try expect(rig, 100..<110, 2)
        try rig.database.compact(span)
        let again = rig.database.tables()
        #expect(again.filter { !$0.span.overlaps(span) } == kept)
        #expect(again.map(\.entrySum) == tables.map(\.entrySum), "the same, written anew")
        try rig.database.compact(KeySpan(start: [5], end: [5]))
    }

    @Test func `Reads that find nothing bring tables down`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.level0Trigger = 8
        options.store.compaction.fruitlessReadsMax = 64
        // Only reads of blocks count.
        options.settings.filter.budget = .bitsPerKey(0)
        func levels(reading: Bool) throws -> Set<UInt8> {
            let rig = try DatabaseRig(options)
            try fill(rig, [0, 599])
            if reading {
                for key in 1..<599 {
                    #expect(try rig.database.get(KeyValueModel.key(key)) == nil)
                }
            }
            try fill(rig, [0, 599])
            rig.jobs.runAll()
            return Set(rig.database.tables().map(\.level))
        }
        #expect(try levels(reading: false) == [0])
        #expect(try levels(reading: true).contains(1))
    }

    @Test func `Deletes and expired values leave the bottom in the end`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.tombstonePercent = 50
        options.store.compaction.rewriteAfterMilliseconds = 60_000
        options.store.compaction.level0Trigger = 1
        let rig = try DatabaseRig(options)
        var batch = WriteBatch()
        for key in 0..<40 {
            batch.put(
                KeyValueModel.key(key), [UInt8](repeating: 7, count: 50),
                expiry: rig.clock.milliseconds + 1_000)
        }
        try rig.database.write(batch)
        try rig.database.flush()
        rig.jobs.runAll()
        #expect(rig.database.tables().map(\.entryCount) == [40])
        rig.clock.advance(70_000)
        // A write elsewhere moves the clock of the log, and is work to think about.
        try fill(rig, [500])
        rig.jobs.runAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 1)
    }

    /// A heal swaps the file of a table that has moved since it was read, and the other way round.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `Tables move while they are written anew`(seed: UInt64) throws {
        var options = DatabaseRig.smallOptions()
        options.encryption = try testKeys(1)
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(seed: seed, options)
        for part in 0..<6 { try fill(rig, (part * 40)..<(part * 40 + 40)) }
        try rig.close()
        rig.options.encryption = try testKeys(2, 1)
        rig.options.store.compaction.isEnabled = true
        try rig.open()
        for part in 6..<12 {
            try fill(rig, (part * 40)..<(part * 40 + 40))
            rig.runJobs(part % 4)
        }
        rig.jobs.runAll()
        rig.clock.advance(1_000)
        try fill(rig, [500])
        rig.jobs.runAll()
        try expect(rig, 0..<480)
        let state = rig.store.manifest
        let tables = state.manifest.tables.sortedByID
        let moved = tables.filter { $0.id.kind == .flush && $0.level > 0 }
        #expect(moved.contains { (state.local[$0.id]?.generation ?? 0) > 0 }, "moved and rewritten")
        var names = Set<String>()
        for table in tables {
            let local = try #require(state.local[table.id])
            let name = TableHandle.fileName(table.id, generation: UInt64(local.generation))
            names.insert(name)
            let file = try rig.memory.open(DatabaseRig.group + "/sst/" + name, .read)
            #expect(try TableImport.localHeader(file).keyEpoch == 2)
        }
        #expect(Set(try rig.memory.list(DatabaseRig.group + "/sst")) == names)
        try rig.close()
        try rig.open()
        try expect(rig, 0..<480)
    }
}
