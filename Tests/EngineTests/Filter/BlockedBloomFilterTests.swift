// The filter never says no to a key it holds, rarely says yes to another, and refuses bad bytes.

import Engine
import Testing

@Suite struct BlockedBloomFilterTests {
    private func hash(_ number: UInt64) -> UInt64 {
        withUnsafeBytes(of: number) { Checksum.hash64($0) }
    }

    @Test(arguments: [1, 10, 100, 5000])
    func holdsItsKeys(count: UInt64) throws {
        let hashes = (0..<count).map(hash)
        let bytes = BlockedBloomFilter.encode(hashes, bitsPerKey: 10)
        let filter = try withBytes(bytes) { try ResidentFilter(decoding: $0) }
        #expect(hashes.allSatisfy { filter.mayContain($0) })
    }

    @Test func seldomHoldsOthers() throws {
        let bytes = BlockedBloomFilter.encode((0..<10_000).map(hash), bitsPerKey: 10)
        let filter = try withBytes(bytes) { try ResidentFilter(decoding: $0) }
        let wrong = (10_000..<60_000).count { filter.mayContain(hash($0)) }
        // A blocked filter of 10 bits: about 1 %.
        #expect(wrong < 50_000 * 18 / 1000)
        #expect(bytes.count <= 10_000 * 10 / 8 + 80)
    }

    @Test func refusesBadBytes() {
        let good = BlockedBloomFilter.encode([1, 2, 3], bitsPerKey: 10)
        var kind = good
        var probes = good
        var count = good
        kind[0] = 9
        probes[1] = 0
        count[4] = 200
        for bad in [[], Array(good.dropLast()), good + [0], kind, probes, count] {
            #expect(throws: DecodingError.self) {
                try withBytes(bad) { _ = try ResidentFilter(decoding: $0) }
            }
        }
    }
}
