// What of each blob file still lives, as a manifest's tables tell: the sum of their counters. Pure.
// A file that no table counts any more is gone from the manifest (`LogicalManifest`); of one that
// tables count in part the rest is dead, and takes room until the file is collected: a job moves
// what lives to files of its own.

package struct BlobLedger: Hashable, Sendable {
    package struct Row: Hashable, Sendable {
        package var file: TableID
        /// Values and their stored bytes, as the file was written.
        package var count: UInt64
        package var bytes: UInt64
        package var liveCount: UInt64 = 0
        package var liveBytes: UInt64 = 0

        package var deadBytes: UInt64 { bytes > liveBytes ? bytes - liveBytes : 0 }
    }

    /// The blob files of the manifest, oldest first.
    package private(set) var rows: [Row]

    package init(_ tables: ManifestTables) {
        rows = tables.blobs.map { record in
            let own = record.blobs.first
            return Row(file: record.id, count: own?.count ?? 0, bytes: own?.bytes ?? 0)
        }
        guard !rows.isEmpty else { return }
        for level in 0..<TableRecord.levelCount {
            for table in tables.tables(at: level) {
                for use in table.blobs { note(use) }
            }
        }
    }

    private mutating func note(_ use: BlobUse) {
        let at = rows.partitionPoint { $0.file < use.file }
        guard at < rows.count, rows[at].file == use.file else { return }
        rows[at].liveCount &+= use.count
        rows[at].liveBytes &+= use.bytes
    }

    package subscript(file: TableID) -> Row? {
        let at = rows.partitionPoint { $0.file < file }
        return at < rows.count && rows[at].file == file ? rows[at] : nil
    }

    /// The files to be collected next: of those that are dead by so many percent at least, the
    /// oldest `agePercent`, one at least. None with `deadPercent` 0.
    package func due(deadPercent: Int, agePercent: Int) -> [TableID] {
        guard deadPercent > 0 else { return [] }
        let dead = rows.filter { row in
            let dead = Double(row.deadBytes) * 100
            return row.deadBytes > 0 && dead >= Double(row.bytes) * Double(deadPercent)
        }
        guard !dead.isEmpty else { return [] }
        let part = (dead.count * min(max(agePercent, 0), 100) + 99) / 100
        return dead.prefix(max(part, 1)).map(\.file)
    }
}
