import CEngineShims
import Testing

@testable import Engine

struct ChecksumTests {
    /// A bit at a time, as the polynomial says.
    private static func slowCRC32C(_ bytes: ArraySlice<UInt8>, seed: UInt32 = 0) -> UInt32 {
        var crc = ~seed
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = (crc >> 1) ^ (crc & 1 == 0 ? 0 : 0x82f6_3b78) }
        }
        return ~crc
    }

    private static func fast(_ bytes: ArraySlice<UInt8>, seed: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { Checksum.crc32c($0, seed: seed) }
    }

    private static let bytes: [UInt8] = {
        var random = SeededRandom(seed: 7)
        return (0..<40_000).map { _ in UInt8(random.below(256)) }
    }()

    /// Or all that the thread runs next is slow.
    @Test("a hash leaves no upper halves of vector registers in use")
    func vectorState() {
        for count in [16, 240, 241, 4096, 40_000] {
            ChecksumTests.bytes.withUnsafeBytes { bytes in
                #expect(martlet_hash_leaves_upper_halves(bytes.baseAddress, count) <= 0)
            }
        }
    }

    @Test("vectors of RFC 3720 and the catalogue's check value")
    func vectors() {
        #expect(Checksum.crc32c(Array("123456789".utf8)) == 0xe306_9283)
        #expect(Checksum.crc32c([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(Checksum.crc32c([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(Checksum.crc32c((0..<32).map { UInt8($0) }) == 0x46dd_794e)
        #expect(Checksum.crc32c([]) == 0)
    }

    // Lanes begin at 192 bytes and are at most 4 KiB each.
    @Test(arguments: [0..<700, 3_000..<3_100, 12_280..<12_300, 24_570..<24_580])
    func everyLengthAndAlignment(_ lengths: Range<Int>) {
        for length in lengths {
            let start = length % 9
            let part = ChecksumTests.bytes[start..<start + length]
            let seed = UInt32(length) &* 0x9e37_79b9
            #expect(ChecksumTests.fast(part) == ChecksumTests.slowCRC32C(part))
            #expect(
                ChecksumTests.fast(part, seed: seed) == ChecksumTests.slowCRC32C(part, seed: seed))
        }
    }

    @Test func goesOnFromWhereItStopped() {
        let whole = ChecksumTests.fast(ChecksumTests.bytes[...])
        for cut in stride(from: 0, through: ChecksumTests.bytes.count, by: 997) {
            let head = ChecksumTests.fast(ChecksumTests.bytes[..<cut])
            #expect(ChecksumTests.fast(ChecksumTests.bytes[cut...], seed: head) == whole)
        }
    }
}
