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
    /// 1 MiB, untouched pages of which cost nothing: 0.4 % false positives at half a million keys.
    private static let wordsLog2: UInt64 = 17
    private let words: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        // calloc: large zeroed allocations come as untouched pages.
        guard let memory = calloc(1 << Int(MemtableFilter.wordsLog2), 8) else {
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
        let word = words + Int(hash >> (64 - MemtableFilter.wordsLog2))
        let old = word.pointee.load(ordering: .relaxed)
        word.pointee.store(old | MemtableFilter.mask(hash), ordering: .releasing)
    }

    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        let word = words + Int(hash >> (64 - MemtableFilter.wordsLog2))
        let mask = MemtableFilter.mask(hash)
        return word.pointee.load(ordering: .acquiring) & mask == mask
    }
}
