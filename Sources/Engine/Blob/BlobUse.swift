// Blob counters of a table's record: how much of each blob file its references use. Summed over the
// tables of a manifest they say what of a blob file still lives (`BlobLedger`).

/// What one table holds of one blob file.
public struct BlobUse: Hashable, Sendable {
    public var file: TableID
    public var count: UInt64
    /// Stored bytes of the values.
    public var bytes: UInt64

    public init(file: TableID, count: UInt64, bytes: UInt64) {
        self.file = file
        self.count = count
        self.bytes = bytes
    }

    package static func encode(_ uses: [BlobUse], into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(uses.count))
        for use in uses {
            use.file.encode(into: &writer)
            writer.writeVarint(use.count)
            writer.writeVarint(use.bytes)
        }
    }

    /// Most that a table can have: what it may name before it ends, and, for the rest of its last
    /// key, the files of the work itself (`BlobBounds`).
    package static let tableMax = Limits.tableBlobs + Limits.workBlobs
    /// Most that all tables of a piece of work can have: once they may name no more, keys and the
    /// files of the work go up together, so that only a new table or a new file adds one.
    package static let workMax = Limits.workBlobUses + Limits.jobTables

    /// Sorted by file, no two alike, none of them empty.
    package static func decode(_ reader: inout ByteReader) throws(DecodingError) -> [BlobUse] {
        // Each takes fifteen bytes at least, which bounds the count by what is there.
        let count = try reader.readVarint(
            atMost: UInt64(min(BlobUse.tableMax, reader.remaining / 15)), "a count of blob files")
        var uses: [BlobUse] = []
        uses.reserveCapacity(count)
        for _ in 0..<count {
            let file = try TableID(&reader)
            let use = BlobUse(
                file: file, count: try reader.readVarint(), bytes: try reader.readVarint())
            guard file.kind.isBlob, use.count > 0, uses.last.map({ $0.file < file }) ?? true else {
                throw DecodingError("blob counters")
            }
            uses.append(use)
        }
        return uses
    }
}

/// Counts references while a table is written. Neighbours mostly lead to the same file.
struct BlobTally {
    /// Sorted by file.
    private(set) var uses: [BlobUse] = []
    private var last = 0

    mutating func add(_ reference: BlobReference) {
        if last >= uses.count || uses[last].file != reference.file { find(reference.file) }
        uses[last].count += 1
        uses[last].bytes &+= UInt64(reference.length)
    }

    private mutating func find(_ file: TableID) {
        last = uses.partitionPoint { $0.file < file }
        if last == uses.count || uses[last].file != file {
            uses.insert(BlobUse(file: file, count: 0, bytes: 0), at: last)
        }
    }
}
