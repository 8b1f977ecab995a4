// The local layer between canonical bytes and disk. A codec never touches a digest: nodes with
// different codecs hold the same tables.

import CLZ4

package enum BlockCodec: UInt8, Sendable {
    case none = 0
    case lz4 = 1

    /// Compressed bytes in `output`, or nil when `lz4` would save less than an eighth.
    static func compress(
        _ canonical: UnsafeRawBufferPointer, into output: inout [UInt8]
    ) -> Int? {
        // One block below this size saves nothing worth a decode; above it LZ4 cannot count.
        guard canonical.count >= 64, canonical.count <= Int(LZ4_MAX_INPUT_SIZE) else { return nil }
        let limit = canonical.count - canonical.count / 8
        if output.count < limit { output = [UInt8](repeating: 0, count: limit) }
        let written = output.withUnsafeMutableBytes { target in
            LZ4_compress_default(
                canonical.baseAddress?.assumingMemoryBound(to: CChar.self),
                target.baseAddress?.assumingMemoryBound(to: CChar.self),
                Int32(canonical.count), Int32(limit))
        }
        return written > 0 ? Int(written) : nil
    }

    /// Decodes `stored` into exactly `target`; false if the bytes do not decode to that length.
    func decode(_ stored: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer)
        -> Bool
    {
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
        }
    }
}
