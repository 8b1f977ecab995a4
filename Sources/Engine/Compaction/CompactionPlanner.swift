// Decides which tables to compact next. Pure: a manifest and facts go in, a spec comes out, or nil
// when nothing is due or everything due is under way. Only the leader plans, and what it plans is
// judged again where it is applied; the planner proposes nothing that would be void now.
//
// One proposal at a time: until its `compact` entry is applied the manifest does not reserve for
// it, so plan again after that. Several jobs may run at once wherever their hulls are free.
//
//   level 0   a run of tables that are neighbours in age, from the oldest that is free, with all
//             tables of the base level (`LevelTargets`) in their hull, as long as job and hull
//             allow; while that level is busy, a run of the youngest becomes one table in level 0
//   level n   one table, round-robin by key, with all tables of level n+1 that it overlaps
//
// With another strategy than `leveled` all of that happens in level 0 (`TieredPicks.swift`).
// When no level is due by its size, other reasons count (`PicksBesideSize.swift`). Whatever a job
// reads tables for, it collects the blob files that are dead enough (`BlobPicks.swift`).
//
// Before anything else, tables that range deletes have hidden whole are let go unread. What meets
// nothing at the output level moves there unread (`Picker.move`).

package struct CompactionPlanner: Sendable {
    /// What the manifest does not know.
    package struct Facts: Hashable, Sendable {
        package var settings: LoggedSettings
        /// Versions shadowed at or below it are garbage.
        package var horizon: SequenceNumber
        /// The job's clock for expiry, less the largest clock offset.
        package var clock: ClockMilliseconds
        /// Monotonic milliseconds, for exclusions.
        package var now: UInt64
        /// Input bytes of all unfinished jobs together, the new one included: a third of the
        /// smallest voter's free space.
        package var unfinishedBytesMax: UInt64
        /// As far as they are in memory.
        package var rangeTombstones: [LiveTombstone]
        /// How the leader stores blocks: what moves is not encoded anew.
        package var compression: CompressionPolicy
        /// Blob files with damage that waits for a heal.
        package var damagedBlobs: Set<TableID> = []
        /// The most first, if they count.
        package var fruitlessReads: [FruitlessReads] = []

        package init(
            settings: LoggedSettings, horizon: SequenceNumber, clock: ClockMilliseconds,
            now: UInt64, unfinishedBytesMax: UInt64 = .max, rangeTombstones: [LiveTombstone] = [],
            compression: CompressionPolicy = .lz4
        ) {
            self.settings = settings
            self.horizon = horizon
            self.clock = clock
            self.now = now
            self.unfinishedBytesMax = unfinishedBytesMax
            self.rangeTombstones = rangeTombstones
            self.compression = compression
        }
    }

    package var options: CompactionOptions
    package var exclusions = CompactionExclusions()
    /// Where the last pick of each level ended; nil starts over.
    private var cursors: [[UInt8]?]
    private var ages = TableAges()

    package init(options: CompactionOptions = CompactionOptions()) {
        self.options = options
        cursors = Array(repeating: nil, count: Int(TableRecord.levelCount))
    }

    /// The most urgent job that can start now.
    package mutating func plan(_ manifest: LogicalManifest, _ facts: Facts) -> CompactionSpec? {
        let picker = Picker(manifest, facts, options, exclusions)
        if needsAges { ages.note(manifest.tables, now: facts.now) }
        if let spec = picker.pickCovered() { return spec }
        switch options.strategy {
        case .leveled: break
        case .sizeTiered: return picker.pickTier() ?? picker.pickDeadBlobs()
        case .fifo: return picker.pickExpired(ages)
        }
        if let spec = pickBySize(picker) { return spec }
        if let level = picker.levelForSpace, let spec = pick(level, picker) { return spec }
        return picker.pickTombstones() ?? picker.pickOld(ages) ?? picker.pickFruitless()
            ?? picker.pickDeadBlobs()
    }

    private var needsAges: Bool {
        if case .fifo(_, let ageMax) = options.strategy { return ageMax > 0 }
        return options.rewriteAfterMilliseconds > 0
    }

    private mutating func pickBySize(_ picker: Picker) -> CompactionSpec? {
        let manifest = picker.manifest
        var starved: UInt8?
        for score in CompactionScore.scores(manifest, options) {
            guard score.value >= 1 else { return nil }
            // A more urgent level waits for this one's jobs to end: no new ones here.
            if let starved, score.level == picker.targets.output(of: starved) { continue }
            if let spec = pick(score.level, picker) { return spec }
            if score.level == 0, let spec = picker.mergeLevel0() { return spec }
            if starved == nil, !manifest.jobs.isEmpty { starved = score.level }
        }
        return nil
    }

    /// From `level` to the next.
    private mutating func pick(_ level: UInt8, _ picker: Picker) -> CompactionSpec? {
        guard level > 0 else { return picker.pickLevel0(eligible: { _ in true }) }
        guard let (spec, end) = picker.pick(level: level, from: cursors[Int(level)]) else {
            return nil
        }
        cursors[Int(level)] = end
        return spec
    }

    // MARK: - Everything to the deepest level

    /// A request to bring everything that existed when it was made to one level, without the
    /// garbage that is there already: versions that the horizon has passed and values that have
    /// expired since they were written, and what a new filter drops. No record tells how much of
    /// that a table holds, so those of the deepest level are written anew, too, once for each
    /// request.
    package struct FullCompaction: Hashable, Sendable {
        package let bottom: UInt8
        package let through: SequenceNumber
        /// The youngest work that wrote one of the tables, or is to and does not do all of it. What
        /// the request has written is of later jobs, hence it ends.
        package let lastWork: LogIndex
        /// Jobs under way that do all of it. What they write is not written once more: most have
        /// only just begun, by what is due when everything is flushed, and are most of what the
        /// request asks for.
        package let underWay: Set<LogIndex>
        /// Nothing outside of it is asked for.
        package let span: KeySpan
        /// Some of it was below level 0.
        package let hasDeeperLevels: Bool

        /// The deepest level in use, at least the base level, and the youngest version in any
        /// table. `functions` are those that the garbage is asked for by.
        package init(
            _ manifest: LogicalManifest, _ options: CompactionOptions = CompactionOptions(),
            span: KeySpan = .everything, functions: JobFunctionNames = JobFunctionNames()
        ) {
            self.span = span
            let base = LevelTargets(manifest.tables, options).base
            let deepest = (1..<TableRecord.levelCount).last {
                manifest.tables.overlaps(span, at: $0)
            }
            bottom = max(base, deepest ?? base)
            hasDeeperLevels = deepest != nil
            var through = SequenceNumber.zero
            var lastWork = LogIndex.zero
            for level in 0..<TableRecord.levelCount {
                for table in manifest.tables.tables(at: level) {
                    through = max(through, table.largestSequence)
                    lastWork = max(lastWork, table.id.index)
                }
            }
            var underWay: Set<LogIndex> = []
            for job in manifest.jobs {
                if job.spec.isBottommost && job.spec.functions == functions {
                    underWay.insert(job.index)
                } else {
                    lastWork = max(lastWork, job.index)
                }
            }
            self.through = through
            self.lastWork = lastWork
            self.underWay = underWay
        }

        /// A table of level 0 goes with all that are older: none may stay above it.
        func concerns(_ table: TableRecord) -> Bool {
            table.smallestSequence <= through && (table.level == 0 || table.span.overlaps(span))
        }

        /// Concerned, and written before the request.
        func awaitsRewrite(_ table: TableRecord) -> Bool {
            concerns(table) && table.id.index <= lastWork && !underWay.contains(table.id.index)
        }

        /// Whether anything at `level` has to go down.
        func concerns(_ level: UInt8, _ tables: ManifestTables) -> Bool {
            tables.overlapping(span, at: level).contains(where: concerns)
        }
    }

    package enum FullStep: Hashable, Sendable {
        case job(CompactionSpec)
        /// Jobs under way, or excluded tables, are in the way.
        case wait
        case done
    }

    /// The next step of a full compaction: the upper levels first, as much at once as a job holds,
    /// then in place what was at the deepest level before.
    package func planFull(
        _ request: FullCompaction, _ manifest: LogicalManifest, _ facts: Facts
    ) -> FullStep {
        let picker = Picker(manifest, facts, options, exclusions)
        if let spec = picker.pickCovered() { return .job(spec) }
        switch options.strategy {
        case .leveled: break
        case .sizeTiered where request.hasDeeperLevels: break
        case .sizeTiered:
            // The oldest run stays in level 0. Those that no job holds together stay apart.
            let runs = manifest.tables.tables(at: 0).filter(request.concerns)
            if let spec = picker.merge(runs.reversed()) { return .job(spec) }
            if runs.count > 1, !manifest.jobs.isEmpty { return .wait }
            let old = runs.filter(request.awaitsRewrite)
            for run in old {
                if let spec = picker.mergedInPlace([run]) { return .job(spec) }
            }
            return old.isEmpty || manifest.jobs.isEmpty ? .done : .wait
        case .fifo: return .done
        }
        for level in 0..<request.bottom
        where request.concerns(level, manifest.tables) {
            // Whoever asks for all of it wants it merged: nothing arrives at the bottom unread.
            let moves = picker.targets.output(of: level) < request.bottom
            let spec =
                level == 0
                ? picker.pickLevel0(moves: moves, eligible: request.concerns)
                : picker.pickRun(
                    level: level, to: level + 1, moves: moves, eligible: request.concerns)
            return spec.map { .job($0) } ?? .wait
        }
        let deepest = manifest.tables.overlapping(request.span, at: request.bottom)
        guard deepest.contains(where: request.awaitsRewrite) else { return .done }
        let spec = picker.pickRun(
            level: request.bottom, to: request.bottom, moves: false,
            eligible: request.awaitsRewrite)
        return spec.map { .job($0) } ?? .wait
    }
}
