// The index of a table: for each data block, in order, a separator at or after its last version
// and before the first version of the next block. Entry i belongs to the block of ordinal i.
//
//   count u32, flags u8 (1: the upper of two levels), zero u8 ×3
//   varint length and bytes of the prefix that all separator keys share
//   entries: varint suffix length, suffix, varint trailer (0 unless the next block goes on with
//            older versions of the same key), with flag 1 varint count of data blocks
//
// With flag 1 entry i belongs to index partition i (IndexPartition.swift) and to as many data
// blocks as it says.
//
// When loaded it is decoded once: the eight bytes after the common prefix become an array of
// big-endian numbers, searched branch-free under a sampled level; full keys are read on ties only.

/// Collects separators while a table is built.
struct IndexBuilder: ~Copyable {
    private var keys = RawBuffer(capacity: 4 << 10)
    private var ends: [Int] = []
    private var trailers: [UInt64] = []
    /// Of the upper of two levels only.
    private var blockCounts: [Int] = []

    var count: Int { ends.count }

    /// The separator between a block that ends with (last, trailer) and one that starts with
    /// `next`; nil after the last block.
    mutating func add(
        last: UnsafeRawBufferPointer, _ trailer: Trailer, next: UnsafeRawBufferPointer?
    ) {
        var trailerToKeep: UInt64 = 0
        if let next {
            let common = commonPrefixLength(last, next)
            if common == last.count, common == next.count {
                keys.append(last)
                trailerToKeep = trailer.rawValue
            } else if next.count > common + 1, common + 1 <= last.count {
                // One byte of `next` past the common prefix is above `last` and still below `next`.
                keys.append(UnsafeRawBufferPointer(rebasing: next[...common]))
            } else {
                keys.append(last)
            }
        } else {
            keys.append(last)
        }
        ends.append(keys.count)
        trailers.append(trailerToKeep)
    }

    /// A separator that is there, for the upper of two levels: that of a partition's last block.
    mutating func add(_ separator: UnsafeRawBufferPointer, trailer: UInt64, blocks: Int) {
        keys.append(separator)
        ends.append(keys.count)
        trailers.append(trailer)
        blockCounts.append(blocks)
    }

    func key(_ index: Int) -> UnsafeRawBufferPointer {
        let start = index == 0 ? 0 : ends[index - 1]
        return UnsafeRawBufferPointer(rebasing: keys.bytes[start..<ends[index]])
    }

    func trailer(_ index: Int) -> UInt64 { trailers[index] }

    func encoded() -> RawBuffer {
        var output = RawBuffer(capacity: 64 + keys.count + 3 * count)
        output.appendNumber(UInt32(count))
        output.appendNumber(blockCounts.isEmpty ? UInt32(0) : DecodedIndex.upperFlag)
        let common = count == 0 ? 0 : commonPrefixLength(key(0), key(count - 1))
        output.appendVarint(UInt64(common))
        if count > 0 { output.append(UnsafeRawBufferPointer(rebasing: key(0)[..<common])) }
        for index in 0..<count {
            let suffix = UnsafeRawBufferPointer(rebasing: key(index)[common...])
            output.appendVarint(UInt64(suffix.count))
            output.append(suffix)
            output.appendVarint(trailers[index])
            if !blockCounts.isEmpty { output.appendVarint(UInt64(blockCounts[index])) }
        }
        return output
    }
}

