// Merges, single deletes, prefix deletes and filters through the whole embedded database: what is
// refused, what a crash leaves, and what happens when the program no longer has a function.
import Engine
import Testing

@Suite struct DatabaseMergeTests {
    private func number(_ value: UInt64) -> [UInt8] { MergeReference.bytes(value) }

    private func error(of body: () throws -> Void) -> String {
        do {
            try body()
            return "none"
        } catch { return "\(error)" }
    }

    @Test func `A merge by an unknown operator is refused and changes nothing`() throws {
        let rig = try DatabaseRig()
        let before = rig.store.applied
        let unknown = MergeOperatorID(999)
        var batch = WriteBatch()
        batch.put(bytes("a"), bytes("1"))
        var tail = WriteBatch()
        tail.merge(bytes("b"), [1], by: unknown)
        batch.append(tail)
        let refusal = error { try rig.database.write(batch) }
        #expect(refusal == "merge operator 999 is unknown; register it in the options")
        #expect(rig.store.applied == before)
        #expect(try rig.database.get(bytes("a")) == nil)
        batch.removeAll()
        batch.put(bytes("a"), bytes("1"))
        try rig.database.write(batch)
        #expect(try rig.database.get(bytes("a")) == bytes("1"))
    }

    @Test func `Trap 28: operands are counted once, however often the log is replayed`() throws {
        let rig = try DatabaseRig(DatabaseRig.smallOptions(segmentBytes: 4096))
        let random = SeededRandom(seed: 4)
        var source = random
        var sum: UInt64 = 0
        for round in 1...60 {
            for _ in 0..<20 {
                let amount = UInt64(source.below(1000))
                try rig.database.merge(bytes("counter"), number(amount), by: .int64Add)
                try rig.database.merge(bytes("list"), [UInt8(round)], by: .append)
                sum += amount
                // Segments end and are flushed meanwhile, or not yet.
                rig.runJobs(source.below(3))
            }
            switch source.below(3) {
            case 0: rig.kill()
            case 1: rig.powerCut()
            default: try rig.close()
            }
            try rig.open()
            #expect(try rig.database.get(bytes("counter")) == number(sum), "round \(round)")
            #expect(try rig.database.get(bytes("list"))?.count == 20 * round)
        }
        try rig.database.compactAll()
        #expect(try rig.database.get(bytes("counter")) == number(sum))
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 2)
    }

    @Test func `Without its operator a key's operands stay, and cannot be read`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(bytes("k"), bytes("a"))
        for letter in ["b", "c", "d"] {
            try rig.database.merge(bytes("k"), bytes(letter), by: TestMerge.list)
        }
        try rig.database.put(bytes("other"), bytes("1"))
        try rig.close()
        rig.options.mergeOperators = []
        try rig.open()
        #expect(error { _ = try rig.database.get(bytes("k")) }.contains("merge operator 300"))
        #expect(error { _ = try rig.database.scan(.everything) }.contains("merge operator 300"))
        #expect(try rig.database.get(bytes("other")) == bytes("1"))
        try rig.database.compactAll()
        #expect(error { _ = try rig.database.get(bytes("k")) }.contains("merge operator 300"))
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 5)
        try rig.close()
        rig.options.mergeOperators = TestMerge.operators
        try rig.open()
        #expect(try rig.database.get(bytes("k")) == bytes("a,b,c,d"))
        #expect(rig.store.settings.functions == TestMerge.names)
    }

    @Test func `Prefix deletes take what begins so, and nothing else`() throws {
        let rig = try DatabaseRig()
        let keys: [[UInt8]] = [
            [0], [0x61], [0x61, 0], [0x61, 0xff], [0x61, 0xff, 0xff], [0x61, 0xff, 0xff, 1],
            [0x62], [0xff], [0xff, 0xff], [0xff, 0xff, 0],
        ]
        let prefixes: [[UInt8]] = [
            [], [0x61], [0x61, 0xff], [0x61, 0xff, 0xff], [0xff], [0xff, 0xff], [0],
        ]
        for prefix in prefixes {
            for key in keys { try rig.database.put(key, key) }
            try rig.database.deletePrefix(prefix)
            let left = keys.filter { !$0.starts(with: prefix) }
            #expect(try rig.database.scan(.everything).map(\.key) == left, "\(prefix)")
            let inside = try rig.database.scan(.prefix(prefix))
            #expect(inside.isEmpty)
        }
        #expect(KeySpan.prefix([1, 0xff, 0xff]) == KeySpan(start: [1, 0xff, 0xff], end: [2]))
        #expect(KeySpan.prefix([0xff, 0xff]) == KeySpan(start: [0xff, 0xff], end: nil))
        #expect(KeySpan.prefix([]) == .everything)
        let longest = [UInt8](repeating: 0xfe, count: Limits.keyBytes)
        try rig.database.deletePrefix(longest)
        #expect(error { try rig.database.deletePrefix(longest + [1]) }.contains("key length"))
    }

    @Test func `A segment of nothing but pairs that vanish is flushed all the same`() throws {
        let rig = try DatabaseRig()
        for _ in 0..<3 {
            try rig.database.put(bytes("a"), bytes("1"))
            try rig.database.singleDelete(bytes("a"))
        }
        let applied = rig.store.applied
        try rig.database.compactAll()
        #expect(rig.store.flushedPosition.index > applied)
        #expect(try rig.database.scan(.everything).isEmpty)
        try rig.close()
        try rig.open()
        #expect(try rig.database.get(bytes("a")) == nil)
    }

    /// Drops what begins with a zero.
    private struct ZeroFilter: CompactionFilter {
        static let wanted = CompactionFilterID(id: 3, version: 1)
        var name: CompactionFilterID { ZeroFilter.wanted }
        func decide(
            key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer,
            expiry: ClockMilliseconds?
        ) -> CompactionDecision { value.first == 0 ? .drop : .keep }
    }

    @Test func `A filter that the settings name is used by every compaction`() throws {
        var options = DatabaseRig.smallOptions()
        options.compactionFilters = [ZeroFilter()]
        options.settings.functions.compactionFilter = ZeroFilter.wanted
        let rig = try DatabaseRig(options)
        for key in 0..<20 {
            try rig.database.put(KeyValueModel.key(key), [UInt8(key % 2), UInt8(key)])
        }
        let snapshot = rig.database.snapshot()
        #expect(try rig.database.scan(.everything).count == 20)
        try rig.database.compactAll()
        #expect(try rig.database.scan(.everything).count == 10)
        #expect(try snapshot.scan(.everything).count == 20)
        // A program without it cannot ask for it.
        try rig.close()
        rig.options.compactionFilters = []
        #expect(error { try rig.open() }.contains("filter 3 version 1"))
        rig.options.settings.functions.compactionFilter = nil
        try rig.open()
        try rig.database.put(bytes("z"), [0])
        try rig.database.compactAll()
        #expect(try rig.database.get(bytes("z")) == [0])
    }

    @Test func `A filter that is registered later sees what was compacted before`() throws {
        let rig = try DatabaseRig()
        for key in 0..<20 {
            try rig.database.put(KeyValueModel.key(key), [UInt8(key % 2), UInt8(key)])
        }
        try rig.database.compactAll()
        try rig.close()
        rig.options.compactionFilters = [ZeroFilter()]
        rig.options.settings.functions.compactionFilter = ZeroFilter.wanted
        try rig.open()
        try rig.database.compactAll()
        #expect(try rig.database.scan(.everything).count == 10)
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 10)
    }

    @Test func `What expired after a compaction goes with the next, without a write`() throws {
        let rig = try DatabaseRig()
        var batch = WriteBatch()
        for key in 0..<20 {
            let name = KeyValueModel.key(key)
            if key % 2 == 0 {
                batch.put(name, [1])
            } else {
                batch.put(name, [1], expiry: 1_005_000)
            }
        }
        try rig.database.write(batch)
        try rig.database.compactAll()
        #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 20)
        rig.clock.advance(10_000)
        for _ in 0..<2 {
            try rig.database.compactAll()
            #expect(rig.database.tables().reduce(0) { $0 + $1.entryCount } == 10)
        }
    }

    @Test func `A job that names a missing filter is reported failed and called off`() throws {
        var options = DatabaseRig.smallOptions()
        options.compactionFilters = [ZeroFilter()]
        options.settings.functions.compactionFilter = ZeroFilter.wanted
        options.store.compaction.isEnabled = true
        let rig = try DatabaseRig(options, jobs: .first)
        var written = 0
        while rig.store.logical.jobs.isEmpty {
            try rig.database.put(KeyValueModel.key(written % 600), [UInt8](repeating: 7, count: 90))
            written += 1
            rig.runJobs(2)
            try #require(written < 5000)
        }
        rig.kill()
        rig.options.compactionFilters = []
        rig.options.settings.functions.compactionFilter = nil
        try rig.open()
        let job = try #require(rig.store.logical.jobs.first)
        #expect(job.spec.functions.compactionFilter == ZeroFilter.wanted)
        rig.jobs.runAll()
        #expect(!rig.store.logical.jobs.contains { $0.index == job.index })
        #expect(rig.store.logical.tables.contains(job.spec.inputs[0].id))
        #expect(try rig.database.scan(.everything).count == min(written, 600))
    }

    @Test(arguments: [false, true])
    func `Trap 31: a range delete over everything drops tables unread`(reopens: Bool) throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 8192)
        options.store.cacheBytes = 0
        // What is flushed stays as it is until it is asked for.
        options.store.compaction.isEnabled = !reopens
        let files = MemoryFileSystem(seed: 3)
        let rig = try DatabaseRig(options, memory: files, jobs: .first)
        for key in 0..<600 {
            try rig.database.put(KeyValueModel.key(key), [UInt8](repeating: 7, count: 300))
        }
        try rig.database.compactAll()
        let old = rig.database.tables()
        #expect(old.count > 10)
        let snapshot = rig.database.snapshot()
        try rig.database.deletePrefix([])
        try rig.database.put(bytes("new"), bytes("1"))
        if reopens {
            try rig.database.flush()
            try rig.close()
            try rig.open()
        }
        // No file of the old tables can be read any more: whoever tried would fail.
        for table in old {
            let name = TableHandle.fileName(table.id, generation: 0)
            files.flip("data/group-0/sst/" + name, 220, mask: 0xff)
        }
        try rig.database.compactAll()
        #expect(try rig.database.scan(.everything).map(\.key) == [bytes("new")])
        let left = rig.database.tables()
        #expect(left.map(\.entryCount).reduce(0, +) == 1)
        #expect(left.allSatisfy { $0.rangeTombstoneCount == 0 })
        #expect(!rig.notes.contains("lost"), "\(rig.notes.all)")
        withExtendedLifetime(snapshot) {}
    }
}
