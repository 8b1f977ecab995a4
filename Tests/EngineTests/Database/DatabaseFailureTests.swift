// What the world does to an embedded database, one failure at a time: typed errors, nothing lost,
// and it goes on as soon as the world allows it.
import Engine
import Testing

@Suite struct DatabaseFailureTests {
    private static let group = DatabaseRig.group

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 200)
    }

    /// Puts keys in order; their values name them.
    private func fill(_ rig: DatabaseRig, _ keys: Range<Int>) throws {
        for number in keys { try rig.database.put(key(number), value(number)) }
    }

    private func expectAll(_ rig: DatabaseRig, _ keys: Range<Int>) throws {
        for number in keys {
            #expect(try rig.database.get(key(number)) == value(number), "key \(number)")
        }
        #expect(try rig.database.scan(.everything).count == keys.count)
    }

    private func error(of body: () throws -> Void) -> EngineError? {
        do { try body() } catch { return error as? EngineError }
        return nil
    }

    private func isNoSpace(_ error: EngineError?) -> Bool {
        if case .file(let cause)? = error { return cause.isNoSpace }
        return false
    }

    private func isBusy(_ error: EngineError?) -> Bool {
        if case .busy? = error { return true }
        return false
    }

    private func isPoisoned(_ error: EngineError?) -> Bool {
        if case .poisoned? = error { return true }
        return false
    }

    private func isClosed(_ error: EngineError?) -> Bool {
        if case .closed? = error { return true }
        return false
    }

    private func isCorrupt(_ error: EngineError?, _ file: String) -> Bool {
        if case .corrupt(let name, _, _)? = error { return name.contains(file) }
        return false
    }

    // MARK: no space

    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func `An append without space is refused and leaves no trace`(
        sync: DatabaseOptions.Sync
    ) throws {
        var options = DatabaseRig.smallOptions(sync: sync)
        options.settings.segmentBytes = 64 << 20
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<5)
        rig.memory.capacity = rig.memory.usedBytes
        let large = [UInt8](repeating: 1, count: 3 << 20)
        #expect(isNoSpace(error { try rig.database.put(key(6), large) }))
        #expect(try rig.database.get(key(6)) == nil)
        try expectAll(rig, 0..<5)
        rig.memory.capacity = .max
        try fill(rig, 5..<9)
        try expectAll(rig, 0..<9)
        try rig.close()
        try rig.open()
        try expectAll(rig, 0..<9)
    }

    @Test func `A flush without space is tried again`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<10)
        // What ended segments give back is no space for tables either.
        rig.memory.capacity = 1
        #expect(isNoSpace(error { try rig.database.flush() }))
        try expectAll(rig, 0..<10)
        rig.memory.capacity = .max
        try rig.database.flush()
        #expect(!rig.database.tables().isEmpty)
        try expectAll(rig, 0..<10)
        #expect(rig.notes.contains("No space"))
    }

    @Test func `Writes are refused while memory is full, and go on by themselves`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.memtablesMax = 2
        let rig = try DatabaseRig(options)
        // Room in the log and none for tables: they cannot be created at all.
        var count = 0
        rig.memory.capacity = rig.memory.usedBytes + (300 << 10)
        let hog = try rig.memory.open(DatabaseRig.path + "/hog", .create)
        var refusal: EngineError?
        while refusal == nil, count < 900 {
            refusal = error { try fill(rig, count..<(count + 1)) }
            if refusal == nil { count += 1 }
            let free = try rig.memory.freeBytes("")
            if rig.store.frozenCount > 0, free > 0 {
                try? hog.writeAll([UInt8](repeating: 0, count: Int(free)), at: hog.size())
            }
        }
        #expect(isBusy(refusal) || isNoSpace(refusal), "\(String(describing: refusal))")
        try expectAll(rig, 0..<count)
        rig.memory.capacity = .max
        rig.clock.advance(1_000)
        try fill(rig, count..<(count + 200))
        try expectAll(rig, 0..<(count + 200))
    }

    /// Whatever the disk has room for, the reason is the disk: also when a flush found room for its
    /// table and the log none for the entry that tells of it.
    @Test func `A flush on a full disk says that the disk is full`() throws {
        var fromLog = 0
        for room in stride(from: 0, to: 40_000, by: 4_000) {
            var options = DatabaseRig.smallOptions()
            options.settings.segmentBytes = 64 << 20
            options.store.compression = .lz4
            let rig = try DatabaseRig(options)
            try fill(rig, 0..<10)
            // The log has taken space ahead of what is written: that is used up first.
            rig.memory.capacity = rig.memory.usedBytes
            for bytes in [4_000, 400, 40, 1] {
                let value = [UInt8](repeating: 1, count: bytes)
                while error(of: { try rig.database.put(key(10), value) }) == nil {}
            }
            rig.memory.capacity += UInt64(room)
            guard let refusal = error(of: { try rig.database.flush() }) else { continue }
            #expect(isNoSpace(refusal), "\(room) bytes: \(refusal)")
            if rig.notes.contains("cannot be logged") { fromLog += 1 }
            rig.memory.capacity = .max
            rig.clock.advance(1_000)
            try rig.database.flush()
            try fill(rig, 10..<11)
            try expectAll(rig, 0..<11)
        }
        #expect(fromLog > 0)
    }

    @Test func `A compaction without space is tried again`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(options)
        for round in 0..<3 {
            try fill(rig, (round * 20)..<(round * 20 + 20))
            try rig.database.flush()
        }
        rig.memory.capacity = rig.memory.usedBytes + 3_000
        #expect(isNoSpace(error { try rig.database.compactAll() }))
        try expectAll(rig, 0..<60)
        rig.memory.capacity = .max
        try rig.database.compactAll()
        #expect(rig.database.tables().allSatisfy { $0.level == 1 })
        try expectAll(rig, 0..<60)
    }

    @Test func `A job that fails leaves what others have staged`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.movesTables = false
        let rig = try DatabaseRig(options, jobs: .last)
        var next = 0
        while rig.store.logical.jobs.isEmpty {
            rig.jobs.runOne()
            guard rig.store.logical.jobs.isEmpty else { break }
            try fill(rig, next..<(next + 1))
            next += 1
        }
        let index = hex16(try #require(rig.store.logical.jobs.first).index.rawValue)
        let staged = DatabaseFailureTests.group + "/staged/"
        // A flush of a segment that the job's entry ended, and a heal of what was made before.
        let others = ["\(index)-f0.0.sst", "\(index)-b0.0.sst", "\(index)-c0.1.sst"]
        for name in others { _ = try rig.memory.open(staged + name, .create) }
        _ = try rig.memory.open(staged + "\(index)-c7.0.sst", .create)
        // Room for the record of the attempt and not for its output.
        rig.memory.capacity = rig.memory.usedBytes + 1_000
        rig.jobs.runAll()
        try #require(rig.notes.contains("job \(rig.store.logical.jobs[0].index): "))
        let left = try rig.memory.list(staged).filter { $0.hasPrefix(index) }
        #expect(left == others.sorted())
        rig.memory.capacity = .max
        try rig.database.compactAll()
        try expectAll(rig, 0..<next)
    }

    @Test func `Without compaction a full level 0 stops nobody`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        options.store.level0StopTables = 3
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<300)
        try rig.database.flush()
        #expect(rig.database.tables().count > 3)
        try expectAll(rig, 0..<300)
    }

    // MARK: failed syncs

    /// Everything that the public API offers.
    private func everyCallFails(
        _ rig: DatabaseRig, _ snapshot: Snapshot, _ isIt: (EngineError?) -> Bool
    )
        -> Bool
    {
        let database = rig.database
        let calls: [() throws -> Void] = [
            { try database.put([1], [1]) }, { try database.delete([1]) },
            { try database.deleteRange([1], nil) }, { try database.write(WriteBatch()) },
            { _ = try database.get([1]) }, { _ = try database.scan(.everything) },
            { try database.flush() }, { try database.compactAll() },
            { _ = try snapshot.get([1]) }, { _ = try snapshot.scan(.everything) },
            { _ = try database.snapshot().get([1]) },
        ]
        return calls.allSatisfy { isIt(error(of: $0)) }
    }

    @Test(arguments: ["seg", "log", "MANIFEST-1", "MANIFEST-1.mirror", "sst"])
    func `After a failed sync every call says so until a new open`(place: String) throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<12)
        let snapshot = rig.database.snapshot()
        var path = DatabaseFailureTests.group + "/" + place
        if place == "seg" {
            let names = try rig.memory.list(DatabaseFailureTests.group + "/log")
            path =
                DatabaseFailureTests.group + "/log/" + (names.last { $0.hasSuffix(".seg") } ?? "")
        }
        rig.memory.failNextSync(path)
        var acknowledged = 12
        var failure: EngineError?
        while failure == nil, acknowledged < 500 {
            failure = error { try fill(rig, acknowledged..<(acknowledged + 1)) }
            if failure == nil {
                acknowledged += 1
                rig.jobs.runOne()
            }
        }
        #expect(isPoisoned(failure), "\(String(describing: failure))")
        #expect(everyCallFails(rig, snapshot, isPoisoned))
        rig.jobs.runAll()
        rig.powerCut()
        try rig.open()
        for number in 0..<acknowledged {
            #expect(try rig.database.get(key(number)) == value(number))
        }
        try rig.database.put(key(600), value(600))
    }

    @Test func `A failed sync of a table's file only costs its flush`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<10)
        let name = { (rig: DatabaseRig) in
            try rig.memory.list(DatabaseFailureTests.group + "/staged").first
        }
        rig.memory.failNextSync()  // The next one is the log's: of the `rotate`.
        #expect(isPoisoned(error { try rig.database.flush() }))
        #expect(try name(rig) == nil)
        rig.powerCut()
        try rig.open()
        try fill(rig, 10..<25)
        #expect(rig.jobs.waiting > 0)
        rig.memory.failNextSync()
        rig.jobs.runOne()
        #expect(rig.notes.contains("flush of the segment"))
        try rig.database.flush()
        rig.powerCut()
        try rig.open()
        try expectAll(rig, 0..<25)
    }

    // MARK: opening

    @Test func `A second handle is refused until the first is closed`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<3)
        let first = rig.database
        let refusal = error { try rig.open() }
        guard case .locked(let path)? = refusal else {
            Issue.record("not locked: \(String(describing: refusal))")
            return
        }
        #expect(path == DatabaseRig.path)
        try rig.close()
        try rig.open()
        try expectAll(rig, 0..<3)
        try first.close()
        try expectAll(rig, 0..<3)
    }

    @Test func `A closed database says so, and may be closed again`() throws {
        let rig = try DatabaseRig()
        let snapshot = rig.database.snapshot()
        try rig.close()
        #expect(everyCallFails(rig, snapshot, isClosed))
        try rig.database.close()
    }

    /// Its log could not be synced: to close as if it were would be a lie.
    @Test func `A database that stopped does not close in silence`() throws {
        let rig = try DatabaseRig(DatabaseRig.smallOptions(sync: .never))
        try fill(rig, 0..<3)
        rig.memory.stop(after: 0)
        #expect(error { try rig.database.flush() } != nil)
        #expect(isPoisoned(error { try fill(rig, 3..<4) }))
        #expect(isPoisoned(error { try rig.close() }))
        rig.powerCut()
        try rig.open()
    }

    @Test func `A database let go is closed`() throws {
        let directory = try TemporaryDirectory()
        for round in 0..<3 {
            let database = try Database.open(directory.path)
            #expect(try database.get([1]) == (round == 0 ? nil : [UInt8(round - 1)]))
            try database.put([1], [UInt8(round)])
        }
    }

    @Test func `A manifest copy is mended from the other, both lost are an error`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<40)
        try rig.database.flush()
        try rig.close()
        let names = try rig.memory.list(DatabaseFailureTests.group).filter {
            $0.hasPrefix("MANIFEST-")
        }
        let paths = names.map { DatabaseFailureTests.group + "/" + $0 }
        for path in paths {
            let before = try rig.memory.list(DatabaseFailureTests.group)
            guard before.contains(String(path.split(separator: "/").last ?? "")) else { continue }
            rig.memory.flip(path, 100)
            try rig.open()
            try expectAll(rig, 0..<40)
            try rig.close()
        }
        for name in try rig.memory.list(DatabaseFailureTests.group)
        where name.hasPrefix("MANIFEST-") {
            rig.memory.flip(DatabaseFailureTests.group + "/" + name, 100)
        }
        #expect(isCorrupt(error { try rig.open() }, "MANIFEST"))
        // And it says so again: nothing was made in its place.
        #expect(isCorrupt(error { try rig.open() }, "MANIFEST"))
    }

    @Test func `Leftovers of a crash are removed`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<40)
        try rig.database.compactAll()
        try rig.close()
        let group = DatabaseFailureTests.group
        let tables = try rig.memory.list(group + "/sst")
        for path in [
            "/sst/00000000000000ff-f0.0.sst", "/sst/junk", "/staged/00000000000000ff-c0.0.sst",
            "/log/00000000000000aa.seg.new",
        ] {
            _ = try rig.memory.open(group + path, .create)
        }
        try rig.open()
        #expect(try rig.memory.list(group + "/sst") == tables)
        #expect(try rig.memory.list(group + "/staged").isEmpty)
        try expectAll(rig, 0..<40)
        // Every file belongs to a table, and every table has its file.
        #expect(rig.database.tables().count == tables.count)
    }

    @Test func `A missing table leaves its range unreadable and the rest as it was`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<20)
        try rig.database.flush()
        try fill(rig, 20..<40)
        try rig.database.flush()
        let lost = try #require(
            rig.database.tables().first { $0.span.contains(key(0)) })
        let kept = (0..<40).filter { !lost.span.contains(key($0)) }
        try rig.close()
        try rig.memory.unlink(
            DatabaseFailureTests.group + "/sst/"
                + TableHandle.fileName(lost.id, generation: 0))
        try rig.open()
        #expect(!kept.isEmpty && kept.count < 40)
        for number in kept { #expect(try rig.database.get(key(number)) == value(number)) }
        let isLost = { (error: EngineError?) in
            switch error {
            case .tableLost(let id, _)?: return id == lost.id
            case .blockLost(let address, _)?: return address.table == lost.id
            default: return false
            }
        }
        for number in 0..<40 where !kept.contains(number) {
            #expect(isLost(error { _ = try rig.database.get(key(number)) }))
        }
        #expect(isLost(error { _ = try rig.database.scan(.everything) }))
        // What is written now is served; what it would need from below is not.
        try rig.database.put(key(0), [9])
        #expect(try rig.database.get(key(0)) == [9])
        try rig.database.flush()
        #expect(try rig.database.get(key(0)) == [9])
        #expect(isLost(error { try rig.database.compactAll() }))
        #expect(isLost(error { _ = try rig.database.get(key(1)) }))
    }

    @Test func `A rotten entry is an error at open, and the log stays as it is`() throws {
        let rig = try DatabaseRig()
        try fill(rig, 0..<12)
        try rig.close()
        let directory = DatabaseFailureTests.group + "/log/"
        let name = try #require(rig.memory.list(directory).last { $0.hasSuffix(".seg") })
        let bytes = try rig.memory.readAll(directory + name, limit: 1 << 30)
        // In the value of key 3.
        let needle = value(3)[0..<100]
        let place = try #require(
            bytes.indices.first { bytes[$0...].prefix(100).elementsEqual(needle) })
        rig.memory.flip(directory + name, UInt64(place + 50))
        for _ in 0..<2 { #expect(isCorrupt(error { try rig.open() }, "log")) }
        rig.memory.flip(directory + name, UInt64(place + 50))
        try rig.open()
        try expectAll(rig, 0..<12)
    }

    // MARK: jobs that never end

    @Test func `A job whose attempts are used up is cancelled, and tried again much later`() throws
    {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.level0Trigger = 3
        // A move cannot fail.
        options.store.compaction.movesTables = false
        let rig = try DatabaseRig(options)
        let group = DatabaseFailureTests.group
        // The process dies in the middle of the same job, three times.
        var job: JobID?
        for death in 0..<3 {
            var next = death * 100
            while rig.store.logical.jobs.isEmpty {
                try fill(rig, next..<(next + 1))
                next += 1
                rig.jobs.runOne()
            }
            let index = try #require(rig.store.logical.jobs.first).index
            #expect(job == nil || job?.index == index)
            job = JobID(index: index, kind: .compaction)
            rig.kill()
            let attempts = try JobAttempts.open(rig.memory, path: group + "/jobs")
            if attempts.unfinished(JobID(index: index, kind: .compaction)) == UInt32(death) {
                _ = try attempts.begin(JobID(index: index, kind: .compaction))
            }
            rig.kill()
            try rig.open()
        }
        rig.jobs.runAll()
        #expect(rig.notes.contains("its attempts did not end"))
        #expect(rig.store.logical.jobs.isEmpty)
        #expect(rig.store.logical.tables.tables(at: 0).count >= 3)
        #expect(isBusy(error { try rig.database.compactAll() }))
        rig.clock.advance(CompactionExclusions.firstBackOff)
        try rig.database.compactAll()
        #expect(rig.database.tables().allSatisfy { $0.level > 0 })
    }

    // MARK: bad input

    @Test func `Options that could never work are refused before anything is made`() throws {
        let changes: [(inout DatabaseOptions) -> Void] = [
            { $0.settings.segmentBytes = 1 }, { $0.settings.blockBytes = 0 },
            { $0.settings.filterBitsPerKey = 1_000 }, { $0.store.cacheBytes = -1 },
            { $0.store.rowCacheBytes = -1 },
            { $0.store.memoryBytes = 0 }, { $0.backgroundThreads = .max },
            { $0.store.openTables = 0 }, { $0.store.memtablesMax = 0 },
            { $0.store.standInsMax = 0 }, { $0.store.concurrentJobs = 0 },
            { $0.store.level0StopTables = 1 }, { $0.store.compaction.level0Trigger = 0 },
            { $0.store.compaction.targetBytes = 10 },
            { $0.store.compression.base = .zstd(level: 23) },
            { $0.store.compression.base = .zstdDictionary(level: 0) },
            { $0.store.compression.levels = [LevelCompression(level: 7, compression: .lz4)] },
            { $0.settings.blockLevels = [LevelBlockBytes(level: 7, bytes: 4096)] },
            { $0.settings.blockLevels = [LevelBlockBytes(level: 1, bytes: 255)] },
        ]
        for change in changes {
            var options = DatabaseRig.smallOptions()
            change(&options)
            let memory = MemoryFileSystem(seed: 1)
            let refusal = error { _ = try DatabaseRig(options, memory: memory) }
            guard case .invalid? = refusal else {
                Issue.record("taken, or \(String(describing: refusal))")
                continue
            }
            #expect(!memory.exists(DatabaseRig.path))
        }
    }

    @Test func `More threads than anybody has are refused before one is started`() throws {
        let directory = try TemporaryDirectory()
        var options = DatabaseOptions()
        options.backgroundThreads = .max
        let refusal = error { _ = try Database.open(directory.path, options: options) }
        guard case .invalid(let reason)? = refusal else {
            Issue.record("taken, or \(String(describing: refusal))")
            return
        }
        #expect(reason.contains("backgroundThreads"))
        #expect(try POSIXFileSystem().list(directory.path).isEmpty)
    }

    @Test func `What exceeds a limit is refused by name, and nothing of it is logged`() throws {
        let rig = try DatabaseRig()
        let long = [UInt8](repeating: 1, count: Limits.keyBytes + 1)
        let before = rig.store.appliedTail
        var batch = WriteBatch()
        batch.put([1], [1])
        batch.delete(long)
        let calls: [() throws -> Void] = [
            { try rig.database.put(long, []) }, { try rig.database.delete(long) },
            { try rig.database.write(batch) }, { try rig.database.deleteRange(long, nil) },
            { try rig.database.deleteRange([], long + [1]) },
        ]
        for call in calls {
            guard case .limit(let what, _, let limit)? = error(of: call) else {
                Issue.record("a long key was taken")
                continue
            }
            #expect(what == "key length" && limit == UInt64(Limits.keyBytes))
        }
        var second = WriteBatch()
        second.put([1], [1])
        var tail = WriteBatch()
        tail.put([], [1], expiry: 5_000_000)
        second.append(tail)
        let empty: [() throws -> Void] = [
            { try rig.database.put([], [1]) }, { try rig.database.delete([]) },
            { try rig.database.singleDelete([]) },
            { try rig.database.merge([], [1], by: .append) }, { try rig.database.write(second) },
        ]
        for call in empty {
            guard case .invalid(let reason)? = error(of: call) else {
                Issue.record("an empty key was taken")
                continue
            }
            #expect(reason.contains("a key is empty"))
        }
        #expect(try rig.database.get([]) == nil)
        try rig.database.deleteRange([5], [5])
        try rig.database.deleteRange([5], [4])
        try rig.database.write(WriteBatch())
        #expect(rig.store.appliedTail == before)
        let longest = [UInt8](repeating: 1, count: Limits.keyBytes)
        try rig.database.put(longest, [2])
        try rig.database.deleteRange([], longest + [0])
        #expect(try rig.database.get(longest) == nil)
    }

    @Test func `A value above the limit is refused, and nothing of it is logged`() throws {
        let rig = try DatabaseRig()
        let before = rig.store.appliedTail
        let found = error {
            try rig.database.put([1], [UInt8](repeating: 0, count: Limits.valueBytesMax + 1))
        }
        guard case .limit(let what, let value, let limit)? = found else {
            Issue.record("a long value was taken: \(String(describing: found))")
            return
        }
        #expect(what == "value length" && value == limit + 1)
        #expect(limit == UInt64(Limits.valueBytesMax))
        #expect(rig.store.appliedTail == before)
        #expect(try rig.database.get([1]) == nil)
    }
}
