// Collects the keys of a table while it is built and makes its filter blocks: one filter of whole
// keys, or partitions of it with an index by key; and one of distinct prefixes.
//
// Partitions are made of equal numbers of keys, in key order, and encoded as soon as it is clear
// that there will be any, so that a huge table keeps ten bits a key in memory rather than 64.

/// Canonical bytes of filter blocks; what a table does not need is empty or nil.
struct FilterBlocks {
    var partitions: [[UInt8]] = []
    /// With partitions only; see `IndexBlock`.
    var index: [UInt8]?
    /// Without partitions only.
    var whole: [UInt8]?
    var prefix: [UInt8]?
}

struct FilterBuilder: ~Copyable {
    private let shape: FilterShape
    private var hashes: [UInt64] = []
    private var keyCount = 0
    private var index = IndexBuilder()
    private var partitions: [[UInt8]] = []

    private var prefixHashes: [UInt64] = []
    private var lastPrefixLength: Int?
    private var hasTooManyPrefixes = false

    /// More distinct prefixes than this make no filter, which answers "maybe".
    private static let prefixesMax = 1 << 26

    init(_ shape: FilterShape) { self.shape = shape }

    /// Adds a user key, each once and in order. `previous` is the one before, empty at first.
    mutating func add(
        _ key: UnsafeRawBufferPointer, hash: UInt64, previous: UnsafeRawBufferPointer
    ) {
        if shape.keyBits > 0 {
            if keyCount > 0, keyCount % shape.partitionKeys == 0 {
                index.add(last: previous, Trailer(rawValue: 0), next: key)
            }
            keyCount += 1
            hashes.append(hash)
            if keyCount > shape.wholeKeysMax { encodeFullPartitions() }
        }
        if shape.prefixBits > 0 { addPrefix(of: key, previous) }
    }

    /// Keys with the same prefix follow each other.
    private mutating func addPrefix(
        of key: UnsafeRawBufferPointer, _ previous: UnsafeRawBufferPointer
    ) {
        guard let length = shape.prefix.prefixLength(key) else {
            lastPrefixLength = nil
            return
        }
        let prefix = UnsafeRawBufferPointer(rebasing: key[..<length])
        if lastPrefixLength == length,
            compareKeys(UnsafeRawBufferPointer(rebasing: previous[..<length]), prefix) == 0
        {
            return
        }
        lastPrefixLength = length
        if prefixHashes.count < FilterBuilder.prefixesMax {
            prefixHashes.append(Checksum.hash64(prefix))
        } else {
            hasTooManyPrefixes = true
        }
    }

    private mutating func encodeFullPartitions() {
        let size = shape.partitionKeys
        var start = 0
        while hashes.count - start >= size {
            encodePartition(Array(hashes[start..<(start + size)]))
            start += size
        }
        hashes.removeFirst(start)
    }

    private mutating func encodePartition(_ keys: [UInt64]) {
        partitions.append(shape.kind.encode(keys, bits: Int(shape.keyBits)))
    }

    /// `last` is the last key that was added.
    mutating func finish(last: UnsafeRawBufferPointer) -> FilterBlocks {
        var blocks = FilterBlocks()
        if keyCount > shape.wholeKeysMax {
            if !hashes.isEmpty { encodePartition(hashes) }
            index.add(last: last, Trailer(rawValue: 0), next: nil)
            let encoded = index.encoded()
            blocks.index = [UInt8](encoded.bytes)
            blocks.partitions = partitions
        } else if keyCount > 0 {
            blocks.whole = shape.kind.encode(hashes, bits: Int(shape.keyBits))
        }
        if !prefixHashes.isEmpty, !hasTooManyPrefixes {
            blocks.prefix = PrefixFilter.encode(prefixHashes, shape)
        }
        return blocks
    }
}
