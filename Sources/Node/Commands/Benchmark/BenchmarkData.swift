// Keys, values and random numbers as db_bench makes them, so that both engines are given the same
// work: keys are the number in eight big-endian bytes, filled up with "0"; values are slices of one
// mebibyte of which every 100 bytes repeat their random half.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// SplitMix64: seeded, one per thread, no lock, good enough to pick keys.
package struct BenchmarkRandom: Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }

    /// Uniform below `bound` up to a bias of `bound` / 2^64.
    package mutating func next(below bound: UInt64) -> UInt64 {
        next().multipliedFullWidth(by: bound).high
    }

    /// Below `bound`, as db_bench chooses keys under `--read_random_exp_range`: each e-fold of a
    /// ranking is chosen as often as the next, over `skew` of them. Neighbours in rank are none in
    /// number. A skew of 0 is uniform.
    package mutating func next(below bound: UInt64, skew: Double) -> UInt64 {
        guard skew > 0 else { return next(below: bound) }
        let part = Double(next() >> 11) / Double(1 << 53)
        let rank = UInt64(exp(-part * skew) * Double(bound))
        return rank &* 0x5bd1_e995 % bound
    }

    /// Printable bytes of 64 kinds, ten from each word.
    mutating func nextText(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            var word: UInt64 = 0
            for place in 0..<count {
                word = place % 10 == 0 ? next() : word >> 6
                buffer[place] = UInt8(ascii: " ") + UInt8(truncatingIfNeeded: word & 63)
            }
            initialized = count
        }
    }
}

/// One key buffer, rewritten for each operation.
package struct BenchmarkKey {
    package private(set) var bytes: [UInt8]

    package init(count: Int) {
        bytes = [UInt8](repeating: UInt8(ascii: "0"), count: count)
    }

    package mutating func set(_ number: UInt64) { BenchmarkKey.set(number, in: &bytes) }

    /// Of a key that is kept elsewhere.
    static func set(_ number: UInt64, in bytes: inout [UInt8]) {
        let count = min(8, bytes.count)
        for place in 0..<count {
            bytes[place] = UInt8(truncatingIfNeeded: number >> UInt64((count - place - 1) * 8))
        }
    }
}

/// Values of a fixed length out of a buffer that is made once.
package struct BenchmarkValues {
    private let bytes: [UInt8]
    private let valueBytes: Int
    private var offset = 0

    static let pieceBytes = 100

    package init(valueBytes: Int, seed: UInt64) {
        self.valueBytes = valueBytes
        var random = BenchmarkRandom(seed: seed)
        var bytes: [UInt8] = []
        let total = max(1 << 20, valueBytes)
        bytes.reserveCapacity(total + BenchmarkValues.pieceBytes)
        let half = BenchmarkValues.pieceBytes / 2
        while bytes.count < total {
            let piece = random.nextText(half)
            bytes.append(contentsOf: piece)
            bytes.append(contentsOf: piece)
        }
        self.bytes = bytes
    }

    /// Calls `body` with the next value.
    package mutating func withNext<Result>(
        _ body: (UnsafeRawBufferPointer) throws -> Result
    ) rethrows -> Result {
        if offset + valueBytes > bytes.count { offset = 0 }
        let range = offset..<(offset + valueBytes)
        offset += valueBytes
        return try bytes.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }
}
