// The largest chunks of arenas that are gone, for those to come. Memory that is new to the process
// is cleared first: a tenth of the time of a fill, which writes all of it anyway.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum ArenaChunks {
    /// 64 MiB for all databases of the process: a memtable's worth.
    static let keptMax = 32
    /// Addresses of chunks of `Arena.largestChunkBytes`, aligned to their size.
    private static let kept = Mutex<[UInt]>([])

    /// One that somebody gave back, with whatever is in it; nil if there is none.
    static func take() -> UnsafeMutableRawPointer? {
        kept.withLock { $0.popLast() }.flatMap { UnsafeMutableRawPointer(bitPattern: $0) }
    }

    /// Keeps chunks that nobody reads any more, or frees them.
    static func give(_ chunks: [UnsafeMutableRawPointer]) {
        let addresses = chunks.map { UInt(bitPattern: $0) }
        let surplus = kept.withLock { kept -> ArraySlice<UInt> in
            let room = max(0, ArenaChunks.keptMax - kept.count)
            kept += addresses.prefix(room)
            return addresses.dropFirst(room)
        }
        for address in surplus { free(UnsafeMutableRawPointer(bitPattern: address)) }
    }
}
