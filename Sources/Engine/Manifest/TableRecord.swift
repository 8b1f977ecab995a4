// What the log and the manifest say of a table: everything that every replica agrees on. Local
// facts (generation, codec, file size) are `LocalTable`'s.

/// A table as `seal` and `compacted` entries carry it.
public struct TableRecord: Hashable, Sendable {
    public var id: TableID
    public var level: UInt8
    /// Sum of the canonical lengths of its blocks.
    public var canonicalBytes: UInt64
    /// Smallest and largest user key among point entries; nil in a table of range tombstones only.
    public var points: PointRange?
    /// Every key that the table says something about, range tombstones included.
    public var span: KeySpan
    public var smallestSequence: SequenceNumber
    public var largestSequence: SequenceNumber
    /// Point entries, deletes among them.
    public var entryCount: UInt64
    public var deleteCount: UInt64
    public var rangeTombstoneCount: UInt64
    /// Wrapping sum of `entrySum` over point entries and range tombstones.
    public var entrySum: UInt64
    /// Root of the digest tree over its canonical blocks.
    public var digest: Digest128
    /// What its references use of blob files, sorted by file; of a blob file, all of itself.
    public var blobs: [BlobUse]

    public struct PointRange: Hashable, Sendable {
        public var smallest: [UInt8]
        public var largest: [UInt8]
        public init(smallest: [UInt8], largest: [UInt8]) {
            self.smallest = smallest
            self.largest = largest
        }
    }

    public init(
        id: TableID, level: UInt8, canonicalBytes: UInt64, points: PointRange?, span: KeySpan,
        smallestSequence: SequenceNumber, largestSequence: SequenceNumber, entryCount: UInt64,
        deleteCount: UInt64, rangeTombstoneCount: UInt64, entrySum: UInt64, digest: Digest128,
        blobs: [BlobUse] = []
    ) {
        self.id = id
        self.level = level
        self.canonicalBytes = canonicalBytes
        self.points = points
        self.span = span
        self.smallestSequence = smallestSequence
        self.largestSequence = largestSequence
        self.entryCount = entryCount
        self.deleteCount = deleteCount
        self.rangeTombstoneCount = rangeTombstoneCount
        self.entrySum = entrySum
        self.digest = digest
        self.blobs = blobs
    }

    /// A blob file: in no level (its own is 0), and read through references alone.
    @inline(__always)
    public var isBlob: Bool { id.kind.isBlob }

    package func encode(into writer: inout ByteWriter) {
        writer.write(id.index.rawValue)
        writer.write(id.kind.rawValue)
        writer.write(id.ordinal)
        writer.write(level)
        writer.write(canonicalBytes)
        writer.write(UInt8(points == nil ? 0 : 1))
        if let points {
            writer.writePrefixed(points.smallest)
            writer.writePrefixed(points.largest)
        }
        writer.writePrefixed(span.start)
        writer.write(UInt8(span.end == nil ? 0 : 1))
        if let end = span.end { writer.writePrefixed(end) }
        writer.write(smallestSequence.rawValue)
        writer.write(largestSequence.rawValue)
        writer.write(entryCount)
        writer.write(deleteCount)
        writer.write(rangeTombstoneCount)
        writer.write(entrySum)
        writer.write(digest)
        BlobUse.encode(blobs, into: &writer)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        id = try TableID(&reader)
        level = try reader.read(UInt8.self)
        guard level < TableRecord.levelCount else { throw DecodingError("level \(level)") }
        canonicalBytes = try reader.readTableBytes()
        points = nil
        if try reader.readFlag() {
            let smallest = try reader.readPrefixedArray(atMost: Limits.keyBytes)
            let largest = try reader.readPrefixedArray(atMost: Limits.keyBytes)
            guard !largest.isKeyBefore(smallest) else { throw DecodingError("a point range") }
            points = PointRange(smallest: smallest, largest: largest)
        }
        let start = try reader.readPrefixedArray(atMost: Limits.keyBytes + 1)
        let end =
            try reader.readFlag() ? reader.readPrefixedArray(atMost: Limits.keyBytes + 1) : nil
        span = KeySpan(start: start, end: end)
        smallestSequence = try reader.readSequence()
        largestSequence = try reader.readSequence()
        guard smallestSequence <= largestSequence else {
            throw DecodingError("a sequence range")
        }
        entryCount = try reader.read(UInt64.self)
        deleteCount = try reader.read(UInt64.self)
        rangeTombstoneCount = try reader.read(UInt64.self)
        entrySum = try reader.read(UInt64.self)
        digest = try reader.readDigest()
        blobs = try BlobUse.decode(&reader)
    }

    /// Levels 0 to 6.
    public static let levelCount: UInt8 = 7
}

extension TableID {
    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let index = try reader.readLogIndex()
        guard let kind = TableKind(rawValue: try reader.read(UInt8.self)) else {
            throw DecodingError("a table kind")
        }
        self.init(index: index, kind: kind, ordinal: try reader.read(UInt32.self))
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(index.rawValue)
        writer.write(kind.rawValue)
        writer.write(ordinal)
    }
}

extension ByteReader {
    /// A byte that must be 0 or 1.
    package mutating func readFlag() throws(DecodingError) -> Bool {
        switch try read(UInt8.self) {
        case 0: return false
        case 1: return true
        case let other: throw DecodingError("flag \(other)")
        }
    }
}
