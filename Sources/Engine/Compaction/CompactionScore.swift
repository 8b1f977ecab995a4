// How urgently a level wants a compaction: 1 and above is due. Level 0 is scored by its number of
// tables, since each is one more place to read; the others by bytes over their target
// (`LevelTargets`). What jobs under way already take out of a level does not count.

/// How the tree is kept in shape. A leader's own choice: what it decides is logged, and members
/// need not agree. What another strategy left behind is read as ever.
public enum CompactionStrategy: Hashable, Sendable {
    /// Sorted levels, each a multiple of the one above: least space, most rewriting.
    case leveled
    /// All in level 0: runs that are neighbours in age and of similar size are merged. Least
    /// rewriting, more space and more places to read. A merge of more than two is bounded by
    /// `jobBytesMax`, and none makes a table of more than 16 GiB: larger runs stay apart.
    case sizeTiered
    /// All in level 0, never merged: the oldest tables are dropped whole when all together exceed
    /// `bytesMax`, or when the leader has seen one for `ageMilliseconds`, counted anew after a
    /// restart or a change of leader; 0 is no bound. Embedded, ages are looked at with a write,
    /// once a second at most. What a dropped table held is gone for every reader, except for
    /// snapshots that were opened before. A delete hides what is older until both are dropped;
    /// nothing comes back, since a table goes after all that is older in its keys.
    case fifo(bytesMax: UInt64, ageMilliseconds: UInt64)
}

/// The shape of the tree. Not logged: only the leader's planner reads it, and what it decides is in
/// the job's entry.
public struct CompactionOptions: Hashable, Sendable {
    public var strategy = CompactionStrategy.leveled
    /// Tables of level 0 at which it is due.
    public var level0Trigger = 4
    /// Target of level 1, or with `sizesLevelsDynamically` of the level that level 0 goes to.
    public var baseLevelBytes: UInt64 = 256 << 20
    /// Each deeper level's target over the one above.
    public var multiplier: UInt64 = 10
    /// Targets follow from the size of the deepest level: it holds what it holds, each level above
    /// a `multiplier`th of the one below, and level 0 goes to the first one that is worth having.
    /// So what upper levels hold twice stays a small part of the whole, however large that is.
    public var sizesLevelsDynamically = false
    /// Canonical bytes at which a job's output is cut.
    public var targetBytes: UInt64 = 64 << 20
    /// Inputs of one job (`compact.max-bytes`); a job that cannot be smaller may exceed it.
    public var jobBytesMax: UInt64 = 2 << 30

    /// Parts at most into which a large job is split at user keys, so that several threads compute
    /// it (`StoreOptions.concurrentJobs`); 1 never splits, and there are never more than 16.
    public var partsMax = 8

    /// Tables that meet nothing at the next level move there without being read or written, where
    /// a merge would neither drop anything nor store them in another way.
    public var movesTables = true

    /// Tables of level 0, neighbours in age, that are merged with each other when level 0 is due
    /// and the level below is busy with another job; 0 never does. Far above the trigger: it
    /// relieves reads and writes while compaction is behind, and writes more in all.
    public var level0MergeTables = 12

    /// Percent of a table's entries: with so many deletes it is compacted, due or not, and written
    /// anew at the bottom; 0 never.
    public var tombstonePercent = 0
    /// A table that is live for so long is merged with what is below, or written anew at the
    /// bottom, so that what has expired goes in the end; 0 never. A leader counts from when it
    /// first saw the table: after a restart or a change of leader ages begin anew. Tables of level
    /// 0 wait for its trigger; other strategies do not look at it. Embedded, ages are looked at
    /// with a write, once a second at most, and with every job.
    public var rewriteAfterMilliseconds: UInt64 = 0
    /// Bytes above the deepest level, in percent of what that holds, past which they are merged
    /// down, due or not; 0 is no bound. With `sizeTiered`, those of all runs but the oldest, past
    /// which all become one; there 0 means 200.
    public var spaceAmplificationPercentMax = 0
    /// With `sizeTiered`: a run joins the younger ones if it is larger than all of them together by
    /// so many percent at most.
    public var tierSizePercent = 10
    /// Point reads that read a block of a table, on the leader and since it was opened, for a key
    /// that is not in it, before the table is merged with what is below; 0 never does. Reads that a
    /// filter spares do not count. Embedded, looked at as ages are: a database that is only read
    /// keeps its shape.
    public var fruitlessReadsMax: UInt64 = 0

