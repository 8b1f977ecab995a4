// The embedded database against a sorted map: random operations over the whole API, with flushes
// and compactions all the time, and with crashes. MARTLET_OPERATIONS sets how many; TEST_SCALE=deep
// does more than ten million, which takes an hour or two of one core.
import Engine
import Testing

@Suite struct DatabaseOracleTests {
    /// Each of 24 runs does a tenth: in full more than half a million in all.
    private static let operations = scaled(
        "MARTLET_OPERATIONS", full: 300_000, usual: 20_000, deep: 5_000_000)

    private func run(
        _ seed: UInt64, _ options: DatabaseOptions, crashEvery: Int? = nil,
        squeezeEvery: Int? = nil, isAscending: Bool = false, watch: SealWatch? = nil,
        loadsSingles: Bool = false, onCheck: (DatabaseRig) -> Void = { _ in }
    ) throws {
        let rig = try DatabaseRig(seed: seed, options, watch: watch)
        let run = OracleRun(
            rig, seed: seed, isSynced: options.sync == .always, isAscending: isAscending,
            loadsSingles: loadsSingles)
        let operations = DatabaseOracleTests.operations / 10
        do {
            for operation in 1...operations {
                try run.step()
                if operation % 500 == 0 { try run.checkAll() }
                if operation % 50 == 0 { onCheck(rig) }
                if let crashEvery, operation % crashEvery == 0 { try run.crash() }
                if let squeezeEvery, operation % squeezeEvery == 0 { try run.squeeze() }
                if operation % 1_500 == 750 { try run.checkCopy() }
            }
            try run.checkAll()
            rig.clock.advance(1_000)
            try rig.database.compactAll()
            try run.checkAll()
        } catch {
            Issue.record("seed \(seed): \(error); notes: \(rig.notes.all.suffix(5))")
        }
        #expect(rig.jobs.ran > operations / 50)
        #expect(!rig.notes.contains("differs"))
        #expect(!rig.notes.contains("void"))
        #expect(isAscending || run.loaded > operations / 4)
        #expect(!rig.keepsLog || run.upkeep.followed > 0)
        #expect(run.upkeep.copies > 0)
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `Every answer is the model's, with crashes now and then`(seed: UInt64) throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 4096 << seed)
        options.store.concurrentJobs = Int(seed)
        options.store.compression =
            [.lz4, .none, CompressionPolicy(.zstdDictionary(level: 3))][Int(seed) - 1]
        options.store.historyWindowMilliseconds = seed == 1 ? 0 : 80 * seed
        // Writes wait for flushes, and the cache comes and goes.
        options.store.memoryBytes = seed == 2 ? 40 << 10 : nil
        // Followers of the log come late, or not.
        options.retainLogBytes = seed == 3 ? 0 : 64 << 10
        options.settings.filter = OracleFilters.policies[Int(seed) - 1]
        try run(seed, options, crashEvery: 1_900)
    }

    @Test func `Every answer is the model's, without syncs`() throws {
        try run(4, DatabaseRig.smallOptions(sync: .never))
    }

    @Test func `Every answer is the model's, without a log`() throws {
        var options = DatabaseRig.smallOptions()
        options.usesLog = false
        try run(5, options)
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func `A full disk refuses and forgets nothing`(sync: DatabaseOptions.Sync) throws {
        try run(6, DatabaseRig.smallOptions(sync: sync), squeezeEvery: 100)
    }

    @Test func `No acknowledged write is lost in crashes`() throws {
        try run(7, DatabaseRig.smallOptions(), crashEvery: 150)
    }

    @Test func `Without syncs a prefix survives crashes, and nothing is given out twice`() throws {
        try run(8, DatabaseRig.smallOptions(sync: .never), crashEvery: 150)
    }

    @Test func `Every answer is the model's, where tables move unread`() throws {
        var moved = Set<TableID>()
        try run(11, DatabaseRig.smallOptions(), crashEvery: 400, isAscending: true) { rig in
            // A flush's table below level 0 was moved there.
            for table in rig.store.manifest.manifest.tables.sortedByID
            where table.id.kind == .flush && table.level > 0 {
                moved.insert(table.id)
            }
        }
        #expect(moved.count > 5, "\(moved.count)")
    }

    @Test func `Every answer is the model's, with dynamic levels and merges in place`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.concurrentJobs = 3
        options.store.compaction.sizesLevelsDynamically = true
        options.store.compaction.level0MergeTables = 2
        var levels = Set<UInt8>()
        try run(12, options, crashEvery: 700) { rig in
            levels.formUnion(rig.store.manifest.manifest.tables.sortedByID.map(\.level))
        }
        #expect(levels.isSuperset(of: [0, 5, 6]) && !levels.contains(1), "\(levels)")
    }

    @Test func `Every answer is the model's, with picks for every reason`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.tombstonePercent = 15
        options.store.compaction.rewriteAfterMilliseconds = 300
        options.store.compaction.spaceAmplificationPercentMax = 50
        options.store.compaction.fruitlessReadsMax = 64
        options.store.historyWindowMilliseconds = 60
        try run(13, options, crashEvery: 900)
    }

    @Test func `Every answer is the model's, with size-tiered compaction`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.strategy = .sizeTiered
        options.store.compaction.level0Trigger = 4
        options.store.concurrentJobs = 2
        try run(14, options, crashEvery: 600)
    }

    @Test func `Keys that are deleted singly are ingested like others`() throws {
        try run(
            15, DatabaseRig.smallOptions(segmentBytes: 16 << 10), crashEvery: 700,
            loadsSingles: true)
    }

    /// Nearly every value is long enough, and dead ones are collected all the time.
    @Test(arguments: 16...18 as ClosedRange<UInt64>)
    func `Every answer is the model's, with values in blob files`(seed: UInt64) throws {
        var options = DatabaseRig.smallOptions(sync: seed == 18 ? .never : .always)
        options.settings.blobThreshold = 12
        options.settings.blobFileBytes = 2048
        options.store.concurrentJobs = Int(seed - 15)
        options.store.historyWindowMilliseconds = seed == 16 ? 0 : 60
        if seed == 17 { options.store.compaction.strategy = .sizeTiered }
        var collected = Set<TableID>()
        try run(seed, options, crashEvery: seed == 16 ? 150 : 700) { rig in
            let blobs = rig.store.manifest.manifest.tables.blobs.map(\.id)
            collected.formUnion(blobs.filter { $0.kind == .compactionBlob })
        }
        #expect(collected.count > 5, "\(collected.count)")
    }

    /// Tables are so small that most jobs have parts; and a filter writes a third of the values anew,
    /// which no reader notices.
    @Test(arguments: 19...20 as ClosedRange<UInt64>)
    func `Every answer is the model's, with jobs in parts and a filter`(seed: UInt64) throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 8 << 10)
        options.store.compaction.targetBytes = 1024
        options.store.concurrentJobs = 3
        options.store.historyWindowMilliseconds = 60
        if seed == 20 {
            options.settings.blobThreshold = 24
            options.settings.blobFileBytes = 2048
        }
        let filter = TouchingFilter()
        options.store.compactionFilters = [filter]
        options.settings.functions.compactionFilter = filter.name
        var parts = Set<LogIndex>()
        try run(seed, options, crashEvery: 700) { rig in
            let tables = rig.store.manifest.manifest.tables
            for table in tables.sortedByID where table.id.ordinal >= UInt32(Limits.jobTables) {
                parts.insert(table.id.index)
            }
        }
        #expect(parts.count > 5, "\(parts.count)")
    }

    /// Blocks are forgotten at once; the second time rows come and go as well.
    @Test(arguments: 21...22 as ClosedRange<UInt64>)
    func `Every answer is the model's, with a row cache`(seed: UInt64) throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 8 << 10)
        options.store.cacheBytes = 0
        options.store.rowCacheBytes = seed == 21 ? 256 << 10 : 12 << 10
        options.store.memoryBytes = seed == 21 ? nil : 40 << 10
        options.store.historyWindowMilliseconds = 60
        if seed == 22 {
            options.settings.blobThreshold = 24
            options.settings.filter = OracleFilters.policies[2]
        }
        var hits: UInt64 = 0
        try run(seed, options, crashEvery: 700) { rig in
            hits = max(hits, rig.database.memoryUse.rowCache?.hits ?? 0)
        }
        #expect(hits > 50, "\(hits)")
    }

    /// And no nonce comes twice under one key, crashes and full disks or not, nor in blob files or
    /// with dictionaries.
    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func `An encrypted database is as good as a plain one`(sync: DatabaseOptions.Sync) throws {
        var options = DatabaseRig.smallOptions(sync: sync)
        options.encryption = try testKeys(1)
        if sync == .never {
            options.settings.blobThreshold = 24
            options.settings.blobFileBytes = 2048
            options.store.compression = CompressionPolicy(.zstdDictionary(level: 1))
        }
        let watch = SealWatch()
        try run(10, options, crashEvery: 150, squeezeEvery: 400, watch: watch)
        #expect(watch.count > DatabaseOracleTests.operations / 10)
        #expect(watch.repeated.isEmpty)
    }

    @Test func `Every answer is the model's, with threads and real files`() throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 16 << 10)
        // Both threads do parts of one job.
        options.store.concurrentJobs = 2
        options.store.compaction.targetBytes = 2048
        let rig = try ThreadedRig(options)
        let run = OracleRun(rig, seed: 9)
        do {
            for _ in 0..<(DatabaseOracleTests.operations / 10) { try run.step() }
            try run.checkAll()
            try rig.database.compactAll()
            try run.checkAll()
        } catch {
            Issue.record("\(error); notes: \(rig.notes.all.suffix(5))")
        }
        try rig.close()
    }
}

/// Filters of all kinds, with prefixes to ask for.
private enum OracleFilters {
    static var policies: [FilterPolicy] {
        var partitioned = FilterPolicy(bitsPerKey: 10)
        partitioned.partitionAbove = 64
        partitioned.prefix = .fixed(length: 3)
        var bloom = FilterPolicy(bitsPerKey: 4)
        bloom.kind = .bloom
        bloom.prefix = .fixed(length: 4)
        var levelled = FilterPolicy(bitsPerKey: 8)
        levelled.expectsHits = true
        levelled.allocation = .monkey(sizeRatio: 3, deepestLevel: 2)
        return [partitioned, bloom, levelled]
    }
}
