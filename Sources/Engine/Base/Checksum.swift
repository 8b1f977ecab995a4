// XXH3 and CRC32C over raw bytes, through the C shims.
import CEngineShims

/// An XXH3-128 value: names content. Proof against accident, not against malice.
public struct Digest128: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var low: UInt64
    public var high: UInt64

    @inlinable
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    public static let zero = Digest128(low: 0, high: 0)

    /// Digest of `bytes`.
    public init(of bytes: UnsafeRawBufferPointer) {
        let hash = martlet_xxh3_128(bytes.baseAddress, bytes.count)
        self.init(low: hash.low, high: hash.high)
    }

    public init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { Digest128(of: $0) }
    }

    public static func < (left: Digest128, right: Digest128) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    /// 32 lower-case hexadecimal digits, most significant first.
    public var description: String { hex16(high) + hex16(low) }

    public init?(hex text: String) {
        guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
            let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(low: low, high: high)
    }
}

package enum Checksum {
    /// CRC32C (Castagnoli), continuing from `seed`.
    @inline(__always)
    package static func crc32c(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
        martlet_crc32c(seed, bytes.baseAddress, bytes.count)
    }

    package static func crc32c(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { crc32c($0) }
    }

    /// XXH3-64: filters, tags and entry sums. One hash of a user key serves every level.
    @inline(__always)
    package static func hash64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        martlet_xxh3_64(bytes.baseAddress, bytes.count)
    }
}