    /// Percent of a blob file's bytes: with so many that no table refers to any more, what lives of
    /// it moves to another file with the next jobs that read tables which refer to it, or with jobs
    /// of its own; 0 never. A file with nothing alive goes by itself, which is all that happens
    /// with `fifo`.
    public var blobDeadPercent = 25
    /// Of the blob files that have come so far, percent that are collected at a time, the oldest
    /// first and one at least: what is young has yet to die.
    public var blobAgePercent = 25

    /// Bytes that compactions of this node write each second at most, 1 MiB at least; 0 is no
    /// bound. Not kept while level 0 has `level0SlowdownTrigger` tables, or memtables wait.
    public var bytesPerSecondMax: UInt64 = 0

    /// False plans nothing on its own.
    public var isEnabled = true
    /// Level-0 tables, stand-ins included, at which proof waits for nobody and writes to an
    /// embedded database begin to be delayed.
    public var level0SlowdownTrigger = 20
    /// Subtracted from the clock that jobs judge expiry by.
    public var clockMaxOffsetMilliseconds: UInt64 = 500

    public init() {}

    /// Whether a job may become due though nothing was written: by age, or by reads.
    var dependsOnTime: Bool {
        if case .fifo(_, let age) = strategy, age > 0 { return true }
        return rewriteAfterMilliseconds > 0 || fruitlessReadsMax > 0
    }

    /// Bytes that `level` (from 1 on) should hold at most; the last level has no bound.
    public func targetBytes(ofLevel level: UInt8) -> UInt64 {
        guard level < TableRecord.levelCount - 1 else { return .max }
        var bytes = max(1, baseLevelBytes)
        for _ in 1..<max(1, level) {
            let (product, isOver) = bytes.multipliedReportingOverflow(by: max(1, multiplier))
            guard !isOver else { return .max }
            bytes = product
        }
        return bytes
    }
}

package struct CompactionScore: Hashable, Sendable {
    package var level: UInt8
    package var value: Double

    /// Scores of all levels that can be compacted, most urgent first, the upper level first among
    /// equals.
    package static func scores(_ manifest: LogicalManifest, _ options: CompactionOptions)
        -> [CompactionScore]
    {
        let targets = LevelTargets(manifest.tables, options)
        var leaving: [UInt8: (tables: Int, bytes: UInt64)] = [:]
        for job in manifest.jobs where job.spec.outputLevel > job.spec.sourceLevel {
            for input in job.spec.inputs where input.level == job.spec.sourceLevel {
                let bytes = manifest.tables.record(input.id)?.canonicalBytes ?? 0
                leaving[input.level, default: (0, 0)].tables += 1
                leaving[input.level, default: (0, 0)].bytes += bytes
            }
        }
        var scores: [CompactionScore] = []
        for level in 0..<(TableRecord.levelCount - 1) {
            let gone = leaving[level] ?? (0, 0)
            let value: Double
            if level == 0 {
                let count = manifest.tables.tables(at: 0).count - gone.tables
                value = Double(count) / Double(max(1, options.level0Trigger))
            } else {
                let bytes = manifest.tables.levelBytes[Int(level)] &- gone.bytes
                value = Double(bytes) / Double(targets.bytes(level))
            }
            scores.append(CompactionScore(level: level, value: value))
        }
        return scores.sorted {
            $0.value != $1.value ? $0.value > $1.value : $0.level < $1.level
        }
    }
}
