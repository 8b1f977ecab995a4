// Memory for the nodes of one memtable: bump allocation in chunks that grow, freed all at once.
// Addresses never move, so readers may follow pointers while the one writer allocates.
//
// Used by SkipList only; not thread-safe by itself (one writer).

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package struct Arena: ~Copyable {
    /// The first chunk is small, so that an idle memtable costs little; the largest chunks are
    /// aligned to what the processor maps as one huge page.
    package static let firstChunkBytes = 64 << 10
    static let largestChunkBytes = 2 << 20
    static let alignment = 8

    private var chunks: [UnsafeMutableRawPointer] = []
    private var largestChunks: [UnsafeMutableRawPointer] = []
    private var nextChunkBytes = Arena.firstChunkBytes
    /// Where the open chunk goes on.
    private var place: UnsafeMutableRawPointer?
    private var freeBytes = 0
    /// Bytes of all chunks.
    package private(set) var reservedBytes = 0
    /// Bytes handed out, rounding included.
    package private(set) var usedBytes = 0

    package init() {}

    deinit {
        for chunk in chunks { free(chunk) }
        if !largestChunks.isEmpty { ArenaChunks.give(largestChunks) }
    }

    /// `size` bytes, aligned to 8. Contents are undefined.
    @inline(__always)
    package mutating func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        let rounded = (size + Arena.alignment - 1) & ~(Arena.alignment - 1)
        usedBytes += rounded
        if rounded <= freeBytes, let result = place {
            place = result + rounded
            freeBytes -= rounded
            return result
        }
        return allocateInNewChunk(rounded)
    }

    /// What does not fit a quarter of a chunk gets one of its own, and the open chunk stays open.
    @inline(never)
    private mutating func allocateInNewChunk(_ size: Int) -> UnsafeMutableRawPointer {
        if size > nextChunkBytes / 4 { return newChunk(size) }
        let chunk = newChunk(nextChunkBytes)
        place = chunk + size
        freeBytes = nextChunkBytes - size
        nextChunkBytes = min(nextChunkBytes * 2, Arena.largestChunkBytes)
        return chunk
    }

    private mutating func newChunk(_ size: Int) -> UnsafeMutableRawPointer {
        reservedBytes += size
        if size == Arena.largestChunkBytes {
            let chunk = ArenaChunks.take() ?? Arena.newMemory(size, alignment: size)
            // A memtable is walked at random: huge pages save a table walk for every node.
            _ = madvise(chunk, size, MADV_HUGEPAGE)
            largestChunks.append(chunk)
            return chunk
        }
        let chunk = Arena.newMemory(size, alignment: 64)
        chunks.append(chunk)
        return chunk
    }

    private static func newMemory(_ size: Int, alignment: Int) -> UnsafeMutableRawPointer {
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, alignment, size) == 0, let memory else {
            brokenInvariant("out of memory: \(size) bytes for a memtable")
        }
        return memory
    }
}
