// What stands in a key table for a long value that lives in a blob file: where it is there, how
// long it is and what it hashes to. The stored bytes of an entry of kind `blobReference`, so part
// of the formats and equal on every replica.
//
//   flags u8 (1: the value has an expiry), [expiry u64], index of the blob file varint,
//   its kind u8, its ordinal varint, block varint, place in the block varint,
//   stored length varint, XXH3-64 of the stored bytes u64
//
// The expiry stands here as well as in front of the value, so that nobody reads a value to learn
// that it has expired.

package struct BlobReference: Hashable, Sendable {
    /// The blob file.
    package var file: TableID
    /// One of its data blocks.
    package var block: BlockOrdinal
    /// Which entry of the block.
    package var place: UInt32
    /// Bytes that the blob file stores: the value, behind its expiry if it has one.
    package var length: UInt32
    /// XXH3-64 of them.
    package var checksum: UInt64
    package var expiry: ClockMilliseconds?

    package init(
        file: TableID, block: BlockOrdinal, place: UInt32, length: UInt32, checksum: UInt64,
        expiry: ClockMilliseconds?
    ) {
        self.file = file
        self.block = block
        self.place = place
        self.length = length
        self.checksum = checksum
        self.expiry = expiry
    }

    /// Bytes of the value, without its expiry.
    package var valueBytes: Int { Int(length) - (expiry == nil ? 0 : 8) }
    /// The kind that the entry had before its value left it.
    package var kind: ValueKind { expiry == nil ? .put : .expiringPut }

    private static let expiryFlag: UInt8 = 1
    /// A data block counts its entries with 24 bits.
    private static let placeMax: UInt64 = (1 << 24) - 1
    private static let lengthMax = UInt64(Limits.valueBytesMax + 8)

    package func encode(into writer: inout ByteWriter) {
        writer.write(expiry == nil ? 0 : BlobReference.expiryFlag)
        if let expiry { writer.write(expiry) }
        writer.writeVarint(file.index.rawValue)
        writer.write(file.kind.rawValue)
        writer.writeVarint(UInt64(file.ordinal))
        writer.writeVarint(UInt64(block.rawValue))
        writer.writeVarint(UInt64(place))
        writer.writeVarint(UInt64(length))
        writer.write(checksum)
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let flags = try reader.read(UInt8.self)
        guard flags & ~BlobReference.expiryFlag == 0 else {
            throw DecodingError("flags of a blob reference")
        }
        expiry = flags == 0 ? nil : try reader.read(UInt64.self)
        let index = LogIndex(try reader.readVarint())
        guard index < LogIndex.limit else { throw DecodingError("index \(index) is out of range") }
        guard let kind = TableKind(rawValue: try reader.read(UInt8.self)), kind.isBlob else {
            throw DecodingError("a blob reference to no blob file")
        }
        let word = UInt64(UInt32.max)
        let ordinal = UInt32(try reader.readVarint(atMost: word, "an ordinal"))
        file = TableID(index: index, kind: kind, ordinal: ordinal)
        block = BlockOrdinal(UInt32(try reader.readVarint(atMost: word, "a block")))
        place = UInt32(try reader.readVarint(atMost: BlobReference.placeMax, "a place"))
        length = UInt32(try reader.readVarint(atMost: BlobReference.lengthMax, "a length"))
        checksum = try reader.read(UInt64.self)
        guard expiry == nil || length >= 8 else { throw DecodingError("a length without expiry") }
        try reader.expectEnd("a blob reference")
    }

    /// The same, for an entry that was read from a table.
    package init(stored bytes: UnsafeRawBufferPointer) throws(EngineError) {
        do throws(DecodingError) { try self.init(decoding: bytes) } catch {
            throw .corrupt(file: "an entry", reason: "\(error)")
        }
    }
}