/// An index in memory. Immutable after init.
package final class DecodedIndex: @unchecked Sendable {
    // @unchecked: immutable after init.
    static let upperFlag: UInt32 = 1
    private static let sampleEvery = 32

    let count: Int
    /// Canonical bytes; `suffixes` point into them.
    private let bytes: UnsafeMutableRawBufferPointer
    private let commonPrefix: UnsafeRawBufferPointer
    private let prefixes: UnsafeMutablePointer<UInt64>
    /// `prefixes[32 × i]`.
    private let samples: UnsafeMutablePointer<UInt64>
    private let sampleCount: Int
    private let suffixOffsets: UnsafeMutablePointer<UInt32>
    /// Of the upper of two levels: the first data block of each partition, then the count of all.
    private let firstBlocks: [Int]
    let residentBytes: Int

    /// `expected` entries, of one level, or of the upper of two over `blocks` data blocks.
    package init(
        decoding canonical: UnsafeRawBufferPointer, count expected: Int, over blocks: Int? = nil
    ) throws(DecodingError) {
        firstBlocks = try DecodedIndex.validate(canonical, count: expected, over: blocks)
        bytes = .allocate(byteCount: max(canonical.count, 1), alignment: 16)
        bytes.copyMemory(from: canonical)
        count = expected
        sampleCount = (expected + DecodedIndex.sampleEvery - 1) / DecodedIndex.sampleEvery
        prefixes = .allocate(capacity: max(expected, 1))
        samples = .allocate(capacity: max(sampleCount, 1))
        suffixOffsets = .allocate(capacity: max(expected, 1))
        residentBytes =
            canonical.count + expected * 12 + (sampleCount + firstBlocks.count) * 8
        var cursor = UncheckedReader(UnsafeRawPointer(bytes.baseAddress.unsafelyUnwrapped) + 8)
        let commonLength = Int(cursor.varint())
        commonPrefix = UnsafeRawBufferPointer(start: cursor.at, count: commonLength)
        cursor.at += commonLength
        for index in 0..<expected {
            let start = cursor.at - UnsafeRawPointer(bytes.baseAddress.unsafelyUnwrapped)
            suffixOffsets[index] = UInt32(start)
            let length = Int(cursor.varint())
            prefixes[index] = keyPrefix(UnsafeRawBufferPointer(start: cursor.at, count: length))
            cursor.at += length
            _ = cursor.varint()
            if blocks != nil { _ = cursor.varint() }
        }
        for sample in 0..<sampleCount {
            samples[sample] = prefixes[sample * DecodedIndex.sampleEvery]
        }
    }

    deinit {
        bytes.deallocate()
        prefixes.deallocate()
        samples.deallocate()
        suffixOffsets.deallocate()
    }

    /// What `firstBlocks` are; empty for an index of one level.
    private static func validate(
        _ bytes: UnsafeRawBufferPointer, count expected: Int, over blocks: Int?
    ) throws(DecodingError) -> [Int] {
        var reader = ByteReader(bytes)
        let count = Int(try reader.read(UInt32.self))
        guard count == expected else { throw DecodingError("the index has \(count) entries") }
        guard try reader.read(UInt32.self) == (blocks == nil ? 0 : upperFlag) else {
            throw DecodingError("the index's flags")
        }
        guard bytes.count <= Int(UInt32.max) else { throw DecodingError("the index's length") }
        let prefix = try reader.readPrefixed(atMost: Limits.keyBytes)
        var firstBlocks: [Int] = []
        var blocksBefore = 0
        for _ in 0..<count {
            _ = try reader.readPrefixed(atMost: Limits.keyBytes - prefix.count)
            _ = try reader.readVarint()
            guard let blocks else { continue }
            firstBlocks.append(blocksBefore)
            blocksBefore += try reader.readVarint(
                atMost: UInt64(blocks - blocksBefore), "a partition's count of blocks")
        }
        try reader.expectEnd("the index")
        guard let blocks else { return [] }
        guard blocksBefore == blocks else {
            throw DecodingError("the index tells of \(blocksBefore) blocks of \(blocks)")
        }
        return firstBlocks + [blocks]
    }

    /// The data blocks of partition `number`, in the upper of two levels.
    func blocks(of number: Int) -> Range<Int> { firstBlocks[number]..<firstBlocks[number + 1] }

    /// Ordinal of the first block that may hold a version at or after (key, trailer); `count` if
    /// all versions sort before it.
    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) -> Int {
        if !commonPrefix.isEmpty {
            let head = min(commonPrefix.count, key.count)
            let order = compareKeys(
                UnsafeRawBufferPointer(rebasing: key[..<head]),
                UnsafeRawBufferPointer(rebasing: commonPrefix[..<head]))
            if order != 0 { return order < 0 ? 0 : count }
            if key.count < commonPrefix.count { return 0 }
        }
        let rest = UnsafeRawBufferPointer(rebasing: key[commonPrefix.count...])
        let prefix = keyPrefix(rest)
        let first = lowerBound(prefix)
        guard first < count, prefixes[first] == prefix else { return first }
        return findAmongTies(first, prefix, rest, trailer)
    }

    /// The first index with a prefix at or above `prefix`.
    @inline(__always)
    private func lowerBound(_ prefix: UInt64) -> Int {
        var base = 0
        var length = sampleCount
        while length > 1 {
            let half = length >> 1
            base = samples[base + half] < prefix ? base + half : base
            length -= half
        }
        // The answer lies in (32 × base, 32 × (base + 1)], or at 0.
        var low = base * DecodedIndex.sampleEvery
        var left = min(DecodedIndex.sampleEvery, count - low)
        while left > 1 {
            let half = left >> 1
            low = prefixes[low + half - 1] < prefix ? low + half : low
            left -= half
        }
        return low < count && prefixes[low] < prefix ? low + 1 : low
    }

    @inline(never)
    private func findAmongTies(
        _ first: Int, _ prefix: UInt64, _ rest: UnsafeRawBufferPointer, _ trailer: Trailer
    ) -> Int {
        // Upper end of the ties, by doubling steps, then a search by full keys.
        var low = first
        var step = 1
        while first + step < count, prefixes[first + step] == prefix { step *= 2 }
        var high = min(first + step, count)
        while low < high {
            let middle = (low + high) / 2
            if isBefore(middle, prefix, rest, trailer) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func isBefore(
        _ index: Int, _ prefix: UInt64, _ rest: UnsafeRawBufferPointer, _ trailer: Trailer
    ) -> Bool {
        if prefixes[index] != prefix { return prefixes[index] < prefix }
        let start = UnsafeRawPointer(bytes.baseAddress.unsafelyUnwrapped)
        var cursor = UncheckedReader(start + Int(suffixOffsets[index]))
        let length = Int(cursor.varint())
        let suffix = UnsafeRawBufferPointer(start: cursor.at, count: length)
        let order = compareKeys(suffix, rest)
        if order != 0 { return order < 0 }
        cursor.at += length
        return cursor.varint() > trailer.rawValue
    }
}
