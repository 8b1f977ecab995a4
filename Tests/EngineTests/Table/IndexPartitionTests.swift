// An index of two levels finds what one of one level finds, is loaded piece by piece, and loses with
// a block of it only the keys that the block led to.

import Engine
import Testing

@Suite struct IndexPartitionTests {
    /// Bounds of a whole index: 64 bytes, 128, 256.
    private static let bounds: [UInt32] = [512, 1024, 2048]

    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var file: TableTestFile

        func open(_ mender: (any BlockMender)? = nil, cacheBytes: Int = 1 << 20) throws
            -> TableReader
        {
            try TableReader.open(
                file: file, record: record, cache: BlockCache(capacity: cacheBytes, shards: 1),
                mender: mender)
        }
    }

    private func sample(
        _ partitionAbove: UInt32, _ model: TestModel? = nil, codec: Compression = .none,
        keys: KeyRing = .plain
    ) throws -> Sample {
        var random = TableTestRandom(seed: 5)
        let model = model ?? TestModel.random(1200, &random)
        let file = TableTestFile()
        let filter = FilterShape(kind: .none, keyBits: 0, partitionAbove: partitionAbove)
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 300, filter: filter), codec: codec,
            keys: keys)
        return Sample(model: model, record: record, file: file)
    }

    /// Many versions of few keys, so that blocks and partitions end within a key.
    private static func manyVersions() -> TestModel {
        TestModel(
            (1...900).map { number in
                TestEntry(
                    key: bytes("counter\(number % 3)"),
                    trailer: Trailer(SequenceNumber(UInt64(number)), .put),
                    value: bytes("value \(number)"))
            })
    }

    @Test func `A small index has one level`() throws {
        #expect(try sample(4 << 20).open().leafList.indexPartitions.isEmpty)
    }

    @Test(arguments: bounds)
    func `Versions are found and passed in order`(partitionAbove: UInt32) throws {
        for model in [nil, Self.manyVersions(), TestModel.records(300)] {
            let sample = try sample(partitionAbove, model)
            for cacheBytes in [0, 1 << 20] {
                let reader = try sample.open(cacheBytes: cacheBytes)
                #expect(reader.leafList.indexPartitions.count > 1)
                for entry in sample.model.entries {
                    #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
                }
                var random = TableTestRandom(seed: 9)
                try expectCursor(
                    reader.makeCursor(io: .blocking), matches: sample.model, &random)
            }
        }
    }

    @Test(arguments: bounds)
    func `Both levels lead where one level leads`(partitionAbove: UInt32) throws {
        for model in [nil, Self.manyVersions()] {
            let two = try sample(partitionAbove, model).open()
            let one = try sample(4 << 20, model).open()
            #expect(two.leafList.dataCount == one.leafList.dataCount)
            var random = TableTestRandom(seed: 4)
            var probes: [([UInt8], Trailer)] = []
            for entry in try sample(partitionAbove, model).model.entries {
                probes.append((entry.key, entry.trailer))
                probes.append((entry.key, Trailer(rawValue: entry.trailer.rawValue + 1)))
                probes.append((entry.key + [0], Trailer(rawValue: .max)))
            }
            for _ in 0..<2000 {
                let sequence = SequenceNumber(UInt64(random.below(700_000)))
                probes.append((TestModel.randomKey(&random), .seek(sequence)))
            }
            for (key, trailer) in probes {
                let found = try withBytes(key) {
                    (
                        try one.blockOrdinal($0, trailer, io: .blocking),
                        try two.blockOrdinal($0, trailer, io: .blocking)
                    )
                }
                #expect(found.0 == found.1, "\(key) \(trailer)")
            }
        }
    }

    @Test func `Canonical bytes depend on neither codec nor cipher`() throws {
        let plain = try sample(1024)
        #expect(try sample(1024, codec: .lz4).record == plain.record)
        #expect(try sample(1024, keys: KeyRing(try testKeys(1))).record == plain.record)
    }

    @Test func `A partition is read when it is needed, once`() throws {
        let sample = try sample(1024)
        let reader = try sample.open()
        let entry = sample.model.entries[700]
        let before = sample.file.readCount
        let error = #expect(throws: EngineError.self) {
            try reader.lookup(entry.key, at: entry.trailer.sequence, io: .cacheOnly)
        }
        guard case .wouldBlock = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(sample.file.readCount == before)
        #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
        #expect(sample.file.readCount == before + 2, "a partition and a block")
        for io in [ReadIO.cacheOnly, .blocking] {
            #expect(try reader.lookup(entry.key, at: entry.trailer.sequence, io: io) == entry)
        }
        #expect(sample.file.readCount == before + 2)
    }

    @Test func `What stays in memory is less than the whole index`() throws {
        func resident(_ partitionAbove: UInt32) throws -> Int {
            let cache = BlockCache(capacity: 1 << 20, shards: 1)
            let sample = try sample(partitionAbove, TestModel.records(3_000))
            let reader = try TableReader.open(
                file: sample.file, record: sample.record, cache: cache)
            return withExtendedLifetime(reader) { cache.residentBytes }
        }
        // Slots, leaf list and block map are in both.
        #expect(try resident(32 << 10) + 10_000 < resident(4 << 20))
    }

    // MARK: Damage

    /// Flips a byte in the stored bytes of the block.
    private func damage(_ sample: Sample, _ ordinal: BlockOrdinal) throws {
        let canonical = try sample.open().canonicalBlock(ordinal, fromMedium: false)
        var bytes = sample.file.bytes
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: canonical) })
        bytes[place + canonical.count / 2] ^= 1
        sample.file.bytes = bytes
    }

    @Test func `A lost partition costs its keys and no others`() throws {
        let sample = try sample(1024)
        let good = try TableReader.open(
            file: TableTestFile(sample.file.bytes), record: sample.record,
            cache: BlockCache(capacity: 0))
        let partitions = good.leafList.indexPartitions
        let lost = BlockOrdinal(UInt32(partitions.lowerBound + partitions.count / 2))
        try damage(sample, lost)
        let reader = try sample.open()
        var failures = 0
        for entry in sample.model.entries {
            do {
                #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
            } catch EngineError.blockLost(let address, _) {
                #expect(address.ordinal == lost)
                failures += 1
            }
        }
        #expect(failures > 0 && failures < 2 * sample.model.entries.count / partitions.count)
        // A scan needs the index only where it starts.
        var random = TableTestRandom(seed: 1)
        let cursor = reader.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        for entry in sample.model.entries {
            #expect(cursor.entry == entry)
            try cursor.next()
        }
        let mender = CopyMender(good)
        try expectCursor(
            try sample.open(mender).makeCursor(io: .blocking), matches: sample.model, &random)
        #expect(mender.asked == [lost], "once: then it is in the cache")
    }

    // MARK: What is right by its digest and still wrong

    @Test func `Partitions that contradict the index are refused`() throws {
        let sample = try sample(1024)
        var blocks = try TableForge.blocks(of: sample.file.bytes, sample.record)
        let partitions = blocks.indices.filter { blocks[$0].type == 10 }
        let last = try #require(partitions.last)
        // The last one is shorter than the others.
        blocks[partitions[0]] = blocks[last]
        let file = TableTestFile(TableForge.file(blocks))
        let reader = try TableReader.open(
            file: file, record: try TableReader.describe(file), cache: BlockCache(capacity: 0))
        let first = sample.model.entries[0]
        let error = #expect(throws: EngineError.self) {
            try reader.lookup(first.key, at: first.trailer.sequence)
        }
        guard case .corrupt(_, let offset, let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(offset != nil && reason.contains("promises"), "\(reason)")
    }

    @Test func `An index promises neither more nor fewer blocks than there are`() throws {
        let reader = try sample(1024).open()
        let ordinal = try #require(reader.leafList.index)
        let bytes = try reader.canonicalBlock(ordinal, fromMedium: false)
        let count = reader.leafList.indexPartitions.count
        let blocks = reader.leafList.dataCount
        withBytes(bytes) { raw in
            #expect(throws: Never.self) {
                _ = try DecodedIndex(decoding: raw, count: count, over: blocks)
            }
            for wrong in [0, 1, blocks - 1, blocks + 1, Int(UInt32.max)] {
                #expect(throws: DecodingError.self) {
                    _ = try DecodedIndex(decoding: raw, count: count, over: wrong)
                }
            }
            #expect(throws: DecodingError.self, "it has two levels") {
                _ = try DecodedIndex(decoding: raw, count: count)
            }
        }
        let whole = try sample(4 << 20).open()
        let flat = try whole.canonicalBlock(
            try #require(whole.leafList.index), fromMedium: false)
        _ = withBytes(flat) { raw in
            #expect(throws: DecodingError.self, "it has one level") {
                _ = try DecodedIndex(decoding: raw, count: blocks, over: blocks)
            }
        }
    }

    // MARK: Golden bytes

    @Test func `The bytes of both levels`() throws {
        let entries = (0..<14).map { number in
            TestEntry(
                key: bytes(number < 3 ? "martin" : "martlet\(10 + number)"),
                trailer: Trailer(SequenceNumber(UInt64(90 - number)), .put),
                value: [UInt8](repeating: 0x2e, count: 80))
        }
        let file = TableTestFile()
        let filter = FilterShape(kind: .none, keyBits: 0, partitionAbove: 64)
        let record = try buildTable(
            TestModel(entries), file: file, shape: TableShape(blockBytes: 100, filter: filter))
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        let blocks = try (14..<reader.blockCount - 2).map {
            hex(try reader.canonicalBlock(BlockOrdinal(UInt32($0)), fromMedium: false))
        }
        #expect(blocks == Self.golden)
        #expect(record.digest.description == "803404e9f79e127407bf8fc175f82929")
    }

    /// Four partitions, then the index.
    private static let golden = [
        "040000005a00000000000000000000001800220026002c00000600016d617274696e060000090401"
            + "00990b6c040500990b6c65743133",
        "04000000000000000000000000000000180025002a002f00000900016d6172746c65743134080100"
            + "013508010001360801000137",
        "04000000000000000000000000000000180025002a003000000900016d6172746c65743138070100"
            + "0132070200013230070200013231",
        "020000000000000000000000000012001f00000900016d6172746c657432320801000133",
        "0400000001000000076d6172746c65740231330004023137000402323100040232330002",
    ]
}

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
}
