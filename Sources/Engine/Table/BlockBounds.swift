// The smallest and largest sequence of each data block of a table. A scan as of an older sequence
// passes over blocks that came later, unread. They stand in a block of their own, which only such
// a scan loads: in the index or in front of entries every read would pay for them (trap 21 of the
// list in docs/ARCHITECTURE.md).
//
//   count u32, zero u32, smallest sequence of all u64
//   per data block: varint (its smallest − smallest of all), varint (its largest − its smallest)
//
// A table has the block only where it tells more than the table's own range does: keys that come in
// the order of time, or keys with many versions. Which that is follows from the entries alone.

import Synchronization

/// Collects bounds while a table is built.
struct BlockBoundsBuilder {
    /// A table with fewer blocks is soon read.
    private static let blocksMin = 16

    private var smallest: [SequenceNumber] = []
    private var largest: [SequenceNumber] = []

    mutating func add(_ block: ClosedRange<SequenceNumber>) {
        smallest.append(block.lowerBound)
        largest.append(block.upperBound)
    }

    /// Nil unless at least every other block spans at most half of what all of them span.
    func encoded() -> [UInt8]? {
        guard smallest.count >= BlockBoundsBuilder.blocksMin, let first = smallest.min(),
            let last = largest.max()
        else { return nil }
        let half = (last.rawValue - first.rawValue) / 2
        let narrow = zip(smallest, largest).count { $1.rawValue - $0.rawValue <= half }
        guard narrow >= (smallest.count + 1) / 2 else { return nil }
        var writer = ByteWriter(capacity: 16 + 6 * smallest.count)
        writer.write(UInt32(smallest.count))
        writer.write(UInt32(0))
        writer.write(first.rawValue)
        for (low, high) in zip(smallest, largest) {
            writer.writeVarint(low.rawValue - first.rawValue)
            writer.writeVarint(high.rawValue - low.rawValue)
        }
        return writer.bytes
    }
}

package struct BlockBounds: Sendable {
    private let ranges: [ClosedRange<SequenceNumber>]

    package init(decoding bytes: UnsafeRawBufferPointer, count expected: Int)
        throws(DecodingError)
    {
        var reader = ByteReader(bytes)
        let count = Int(try reader.read(UInt32.self))
        guard count == expected, try reader.read(UInt32.self) == 0 else {
            throw DecodingError("the header of the bounds of blocks")
        }
        let first = try reader.readSequence().rawValue
        var ranges: [ClosedRange<SequenceNumber>] = []
        // A pair takes two bytes at least.
        guard count <= reader.remaining / 2 else {
            throw DecodingError("the count of the bounds of blocks")
        }
        ranges.reserveCapacity(count)
        for _ in 0..<count {
            let room = SequenceNumber.max.rawValue - first
            let low = UInt64(try reader.readVarint(atMost: room, "a block's smallest sequence"))
            let width = try reader.readVarint(atMost: room - low, "a block's largest sequence")
            ranges.append(
                SequenceNumber(first + low)...SequenceNumber(first + low + UInt64(width)))
        }
        try reader.expectEnd("the bounds of blocks")
        self.ranges = ranges
    }

    var residentBytes: Int { ranges.count * MemoryLayout<ClosedRange<SequenceNumber>>.stride }

    /// The sequences of data block `ordinal`.
    package subscript(ordinal: Int) -> ClosedRange<SequenceNumber> { ranges[ordinal] }

    /// Whether a reader at `sequence` sees nothing of data block `ordinal`.
    func hides(_ ordinal: Int, from sequence: SequenceNumber) -> Bool {
        ranges[ordinal].lowerBound > sequence
    }
}

/// The bounds of a table's blocks, as far as they are known. Damaged ones are reported once, and
/// cost nothing but their help.
enum LoadedBounds {
    case unasked
    case absent
    case present(BlockBounds)
}

extension TableReader {
    /// Nil if the table has none, if they are damaged, or if `io` does not allow them to be read.
    func blockBounds(io: ReadIO) -> BlockBounds? {
        guard let ordinal = leafList.blockBounds else { return nil }
        switch loadedBounds.withLock({ $0 }) {
        case .present(let bounds): return bounds
        case .absent: return nil
        case .unasked: return io == .blocking ? loadBounds(ordinal) : nil
        }
    }

    private func loadBounds(_ ordinal: BlockOrdinal) -> BlockBounds? {
        let bounds = readBounds(ordinal)
        let isFirst = loadedBounds.withLock { loaded in
            guard case .unasked = loaded else { return false }
            loaded = bounds.map { .present($0) } ?? .absent
            return true
        }
        if isFirst, let bounds { charge(bounds.residentBytes) }
        return bounds
    }

    private func readBounds(_ ordinal: BlockOrdinal) -> BlockBounds? {
        do {
            let block = try table.load(leafList[ordinal], ordinal)
            defer { block.deallocate() }
            return try BlockBounds(decoding: block.canonical, count: dataCount)
        } catch {
            mender?.noteDamage(record.id, block: ordinal, reason: table.reason(error, ordinal))
            return nil
        }
    }
}
