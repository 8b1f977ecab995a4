// The leaf list: the last block of a table, holding digest, length and type of every other block in
// order. Its own digest is the root that the log and the manifest carry, so one check of it makes
// every block of the file checkable; it is also the table of contents.
//
//   version u16, zero u16, count u32, then per block:
//   digest u128, canonical length u32, type u8, zero u8 ×3
//
// Order of blocks: data…, index partitions…, index, bounds of blocks, then filter partitions…,
// their index or else a filter, prefix filter, range tombstones, properties, leaf list; what is
// empty is left out.

package final class LeafList: @unchecked Sendable {
    // @unchecked: immutable after init.
    static let headerBytes = 8
    static let entryBytes = 24

    struct Leaf {
        var type: BlockType
        var length: Int
        var digest: Digest128
    }

    private let bytes: [UInt8]
    let count: Int
    /// Ordinals 0..<dataCount are data blocks.
    package let dataCount: Int
    package let index: BlockOrdinal?
    /// Ordinals of the second level of the index; empty if it has one level.
    package let indexPartitions: Range<Int>
    package let blockBounds: BlockOrdinal?
    package let filter: BlockOrdinal?
    /// Ordinals of filter partitions; empty without.
    package let filterPartitions: Range<Int>
    package let filterIndex: BlockOrdinal?
    package let prefixFilter: BlockOrdinal?
    let rangeTombstones: BlockOrdinal?
    let properties: BlockOrdinal
    /// Sum of all canonical lengths, the leaf list's own included.
    let canonicalBytes: UInt64

    var ordinal: BlockOrdinal { BlockOrdinal(UInt32(count)) }
    var canonical: [UInt8] { bytes }
    var residentBytes: Int { bytes.count }
    /// Blocks that the cache holds one by one: data, then partitions of filters and of the index.
    var slotCount: Int { dataCount + filterPartitions.count + indexPartitions.count }

    package init(decoding bytes: [UInt8]) throws(DecodingError) {
        let count = try LeafList.countOf(bytes)
        var dataCount = 0
        var partitions: [BlockType: Range<Int>] = [:]
        var special: [BlockType: BlockOrdinal] = [:]
        var previous = BlockType.data
        var total = UInt64(bytes.count)
        for ordinal in 0..<count {
            let leaf = try LeafList.leaf(ordinal, of: bytes)
            guard leaf.length <= Limits.blockBytes, leaf.length > 0 else {
                throw DecodingError("the length of block \(ordinal)")
            }
            total += UInt64(leaf.length)
            guard
                leaf.type.place > previous.place || leaf.type == previous && leaf.type.repeats,
                leaf.type != .leaves
            else { throw DecodingError("the order of blocks") }
            switch leaf.type {
            case .data: dataCount += 1
            case .filterPartition, .indexPartition:
                let first = partitions[leaf.type]?.lowerBound ?? ordinal
                partitions[leaf.type] = first..<ordinal + 1
            default: special[leaf.type] = BlockOrdinal(UInt32(ordinal))
            }
            previous = leaf.type
        }
        guard let properties = special[.properties], (special[.index] != nil) == (dataCount > 0)
        else { throw DecodingError("a block that every table has is not listed") }
        let filterPartitions = partitions[.filterPartition] ?? 0..<0
        guard filterPartitions.isEmpty == (special[.filterIndex] == nil),
            filterPartitions.isEmpty || special[.filter] == nil
        else { throw DecodingError("the filters of the table contradict each other") }
        let indexPartitions = partitions[.indexPartition] ?? 0..<0
        guard dataCount > 0 || indexPartitions.isEmpty && special[.blockBounds] == nil else {
            throw DecodingError("a block about data that is not there is listed")
        }
        self.bytes = bytes
        self.count = count
        self.dataCount = dataCount
        self.index = special[.index]
        self.indexPartitions = indexPartitions
        self.blockBounds = special[.blockBounds]
        self.filter = special[.filter]
        self.filterPartitions = filterPartitions
        self.filterIndex = special[.filterIndex]
        self.prefixFilter = special[.prefixFilter]
        self.rangeTombstones = special[.rangeTombstones]
        self.properties = properties
        canonicalBytes = total
    }

    private static func countOf(_ bytes: [UInt8]) throws(DecodingError) -> Int {
        guard bytes.count >= headerBytes else { throw DecodingError("the leaf list ends early") }
        let (version, zero, count) = bytes.withUnsafeBytes { raw in
            (
                UInt16(littleEndian: raw.loadUnaligned(as: UInt16.self)),
                raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self),
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            )
        }
        guard version == TableFormat.version, zero == 0,
            (bytes.count - headerBytes) % entryBytes == 0,
            Int(count) == (bytes.count - headerBytes) / entryBytes
        else { throw DecodingError("the leaf list's header") }
        return Int(count)
    }

    private static func leaf(_ ordinal: Int, of bytes: [UInt8]) throws(DecodingError) -> Leaf {
        let start = headerBytes + ordinal * entryBytes
        guard let type = BlockType(rawValue: bytes[start + 20]), type.isCanonical,
            bytes[start + 21] == 0, bytes[start + 22] == 0, bytes[start + 23] == 0
        else { throw DecodingError("the type of block \(ordinal)") }
        return bytes.withUnsafeBytes { raw in
            func word(_ offset: Int) -> UInt64 {
                UInt64(
                    littleEndian: raw.loadUnaligned(
                        fromByteOffset: start + offset, as: UInt64.self))
            }
            let length = raw.loadUnaligned(fromByteOffset: start + 16, as: UInt32.self)
            return Leaf(
                type: type, length: Int(UInt32(littleEndian: length)),
                digest: Digest128(low: word(0), high: word(8)))
        }
    }

    /// Block `ordinal`, which must be below `count`.
    subscript(ordinal: BlockOrdinal) -> Leaf {
        do throws(DecodingError) {
            return try LeafList.leaf(Int(ordinal.rawValue), of: bytes)
        } catch {
            brokenInvariant("a leaf list changed after it was decoded: \(error)")
        }
    }

    static func encode(_ leaves: [Leaf]) -> [UInt8] {
        var writer = ByteWriter(capacity: headerBytes + leaves.count * entryBytes)
        writer.write(TableFormat.version)
        writer.write(UInt16(0))
        writer.write(UInt32(leaves.count))
        for leaf in leaves {
            writer.write(leaf.digest)
            writer.write(UInt32(leaf.length))
            writer.write(UInt32(leaf.type.rawValue))
        }
        return writer.bytes
    }
}
