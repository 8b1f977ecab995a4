// A Bloom filter whose bits for one key lie in one 64-byte block: one cache miss a query, and ten
// times as fast to build as a BuRR filter, for half as much memory again.
//
// Canonical bytes: kind u8 (1), probes u8, zero u16, block count u32, then 64 bytes a block.
// Bit b of a block is bit b % 8 of byte b / 8. Block of hash h: ((h >> 32) × blocks) >> 32. Probe
// i (from 1): the top 9 bits of h × 0x9e3779b97f4a7c15^i.

package enum BlockedBloomFilter {
    static let kind: UInt8 = 1
    static let headerBytes = 8
    static let blockBytes = 64
    /// A filter never grows beyond 256 MiB; more keys than that only raise its error rate.
    static let blocksMax = 1 << 22
    private static let multiplier: UInt64 = 0x9e37_79b9_7f4a_7c15

    static func probes(bitsPerKey: Int) -> Int { min(max(bitsPerKey * 69 / 100, 1), 8) }

    /// Canonical bytes over `hashes` (one for each distinct user key).
    package static func encode(_ hashes: some Collection<UInt64>, bitsPerKey: Int) -> [UInt8] {
        let bits = max(hashes.count, 1).multipliedReportingOverflow(by: bitsPerKey)
        let wanted = bits.overflow ? blocksMax : (bits.partialValue + 511) / 512
        let blocks = min(max(wanted, 1), blocksMax)
        let probes = probes(bitsPerKey: bitsPerKey)
        var bytes = [UInt8](repeating: 0, count: headerBytes + blocks * blockBytes)
        bytes.withUnsafeMutableBytes { buffer in
            buffer[0] = kind
            buffer[1] = UInt8(probes)
            buffer.storeBytes(of: UInt32(blocks).littleEndian, toByteOffset: 4, as: UInt32.self)
            for hash in hashes {
                let block = headerBytes + blockIndex(hash, UInt64(blocks)) * blockBytes
                var word = hash
                for _ in 0..<probes {
                    word = word &* multiplier
                    let bit = Int(word >> 55)
                    buffer[block + bit >> 3] |= 1 << UInt8(bit & 7)
                }
            }
        }
        return bytes
    }

    @inline(__always)
    fileprivate static func blockIndex(_ hash: UInt64, _ blocks: UInt64) -> Int {
        Int(truncatingIfNeeded: ((hash >> 32) &* blocks) >> 32)
    }

    @inline(__always)
    fileprivate static func contains(
        _ hash: UInt64, _ block: UnsafeRawPointer, _ probes: Int
    ) -> Bool {
        var word = hash
        for _ in 0..<probes {
            word = word &* multiplier
            let bit = Int(truncatingIfNeeded: word >> 55)
            let byte = block.load(fromByteOffset: bit >> 3, as: UInt8.self)
            if byte & (1 << UInt8(truncatingIfNeeded: bit & 7)) == 0 { return false }
        }
        return true
    }
}

/// Queries in place, over canonical bytes that `validate` accepted and that somebody keeps.
struct BlockedBloomView {
    private let blocks: UnsafeRawPointer
    private let blockCount: UInt64
    private let probes: Int

    @inline(__always)
    init(_ base: UnsafeRawPointer) {
        blocks = base + BlockedBloomFilter.headerBytes
        probes = Int(base.load(fromByteOffset: 1, as: UInt8.self))
        let count = base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
        blockCount = UInt64(UInt32(littleEndian: count))
    }

    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        let index = BlockedBloomFilter.blockIndex(hash, blockCount)
        return BlockedBloomFilter.contains(
            hash, blocks + index &* BlockedBloomFilter.blockBytes, probes)
    }

    static func validate(_ bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let kind = try reader.read(UInt8.self)
        let probes = Int(try reader.read(UInt8.self))
        let zero = try reader.read(UInt16.self)
        let count = Int(try reader.read(UInt32.self))
        guard kind == BlockedBloomFilter.kind, (1...8).contains(probes), zero == 0 else {
            throw DecodingError("a Bloom filter's header")
        }
        guard (1...BlockedBloomFilter.blocksMax).contains(count),
            reader.remaining == count * BlockedBloomFilter.blockBytes
        else { throw DecodingError("a Bloom filter's length") }
    }
}
