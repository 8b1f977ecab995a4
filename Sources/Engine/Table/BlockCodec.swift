// The local layer between canonical bytes and disk. A codec never touches a digest: nodes with
// different codecs hold the same tables. What is decoded here may be damaged or hostile: nothing is
// ever written beyond the canonical length, which the caller has from a verified header.

import CLZ4

/// How the stored bytes of one block came from its canonical ones.
package enum BlockCodec: UInt8, Sendable, CaseIterable {
    case none = 0
    case lz4 = 1
    case zstd = 2
    /// zstd with the dictionary that its file holds.
    case zstdDictionary = 3

    /// Decodes `stored` into exactly `target`; false if the bytes do not decode to that length.
    /// `dictionary` is that of the file, if it has one.
    package func decode(
        _ stored: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
        dictionary: BlockDictionary?
    ) -> Bool {
        switch self {
        case .none:
            guard stored.count == target.count else { return false }
            target.copyMemory(from: stored)
            return true
        case .lz4:
            guard stored.count <= Int(Int32.max), target.count <= Int(Int32.max) else {
                return false
            }
            let written = LZ4_decompress_safe(
                stored.baseAddress?.assumingMemoryBound(to: CChar.self),
                target.baseAddress?.assumingMemoryBound(to: CChar.self),
                Int32(stored.count), Int32(target.count))
            return Int(written) == target.count
        case .zstd:
            return ZstdDecoder.decode(stored, into: target, dictionary: nil)
        case .zstdDictionary:
            guard let dictionary else { return false }
            return ZstdDecoder.decode(stored, into: target, dictionary: dictionary)
        }
    }
}

extension BlockCodec: CustomStringConvertible {
    package var description: String {
        switch self {
        case .none: return "none"
        case .lz4: return "lz4"
        case .zstd: return "zstd"
        case .zstdDictionary: return "zstd-dict"
        }
    }
}
