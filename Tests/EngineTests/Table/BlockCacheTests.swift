// The cache stays within its bound, keeps what is used, and survives readers that race.

import Engine
import Synchronization
import Testing

@Suite struct BlockCacheTests {
    private func table(_ count: Int, seed: UInt64) throws -> (TestModel, TableTestFile, TableRecord)
    {
        var entries: [TestEntry] = []
        var random = TableTestRandom(seed: seed)
        for number in 0..<count {
            entries.append(
                TestEntry(
                    key: [UInt8]("key\(number + 100_000)".utf8),
                    trailer: Trailer(SequenceNumber(UInt64(number) + 1), .put),
                    value: random.bytes(100)))
        }
        let model = TestModel(entries)
        let file = TableTestFile()
        return (model, file, try buildTable(model, file: file))
    }

    @Test func staysWithinItsBound() throws {
        let (model, file, record) = try table(4000, seed: 1)
        let cache = BlockCache(capacity: 100_000, shards: 2)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        let wrong = try model.entries.count { try reader.lookup($0.key, at: .max) != $0 }
        #expect(wrong == 0)
        #expect(cache.usedBytes > 0 && cache.usedBytes <= cache.capacity)
        #expect(cache.residentBytes > cache.usedBytes)
    }

    @Test func aScanDoesNotPushOutWhatIsReadOften() throws {
        let (model, file, record) = try table(4000, seed: 2)
        let cache = BlockCache(capacity: 160_000, shards: 1)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        let hot = (0..<8).map { model.entries[$0 * 40] }
        func readHot() throws {
            for entry in hot { #expect(try reader.lookup(entry.key, at: .max) == entry) }
        }
        try readHot()
        try readHot()
        var reads = 0
        let cursor = reader.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        var steps = 0
        while cursor.isValid {
            try cursor.next()
            steps += 1
            if steps % 400 == 0 {
                let before = file.readCount
                try readHot()
                reads += file.readCount - before
            }
        }
        #expect(reads == 0)
    }

    /// Nothing reads the hot blocks while the scan goes on, so a second chance would not save them.
    @Test func aScanOfTenTimesTheCacheLeavesHotBlocksAlone() throws {
        let (model, file, record) = try table(12_000, seed: 5)
        let cache = BlockCache(capacity: 160_000, shards: 1)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        #expect(record.canonicalBytes > 10 * UInt64(cache.capacity - cache.residentBytes))
        let hot = (0..<6).map { model.entries[$0 * 40] }
        func readHot() throws {
            for entry in hot { #expect(try reader.lookup(entry.key, at: .max) == entry) }
        }
        for _ in 0..<4 { try readHot() }
        let cursor = reader.makeCursor(io: .blocking)
        // Behind the hot blocks.
        let start = model.entries[400]
        try cursor.seek(start.key, start.trailer)
        while cursor.isValid { try cursor.next() }
        let before = file.readCount
        try readHot()
        #expect(file.readCount == before)
        #expect(cache.usedBytes <= cache.capacity)
    }

    @Test func aTableThatClosesLeavesNoPlaceBehind() throws {
        let (model, file, record) = try table(1000, seed: 6)
        let cache = BlockCache(capacity: 150_000, shards: 1)
        let stays = try TableReader.open(file: file, record: record, cache: cache)
        for _ in 0..<6 {
            let other = TableTestFile(file.bytes)
            let closes = try TableReader.open(file: other, record: record, cache: cache)
            let wrong = try model.entries.count {
                try closes.lookup($0.key, at: .max) != $0
                    || stays.lookup($0.key, at: .max) != $0
            }
            #expect(wrong == 0)
        }
        #expect(cache.usedBytes > 0 && cache.usedBytes <= cache.capacity)
    }

    @Test func aLowerLimitTakesBlocksOutAtOnceAndAHigherOneLetsThemIn() throws {
        let (model, file, record) = try table(4000, seed: 7)
        let cache = BlockCache(capacity: 1 << 20, shards: 2)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        func readAll() throws {
            for entry in model.entries { _ = try reader.lookup(entry.key, at: .max) }
        }
        try readAll()
        let full = cache.usedBytes
        cache.setLimit(400_000)
        #expect(cache.usedBytes <= 400_000 && cache.usedBytes > 300_000)
        cache.setLimit(0)
        #expect(cache.usedBytes <= cache.capacity / 8 && cache.usedBytes > cache.capacity / 10)
        cache.setLimit(.max)
        #expect(cache.limit == cache.capacity)
        try readAll()
        #expect(cache.usedBytes == full)
    }

    @Test func closingATableGivesItsMemoryBack() throws {
        let (model, file, record) = try table(1000, seed: 3)
        let cache = BlockCache(capacity: 1 << 20)
        do {
            let reader = try TableReader.open(file: file, record: record, cache: cache)
            for entry in model.entries { _ = try reader.lookup(entry.key, at: .max) }
            #expect(cache.usedBytes > 50_000)
        }
        #expect(cache.residentBytes == 0)
    }

    @Test func racingReadersSeeRightBytesWhileBlocksComeAndGo() throws {
        let (model, file, record) = try table(3000, seed: 4)
        // Room for a tenth of the blocks: most reads evict.
        let cache = BlockCache(capacity: 60_000, shards: 2)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        let failures = Failures()
        runOnThreads(4) { thread in
            var random = TableTestRandom(seed: UInt64(thread))
            let cursor = reader.makeCursor(io: .blocking)
            for _ in 0..<4000 {
                let entry = model.entries[random.below(3000)]
                var isRight = (try? reader.lookup(entry.key, at: .max)) == entry
                if random.below(50) == 0 {
                    try? cursor.seek(entry.key, entry.trailer)
                    isRight = isRight && cursor.isValid && cursor.entry == entry
                }
                if !isRight { failures.count.wrappingAdd(1, ordering: .relaxed) }
            }
        }
        #expect(failures.count.load(ordering: .relaxed) == 0)
    }

    private final class Failures: Sendable {
        let count = Atomic<Int>(0)
    }
}
