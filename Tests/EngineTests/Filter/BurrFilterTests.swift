// BuRR filters: no key is missed, whatever the set; errors and sizes are as designed; the bytes are
// a function of the set; and bytes of any other origin are refused or at least harmless.

import Engine
import Testing

@Suite struct BurrFilterTests {
    /// Keys of the sets that errors and sizes are measured on.
    private static let many = scaled("FILTER_KEYS", full: 1_000_000, usual: 60_000)

    private func hashes(_ count: Int, seed: UInt64) -> [UInt64] {
        var random = TableTestRandom(seed: seed)
        return (0..<count).map { _ in random.next() }
    }

    private func filter(_ bytes: [UInt8]) throws -> ResidentFilter {
        try withBytes(bytes) { try ResidentFilter(decoding: $0) }
    }

    // MARK: No key is missed

    @Test(arguments: [0, 1, 2, 3, 47, 48, 49, 50, 63, 64, 65, 100, 128, 300, 1000, 4096, 20_000])
    func `Every key is held, whatever the size and the bits`(count: Int) throws {
        for bits in count > 2000 ? [7] : [1, 3, 8, 9, 16, 17, 31, 32] {
            let keys = hashes(count, seed: UInt64(count * 100 + bits))
            let filter = try filter(BurrFilter.encode(keys, bits: bits))
            #expect(keys.allSatisfy { filter.mayContain($0) }, "\(bits) bits")
        }
    }

    @Test func `Every one of many keys is held`() throws {
        let keys = hashes(100_000, seed: 5)
        let filter = try filter(BurrFilter.encode(keys, bits: 10))
        #expect(keys.allSatisfy { filter.mayContain($0) })
    }

    @Test func `An empty filter holds nothing`() throws {
        let filter = try filter(BurrFilter.encode([], bits: 8))
        #expect(!hashes(1000, seed: 1).contains { filter.mayContain($0) })
    }

    /// Hashes that crowd into one start slot, one bucket or one order are bumped through all layers
    /// and listed; they make a filter larger, never wrong.
    @Test func `Hashes that somebody chose are held, too`() throws {
        var random = TableTestRandom(seed: 9)
        let sets: [[UInt64]] = [
            [UInt64](repeating: 42, count: 1000),
            (0..<3000).map { UInt64($0) },
            (0..<3000).map { UInt64($0) << 52 },
            (0..<3000).map { _ in random.next() >> 24 },
            (0..<3000).map { _ in random.next() | 0xffff_ffff_0000_0000 },
            (0..<1000).map { UInt64.max - UInt64($0 % 7) },
            [0, .max, 1, .max - 1],
        ]
        for (number, keys) in sets.enumerated() {
            let filter = try filter(BurrFilter.encode(keys, bits: 8))
            #expect(keys.allSatisfy { filter.mayContain($0) }, "set \(number)")
        }
    }

    // MARK: Errors and sizes

    @Test(arguments: [1, 4, 7, 8, 10])
    func `Errors come at 2^-r within a tenth`(bits: Int) throws {
        let keys = hashes(20_000, seed: 77)
        let filter = try filter(BurrFilter.encode(keys, bits: bits))
        // As many queries as make the standard deviation a fiftieth of the rate.
        let queries = min(2500 << bits, 1_000_000)
        var random = TableTestRandom(seed: UInt64(bits))
        let wrong = (0..<queries).count { _ in filter.mayContain(random.next()) }
        let ratio = Double(wrong) / Double(queries) * Double(1 << bits)
        #expect(abs(ratio - 1) < 0.1, "\(ratio) times 2^-\(bits)")
    }

    @Test(arguments: [7, 10])
    func `A key costs r bits and three hundredths at most`(bits: Int) {
        let keys = hashes(BurrFilterTests.many, seed: 3)
        let bytes = BurrFilter.encode(keys, bits: bits)
        #expect(Double(bytes.count * 8) <= 1.03 * Double(bits * keys.count))
    }

