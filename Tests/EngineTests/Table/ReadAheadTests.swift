// A cursor that goes on in order reads many blocks by one call, and none that it does not need else.
import Engine
import Synchronization
import Testing

/// Refuses reads above a size, and counts them.
private final class GrudgingFile: WrappedFile {
    let file: any File
    private let bytesMax: Int
    private let refusals = Atomic<Int>(0)

    init(_ file: any File, bytesMax: Int) {
        self.file = file
        self.bytesMax = bytesMax
    }

    var refused: Int { refusals.load(ordering: .relaxed) }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    {
        guard buffer.count <= bytesMax else {
            refusals.wrappingAdd(1, ordering: .relaxed)
            throw FileError(operation: "read", path: path, code: 5)
        }
        return try file.read(at: offset, into: buffer)
    }
}

@Suite struct ReadAheadTests {
    private struct Sample {
        var model: TestModel
        var file: TableTestFile
        var record: TableRecord

        func open(_ file: (any File)? = nil, mender: (any BlockMender)? = nil, cacheBytes: Int = 0)
            throws -> TableReader
        {
            try TableReader.open(
                file: file ?? self.file, record: record,
                cache: BlockCache(capacity: cacheBytes, shards: 1), mender: mender)
        }
    }

    private func sample(
        _ codec: Compression = .none, hugeValues: Bool = false, count: Int = 3000,
        filler: Int = 0
    ) throws -> Sample {
        var random = TableTestRandom(seed: 31)
        var model = TestModel.random(count, &random, hugeValues: hugeValues)
        for place in model.entries.indices where model.entries[place].trailer.kind == .put {
            model.entries[place].value += [UInt8](repeating: 7, count: filler)
        }
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 1024, filterBitsPerKey: 10),
            codec: codec)
        return Sample(model: model, file: file, record: record)
    }

    private func scan(_ reader: TableReader, fillCache: Bool = true) throws -> [TestEntry] {
        let cursor = reader.makeCursor(io: .blocking, fillCache: fillCache)
        var all: [TestEntry] = []
        try cursor.seekToFirst()
        while cursor.isValid {
            all.append(cursor.entry)
            try cursor.next()
        }
        return all
    }

    @Test(arguments: Compression.ofEachCodec, [false, true])
    func aScanReadsManyBlocksByOneCall(codec: Compression, fillCache: Bool) throws {
        let sample = try sample(codec)
        let reader = try sample.open(cacheBytes: fillCache ? 8 << 20 : 0)
        let before = sample.file.readCount
        #expect(try scan(reader, fillCache: fillCache) == sample.model.entries)
        let reads = sample.file.readCount - before
        #expect(reader.blockCount > 100)
        // The window doubles from 16 KiB to 128 KiB.
        #expect(reads < 6 + Int(reader.fileBytes) / (64 << 10))
        if fillCache {
            #expect(try scan(reader) == sample.model.entries)
            #expect(sample.file.readCount - before == reads)
        }
    }

    /// What has to be decompressed is kept all the same.
    @Test(arguments: [Compression.none, .lz4])
    func aLongScanOfPlainBlocksDoesNotFillTheCache(codec: Compression) throws {
        let sample = try sample(codec, count: 40_000, filler: 200)
        let cache = BlockCache(capacity: 64 << 20, shards: 1)
        let reader = try TableReader.open(
            file: sample.file, record: sample.record, cache: cache)
        let bulk = 1 << 20
        #expect(try scan(reader) == sample.model.entries)
        if codec == .none {
            #expect(reader.fileBytes > 4 * bulk)
            #expect(cache.usedBytes > bulk / 2)
            #expect(cache.usedBytes < bulk * 5 / 4)
        } else {
            #expect(cache.usedBytes > Int(reader.fileBytes))
        }
        #expect(try scan(reader) == sample.model.entries)
    }

    @Test func blocksLargerThanTheWindowAreReadAlone() throws {
        let sample = try sample(hugeValues: true)
        #expect(try scan(try sample.open()) == sample.model.entries)
    }

    @Test func seeksReadNothingAhead() throws {
        let sample = try sample()
        let file = GrudgingFile(sample.file, bytesMax: 12 << 10)
        let reader = try sample.open(file)
        let cursor = reader.makeCursor(io: .blocking)
        // Each some blocks behind the last.
        for place in stride(from: 0, to: sample.model.entries.count, by: 100) {
            let entry = sample.model.entries[place]
            try cursor.seek(entry.key, entry.trailer)
            #expect(cursor.entry == entry)
        }
        // Back through the table: nothing lies ahead.
        try cursor.seekToLast()
        while cursor.isValid { try cursor.previous() }
        #expect(file.refused == 0)
    }

    @Test func aCursorThatTurnsSeesTheSameBlocks() throws {
        let sample = try sample(.lz4)
        let reader = try sample.open()
        var random = TableTestRandom(seed: 33)
        try expectCursor(reader.makeCursor(io: .blocking), matches: sample.model, &random)
    }

    @Test func aFileThatRefusesLargeReadsIsReadBlockByBlock() throws {
        let sample = try sample()
        let file = GrudgingFile(sample.file, bytesMax: 12 << 10)
        #expect(try scan(try sample.open(file)) == sample.model.entries)
        #expect(file.refused > 0)
    }

    @Test func damageAheadIsFoundWhenItsBlockIsTaken() throws {
        let sample = try sample()
        let good = try sample.open(TableTestFile(sample.file.bytes))
        let damaged = BlockOrdinal(40)
        var bytes = sample.file.bytes
        let before = StoredBlocks(bytes).blocks[..<40].reduce(128) { $0 + $1.bytes.count }
        bytes[before + 100] ^= 1
        let mender = CopyMender(good)
        let mended = try sample.open(TableTestFile(bytes), mender: mender)
        #expect(try scan(mended) == sample.model.entries)
        #expect(mender.asked == [damaged])

        let cursor = try sample.open(TableTestFile(bytes)).makeCursor(io: .blocking)
        try cursor.seekToFirst()
        var count = 0
        #expect(throws: EngineError.self) {
            while cursor.isValid {
                #expect(cursor.entry == sample.model.entries[count])
                count += 1
                try cursor.next()
            }
        }
        #expect(count > 40 && !cursor.isValid)
    }
}
