// The tagged data block: a header in front with one hash byte and one offset per entry, then
// entries that share a prefix with the block's first key only, so that each decodes alone. A point
// read matches hash bytes with SIMD and usually decodes one entry; a range read searches offsets.
//
//   count u24, flags u8 (1: offsets are 32 bits wide)     base sequence u64 (the first entry's)
//   tags: count × u8 (low byte of the key's XXH3-64)
//   offsets: count × u16 or u32, from the block's start
//   entries: varint shared, varint suffix length, varint value length,
//            varint (zigzag(sequence − base) << 3 | kind), suffix, value
//
// Offsets are narrow exactly when the block so encoded is below 64 KiB. `validate` runs once when
// a block is loaded; `DataBlock` then reads without checks.

import CEngineShims

package enum DataBlockFormat {
    static let headerBytes = 12
    static let wideFlag: UInt8 = 1

    @inline(__always)
    static func tag(_ hash: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: hash) }

    @inline(__always)
    static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }

    @inline(__always)
    static func unzigzag(_ value: UInt64) -> Int64 {
        Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }

    /// Checks that every entry of `bytes` decodes within bounds.
    package static func validate(_ bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let word = try reader.read(UInt32.self)
        let base = try reader.read(UInt64.self)
        let count = Int(word & 0xff_ffff)
        let flags = UInt8(word >> 24)
        guard count > 0, flags & ~wideFlag == 0, base <= SequenceNumber.max.rawValue else {
            throw DecodingError("a data block's header")
        }
        let width = flags == 0 ? 2 : 4
        guard reader.remaining >= count * (1 + width) else {
            throw DecodingError("a data block's entry count")
        }
        _ = try reader.readBytes(count)
        var offsets = ByteReader(try reader.readBytes(count * width))
        var firstKeyLength = 0
        for ordinal in 0..<count {
            let offset =
                width == 2
                ? Int(try offsets.read(UInt16.self)) : Int(try offsets.read(UInt32.self))
            guard offset == reader.offset else { throw DecodingError("an entry's offset") }
            let shared = try reader.readVarint(atMost: UInt64(firstKeyLength), "a shared prefix")
            let suffix = try reader.readVarint(
                atMost: UInt64(Limits.keyBytes - shared), "a key length")
            let value = try reader.readVarint(
                atMost: UInt64(Limits.valueBytesMax + 8), "a value length")
            let code = try reader.readVarint()
            let sequence = Int64(base).addingReportingOverflow(unzigzag(code >> 3))
            guard !sequence.overflow, sequence.partialValue >= 0,
                sequence.partialValue <= Int64(SequenceNumber.max.rawValue),
                ValueKind(rawValue: UInt8(code & 7)) != nil
            else { throw DecodingError("an entry's sequence or kind") }
            _ = try reader.readBytes(suffix)
            _ = try reader.readBytes(value)
            if ordinal == 0 { firstKeyLength = suffix }
        }
        try reader.expectEnd("the entries")
    }
}

/// Gathers the entries of one block; reused from block to block.
struct DataBlockBuilder: ~Copyable {
    private var tags: [UInt8] = []
    private var offsets: [UInt32] = []
    private var entries = RawBuffer(capacity: 8 << 10)
    private var firstKey = RawBuffer(capacity: 256)
    private var base: UInt64 = 0

    var count: Int { tags.count }

    /// Canonical length with narrow offsets: what cut rules go by.
    var length: Int { DataBlockFormat.headerBytes + tags.count * 3 + entries.count }

