// What of each blob file still lives, as a manifest's tables tell: the sum of their counters, kept
// by `ManifestTables` while tables come and go. Pure. A file that no table counts any more is gone
// from the manifest (`LogicalManifest`); of one that tables count in part the rest is dead, and
// takes room until the file is collected: a job moves what lives to files of its own.

package struct BlobLedger: Hashable, Sendable {
    package struct Row: Hashable, Sendable {
        package var file: TableID
        /// Values and their stored bytes, as the file was written.
        package var count: UInt64
        package var bytes: UInt64
        package var liveCount: UInt64 = 0
        package var liveBytes: UInt64 = 0
        /// Tables that refer to it.
        package var users = 0

        package var deadBytes: UInt64 { bytes > liveBytes ? bytes - liveBytes : 0 }
    }

    /// The blob files of the manifest, oldest first.
    package private(set) var rows: [Row] = []

    init() {}

    /// A blob file comes, before the tables that refer to it.
    mutating func add(_ blob: TableRecord) {
        let own = blob.blobs.first
        rows.insert(
            Row(file: blob.id, count: own?.count ?? 0, bytes: own?.bytes ?? 0),
            at: rows.partitionPoint { $0.file < blob.id })
    }

    /// A blob file goes, after the tables that referred to it.
    mutating func remove(_ blob: TableID) {
        if let at = index(of: blob) { rows.remove(at: at) }
    }

    /// A table comes. What it says of files that are not there counts for nothing.
    mutating func note(_ uses: [BlobUse]) {
        for use in uses {
            guard let at = index(of: use.file) else { continue }
            rows[at].liveCount &+= use.count
            rows[at].liveBytes &+= use.bytes
            rows[at].users += 1
        }
    }

    /// A table goes.
    mutating func forget(_ uses: [BlobUse]) {
        for use in uses {
            guard let at = index(of: use.file) else { continue }
            rows[at].liveCount &-= use.count
            rows[at].liveBytes &-= use.bytes
            rows[at].users -= 1
        }
    }

    private func index(of file: TableID) -> Int? {
        let at = rows.partitionPoint { $0.file < file }
        return at < rows.count && rows[at].file == file ? at : nil
    }

    package subscript(file: TableID) -> Row? { index(of: file).map { rows[$0] } }

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

    /// Whether so much is dead of all files together that collecting is worth jobs of its own,
    /// which write tables anew for it.
    package func isWorthJobs(deadPercent: Int) -> Bool {
        guard deadPercent > 0 else { return false }
        let dead = rows.reduce(0.0) { $0 + Double($1.deadBytes) }
        let bytes = rows.reduce(0.0) { $0 + Double($1.bytes) }
        return dead > 0 && dead * 100 >= bytes * Double(deadPercent)
    }
}
