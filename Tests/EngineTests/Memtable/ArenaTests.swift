// The memory of a memtable's nodes: chunks that fill exactly, sizes of any kind, and links that are
// addresses.

import Engine
import Testing

@Suite struct ArenaTests {
    /// Trap 8: an arena wrote over its neighbours when a block filled exactly.
    @Test func chunksFillToTheLastByte() {
        var arena = Arena()
        let step = Arena.firstChunkBytes / 8
        var regions: [UnsafeMutableRawPointer] = []
        for _ in 0..<8 { regions.append(arena.allocate(step)) }
        #expect(arena.reservedBytes == Arena.firstChunkBytes)
        for (number, region) in regions.enumerated() {
            region.initializeMemory(as: UInt8.self, repeating: UInt8(number), count: step)
        }
        // One byte more opens the next chunk and disturbs nothing.
        let extra = arena.allocate(1)
        extra.storeBytes(of: 0xff, as: UInt8.self)
        #expect(arena.reservedBytes == 3 * Arena.firstChunkBytes)
        for (number, region) in regions.enumerated() {
            let bytes = UnsafeRawBufferPointer(start: region, count: step)
            #expect(bytes.allSatisfy { $0 == UInt8(number) })
        }
        #expect(arena.usedBytes == Arena.firstChunkBytes + 8)
    }

    /// Trap 9: addressing through a table of chunks cost a third of the fills. How fast it is only
    /// benchmarks say (`martlet bench engine --workloads fillrandom`); that a link is the address of
    /// the next node, over all chunks and sizes, and nothing to be looked up, is held here.
    @Test func linksAreAddresses() throws {
        let memtable = Memtable()
        var random = TableTestRandom(seed: 9)
        for number in 0..<20_000 {
            let key = "\(random.next())"
            // Now and then one that gets a chunk of its own.
            let bytes = number % 5000 == 7 ? 3 << 20 : 40
            memtable.insert(
                ModelEntry(
                    key, UInt64(number + 1), .put, String(repeating: "v", count: bytes)))
        }
        let cursor = MemtableCursor(memtable)
        cursor.seekToFirst()
        var count = 0
        while cursor.isValid {
            // The lowest link lies in front of a node, and the key behind its header.
            let node = try #require(cursor.key.baseAddress) - SkipListNode.headerBytes
            let link = (node - SkipListNode.linkBytes).load(as: UInt.self)
            cursor.next()
            count += 1
            let next =
                cursor.isValid
                ? try #require(cursor.key.baseAddress) - SkipListNode.headerBytes : nil
            guard link == UInt(bitPattern: next) else {
                Issue.record("node \(count) leads to \(link) and not to its neighbour")
                return
            }
        }
        #expect(count == 20_000)
    }

    @Test func largeAndOddSizesStayApartAndAligned() {
        var arena = Arena()
        var random = TableTestRandom(seed: 5)
        var regions: [(UnsafeMutableRawPointer, Int, UInt8)] = []
        for number in 0..<400 {
            let size = random.below(20) == 0 ? 3 << 20 : random.below(9000) + 1
            let region = arena.allocate(size)
            #expect(UInt(bitPattern: region) % 8 == 0)
            region.initializeMemory(
                as: UInt8.self, repeating: UInt8(truncatingIfNeeded: number), count: size)
            regions.append((region, size, UInt8(truncatingIfNeeded: number)))
        }
        for (region, size, mark) in regions {
            let ends = [region.load(as: UInt8.self), (region + size - 1).load(as: UInt8.self)]
            #expect(ends == [mark, mark])
        }
        #expect(arena.usedBytes <= arena.reservedBytes)
    }
}
