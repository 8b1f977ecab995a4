// The row cache answers with the newest version of its own table or not at all, stays within its
// bound, keeps what is read often, and survives readers that race.

import Engine
import Synchronization
import Testing

@Suite struct RowCacheTests {
    /// A table whose blocks are forgotten at once, so that every row that is read has to be loaded.
    private struct Sample {
        let model: TestModel
        let file: TableTestFile
        let record: TableRecord

        init(_ model: TestModel, filter: FilterShape = FilterShape(kind: .burr, keyBits: 10)) throws
        {
            self.model = model
            file = TableTestFile()
            record = try buildTable(
                model, file: file, shape: TableShape(blockBytes: 512, filter: filter), codec: .lz4)
        }

        /// Keys with values that `seed` decides.
        init(
            _ count: Int, seed: UInt64, valueBytes: Int = 60,
            filter: FilterShape = FilterShape(kind: .burr, keyBits: 10)
        ) throws {
            var random = TableTestRandom(seed: seed)
            try self.init(
                TestModel(
                    (0..<count).map { number in
                        TestEntry(
                            key: [UInt8]("key\(number + 100_000)".utf8),
                            trailer: Trailer(SequenceNumber(UInt64(number) + 1), .put),
                            value: random.bytes(valueBytes))
                    }), filter: filter)
        }

        func open(_ cache: BlockCache) throws -> TableReader {
            try TableReader.open(file: file, record: record, cache: cache)
        }
    }

    private func cache(_ bytes: Int) -> BlockCache {
        BlockCache(capacity: 0, shards: 1, rows: RowCache(capacity: bytes))
    }

    private func use(_ cache: BlockCache) throws -> RowCacheUse { try #require(cache.rows).use }

    /// Numbers below `count`, neighbours far apart: the cache of blocks holds the last block, whose
    /// rows are not copied.
    private func scattered(_ count: Int) -> [Int] {
        // Prime, so each number comes once.
        (0..<count).map { $0 * 7_919 % count }
    }

    @Test(arguments: [
        FilterShape.none, FilterShape(kind: .burr, keyBits: 10),
        FilterShape(kind: .burr, keyBits: 10, partitionAbove: 64),
    ])
    func aHitNeedsNoBlock(filter: FilterShape) throws {
        let sample = try Sample(600, seed: 1, filter: filter)
        let cache = cache(1 << 20)
        let reader = try sample.open(cache)
        let hot = stride(from: 0, to: 600, by: 29).map { sample.model.entries[$0] }
        for entry in hot {
            #expect(throws: EngineError.self) {
                try reader.lookup(entry.key, at: .max, io: .cacheOnly)
            }
            #expect(try reader.lookup(entry.key, at: .max) == entry)
        }
        let before = sample.file.readCount
        let earlier = try use(cache)
        for entry in hot {
            #expect(try reader.lookup(entry.key, at: .max, io: .cacheOnly) == entry)
        }
        #expect(sample.file.readCount == before)
        #expect(try use(cache).hits == earlier.hits + UInt64(hot.count))
        #expect(try use(cache).misses == earlier.misses)
    }

    @Test func rowsOfCachedBlocksAreNotCopied() throws {
        let sample = try Sample(600, seed: 2)
        let cache = BlockCache(capacity: 1 << 20, rows: RowCache(capacity: 1 << 20))
        let reader = try sample.open(cache)
        let cursor = reader.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        while cursor.isValid { try cursor.next() }
        let before = try use(cache).bytes
        for _ in 0..<2 {
            for entry in sample.model.entries {
                #expect(try reader.lookup(entry.key, at: .max) == entry)
            }
        }
        #expect(try use(cache).bytes == before && use(cache).hits == 0)
    }