    @Test func `Small filters stay small`() {
        for (count, factor) in [(20_000, 1.03), (4_500, 1.05), (500, 1.2), (100, 1.7)] {
            let bytes = BurrFilter.encode(hashes(count, seed: 8), bits: 8)
            #expect(Double(bytes.count * 8) <= factor * Double(8 * count), "\(count) keys")
        }
    }

    /// Few keys are listed by fingerprint, which must err no more than slots would.
    @Test func `A list errs no more than promised`() throws {
        let keys = hashes(48, seed: 15)
        let filter = try filter(BurrFilter.encode(keys, bits: 4))
        var random = TableTestRandom(seed: 16)
        let wrong = (0..<100_000).count { _ in filter.mayContain(random.next()) }
        #expect(wrong < 100_000 / 16)
    }

    // MARK: Bytes

    @Test func `Bytes depend on the set alone`() {
        var random = TableTestRandom(seed: 2)
        for count in [10, 200, 5000] {
            let keys = hashes(count, seed: UInt64(count))
            let bytes = BurrFilter.encode(keys, bits: 9)
            #expect(BurrFilter.encode(keys.shuffled(using: &random), bits: 9) == bytes)
            #expect(BurrFilter.encode(keys.reversed() + keys, bits: 9) == bytes)
            #expect(BurrFilter.encode(keys.sorted(), bits: 9) == bytes)
        }
    }

    @Test(arguments: [
        (10, 8, "310554329da4b2c39a5c9c4e921557c3"), (300, 8, "cfbb7dcbd08d84656747528bd3a7027b"),
        (5000, 10, "3f79f6d82f04c109687b81847e8c4def"),
        (5000, 1, "747dfb77cc71b832764b2deb9f34872e"),
    ])
    func `Bytes never change`(count: Int, bits: Int, digest: String) {
        let keys = (0..<UInt64(count)).map { $0 &* 0x9e37_79b9_7f4a_7c15 }
        let bytes = BurrFilter.encode(keys, bits: bits)
        #expect(Digest128(of: bytes).description == digest)
    }

    @Test func `Damaged bytes are refused or harmless`() throws {
        let queries = hashes(200, seed: 6)
        for (count, bits) in [(3, 8), (60, 5), (700, 12), (2500, 8)] {
            let good = BurrFilter.encode(hashes(count, seed: 1), bits: bits)
            var random = TableTestRandom(seed: UInt64(count))
            for round in 0..<400 {
                var bytes = good
                switch round % 4 {
                case 0: bytes.removeLast(1 + random.below(bytes.count))
                case 1: bytes += random.bytes(1 + random.below(20))
                // The header decides where everything lies.
                case 2: bytes[random.below(min(24, bytes.count))] = UInt8(random.below(256))
                default: bytes[random.below(bytes.count)] ^= UInt8(1 + random.below(255))
                }
                guard let damaged = try? filter(bytes) else { continue }
                for query in queries { _ = damaged.mayContain(query) }
            }
        }
    }

    @Test func `Random bytes are refused or harmless`() throws {
        var random = TableTestRandom(seed: 30)
        for _ in 0..<2000 {
            var bytes = random.bytes(random.below(400))
            if bytes.count > 20 {
                bytes[0] = 2
                bytes[1] = UInt8(random.below(34))
                bytes[2] = UInt8(random.below(6))
                bytes[3] = 0
                for place in 4..<20 { bytes[place] = place % 4 == 0 ? UInt8(random.below(32)) : 0 }
            }
            guard let any = try? filter(bytes) else { continue }
            for _ in 0..<50 { _ = any.mayContain(random.next()) }
        }
    }

    @Test func `A wrong header is refused`() {
        let good = BurrFilter.encode(hashes(500, seed: 1), bits: 8)
        for (place, value) in [(0, 9), (1, 0), (1, 33), (2, 5), (3, 1), (7, 0xff), (11, 0xff)] {
            var bad = good
            bad[place] = UInt8(value)
            #expect(throws: DecodingError.self, "byte \(place)") { try filter(bad) }
        }
        var padded = good
        padded[padded.count - 1] = 1
        for bad in [[], [2], Array(good.dropLast()), good + [0], padded] {
            #expect(throws: DecodingError.self) { try filter(bad) }
        }
    }
}
