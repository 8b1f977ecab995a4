// Which blob files a job collects, and jobs for their sake alone. A file is due when enough of it
// is dead (`BlobLedger.due`); it goes when no table refers to it any more. Each such job takes its
// inputs' references out of some file, so that none is planned for ever.
//
// Collecting is optional: what a job would move counts against its bounds like what it reads, and
// what does not fit stays for another job.

extension Picker {
    /// The blob files that a job over `tables` collects: those that are due and that they refer to,
    /// oldest first, as many as the job's bounds leave room for. Sorted.
    func dueBlobs(of tables: [TableRecord]) -> [TableID] {
        // A job that failed is tried again without what it could do without.
        guard !dueBlobs.isEmpty,
            tables.allSatisfy({ exclusions.jobBytesMax($0.id) == .max })
        else { return [] }
        let used = Picker.usedBytes(by: tables)
        var total = tables.reduce(UInt64(0)) { $0 &+ $1.canonicalBytes }
        var collected: [TableID] = []
        for file in dueBlobs {
            guard let bytes = used[file] else { continue }
            // One file is the least, however large it is, if the disk has room.
            let bytesMax = collected.isEmpty ? .max : options.jobBytesMax
            guard total &+ bytes <= min(bytesMax, unfinishedBytesLeft) else { continue }
            total &+= bytes
            collected.append(file)
        }
        return collected.sorted()
    }

    private static func usedBytes(by tables: [TableRecord]) -> [TableID: UInt64] {
        var used: [TableID: UInt64] = [:]
        for use in tables.lazy.flatMap(\.blobs) { used[use.file, default: 0] &+= use.bytes }
        return used
    }

    /// Bytes of values that a job under way moves.
    static func movedBytes(of job: PendingJob, _ tables: ManifestTables) -> UInt64 {
        guard !job.spec.collected.isEmpty else { return 0 }
        let collected = Set(job.spec.collected)
        let uses = job.spec.inputs.lazy.compactMap { tables.record($0.id) }.flatMap(\.blobs)
        return uses.filter { collected.contains($0.file) }.reduce(0) { $0 &+ $1.bytes }
    }

    /// Writes tables anew that refer to blob files which are due, deepest level first: nothing else
    /// may ever touch them. Only when what is dead of all files makes it worth that: else one file
    /// that is dead enough would have every table written anew that refers to it.
    func pickDeadBlobs() -> CompactionSpec? {
        guard !dueBlobs.isEmpty, ledger.isWorthJobs(deadPercent: options.blobDeadPercent) else {
            return nil
        }
        let due = Set(dueBlobs)
        for level in (0..<TableRecord.levelCount).reversed() {
            var run: [TableRecord] = []
            for table in manifest.tables.tables(at: level) + [nil] {
                if let table, isFree(table), table.blobs.contains(where: { due.contains($0.file) })
                {
                    run.append(table)
                    if level > 0 { continue }
                }
                if let spec = rewritten(run, level) { return spec }
                run.removeAll()
            }
        }
        return nil
    }

    /// A job over the longest beginning of `run` that the bounds allow, which leaves its tables
    /// where they are; nil if it would collect nothing. Neighbours go together, so that what lives
    /// in them comes into few files. In level 0, where age counts, it is one table.
    private func rewritten(_ run: [TableRecord], _ level: UInt8) -> CompactionSpec? {
        var best: CompactionSpec?
        var bytes: UInt64 = 0
        for (position, table) in run.prefix(Limits.jobTables).enumerated() {
            bytes &+= table.canonicalBytes
            guard bytes <= unfinishedBytesLeft, position == 0 || bytes <= options.jobBytesMax else {
                break
            }
            var spec = spec(Array(run[...position]), outputLevel: level)
            if level == 0 { spec.targetBytes = CompactionSpec.targetBytesRange.upperBound }
            guard !spec.collected.isEmpty, manifest.refusal(of: spec) == nil,
                best.map({ spec.collected.count >= $0.collected.count }) ?? true
            else { break }
            best = spec
        }
        return best.map(divided)
    }

    /// What goes with a table: its own bytes, and its part of the blob files, by what is alive of
    /// them. Of a file without any that is nothing: it is gone.
    func bytesWithBlobs(_ table: TableRecord) -> UInt64 {
        table.blobs.reduce(table.canonicalBytes) { bytes, use in
            guard let row = ledger[use.file], row.liveBytes > 0,
                let blob = manifest.tables.record(use.file)
            else { return bytes }
            let part = Double(use.bytes) / Double(row.liveBytes)
            return bytes &+ UInt64(Double(blob.canonicalBytes) * min(part, 1))
        }
    }
}
