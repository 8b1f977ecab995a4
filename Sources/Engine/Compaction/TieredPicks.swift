// What the planner does in level 0 when nothing is to leave it: size-tiered merges and FIFO drops.
// What an earlier strategy left in deeper levels stays there and is read as the oldest data; FIFO
// drops it first.

extension CompactionOptions {
    /// Level 0 gets smaller by compaction: writes wait for it when it has too many tables.
    package var boundsLevel0: Bool {
        if case .fifo = strategy { return false }
        return isEnabled
    }

    /// How many of these tables of level 0 compaction can make fewer. With `sizeTiered` those of
    /// more than half of what one table may be stay as they are.
    package func pressingCount(_ tables: [TableRecord]) -> Int {
        guard case .sizeTiered = strategy else { return tables.count }
        return tables.count { $0.canonicalBytes <= Picker.tierBytesMax / 2 }
    }
}

extension Picker {
    // MARK: - Size-tiered

    /// A merge in place has one output: of two, it would merge the same again.
    static let tierBytesMax = CompactionSpec.targetBytesRange.upperBound

    /// The next merge of neighbours in age: all of them if the younger ones take too much space
    /// beside the oldest; else those of similar size; else, since there are too many, the youngest
    /// that one table can hold.
    func pickTier() -> CompactionSpec? {
        let runs = Array(manifest.tables.tables(at: 0).reversed())
        guard runs.count >= max(2, options.level0Trigger) else { return nil }
        // A merge under way ends what can be judged: the runs behind it have another age.
        let free = Array(runs.prefix { isFree($0) })
        guard free.count > 1 else { return nil }
        // Less than all of them would be as wide as before, and merged again with the next flush.
        if free.count == runs.count, isTooWide(runs), let spec = merge(runs),
            spec.inputs.count == runs.count
        {
            return spec
        }
        if let spec = merge(similar(free)) { return spec }
        let excess = free.count - max(2, options.level0Trigger) + 2
        guard excess > 1 else { return nil }
        for start in 0..<(free.count - 1) {
            if let spec = merge(Array(free[start...].prefix(excess))) { return spec }
        }
        return nil
    }

    private func isTooWide(_ runs: [TableRecord]) -> Bool {
        guard let oldest = runs.last else { return false }
        let younger = runs.dropLast().reduce(0.0) { $0 + Double($1.canonicalBytes) }
        let percent = options.spaceAmplificationPercentMax
        return younger * 100 > Double(oldest.canonicalBytes) * Double(percent > 0 ? percent : 200)
    }

    /// The youngest, and those behind it that are not much larger than all before them.
    private func similar(_ free: [TableRecord]) -> [TableRecord] {
        var chosen: [TableRecord] = []
        var bytes = 0.0
        let percent = 100 + Double(options.tierSizePercent)
        for table in free {
            let own = Double(table.canonicalBytes)
            guard chosen.isEmpty || own * 100 <= bytes * percent
            else { break }
            chosen.append(table)
            bytes += own
        }
        return chosen
    }

    /// One table of these, or of as many of the youngest as a job holds, but at least two: a job
    /// that cannot be smaller runs all the same, then alone if space is short. Youngest first.
    func merge(_ runs: [TableRecord]) -> CompactionSpec? {
        var chosen: [TableRecord] = []
        var bytes: UInt64 = 0
        var bytesMax = min(options.jobBytesMax, unfinishedBytesLeft)
        for table in runs.prefix(Limits.jobTables) {
            bytesMax = min(bytesMax, exclusions.jobBytesMax(table.id))
            bytes &+= table.canonicalBytes
            let fits =
                bytes <= bytesMax
                || chosen.count < 2 && (bytes <= unfinishedBytesLeft || reserved.isEmpty)
            guard fits, bytes <= Picker.tierBytesMax else { break }
            chosen.append(table)
        }
        guard chosen.count > 1 else { return nil }
        return mergedInPlace(chosen)
    }

    // MARK: - FIFO

    /// The oldest tables, as many as are too much or too old, of one level.
    func pickExpired(_ ages: TableAges) -> CompactionSpec? {
        guard case .fifo(let bytesMax, let ageMax) = options.strategy else { return nil }
        var bytes: UInt64 = 0
        for level in 0..<TableRecord.levelCount {
            bytes &+= manifest.tables.levelBytes[Int(level)]
        }
        for blob in manifest.tables.blobs { bytes &+= blob.canonicalBytes }
        // What is being dropped is as good as gone.
        for job in manifest.jobs where job.spec.action == .drop {
            for input in job.spec.inputs {
                guard let table = manifest.tables.record(input.id) else { continue }
                bytes &-= bytesWithBlobs(table)
            }
        }
        var oldest: [TableRecord] = []
        for level in (0..<TableRecord.levelCount).reversed() where oldest.isEmpty {
            oldest = manifest.tables.tables(at: level)
        }
        var run: [TableRecord] = []
        for table in oldest.prefix(Limits.jobTables) {
            let isOver = bytesMax > 0 && bytes > bytesMax
            let isOld = ageMax > 0 && ages.isOlder(table.id, than: ageMax, now: facts.now)
            // An open transaction may have to find a conflict in it.
            guard isOver || isOld, isFree(table), table.largestSequence <= facts.horizon else {
                break
            }
            run.append(table)
            bytes &-= bytesWithBlobs(table)
        }
        guard !run.isEmpty else { return nil }
        let spec = CompactionSpec.drop(run.map { CompactionSpec.Input($0) })
        return manifest.refusal(of: spec) == nil ? spec : nil
    }
}
