// The filters of a table: whole, in partitions, of prefixes. They save reads, they never change an
// answer, and damage to them costs nothing but the saving.

import Engine
import Testing

@Suite struct TableFilterTests {
    private static let shapes: [FilterShape] = [
        .none,
        FilterShape(kind: .burr, keyBits: 10),
        FilterShape(kind: .bloom, keyBits: 10),
        FilterShape(kind: .burr, keyBits: 10, partitionAbove: 64),
        FilterShape(kind: .bloom, keyBits: 10, partitionAbove: 100),
        FilterShape(
            kind: .burr, keyBits: 8, prefixBits: 8, partitionAbove: 80,
            prefix: .delimiter(byte: 0x3a, occurrence: 1)),
        FilterShape(kind: .bloom, keyBits: 0, prefixBits: 12, prefix: .fixed(length: 3)),
    ]

    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var file: TableTestFile
        var shape: FilterShape

        func open(
            _ mender: (any BlockMender)? = nil, cacheBytes: Int = 1 << 20
        ) throws -> TableReader {
            try TableReader.open(
                file: file, record: record, cache: BlockCache(capacity: cacheBytes, shards: 1),
                mender: mender)
        }
    }

    private func sample(
        _ shape: FilterShape, _ model: TestModel? = nil, codec: Compression = .none
    ) throws -> Sample {
        var random = TableTestRandom(seed: 3)
        let model = model ?? TestModel.random(900, &random)
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 400, filter: shape), codec: codec)
        return Sample(model: model, record: record, file: file, shape: shape)
    }

    private func mayContain(_ reader: TableReader, _ key: [UInt8], io: ReadIO = .blocking) -> Bool {
        withBytes(key) { reader.mayContain($0, hash: hash(key), io: io) }
    }

    private func mayContainPrefix(_ reader: TableReader, _ prefix: [UInt8]) -> Bool {
        withBytes(prefix) { reader.mayContainPrefix($0) }
    }

    @Test(arguments: shapes.indices)
    func `Every version is found and others are not`(number: Int) throws {
        let sample = try sample(Self.shapes[number])
        for cacheBytes in [0, 1 << 20] {
            let reader = try sample.open(cacheBytes: cacheBytes)
            for entry in sample.model.entries {
                #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
                for length in 0...entry.key.count {
                    #expect(mayContainPrefix(reader, Array(entry.key[..<length])))
                }
            }
            var random = TableTestRandom(seed: 77)
            for _ in 0..<500 {
                let key = TestModel.randomKey(&random)
                let found = try reader.lookup(key, at: SequenceNumber.max)
                #expect(found == sample.model.lookup(key, SequenceNumber.max))
            }
        }
    }

    @Test(arguments: shapes.indices)
    func `The shape decides which blocks there are`(number: Int) throws {
        let shape = Self.shapes[number]
        let leaves = try sample(shape).open().leafList
        let isCut = shape.keyBits > 0 && shape.partitionAbove < 200
        #expect((leaves.filter != nil) == (shape.keyBits > 0 && !isCut))
        #expect((leaves.filterIndex != nil) == isCut)
        #expect((leaves.filterPartitions.count > 1) == isCut)
        #expect((leaves.prefixFilter != nil) == (shape.prefixBits > 0))
    }

    @Test(arguments: shapes.indices)
    func `Absent keys are mostly ruled out`(number: Int) throws {
        let shape = Self.shapes[number]
        let reader = try sample(shape).open()
        let absent = (0..<2000).map { bytes("key\($0)-") }
        let passed = absent.count { mayContain(reader, $0) }
        if shape.keyBits > 0 { #expect(passed < 80) } else { #expect(passed == 2000) }
    }

    @Test func `Canonical bytes do not depend on the codec`() throws {
        for shape in Self.shapes {
            let plain = try sample(shape)
            #expect(try sample(shape, codec: .lz4).record == plain.record)
        }
    }

    // MARK: Partitions

    @Test func `A partition is loaded when it is asked, once`() throws {
        let sample = try sample(Self.shapes[3])
        let reader = try sample.open()
        let key = sample.model.entries[500].key
        let before = sample.file.readCount
        // What may not touch the disk does without.
        #expect(mayContain(reader, bytes("absent"), io: .cacheOnly))
        #expect(sample.file.readCount == before)
        #expect(mayContain(reader, key))
        #expect(sample.file.readCount == before + 1)
        #expect(mayContain(reader, key) && mayContain(reader, key, io: .cacheOnly))
        #expect(sample.file.readCount == before + 1)
    }

    /// Trap 15: data blocks and partitions are cached side by side. What a hit gives is of the type
    /// that was asked for, and as sound as after a read.
    @Test func `Cached blocks of two types are never taken for each other`() throws {
        let sample = try sample(FilterShape(kind: .burr, keyBits: 10, partitionAbove: 64))
        let reader = try sample.open()
        func check(_ entry: TestEntry) throws {
            #expect(mayContain(reader, entry.key))
            #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
        }
        for entry in sample.model.entries { try check(entry) }
        let reads = sample.file.readCount
        var random = TableTestRandom(seed: 8)
        for _ in 0..<4_000 {
            try check(sample.model.entries[random.below(sample.model.entries.count)])
        }
        #expect(reader.leafList.filterPartitions.count > 1 && reader.leafList.dataCount > 10)
        #expect(sample.file.readCount == reads, "the later ones were hits")
        let ruledOut = (0..<500).count {
            !mayContain(reader, Array("no such key \($0)".utf8))
        }
        #expect(ruledOut > 400)
    }

    @Test func `A key behind the last partition is not there`() throws {
        let reader = try sample(Self.shapes[3]).open()
        #expect(!mayContain(reader, [UInt8](repeating: 0xff, count: 40)))
    }

    /// As many partitions as there are places where one may end.
    @Test func `Any number of keys falls into partitions`() throws {
        let shape = FilterShape(kind: .burr, keyBits: 8, partitionAbove: 64)
        for count in [1, 63, 64, 65, 127, 128, 129, 192, 193, 500] {
            let entries = (0..<count).map {
                TestEntry(
                    key: bytes("k\(1000 + $0)"),
                    trailer: Trailer(SequenceNumber(UInt64($0 + 1)), .put), value: [])
            }
            let reader = try sample(shape, TestModel(entries)).open()
            let wanted = count <= 64 ? 0 : (count + 63) / 64
            #expect(reader.leafList.filterPartitions.count == wanted)
            #expect(entries.allSatisfy { mayContain(reader, $0.key) })
        }
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

    private func expectRight(_ reader: TableReader, _ model: TestModel) throws {
        for entry in model.entries {
            #expect(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
        }
        #expect(try reader.lookup(bytes("absent"), at: SequenceNumber.max) == nil)
    }

    @Test func `A damaged partition says maybe, is noted, and is not read twice`() throws {
        let sample = try sample(Self.shapes[3])
        let good = try TableReader.open(
            file: TableTestFile(sample.file.bytes), record: sample.record,
            cache: BlockCache(capacity: 0))
        let ordinals = good.leafList.filterPartitions
        for number in ordinals { try damage(sample, BlockOrdinal(UInt32(number))) }
        let mender = CopyMender(good)
        let reader = try sample.open(mender)
        for _ in 0..<2 { try expectRight(reader, sample.model) }
        #expect(mayContain(reader, bytes("key1-")))
        #expect(mender.noted.count == ordinals.count && mender.asked.isEmpty)
        try expectRight(try sample.open(), sample.model)
    }

    @Test func `A damaged index of partitions says maybe`() throws {
        let sample = try sample(Self.shapes[3])
        let good = try TableReader.open(
            file: TableTestFile(sample.file.bytes), record: sample.record,
            cache: BlockCache(capacity: 0))
        try damage(sample, try #require(good.leafList.filterIndex))
        let mender = CopyMender(good)
        let reader = try sample.open(mender)
        try expectRight(reader, sample.model)
        #expect(mayContain(reader, bytes("absent")))
        #expect(mender.noted.count == 1 && mender.asked.isEmpty)
    }

    @Test func `A damaged prefix filter says maybe`() throws {
        let sample = try sample(Self.shapes[5])
        let good = try TableReader.open(
            file: TableTestFile(sample.file.bytes), record: sample.record,
            cache: BlockCache(capacity: 0))
        #expect(!mayContainPrefix(good, bytes("nobody:")))
        try damage(sample, try #require(good.leafList.prefixFilter))
        let mender = CopyMender(good)
        let reader = try sample.open(mender)
        try expectRight(reader, sample.model)
        #expect(mayContainPrefix(reader, bytes("nobody:")))
        #expect(mender.noted.count == 1)
    }

    // MARK: Prefixes

    @Test func `Prefixes that no key has are ruled out`() throws {
        var entries: [TestEntry] = []
        for tenant in 0..<200 {
            for number in 0..<(tenant % 4) {
                entries.append(
                    TestEntry(
                        key: bytes("t\(tenant):\(number)"),
                        trailer: Trailer(SequenceNumber(UInt64(entries.count + 1)), .put),
                        value: []))
            }
        }
        let reader = try sample(Self.shapes[5], TestModel(entries)).open()
        var passed = 0
        for tenant in 0..<200 {
            let says = mayContainPrefix(reader, bytes("t\(tenant):"))
            if tenant % 4 > 0 { #expect(says) } else if says { passed += 1 }
            // Too short for the extractor: no answer.
            #expect(mayContainPrefix(reader, bytes("t\(tenant)")))
        }
        #expect(passed < 4)
    }
}
