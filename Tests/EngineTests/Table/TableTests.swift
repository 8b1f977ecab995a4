// Tables against a sorted array: reads, cursors, range tombstones, digests, imports.

import Engine
import Testing

@Suite struct TableTests {
    struct Setup: Sendable, CustomStringConvertible {
        var seed: UInt64
        var codec: Compression
        var blockBytes: Int
        var cacheBytes: Int
        var description: String { "\(codec), \(blockBytes) B blocks, \(cacheBytes) B cache" }
    }

    static let setups = [
        Setup(seed: 1, codec: .none, blockBytes: 4096, cacheBytes: 8 << 20),
        Setup(seed: 2, codec: .lz4, blockBytes: 4096, cacheBytes: 8 << 20),
        Setup(seed: 3, codec: .none, blockBytes: 256, cacheBytes: 0),
        Setup(seed: 4, codec: .lz4, blockBytes: 700, cacheBytes: 20_000),
        Setup(seed: 5, codec: .lz4, blockBytes: 128 << 10, cacheBytes: 1 << 20),
    ]

    @Test(arguments: setups)
    func behavesLikeASortedArray(setup: Setup) throws {
        var random = TableTestRandom(seed: setup.seed)
        let model = TestModel.random(1500, &random, hugeValues: true)
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file,
            shape: TableShape(blockBytes: setup.blockBytes, filterBitsPerKey: 10),
            codec: setup.codec)
        let cache = BlockCache(capacity: setup.cacheBytes, shards: 2)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        try expectCursor(reader.makeCursor(io: .blocking), matches: model, &random)
        try expectCursor(
            reader.makeCursor(io: .blocking, fillCache: false), matches: model, &random)
        for _ in 0..<1500 {
            let key =
                random.below(3) == 0
                ? TestModel.randomKey(&random) : model.entries[random.below(1500)].key
            let sequence = SequenceNumber(UInt64(random.below(900_000)))
            let found = try reader.lookup(key, at: sequence)
            if found != model.lookup(key, sequence) { Issue.record("\(key) at \(sequence)") }
        }
        #expect(reader.verify(fromMedium: true).isClean)
        #expect(reader.leaves().count == reader.blockCount - 1)
    }

    @Test func recordTellsWhatTheTableHolds() throws {
        var random = TableTestRandom(seed: 8)
        let model = TestModel.random(300, &random)
        let tombstones = [
            RangeTombstone(
                span: KeySpan(start: [0xff, 0xff], end: nil), sequence: SequenceNumber(7_000_000)),
            RangeTombstone(span: KeySpan(start: [3], end: [9]), sequence: SequenceNumber(1)),
        ]
        let file = TableTestFile()
        let record = try buildTable(model, tombstones: tombstones, file: file, codec: .lz4)
        #expect(record.id == testTable)
        #expect(record.points?.smallest == model.entries.first?.key)
        #expect(record.points?.largest == model.entries.last?.key)
        #expect(record.span.end == nil && record.span.start == model.entries.first?.key)
        #expect(record.entryCount == 300 && record.rangeTombstoneCount == 2)
        #expect(record.smallestSequence == SequenceNumber(1))
        #expect(record.largestSequence == SequenceNumber(7_000_000))
        var described = try TableReader.describe(file)
        described.level = record.level
        #expect(described == record)
        let cache = BlockCache(capacity: 1 << 20)
        let reader = try TableReader.open(file: file, record: record, cache: cache)
        #expect(Set(try reader.rangeTombstones(io: .cacheOnly).tombstones) == Set(tombstones))
        let lengths = try (0..<reader.blockCount).map {
            try reader.canonicalBlock(BlockOrdinal(UInt32($0)), fromMedium: false).count
        }
        #expect(UInt64(lengths.reduce(0, +)) == record.canonicalBytes)
    }

    @Test func aTableMayHoldRangeTombstonesOnly() throws {
        let file = TableTestFile()
        let tombstone = RangeTombstone(
            span: KeySpan(start: [1], end: [2]), sequence: SequenceNumber(5))
        let record = try buildTable(TestModel([]), tombstones: [tombstone], file: file)
        #expect(record.points == nil && record.span == tombstone.span)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 1 << 20))
        #expect(try reader.lookup([1], at: SequenceNumber(9)) == nil)
        #expect(try reader.rangeTombstones(io: .blocking).tombstones == [tombstone])
        var random = TableTestRandom(seed: 1)
        try expectCursor(reader.makeCursor(io: .blocking), matches: TestModel([]), &random)
    }

    @Test func anEmptyTableIsRefused() {
        let builder = TableBuilder(
            file: TableTestFile(), id: testTable, level: 0,
            shape: TableShape(LoggedSettings()), codec: .none, generation: 0)
        #expect(builder.isEmpty)
        #expect(throws: EngineError.self) { _ = try builder.finish() }
    }

    @Test func keysOfTheLargestSizeAndManyVersionsOfOneKey() throws {
        let long = [UInt8](repeating: 0x6b, count: Limits.keyBytes - 1)
        var entries = (0..<20 as Range<UInt8>).map {
            TestEntry(
                key: long + [$0], trailer: Trailer(SequenceNumber(UInt64($0) + 1), .put),
                value: [$0])
        }
        // 600 versions of one key span many blocks of 512 bytes.
        for version in 1...600 as ClosedRange<UInt64> {
            entries.append(
                TestEntry(
                    key: [UInt8]("popular".utf8),
                    trailer: Trailer(SequenceNumber(version * 10), .put),
                    value: [UInt8](repeating: UInt8(truncatingIfNeeded: version), count: 30)))
        }
        let model = TestModel(entries)
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 512, filterBitsPerKey: 10))
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 1 << 20))
        for entry in model.entries {
            let sequence = entry.trailer.sequence
            let found = try reader.lookup(entry.key, at: sequence)
            let older = try reader.lookup(entry.key, at: sequence - 1)
            if found != entry || older != model.lookup(entry.key, sequence - 1) {
                Issue.record("\(entry)")
            }
        }
        var random = TableTestRandom(seed: 3)
        try expectCursor(reader.makeCursor(io: .blocking), matches: model, &random)
        let builder = TableBuilder(
            file: TableTestFile(), id: testTable, level: 0,
            shape: TableShape(LoggedSettings()), codec: .none, generation: 0)
        #expect(throws: EngineError.self) {
            try withBytes(long + [1, 2]) {
                try builder.add($0, Trailer(SequenceNumber(1), .put), .init(start: nil, count: 0))
            }
        }
    }

    @Test func digestDoesNotDependOnTheCodecOrTheGeneration() throws {
        var random = TableTestRandom(seed: 11)
        let model = TestModel.random(800, &random)
        let plain = TableTestFile()
        let packed = TableTestFile()
        let first = try buildTable(model, file: plain)
        let second = try buildTable(model, file: packed, codec: .lz4, generation: 4)
        #expect(first == second)
        #expect(packed.bytes.count < plain.bytes.count)
        #expect(try TableImport.localHeader(packed).generation == 4)
        #expect(try TableImport.localHeader(packed).codec == .lz4)
        var other = model
        other.entries[400].value.append(1)
        let third = try buildTable(other, file: TableTestFile())
        #expect(third.digest != first.digest && third.entrySum != first.entrySum)
        let coarser = try buildTable(
            model, file: TableTestFile(), shape: TableShape(blockBytes: 8192, filterBitsPerKey: 10))
        #expect(coarser.digest != first.digest && coarser.entrySum == first.entrySum)
    }

    @Test func importsFromCanonicalBlocksOfAnyOrigin() throws {
        var random = TableTestRandom(seed: 12)
        let model = TestModel.random(900, &random)
        let source = TableTestFile()
        let record = try buildTable(model, file: source, codec: .lz4)
        let reader = try TableReader.open(
            file: source, record: record, cache: BlockCache(capacity: 0))
        let target = TableTestFile()
        let bytes = try TableImport.write(
            file: target, record: record, generation: 1, codec: .none
        ) { ordinal, _ throws(EngineError) in
            try reader.canonicalBlock(ordinal, fromMedium: false)
        }
        #expect(bytes == UInt64(target.bytes.count) && target.syncCount == 1)
        let copy = try TableReader.open(
            file: target, record: record, cache: BlockCache(capacity: 0))
        #expect(copy.verify(fromMedium: false).isClean)
        #expect(copy.localHeader?.generation == 1)
        try expectCursor(copy.makeCursor(io: .blocking), matches: model, &random)
        // The same import with the same codec leaves the same file as the builder did.
        let again = TableTestFile()
        _ = try TableImport.write(
            file: again, record: record, generation: 0, codec: .lz4
        ) { ordinal, _ throws(EngineError) in
            try copy.canonicalBlock(ordinal, fromMedium: true)
        }
        #expect(again.bytes == source.bytes)
        // A wrong block is refused, whichever it is.
        for wrong in [BlockOrdinal.leaves, BlockOrdinal(0), BlockOrdinal(5)] {
            #expect(throws: EngineError.self) {
                _ = try TableImport.write(
                    file: TableTestFile(), record: record, generation: 1, codec: .none
                ) { ordinal, _ throws(EngineError) in
                    var block = try reader.canonicalBlock(ordinal, fromMedium: false)
                    if ordinal == wrong { block[block.count / 2] ^= 0x10 }
                    return block
                }
            }
        }
    }

    @Test func cacheOnlyReadsNeverTouchTheFile() throws {
        var random = TableTestRandom(seed: 13)
        let model = TestModel.random(500, &random)
        let file = TableTestFile()
        let record = try buildTable(model, file: file)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 8 << 20))
        let key = model.entries[250].key
        let reads = file.readCount
        #expect {
            _ = try reader.lookup(key, at: .max, io: .cacheOnly)
        } throws: { error in
            if case EngineError.wouldBlock = error { return true }
            return false
        }
        #expect(file.readCount == reads)
        let found = try reader.lookup(key, at: .max)
        #expect(try reader.lookup(key, at: .max, io: .cacheOnly) == found)
        #expect(file.readCount == reads + 1)
        let cursor = reader.makeCursor(io: .cacheOnly)
        #expect(throws: EngineError.self) { try cursor.seekToFirst() }
        #expect(!cursor.isValid)
    }
}
