// One round of picking on one manifest, for `CompactionPlanner`. A pick grows table by table and
// stops before the first that would make it too large or void; growing only widens the hull, so
// what stops it once would stop it again.

struct Picker {
    let manifest: LogicalManifest
    let facts: CompactionPlanner.Facts
    let options: CompactionOptions
    let targets: LevelTargets
    let exclusions: CompactionExclusions
    let reserved: Set<TableID>
    /// Bytes that jobs under way leave for another.
    let unfinishedBytesLeft: UInt64
    /// What of blob files lives.
    let ledger: BlobLedger
    /// Blob files that are dead enough to be collected, and sound here: one that cannot be read
    /// would keep every job waiting that could do without it. Oldest first.
    let dueBlobs: [TableID]

    init(
        _ manifest: LogicalManifest, _ facts: CompactionPlanner.Facts,
        _ options: CompactionOptions, _ exclusions: CompactionExclusions
    ) {
        self.manifest = manifest
        self.facts = facts
        self.options = options
        self.exclusions = exclusions
        targets = LevelTargets(manifest.tables, options)
        ledger = manifest.tables.ledger
        dueBlobs = ledger.due(
            deadPercent: options.blobDeadPercent, agePercent: options.blobAgePercent
        ).filter { !facts.damagedBlobs.contains($0) }
        reserved = manifest.reservedTables
        var bytes: UInt64 = 0
        for id in reserved { bytes &+= manifest.tables.record(id)?.canonicalBytes ?? 0 }
        for job in manifest.jobs { bytes &+= Picker.movedBytes(of: job, manifest.tables) }
        unfinishedBytesLeft =
            facts.unfinishedBytesMax > bytes ? facts.unfinishedBytesMax - bytes : 0
    }

    /// From level 0 to the base level: the first run of free neighbours in age from which a job can
    /// be made, beginning at its oldest.
    func pickLevel0(moves: Bool = true, eligible: (TableRecord) -> Bool) -> CompactionSpec? {
        var run: [TableRecord] = []
        for table in manifest.tables.tables(at: 0) + [nil] {
            if let table, isFree(table), eligible(table) {
                run.append(table)
            } else if !run.isEmpty {
                if let spec = grow(run, to: targets.base, moves: moves) { return spec }
                run.removeAll()
            }
        }
        return nil
    }

    /// Inside level 0, while the base level is busy: the youngest run of free neighbours in age
    /// becomes one table. An older one joins as long as it makes the bytes fewer for each table
    /// that goes, so that the result of the last such merge is not written again and again.
    func mergeLevel0() -> CompactionSpec? {
        guard options.level0MergeTables > 1,
            manifest.jobs.contains(where: { $0.reserves(level: targets.base) })
        else { return nil }
        var run: [TableRecord] = []
        for table in manifest.tables.tables(at: 0).reversed() + [nil] {
            if let table, isFree(table) {
                run.append(table)
            } else if let spec = mergeInPlace(run) {
                return spec
            } else {
                run.removeAll()
            }
        }
        return nil
    }

    /// `run` is youngest first.
    private func mergeInPlace(_ run: [TableRecord]) -> CompactionSpec? {
        var chosen: [TableRecord] = []
        var bytes: UInt64 = 0
        var cost = UInt64.max
        let bytesMax = min(options.jobBytesMax, unfinishedBytesLeft, Picker.tierBytesMax)
        for table in run.prefix(Limits.jobTables) {
            let total = bytes &+ table.canonicalBytes
            let next = chosen.isEmpty ? .max : total / UInt64(chosen.count)
            guard next <= cost,
                total <= min(bytesMax, exclusions.jobBytesMax(table.id))
            else { break }
            chosen.append(table)
            bytes = total
            cost = next
        }
        guard chosen.count >= options.level0MergeTables else { return nil }
        return mergedInPlace(chosen)
    }

    /// One table of neighbours in age: each table of level 0 is one more place to read.
    func mergedInPlace(_ tables: [TableRecord]) -> CompactionSpec? {
        var spec = spec(tables, outputLevel: 0)
        spec.targetBytes = CompactionSpec.targetBytesRange.upperBound
        return manifest.refusal(of: spec) == nil ? spec : nil
    }

    /// From a deeper level: the first table behind `cursor`, around the end, from which a job can
    /// be made. Also gives where it ends.
    func pick(level: UInt8, from cursor: [UInt8]?) -> (CompactionSpec, end: [UInt8]?)? {
        let tables = manifest.tables.tables(at: level)
        let first =
            cursor.flatMap { cursor in
                tables.firstIndex { !$0.span.start.isKeyBefore(cursor) }
            } ?? 0
        for offset in 0..<tables.count {
            let table = tables[(first + offset) % tables.count]
            if isFree(table), let spec = grow([table], to: level + 1) {
                return (spec, table.span.end)
            }
        }
        return nil
    }

    /// From a deeper level: as many neighbours by key as one job holds, to the next level or in
    /// place.
    func pickRun(
        level: UInt8, to outputLevel: UInt8, moves: Bool, eligible: (TableRecord) -> Bool
    ) -> CompactionSpec? {
        var run: [TableRecord] = []
        for table in manifest.tables.tables(at: level) + [nil] {
            if let table, isFree(table), eligible(table) {
                run.append(table)
            } else {
                while !run.isEmpty {
                    if let spec = grow(run, to: outputLevel, moves: moves) { return spec }
                    run.removeFirst()
                }
            }
        }
        return nil
    }

