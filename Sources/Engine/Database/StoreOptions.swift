// What a store is told by its owner. Local: nothing here changes the bytes of a table's identity.

public struct StoreOptions: Sendable {
    /// Decoded blocks kept in memory, bytes.
    public var cacheBytes = 128 << 20
    /// Single rows kept in memory beside the blocks, bytes; 0 keeps none. Worth its bytes where few
    /// keys of much more data than `cacheBytes` are read often: such a row costs its own bytes, not
    /// its block's. Reads of the latest state use it.
    public var rowCacheBytes = 0
    /// Bounds memtables, `cacheBytes` and `rowCacheBytes` together: the caches give way while
    /// memtables are large (`MemoryBudget`). Nil bounds each alone.
    public var memoryBytes: Int?
    /// Table files open at a time.
    public var openTables = 512
    /// Memtables that wait for their flush before writes stall.
    public var memtablesMax = 4
    /// Flushed tables that wait for their `seal` before writes stall.
    public var standInsMax = 32
    /// Tables at level 0, stand-ins included, above which writes stall.
    public var level0StopTables = 36
    /// How this node stores blocks, by level. Files keep the codec that they were written with
    /// until a job or a heal writes them anew.
    public var compression = CompressionPolicy.lz4
    public var compaction = CompactionOptions()
    /// How long versions are kept for reads as of an earlier sequence, milliseconds. In a cluster
    /// the leader's counts.
    public var historyWindowMilliseconds: UInt64 = 0
    /// Record in every manifest edit what was given out: an unsynced log may lose it.
    package var recordsBounds = false
    /// Free bytes of the file system below which writes are refused, deletes excepted, so that
    /// flushes and compactions still have room; what those are about to write comes on top. Nil
    /// chooses: 256 MiB or four segments, at most a twentieth of the file system, and nothing on
    /// one below 1 GiB. 0 writes until the disk is full.
    public var lowDiskBytes: UInt64?
    /// Jobs that compute at a time. Threads that no job takes help with the parts of large ones, so
    /// it bounds the threads on which compactions run.
    public var concurrentJobs = 1
    public var heal = HealOptions()
    /// Operators besides the engine's own, ids from 256 up.
    public var mergeOperators: [any MergeOperator] = []
    /// Filters that the logged settings may name.
    public var compactionFilters: [any CompactionFilter] = []

    public init() {}

    /// Refuses values with which a store could never work, and names the option.
    package func check() throws(EngineError) {
        let bounds: [(name: String, value: Int, allowed: ClosedRange<Int>)] = [
            ("cacheBytes", cacheBytes, 0...Int.max),
            ("rowCacheBytes", rowCacheBytes, 0...Int.max),
            ("memoryBytes", memoryBytes ?? 1, 1...Int.max),
            ("openTables", openTables, 1...Int.max),
            ("memtablesMax", memtablesMax, 1...Int.max), ("standInsMax", standInsMax, 1...Int.max),
            ("concurrentJobs", concurrentJobs, 1...Int.max),
            ("compaction.partsMax", compaction.partsMax, 1...Int.max),
            ("compaction.level0Trigger", compaction.level0Trigger, 1...Int.max),
            // Below the trigger writes would stop before a compaction is due.
            ("level0StopTables", level0StopTables, max(compaction.level0Trigger, 1)...Int.max),
        ]
        for bound in bounds where !bound.allowed.contains(bound.value) {
            throw .invalid(
                reason: "\(bound.name) is \(bound.value), below \(bound.allowed.lowerBound)")
        }
        let range = CompactionSpec.targetBytesRange
        guard range.contains(compaction.targetBytes) else {
            throw .invalid(
                reason: "compaction.targetBytes is \(compaction.targetBytes), not in "
                    + "\(range.lowerBound)...\(range.upperBound)")
        }
        if compaction.strategy == .fifo(bytesMax: 0, ageMilliseconds: 0) {
            throw .invalid(reason: "compaction.strategy is fifo without a bound")
        }
        if let problem = compression.problem { throw .invalid(reason: problem) }
    }
}

public struct HealOptions: Sendable {
    public enum Source: String, Sendable, CaseIterable {
        case auto
        case local
        case replica
    }

    /// Confirm and record damage that reads find, and mend it.
    public var isAutomatic = true
    public var source = Source.auto
    /// Keep the damaged generation under `quarantine/`.
    public var keepEvidence = false
    /// Longest that a read waits for a replica's block.
    public var inlineDeadlineMilliseconds: UInt64 = 250

    public init() {}
}
