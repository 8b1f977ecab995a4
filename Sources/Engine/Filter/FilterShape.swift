// The filters of one table, as they shape its bytes: what a policy comes to for a level. Part of a
// job's specification and of a table's properties.

package struct FilterShape: Hashable, Sendable {
    package var kind: FilterKind
    /// Bits for each user key; 0: no filter of whole keys.
    package var keyBits: UInt8
    /// Bits for each distinct prefix; 0: no prefix filter.
    package var prefixBits: UInt8
    /// A filter of whole keys with more bytes is cut into partitions, as is an index with more than
    /// an eighth of it.
    package var partitionAbove: UInt32
    package var prefix: PrefixExtractor

    package static let none = FilterShape(kind: .none, keyBits: 0)
    package static let partitionRange: ClosedRange<UInt32> = 64...64 << 20
    /// Bytes of a partition where the threshold is not smaller itself.
    static let partitionBytes = 32 << 10

    package init(
        kind: FilterKind, keyBits: UInt8, prefixBits: UInt8 = 0, partitionAbove: UInt32 = 4 << 20,
        prefix: PrefixExtractor = .none
    ) {
        self.kind = kind
        self.keyBits = keyBits
        self.prefixBits = prefixBits
        self.partitionAbove = partitionAbove
        self.prefix = prefix
    }

    /// Keys from which on there are partitions, counted by the budget rather than by what a filter
    /// really takes: the builder must know before it builds.
    var wholeKeysMax: Int { Int(partitionAbove) * 8 / max(Int(keyBits), 1) }
    /// Keys of a partition.
    var partitionKeys: Int {
        max(min(FilterShape.partitionBytes, Int(partitionAbove)) * 8 / max(Int(keyBits), 1), 1)
    }

    static let encodedBytes = 7 + PrefixExtractor.encodedBytes

    package func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(keyBits)
        writer.write(prefixBits)
        writer.write(partitionAbove)
        prefix.encode(into: &writer)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        kind = try FilterKind(decoding: &reader)
        keyBits = try reader.read(UInt8.self)
        prefixBits = try reader.read(UInt8.self)
        partitionAbove = try reader.read(UInt32.self)
        prefix = try PrefixExtractor(&reader)
        guard isValid else { throw DecodingError("the shape of a filter") }
    }

    package var isValid: Bool {
        let bitsMax = kind == .none ? 0 : kind.bitsMax
        return keyBits <= bitsMax && prefixBits <= bitsMax
            && FilterShape.partitionRange.contains(partitionAbove)
            && (prefixBits == 0 || prefix != .none)
    }
}
