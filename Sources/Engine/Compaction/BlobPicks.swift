// Which blob files a job collects, and jobs for their sake alone. A file is due when enough of it
// is dead (`BlobLedger.due`); it goes when no table refers to it any more. Each job takes its
// inputs' references out of it, so that none is planned for ever.

extension Picker {
    /// The blob files that are due and that `tables` refer to, sorted.
    func dueBlobs(of tables: [TableRecord]) -> [TableID] {
        guard !dueBlobs.isEmpty else { return [] }
        return Set(tables.lazy.flatMap(\.blobs).map(\.file)).intersection(dueBlobs).sorted()
    }

    /// Writes the first free table anew that refers to a blob file which is due, deepest level
    /// first: nothing else may ever touch it.
    func pickDeadBlobs() -> CompactionSpec? {
        guard !dueBlobs.isEmpty else { return nil }
        for level in (0..<TableRecord.levelCount).reversed() {
            for table in manifest.tables.tables(at: level) where isFree(table) {
                let moved = table.blobs.filter { dueBlobs.contains($0.file) }
                guard !moved.isEmpty else { continue }
                let bytes = moved.reduce(table.canonicalBytes) { $0 &+ $1.bytes }
                guard bytes <= unfinishedBytesLeft || reserved.isEmpty else { continue }
                if let spec = rewritten(table) { return spec }
            }
        }
        return nil
    }

    /// A job over `table` alone, which leaves it where it is.
    private func rewritten(_ table: TableRecord) -> CompactionSpec? {
        if table.level == 0 { return mergedInPlace([table]) }
        let spec = spec([table], outputLevel: table.level)
        return manifest.refusal(of: spec) == nil ? spec : nil
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
