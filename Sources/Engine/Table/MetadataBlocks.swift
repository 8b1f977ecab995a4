// Two small canonical blocks: the range tombstones of a table, and its properties, which let a file
// describe itself where no manifest is at hand.

package enum RangeTombstoneBlock {
    /// count u32, then per tombstone: varint length and bytes of the start, flag u8, with 1 varint
    /// length and bytes of the end, sequence u64. Sorted by start, then sequence descending, then
    /// end ("no end" last), so that equal sets have equal bytes.
    static func encode(_ tombstones: [RangeTombstone]) -> [UInt8] {
        var writer = ByteWriter(capacity: 4 + 64 * tombstones.count)
        writer.write(UInt32(tombstones.count))
        for tombstone in tombstones.sorted(by: isBefore) {
            writer.writePrefixed(tombstone.span.start)
            writer.write(UInt8(tombstone.span.end == nil ? 0 : 1))
            if let end = tombstone.span.end { writer.writePrefixed(end) }
            writer.write(tombstone.sequence.rawValue)
        }
        return writer.bytes
    }

    private static func isBefore(_ left: RangeTombstone, _ right: RangeTombstone) -> Bool {
        if left.span.start != right.span.start {
            return left.span.start.isKeyBefore(right.span.start)
        }
        if left.sequence != right.sequence { return left.sequence > right.sequence }
        guard let leftEnd = left.span.end else { return false }
        guard let rightEnd = right.span.end else { return true }
        return leftEnd.isKeyBefore(rightEnd)
    }

    package static func decode(_ bytes: UnsafeRawBufferPointer) throws(DecodingError)
        -> [RangeTombstone]
    {
        var reader = ByteReader(bytes)
        let count = Int(try reader.read(UInt32.self))
        // The shortest tombstone takes ten bytes.
        guard count <= reader.remaining / 10 else { throw DecodingError("a tombstone count") }
        var tombstones: [RangeTombstone] = []
        tombstones.reserveCapacity(count)
        for _ in 0..<count {
            let start = try reader.readPrefixedArray(atMost: Limits.keyBytes + 1)
            let end =
                try reader.readFlag() ? reader.readPrefixedArray(atMost: Limits.keyBytes + 1) : nil
            let sequence = try reader.readSequence()
            tombstones.append(
                RangeTombstone(span: KeySpan(start: start, end: end), sequence: sequence))
        }
        try reader.expectEnd("the range tombstones")
        return tombstones
    }
}

/// version u16, zero u16, block bytes u32, shape of the filters (10 bytes), then the table's record
/// as the log carries it, with level, canonical bytes and digest zero: a level is no part of a
/// table, and the others cannot contain themselves.
package struct TableProperties {
    package var shape: TableShape
    package var record: TableRecord

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(TableFormat.version)
        writer.write(UInt16(0))
        writer.write(UInt32(shape.blockBytes))
        shape.filter.encode(into: &writer)
        var bare = record
        bare.level = 0
        bare.canonicalBytes = 0
        bare.digest = .zero
        bare.encode(into: &writer)
        return writer.bytes
    }

    init(shape: TableShape, record: TableRecord) {
        self.shape = shape
        self.record = record
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt16.self) == TableFormat.version,
            try reader.read(UInt16.self) == 0
        else { throw DecodingError("properties of an unknown version") }
        let blockBytes = try reader.read(UInt32.self)
        shape = TableShape(blockBytes: Int(blockBytes), filter: try FilterShape(&reader))
        record = try TableRecord(&reader)
        try reader.expectEnd("the properties")
    }
}
