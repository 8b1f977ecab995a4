// Readers of every kind beside writers, flushes, compactions and the close, on threads of their
// own, with a cache and a table limit so small that blocks and files come and go all the time. For
// the thread sanitizer above all; but each answer is checked, too. Bounded by operations: each
// thread does so many, or fewer if the database closes before.
import Engine
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite struct DatabaseStressTests {
    private static let writes = scaled("MARTLET_STRESS_WRITES", full: 4_000, usual: 240)

    private static func options(sync: DatabaseOptions.Sync, isRich: Bool) throws -> DatabaseOptions
    {
        var options = DatabaseRig.smallOptions(segmentBytes: 16 << 10, sync: sync)
        options.store.cacheBytes = 24 << 10
        options.store.openTables = 3
        options.store.concurrentJobs = 2
        options.store.compaction.targetBytes = 4096
        options.retainLogBytes = 256 << 10
        guard isRich else { return options }
        options.settings.blobThreshold = 100
        options.settings.blobFileBytes = 8192
        options.settings.filter.partitionAbove = 256
        options.settings.filter.prefix = .fixed(length: 2)
        options.store.compression = CompressionPolicy(.zstdDictionary(level: 1))
        options.store.rowCacheBytes = 12 << 10
        options.store.memoryBytes = 128 << 10
        options.store.compaction.bytesPerSecondMax = 64 << 20
        options.encryption = try testKeys(1)
        return options
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never], [false, true])
    func `Readers beside writers, jobs and the close see whole batches, in order`(
        sync: DatabaseOptions.Sync, isRich: Bool
    ) throws {
        let rig = try ThreadedRig(DatabaseStressTests.options(sync: sync, isRich: isRich))
        let copies = try TemporaryDirectory()
        let groups = [StressGroup(1), StressGroup(4)]
        for round in 0..<3 {
            let crowd = StressCrowd(
                rig.database, groups, writes: DatabaseStressTests.writes,
                copies: "\(copies.path)/\(round)")
            crowd.run(seed: UInt64(round))
            #expect(crowd.failures.all.isEmpty, "\(crowd.failures.all.prefix(3))")
            #expect(crowd.reads > DatabaseStressTests.writes)
            #expect(throws: EngineError.self) { try rig.database.get([0]) }
            try rig.open()
            for group in groups { #expect(try group.resume(rig.database) == nil) }
        }
        #expect(rig.notes.all.isEmpty, "\(rig.notes.all.prefix(3))")
        try rig.close()
    }
}
