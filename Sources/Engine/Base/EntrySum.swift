// A 64-bit hash of one version. Sums of them travel with tables: what a flush or a job read must
// equal what it wrote plus what it dropped, so an entry lost or altered on the way shows at once.
// The function is part of the formats: records in the log carry its sums.

package enum EntrySum {
    /// Of a point entry.
    @inline(__always)
    package static func of(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) -> UInt64 {
        of(keyHash: Checksum.hash64(key), trailer, value)
    }

    /// Of a point entry whose key hash (`Checksum.hash64`) is known already.
    @inline(__always)
    package static func of(
        keyHash: UInt64, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) -> UInt64 {
        mix(keyHash, trailer.rawValue, Checksum.hash64(value))
    }

    /// Of a range tombstone. Start and end are hashed with different roles, and "no end" differs
    /// from every end.
    package static func of(_ tombstone: RangeTombstone) -> UInt64 {
        let start = tombstone.span.start.withUnsafeBytes { Checksum.hash64($0) }
        let end =
            tombstone.span.end.map { end in
                end.withUnsafeBytes { Checksum.hash64($0) } &* 0xbf58_476d_1ce4_e5b9 | 1
            } ?? 0
        return mix(start ^ 0x5261_6e67_6544_656c, tombstone.sequence.rawValue, end)
    }

    /// Each input is spread by its own odd constant before they meet, and the last step is the
    /// finaliser of splitmix64, so that sums do not cancel for related inputs.
    @inline(__always)
    private static func mix(_ key: UInt64, _ trailer: UInt64, _ value: UInt64) -> UInt64 {
        var word = key &* 0x9e37_79b9_7f4a_7c15
        word = (word ^ (word >> 32)) &+ trailer &* 0xc2b2_ae3d_27d4_eb4f
        word = (word ^ (word >> 29)) &+ value &* 0x1656_67b1_9e37_79f9
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