    // MARK: - Growing

    func isFree(_ table: TableRecord) -> Bool {
        !reserved.contains(table.id) && !exclusions.excludes(table.id, now: facts.now)
    }

    /// The job over the longest beginning of `run` that is neither void nor too large; nil if not
    /// even the first table can go.
    func grow(_ run: [TableRecord], to outputLevel: UInt8, moves: Bool = true)
        -> CompactionSpec?
    {
        var best: CompactionSpec?
        var hull: KeySpan?
        var bytes: UInt64 = 0
        var bytesMax = min(options.jobBytesMax, unfinishedBytesLeft)
        // Tables of a rebuilt level 0 whose ages interleave can only go together.
        var isEntangled = false
        for (position, table) in run.enumerated() {
            hull = hull.map { $0.union(table.span) } ?? table.span
            bytes &+= table.canonicalBytes
            // Tables that failed before come back in smaller jobs.
            bytesMax = min(bytesMax, exclusions.jobBytesMax(table.id))
            guard let hull else { break }
            // In place the run itself is all that its hull meets.
            let below =
                table.level < outputLevel
                ? manifest.tables.overlapping(hull, at: outputLevel) : []
            let total = below.reduce(bytes) { $0 &+ $1.canonicalBytes }
            // A job that cannot be smaller runs all the same, but then alone if space is short.
            guard below.allSatisfy(isFree), position + 1 + below.count <= Limits.jobTables,
                total <= bytesMax
                    || (position == 0 || isEntangled)
                        && (total <= unfinishedBytesLeft || reserved.isEmpty)
            else { break }
            let spec = spec(Array(run[...position]) + below, outputLevel: outputLevel)
            switch manifest.refusal(of: spec) {
            case nil:
                isEntangled = false
                best = spec
            case .entangled: isEntangled = best == nil
            default: return best.map(divided)
            }
        }
        guard moves, let best, best.inputs.allSatisfy({ $0.level < outputLevel }) else {
            return best.map(divided)
        }
        return move(Array(run.prefix(best.inputs.count)), to: outputLevel) ?? divided(best)
    }

    /// The tables as they are, a level deeper, if reading them would gain nothing; nil if they are
    /// better merged. They meet nothing at the output level.
    private func move(_ tables: [TableRecord], to outputLevel: UInt8) -> CompactionSpec? {
        guard options.movesTables, let first = tables.first,
            let hull = CompactionSpec.hull(of: tables),
            CompactionSpec.firstOverlap(tables) == nil
        else { return nil }
        let isBottommost = manifest.isBottommost(hull, below: outputLevel)
        guard isAlike(first.level, outputLevel, isBottommost: isBottommost) else { return nil }
        // A merge would drop what can be dropped here, and nowhere deeper.
        let drops =
            facts.settings.functions.compactionFilter != nil
            || !dueBlobs(of: tables).isEmpty
            || (isBottommost
                && tables.contains { $0.deleteCount > 0 || $0.rangeTombstoneCount > 0 })
        // Small ones are better made into fewer.
        let bytes = tables.reduce(UInt64(0)) { $0 &+ $1.canonicalBytes }
        let areSmall = tables.count > 1 && bytes / UInt64(tables.count) < options.targetBytes / 4
        guard !drops, !areSmall else { return nil }
        let spec = CompactionSpec.move(
            tables.map { CompactionSpec.Input($0) }, to: outputLevel)
        return manifest.refusal(of: spec) == nil ? spec : nil
    }

    /// What is merged inside level 0 may leave older tables beside it.
    private func isAboveOlder(_ hull: KeySpan, _ inputs: [TableRecord]) -> Bool {
        let named = Set(inputs.lazy.map(\.id))
        guard let youngest = inputs.max(by: ManifestTables.isOlder) else { return true }
        return manifest.tables.overlapping(hull, at: 0).contains {
            !named.contains($0.id) && ManifestTables.isOlder($0, youngest)
        }
    }

    /// Whether tables of both levels are cut, filtered and stored alike.
    private func isAlike(_ level: UInt8, _ deeper: UInt8, isBottommost: Bool) -> Bool {
        let settings = facts.settings
        return settings.blockBytes(level: level) == settings.blockBytes(level: deeper)
            && settings.filter.shape(level: level, isBottommost: false)
                == settings.filter.shape(level: deeper, isBottommost: isBottommost)
            && facts.compression[level] == facts.compression[deeper]
    }

    func spec(_ inputs: [TableRecord], outputLevel: UInt8) -> CompactionSpec {
        let isBottommost =
            CompactionSpec.hull(of: inputs).map { hull in
                manifest.isBottommost(hull, below: outputLevel)
                    && (outputLevel > 0 || !isAboveOlder(hull, inputs))
            } ?? false
        return CompactionSpec(
            inputs: inputs.map { CompactionSpec.Input($0) }, outputLevel: outputLevel,
            targetBytes: options.targetBytes, horizon: facts.horizon, clock: facts.clock,
            blockBytes: facts.settings.blockBytes(level: outputLevel),
            filter: facts.settings.filter.shape(level: outputLevel, isBottommost: isBottommost),
            isBottommost: isBottommost,
            functions: facts.settings.functions, collected: dueBlobs(of: inputs),
            blobFileBytes: facts.settings.blobFileBytes)
    }
}
