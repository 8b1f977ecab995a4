// A small Bloom filter in front of a memtable's skiplist: most reads ask every memtable in vain,
// and a walk down the list costs ten cache misses where this costs one. All bits of a key lie in
// one word, so that the writer needs no read-modify-write beyond its own load and store.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

// @unchecked: the words are atomics; one writer stores them.
final class MemtableFilter: @unchecked Sendable {
    /// 1 MiB: 0.4 % false positives at half a million keys.
    private static let wordsLog2Max = 17
    private static let wordsLog2Min = 9
    /// Of a memtable for each word of its filter: some four small entries.
    private static let memtableBytesPerWord = 512
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    /// What is left of a hash is the place of its word.
    private let shift: UInt64

    /// For a memtable that grows to about `memtableBytes`.
    init(memtableBytes: Int) {
        let wanted = max(1, memtableBytes / MemtableFilter.memtableBytesPerWord)
        let wordsLog2 = min(
            max(wanted.bitWidth - 1 - wanted.leadingZeroBitCount, MemtableFilter.wordsLog2Min),
            MemtableFilter.wordsLog2Max)
        shift = UInt64(64 - wordsLog2)
        guard let memory = calloc(1 << wordsLog2, 8) else {
            brokenInvariant("out of memory for a memtable's filter")
        }
        words = memory.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    deinit { free(UnsafeMutableRawPointer(words)) }

    @inline(__always)
    private static func mask(_ hash: UInt64) -> UInt64 {
        1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63)
    }

    @inline(__always)
    func insert(_ hash: UInt64) {
        let word = words + Int(hash >> shift)
        let old = word.pointee.load(ordering: .relaxed)
        word.pointee.store(old | MemtableFilter.mask(hash), ordering: .releasing)
    }

    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        let word = words + Int(hash >> shift)
        let mask = MemtableFilter.mask(hash)
        return word.pointee.load(ordering: .acquiring) & mask == mask
    }
}
