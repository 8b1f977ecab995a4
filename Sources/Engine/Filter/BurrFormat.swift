// Bytes and hashes of a BuRR filter: bumped ribbon retrieval (Dillinger, Hübschle-Schneider,
// Sanders, Walzer 2022) with ribbons of 64 coefficients, answering with r bits of each key.
//
// A key owns 64 coefficients, a start slot and r fingerprint bits, all from its 64-bit hash. The
// filter stores a solution: r bits a slot, such that the slots under the key's coefficients, from
// its start on, xor to its fingerprint. Another key gets there by chance, at 2^-r. Keys that do not
// fit are bumped to the next, smaller layer: those that start below a threshold of their bucket,
// two bits of metadata a bucket. What the last layer bumps is listed by fingerprint.
//
// Canonical bytes:
//   kind u8 (2), r u8 (1...32), layers u8, zero u8, listed fingerprints u32
//   per layer: slots / 8 u32
//   per layer: thresholds, two bits a bucket; solution, r bytes for each eight slots (byte 8g + j
//              of them holds column 8g + j, bit i of a byte belongs to slot i)
//   list: ascending fingerprints of (r + 15) / 8 bytes
//   zeros, r + 8: lets a query read whole words
//
// Nine groups of r adjacent bytes answer a query: one or two cache lines at r up to 8.

package enum BurrFormat {
    static let kind: UInt8 = 2
    static let headerBytes = 8
    package static let bitsRange = 1...32
    /// Coefficients of a key.
    static let width = 64
    static let layersMax = 4
    /// Fewer keys than this are listed rather than solved.
    static let listedKeys = 48
    /// Start slots of a bucket, which share a threshold.
    static let bucketBits = 7
    static let bucketSlots = 1 << bucketBits
    /// Thresholds by code, a byte each: keys that start below it in their bucket are bumped.
    static let thresholds: UInt32 = 128 << 24 | 40 << 16 | 16 << 8
    static let codeMax = 3
    /// Bound of a layer: 2^30 slots.
    static let groupsMax = 1 << 27

    @inline(__always)
    static func threshold(_ code: Int) -> Int {
        Int(truncatingIfNeeded: thresholds >> UInt32(truncatingIfNeeded: code &* 8) & 0xff)
    }

    static func padBytes(_ bits: Int) -> Int { bits + 8 }
    static func listedBytes(_ bits: Int) -> Int { (bits + 15) / 8 }
    /// Slots where a ribbon may start.
    static func starts(groups: Int) -> Int { groups * 8 - width + 1 }
    static func buckets(groups: Int) -> Int {
        (starts(groups: groups) + bucketSlots - 1) >> bucketBits
    }
    static func thresholdBytes(groups: Int) -> Int { (buckets(groups: groups) + 3) / 4 }

    /// Groups of eight slots for `count` keys: as many slots as keys, since bumping makes up for
    /// what does not fit, and some of what the last ribbons reach. A few hundredths less would save
    /// half as many thousandths of the size and take a fifth longer to build.
    static func groups(keys count: Int) -> Int { min(max((count + 24) / 8, 9), groupsMax) }

    // MARK: Hashes

    @inline(__always)
    static func start(_ hash: UInt64, _ starts: UInt64) -> Int {
        Int(truncatingIfNeeded: hash.multipliedFullWidth(by: starts).high)
    }

    /// Coefficients, the first of which is always 1; and 64 bits of which the fingerprint takes
    /// bits g, g + 8, …, g + 56 for columns 8g to 8g + 7.
    @inline(__always)
    static func row(_ hash: UInt64) -> (coefficients: UInt64, fingerprint: UInt64) {
        var word = hash &* 0x9e37_79b9_7f4a_7c15
        word ^= word >> 32
        var coefficients = word &* 0xd6e8_feb8_6659_fd93
        coefficients ^= coefficients >> 32
        var fingerprint = coefficients &* 0xc2b2_ae3d_27d4_eb4f
        fingerprint ^= fingerprint >> 29
        return (coefficients | 1, fingerprint)
    }

    /// The hash of a bumped key in the next layer; one to one.
    @inline(__always)
    static func bumped(_ hash: UInt64) -> UInt64 {
        var word = hash ^ hash >> 31
        word = word &* 0xbf58_476d_1ce4_e5b9
        word ^= word >> 27
        word = word &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    /// What the list keeps of a key that every layer bumped.
    @inline(__always)
    static func listed(_ hash: UInt64, bytes: Int) -> UInt64 {
        hash >> UInt64(truncatingIfNeeded: 64 - 8 * bytes)
    }

    // MARK: Columns

    private static let lowBits: UInt64 = 0x0101_0101_0101_0101

    /// One bit a byte, for each column of word `group` that a filter of `bits` columns has.
    @inline(__always)
    static func columns(_ bits: Int, group: Int) -> UInt64 {
        let columns = min(bits &- 8 &* group, 8)
        return lowBits >> UInt64(truncatingIfNeeded: 64 &- 8 &* columns)
    }

    /// `byte` eight times: which of eight slots a key's coefficients choose, for eight columns.
    @inline(__always)
    static func spread(_ byte: UInt64) -> UInt64 { (byte & 0xff) &* lowBits }

    /// The parity of each byte in its lowest bit; the other bits mean nothing.
    @inline(__always)
    static func parities(_ word: UInt64) -> UInt64 {
        var folded = word ^ word >> 4
        folded ^= folded >> 2
        return folded ^ folded >> 1
    }

    /// Of two words.
    @inline(__always)
    static func parities(_ words: SIMD2<UInt64>) -> SIMD2<UInt64> {
        var folded = words ^ words &>> 4
        folded ^= folded &>> 2
        return folded ^ folded &>> 1
    }
}