    /// Length of the block if the entry were added; an upper bound that is a function of the
    /// entries alone.
    func length(adding key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Int {
        let shared = tags.isEmpty ? 0 : commonPrefixLength(firstKey.bytes, key)
        return length + 3 + 12 + key.count - shared + value.count
    }

    mutating func add(
        _ key: UnsafeRawBufferPointer, hash: UInt64, _ trailer: Trailer,
        _ value: UnsafeRawBufferPointer
    ) {
        var shared = 0
        if tags.isEmpty {
            firstKey.removeAll()
            firstKey.append(key)
            base = trailer.sequence.rawValue
        } else {
            shared = commonPrefixLength(firstKey.bytes, key)
        }
        tags.append(DataBlockFormat.tag(hash))
        offsets.append(UInt32(entries.count))
        entries.reserve(40 + key.count + value.count)
        entries.appendVarint(UInt64(shared))
        entries.appendVarint(UInt64(key.count - shared))
        entries.appendVarint(UInt64(value.count))
        let delta = Int64(trailer.sequence.rawValue) - Int64(base)
        entries.appendVarint(DataBlockFormat.zigzag(delta) << 3 | trailer.rawValue & 0xff)
        entries.append(UnsafeRawBufferPointer(rebasing: key[shared...]))
        entries.append(value)
    }

    /// The block's canonical bytes; the builder is empty afterwards.
    mutating func finish(into output: inout RawBuffer) {
        let count = tags.count
        let isWide = length > Int(UInt16.max)
        let start = DataBlockFormat.headerBytes + count * (isWide ? 5 : 3)
        output.removeAll()
        output.reserve(start + entries.count)
        let flags = isWide ? UInt32(DataBlockFormat.wideFlag) << 24 : 0
        output.appendNumber(UInt32(count) | flags)
        output.appendNumber(base)
        tags.withUnsafeBytes { output.append($0) }
        for offset in offsets {
            let absolute = offset + UInt32(start)
            if isWide {
                output.appendNumber(absolute)
            } else {
                output.appendNumber(UInt16(absolute))
            }
        }
        output.append(entries.bytes)
        tags.removeAll(keepingCapacity: true)
        offsets.removeAll(keepingCapacity: true)
        entries.removeAll()
    }
}

/// Length of the longest common prefix.
@inline(__always)
func commonPrefixLength(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
    let limit = min(left.count, right.count)
    var at = 0
    while at + 8 <= limit {
        let difference =
            left.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            ^ right.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        if difference != 0 {
            return at + difference.littleEndian.trailingZeroBitCount >> 3
        }
        at += 8
    }
    while at < limit, left[at] == right[at] { at += 1 }
    return at
}

/// A validated data block, borrowed.
package struct DataBlock {
    package struct Entry {
        package var shared: Int
        var suffix: UnsafeRawBufferPointer
        var trailer: Trailer
        package var value: UnsafeRawBufferPointer

        /// Holds the place before a cursor has a position.
        static var none: Entry {
            let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            return Entry(
                shared: 0, suffix: nothing, trailer: Trailer(rawValue: 0), value: nothing)
        }
    }

    private let base: UnsafeRawPointer
    package let count: Int
    private let isWide: Bool
    private let baseSequence: Int64

    @inline(__always)
    package init(_ validated: UnsafeRawPointer) {
        base = validated
        let word = UInt32(littleEndian: validated.loadUnaligned(as: UInt32.self))
        count = Int(word & 0xff_ffff)
        isWide = word >> 24 != 0
        baseSequence = Int64(
            bitPattern: UInt64(
                littleEndian: validated.loadUnaligned(fromByteOffset: 4, as: UInt64.self)))
    }

    /// A block without entries that is never read: a cursor's before it has a position.
    static var none: DataBlock { DataBlock() }

    private init() {
        base = UnsafeRawPointer(bitPattern: 16).unsafelyUnwrapped
        count = 0
        isWide = false
        baseSequence = 0
    }

    /// Width of an offset.
    var offsetBytes: Int { isWide ? 4 : 2 }

    @inline(__always)
    func offset(_ index: Int) -> Int {
        let table = base + DataBlockFormat.headerBytes + count
        return isWide
            ? Int(
                UInt32(
                    littleEndian: table.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
            : Int(
                UInt16(
                    littleEndian: table.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
    }

    @inline(__always)
    package func entry(_ index: Int) -> Entry {
        var reader = UncheckedReader(base + offset(index))
        let shared = Int(truncatingIfNeeded: reader.varint())
        let suffix = Int(truncatingIfNeeded: reader.varint())
        let value = Int(truncatingIfNeeded: reader.varint())
        let code = reader.varint()
        let sequence = baseSequence &+ DataBlockFormat.unzigzag(code >> 3)
        return Entry(
            shared: shared, suffix: UnsafeRawBufferPointer(start: reader.at, count: suffix),
            trailer: Trailer(rawValue: UInt64(bitPattern: sequence) << 8 | code & 7),
            value: UnsafeRawBufferPointer(start: reader.at + suffix, count: value))
    }

    @inline(__always) package var firstKey: UnsafeRawBufferPointer { entry(0).suffix }

    /// The newest version of `key` at or below `seek`, by hash bytes.
    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer, tag: UInt8, seek: Trailer) -> Entry? {
        let tags = (base + DataBlockFormat.headerBytes).assumingMemoryBound(to: UInt8.self)
        var index = martlet_match_tag(tags, 0, count, tag)
        while index < count {
            let entry = self.entry(index)
            if entry.shared &+ entry.suffix.count == key.count, entry.trailer <= seek,
                compareKeys(entry.suffix, UnsafeRawBufferPointer(rebasing: key[entry.shared...]))
                    == 0,
                entry.shared == 0
                    || commonPrefixLength(firstKey, key) >= entry.shared
            {
                return entry
            }
            index = martlet_match_tag(tags, index + 1, count, tag)
        }
        return nil
    }

    /// Index of the first entry at or after (key, trailer); `count` if there is none.
    package func lowerBound(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) -> Int {
        let first = firstKey
        let common = commonPrefixLength(first, key)
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if isBefore(entry(middle), first, key, common, trailer) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// Whether the entry sorts before (key, trailer), where `common` is what `first` and `key`
    /// share.
    @inline(__always)
    private func isBefore(
        _ entry: Entry, _ first: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer,
        _ common: Int, _ trailer: Trailer
    ) -> Bool {
        let order: Int
        if entry.shared > common {
            // The entry agrees with the first key beyond the point where `key` leaves it.
            order = common == key.count ? 1 : Int(first[common]) - Int(key[common])
        } else {
            // Entry and `key` both agree with the first key up to `shared`.
            order = compareKeys(
                entry.suffix, UnsafeRawBufferPointer(rebasing: key[entry.shared...]))
        }
        return order != 0 ? order < 0 : entry.trailer > trailer
    }
}