    @Test func readsBelowTheLargestSequenceGetOldVersionsAndLeaveNoRow() throws {
        var entries: [TestEntry] = []
        for number in 0..<200 {
            for version in 0..<3 {
                let kind: ValueKind = version == 2 && number % 3 == 0 ? .delete : .put
                entries.append(
                    TestEntry(
                        key: [UInt8]("key\(number + 100)".utf8),
                        trailer: Trailer(SequenceNumber(UInt64(200 * version + number + 1)), kind),
                        value: kind == .delete ? [] : [UInt8](repeating: UInt8(version), count: 40))
                )
            }
        }
        let sample = try Sample(TestModel(entries))
        let cache = cache(1 << 20)
        let reader = try sample.open(cache)
        let largest = sample.record.largestSequence
        for round in 0..<3 {
            let before = try use(cache)
            for number in 0..<200 {
                let key = [UInt8]("key\(number + 100)".utf8)
                for old in [1, 200, 400, largest.rawValue - 1] as [UInt64] {
                    let sequence = SequenceNumber(old)
                    #expect(
                        try reader.lookup(key, at: sequence) == sample.model.lookup(key, sequence))
                }
            }
            #expect(try use(cache) == before)
            // A delete is a version, too: it hides what is older elsewhere.
            for sequence in [largest, .max] {
                for number in scattered(200) {
                    let key = [UInt8]("key\(number + 100)".utf8)
                    #expect(
                        try reader.lookup(key, at: sequence) == sample.model.lookup(key, sequence))
                }
            }
            #expect(try use(cache).hits >= UInt64(400 * round + 200))
        }
    }

    @Test func openingsAndTablesAreNotMixed() throws {
        let one = try Sample(300, seed: 3)
        let two = try Sample(300, seed: 4)
        let cache = cache(1 << 20)
        let first = try one.open(cache)
        let second = try two.open(cache)
        for _ in 0..<2 {
            for number in scattered(300) {
                let left = one.model.entries[number]
                let right = two.model.entries[number]
                #expect(left.key == right.key && left.value != right.value)
                #expect(try first.lookup(left.key, at: .max) == left)
                #expect(try second.lookup(right.key, at: .max) == right)
            }
        }
        #expect(try use(cache).hits == 600)
        // Those of closed readers are there, but nobody's.
        for round in 0..<4 {
            let sample = round.isMultiple(of: 2) ? two : one
            let reader = try sample.open(cache)
            for number in scattered(300) {
                let entry = sample.model.entries[number]
                #expect(try reader.lookup(entry.key, at: .max) == entry)
            }
            #expect(try use(cache).hits == 600)
        }
    }

    @Test func longRowsOperandsAndAbsentKeysAreNotKept() throws {
        let rows = RowCache(capacity: 1 << 20)
        let longest = rows.rowBytesMax
        func entry(_ key: String, _ sequence: UInt64, _ bytes: Int, _ kind: ValueKind = .put)
            -> TestEntry
        {
            TestEntry(
                key: [UInt8](key.utf8), trailer: Trailer(SequenceNumber(sequence), kind),
                value: [UInt8](repeating: 7, count: bytes))
        }
        let sample = try Sample(
            TestModel([
                entry("fits", 1, longest - 4), entry("long", 2, longest - 3),
                entry("operand", 3, 20, .merge), entry("vast", 4, 100_000),
            ]))
        let cache = BlockCache(capacity: 0, shards: 1, rows: rows)
        let reader = try sample.open(cache)
        for _ in 0..<3 {
            for entry in sample.model.entries {
                #expect(try reader.lookup(entry.key, at: .max) == entry)
            }
            for number in 0..<100 {
                #expect(try reader.lookup([UInt8]("no\(number)".utf8), at: .max) == nil)
            }
        }
        #expect(rows.use.hits == 2)
        #expect(rows.rowBytesMax == 4096 && RowCache(capacity: 16_000).rowBytesMax == 1000)
    }

    @Test(arguments: [20_000, 100_000, 700_000])
    func staysWithinItsBound(capacity: Int) throws {
        let sample = try Sample(6000, seed: 5)
        let cache = cache(capacity)
        let reader = try sample.open(cache)
        var random = TableTestRandom(seed: 6)
        let scattered = scattered(6000)
        for step in 0..<12_000 {
            let near = random.below(6000) / (1 + random.below(20))
            let entry = sample.model.entries[step < 6000 ? scattered[step] : near]
            #expect(try reader.lookup(entry.key, at: .max) == entry)
            if step % 16 == 0 { #expect(try use(cache).bytes <= capacity) }
        }
        #expect(try use(cache).bytes > capacity * 3 / 4)
        #expect(try use(cache).hits > 0)
    }

    @Test func whatIsReadOftenOutlivesAScanOfColdKeys() throws {
        let sample = try Sample(4000, seed: 7)
        // Room for a few hundred rows.
        let cache = cache(100_000)
        let reader = try sample.open(cache)
        let hot = (0..<40).map { sample.model.entries[$0 * 50] }
        for _ in 0..<4 {
            for entry in hot { #expect(try reader.lookup(entry.key, at: .max) == entry) }
        }
        for number in scattered(2000) {
            _ = try reader.lookup(sample.model.entries[number + 2000].key, at: .max)
        }
        let before = sample.file.readCount
        for entry in hot { #expect(try reader.lookup(entry.key, at: .max) == entry) }
        #expect(sample.file.readCount == before)
    }

    @Test func aLowerLimitTakesRowsOutAtOnceAndAHigherOneLetsThemIn() throws {
        let sample = try Sample(6000, seed: 8)
        let cache = cache(800_000)
        let rows = try #require(cache.rows)
        let reader = try sample.open(cache)
        func readAll() throws {
            for number in scattered(6000) {
                let entry = sample.model.entries[number]
                #expect(try reader.lookup(entry.key, at: .max) == entry)
            }
        }
        try readAll()
        let full = rows.use.bytes
        for limit in [400_000, 200_000, 0] {
            rows.setLimit(limit)
            let least = max(limit, rows.capacity / 8)
            #expect(rows.limit == least && rows.use.bytes <= least)
            try readAll()
            #expect(rows.use.bytes <= least && rows.use.bytes > least / 2)
        }
        rows.setLimit(.max)
        #expect(rows.limit == rows.capacity)
        try readAll()
        #expect(rows.use.bytes > full * 3 / 4)
    }

    @Test func racingReadersSeeRightBytesWhileRowsComeAndGo() throws {
        let samples = [try Sample(2000, seed: 9), try Sample(2000, seed: 10)]
        // Room for a part of the hot rows: most reads evict, or meet what others evict.
        let cache = cache(40_000)
        let rows = try #require(cache.rows)
        let shared = try samples.map { try $0.open(cache) }
        let failures = Failures()
        runOnThreads(4) { thread in
            var random = TableTestRandom(seed: UInt64(thread))
            for step in 0..<4000 {
                let sample = random.below(2)
                let entry = samples[sample].model.entries[
                    random.below(2000) / (1 + random.below(50))]
                var reader = shared[sample]
                if step % 500 == 499 {
                    // Openings come and go, and so does memory.
                    reader = (try? samples[sample].open(cache)) ?? reader
                    rows.setLimit(random.below(2) == 0 ? 0 : .max)
                }
                if (try? reader.lookup(entry.key, at: .max)) != entry {
                    failures.count.wrappingAdd(1, ordering: .relaxed)
                }
            }
        }
        #expect(failures.count.load(ordering: .relaxed) == 0)
        #expect(rows.use.hits > 1000 && rows.use.bytes <= rows.capacity)
    }

    private final class Failures: Sendable {
        let count = Atomic<Int>(0)
    }
}
