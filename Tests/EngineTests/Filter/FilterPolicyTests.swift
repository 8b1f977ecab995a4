// The policy as a pure function: budgets, rates, levels, the Monkey allocation; and its bytes.

import Engine
import Testing

@Suite struct FilterPolicyTests {
    private func keyBits(_ policy: FilterPolicy, _ level: UInt8, bottommost: Bool = false) -> Int {
        Int(policy.shape(level: level, isBottommost: bottommost).keyBits)
    }

    @Test func `A budget is bits or a rate`() {
        var policy = FilterPolicy(bitsPerKey: 12)
        #expect(keyBits(policy, 0) == 12)
        policy.budget = .bitsPerKey(50)
        #expect(keyBits(policy, 0) == 32)
        policy.kind = .bloom
        #expect(keyBits(policy, 0) == 50)
        for (count, burr, bloom) in [(2, 1, 2), (100, 7, 11), (128, 7, 11), (129, 8, 12)] {
            policy.budget = .falsePositive(oneIn: UInt32(count))
            policy.kind = .burr
            #expect(keyBits(policy, 3) == burr)
            policy.kind = .bloom
            #expect(keyBits(policy, 3) == bloom)
        }
        #expect(FilterBudget.falsePositive(oneIn: .max) == .oneInPowerOf2(32))
        #expect(FilterBudget.falsePositive(oneIn: 0) == .oneInPowerOf2(1))
    }

    @Test func `No bits or no kind is no filter`() {
        #expect(FilterPolicy(bitsPerKey: 0).shape(level: 0, isBottommost: false) == .none)
        var policy = FilterPolicy()
        policy.kind = .none
        policy.prefix = .fixed(length: 3)
        #expect(policy.shape(level: 0, isBottommost: false) == .none)
    }

    @Test func `A level's own budget goes first`() {
        var policy = FilterPolicy(bitsPerKey: 10)
        policy.allocation = .monkey(sizeRatio: 10, deepestLevel: 4)
        policy.levels = [
            LevelFilterBudget(level: 1, budget: .bitsPerKey(0)),
            LevelFilterBudget(level: 2, budget: .falsePositive(oneIn: 1000)),
        ]
        #expect(policy.shape(level: 1, isBottommost: false) == .none)
        #expect(keyBits(policy, 2) == 10)
        #expect(keyBits(policy, 3) > 12)
    }

    @Test func `Expected hits leave bottommost tables without a filter of keys`() {
        var policy = FilterPolicy()
        policy.expectsHits = true
        policy.prefix = .delimiter(byte: 0x2f, occurrence: 1)
        #expect(keyBits(policy, 2) == 10)
        let last = policy.shape(level: 2, isBottommost: true)
        #expect(last.keyBits == 0 && last.prefixBits == 10 && last.isValid)
    }

    @Test(arguments: [2, 4, 10, 100])
    func `Monkey spends the budget and errs less above`(ratio: Int) {
        for budget in [8, 12, 16] {
            var policy = FilterPolicy(bitsPerKey: UInt32(budget))
            policy.allocation = .monkey(sizeRatio: UInt8(ratio), deepestLevel: 5)
            let bits = (0..<7).map { keyBits(policy, UInt8($0)) }
            #expect(bits == bits.sorted(by: >))
            #expect(bits[5] == bits[6])
            // Keys of a level grow by the ratio; all bits over all keys are the budget, but for
            // rounding and the cap.
            var keys = 1.0
            var (sum, count, errors) = (0.0, 0.0, 0.0)
            for level in 0...5 {
                sum += keys * Double(bits[level])
                count += keys
                errors += 1 / Double(UInt64(1) << UInt64(bits[level]))
                keys *= Double(ratio)
            }
            #expect(abs(sum / count - Double(budget)) < 0.8, "\(bits)")
            #expect(errors < 6 / Double(UInt64(1) << UInt64(budget)), "\(bits)")
        }
    }

    @Test func `Bytes round-trip, never change, and others are refused`() throws {
        var policy = FilterPolicy()
        policy.kind = .bloom
        policy.budget = .falsePositive(oneIn: 200)
        policy.allocation = .monkey(sizeRatio: 8, deepestLevel: 3)
        policy.levels = [
            LevelFilterBudget(level: 0, budget: .bitsPerKey(16)),
            LevelFilterBudget(level: 6, budget: .bitsPerKey(0)),
        ]
        policy.expectsHits = true
        policy.partitionAbove = 1 << 20
        policy.prefix = .delimiter(byte: 0x3a, occurrence: 2)
        let good = encoded(policy)
        #expect(try decoded(good) == policy)
        #expect(try decoded(encoded(FilterPolicy())) == FilterPolicy())
        let golden: [UInt8] = [
            1, 1, 1, 8, 0, 0, 0, 8, 3, 0, 0, 16, 0, 2, 0x3a, 2, 2, 0, 0, 16, 0, 0, 0, 6, 0, 0, 0, 0,
            0,
        ]
        #expect(good == golden)
        for length in good.indices {
            #expect(throws: DecodingError.self) { try decoded(Array(good[..<length])) }
        }
        let wrong: [(place: Int, value: UInt8)] = [
            (0, 3), (1, 2), (2, 2), (3, 33), (3, 0), (7, 1), (8, 7), (12, 0xff), (13, 3), (15, 0),
            (16, 8), (17, 7), (17, 6), (18, 2), (22, 1),
        ]
        for (place, value) in wrong {
            var bad = good
            bad[place] = value
            #expect(throws: DecodingError.self, "byte \(place)") { try decoded(bad) }
        }
    }

    private func encoded(_ policy: FilterPolicy) -> [UInt8] {
        var writer = ByteWriter()
        policy.encode(into: &writer)
        return writer.bytes
    }

    private func decoded(_ bytes: [UInt8]) throws -> FilterPolicy {
        try withBytes(bytes) { raw in
            var reader = ByteReader(raw)
            let policy = try FilterPolicy(&reader)
            try reader.expectEnd("a filter policy")
            return policy
        }
    }
}
