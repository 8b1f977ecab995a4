// The dictionary inside a table file: its bytes, when there is one, what its damage costs, and that
// no digest knows of it.
import Engine
import Testing

@Suite struct DictionaryTests {
    private static let shape = TableShape(blockBytes: 400, filterBitsPerKey: 10)
    private static let model = TestModel.records(120)

    private struct Sample {
        var record: TableRecord
        var bytes: [UInt8]
        var stored: StoredBlocks
        var good: TableReader

        /// Bytes of the dictionary block.
        var dictionary: Range<Int> {
            128..<128 + 80 + (stored.dictionary?.stored.count ?? 0)
        }
    }

    private func sample(_ model: TestModel = Self.model) throws -> Sample {
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: Self.shape, codec: .zstdDictionary(level: 3))
        let good = try TableReader.open(
            file: TableTestFile(file.bytes), record: record, cache: BlockCache(capacity: 0))
        let stored = StoredBlocks(file.bytes)
        #expect(stored.dictionary != nil)
        #expect(good.dictionaryBytes == stored.dictionary?.stored.count)
        return Sample(record: record, bytes: file.bytes, stored: stored, good: good)
    }

    private func open(_ bytes: [UInt8], _ sample: Sample, mender: (any BlockMender)? = nil) throws
        -> TableReader
    {
        try TableReader.open(
            file: TableTestFile(bytes), record: sample.record, cache: BlockCache(capacity: 0),
            mender: mender)
    }

    private func readAll(_ reader: TableReader, _ model: TestModel = Self.model) throws {
        for entry in model.entries {
            try #require(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
        }
    }

    @Test func `Small blocks get much smaller with a dictionary`() throws {
        let model = TestModel.records(5_000)
        let shape = TableShape(blockBytes: 1024, filterBitsPerKey: 10)
        let plain = try buildTable(model, file: TableTestFile(), shape: shape)
        var sizes: [Int] = []
        for compression in Compression.ofEachCodec {
            let file = TableTestFile()
            let record = try buildTable(model, file: file, shape: shape, codec: compression)
            sizes.append(file.bytes.count)
            #expect(record == plain)
        }
        #expect(sizes[1] < sizes[0] && sizes[2] < sizes[1])
        #expect(sizes[3] * 10 < sizes[2] * 9, "\(sizes)")
    }

    @Test func `A table too small or too mixed for one has none`() throws {
        let small = TableTestFile()
        _ = try buildTable(TestModel.records(5), file: small, codec: .zstdDictionary(level: 3))
        #expect(StoredBlocks(small.bytes).dictionary == nil)
        // Each block is like nothing but itself.
        var random = TableTestRandom(seed: 5)
        let mixed = TestModel(
            (1...100 as ClosedRange<UInt64>).map { number in
                let word = random.bytes(40)
                return TestEntry(
                    key: random.bytes(10), trailer: Trailer(SequenceNumber(number), .put),
                    value: (0..<10).flatMap { _ in word })
            })
        let file = TableTestFile()
        let record = try buildTable(
            mixed, file: file, shape: Self.shape, codec: .zstdDictionary(level: 3))
        let stored = StoredBlocks(file.bytes)
        #expect(stored.dictionary == nil)
        #expect(stored.blocks[0].codec == BlockCodec.zstd.rawValue)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        #expect(reader.dictionaryBytes == 0 && reader.localDamage.isEmpty)
        try readAll(reader, mixed)
    }

    @Test func `Only data blocks use it`() throws {
        let sample = try sample()
        for block in sample.stored.blocks where !block.isDictionary {
            let usesIt = block.codec == BlockCodec.zstdDictionary.rawValue
            #expect(usesIt == (block.type == 1), "type \(block.type)")
        }
    }

    /// Whatever of it is damaged, its blocks are lost here until a mender supplies them, and the
    /// damage is noted.
    @Test func `Trap 23: a damaged dictionary loses its blocks, and a mender has them`() throws {
        let sample = try sample()
        for offset in stride(
            from: sample.dictionary.lowerBound, to: sample.dictionary.upperBound, by: 3)
        {
            var bytes = sample.bytes
            bytes[offset] ^= 0x20
            let alone = try open(bytes, sample)
            #expect(alone.localDamage.count == 1, "byte \(offset)")
            #expect(!alone.verify(fromMedium: true).isClean)
            let error = #expect(throws: EngineError.self) {
                _ = try alone.lookup(Self.model.entries[0].key, at: .max)
            }
            guard case .blockLost? = error else {
                Issue.record("byte \(offset): \(String(describing: error))")
                continue
            }
            let mender = CopyMender(sample.good)
            let mended = try open(bytes, sample, mender: mender)
            #expect(mender.noted.count == 1)
            #expect(
                try mended.lookup(Self.model.entries[7].key, at: .max) == Self.model.entries[7])
        }
    }

    @Test func `A lost footer does not lose the dictionary`() throws {
        let sample = try sample()
        for cut in [1, 70, 81, 200] {
            let reader = try open([UInt8](sample.bytes.dropLast(cut)), sample)
            #expect(reader.localDamage.count == 1 && reader.dictionaryBytes > 0)
            try readAll(reader)
        }
        // And with both of them damaged the blocks are lost, never wrong.
        var bytes = sample.bytes
        bytes[sample.dictionary.lowerBound + 20] ^= 1
        bytes[bytes.count - 1] ^= 1
        let reader = try open(bytes, sample)
        #expect(throws: EngineError.self) {
            _ = try reader.lookup(Self.model.entries[0].key, at: .max)
        }
        try readAll(try open(bytes, sample, mender: CopyMender(sample.good)))
    }

    @Test func `Trap 23: the dictionary of another file is no help`() throws {
        let sample = try sample()
        let other = try self.sample(TestModel.records(120, seed: 99))
        let stranger = try #require(other.stored.dictionary)
        #expect(stranger.stored != sample.stored.dictionary?.stored)
        var swapped = sample.stored
        swapped.blocks[0] = stranger
        let reader = try open(swapped.bytes, sample)
        #expect(reader.dictionaryBytes > 0, "it is a dictionary")
        let error = #expect(throws: EngineError.self) {
            _ = try reader.lookup(Self.model.entries[0].key, at: .max)
        }
        guard case .blockLost(_, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.hasSuffix(": it does not decode"), "the frame names another id")
    }

    @Test func `What is no dictionary of zstd is refused`() throws {
        let sample = try sample()
        let dictionary = try #require(sample.stored.dictionary)
        func isTaken(_ change: (inout StoredBlocks.Block) -> Void) throws -> Bool {
            var changed = sample.stored
            change(&changed.blocks[0])
            return try open(changed.bytes, sample).dictionaryBytes > 0
        }
        #expect(try isTaken { _ in })
        #expect(try !isTaken { $0.stored = [] })
        #expect(try !isTaken { $0.stored.removeLast() })
        #expect(try !isTaken { $0.set(28, 1 << 30) })
        #expect(try !isTaken { $0.codec = 1 })
        #expect(try !isTaken { $0.stored = [UInt8](repeating: 7, count: 500) })
        #expect(try !isTaken { $0.stored = [UInt8](repeating: 7, count: 1 << 20) })
        for length in [0, 7, 8, 100, BlockDictionary.bytesMax + 1] {
            var bytes = dictionary.stored.prefix(length)
            bytes += [UInt8](repeating: 0, count: length - bytes.count)
            let isTaken = bytes.withUnsafeBytes { BlockDictionary($0) } != nil
            #expect(!isTaken, "\(length) bytes")
        }
        var random = TableTestRandom(seed: 2)
        for _ in 0..<300 {
            var bytes = dictionary.stored
            for _ in 0...random.below(3) {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            _ = bytes.withUnsafeBytes { BlockDictionary($0) }
        }
    }

    @Test func `A leaf list never names a dictionary`() throws {
        let list = try self.sample().good.canonicalBlock(.leaves, fromMedium: false)
        #expect(throws: Never.self) { _ = try LeafList(decoding: list) }
        var changed = list
        changed[8 + 20] = 64
        #expect(throws: DecodingError.self) { _ = try LeafList(decoding: changed) }
    }

    /// What a donor sends needs no dictionary, and what a receiver writes has its own.
    @Test(arguments: Compression.ofEachCodec)
    func `A table with a dictionary is imported under any codec, and back`(
        compression: Compression
    ) throws {
        let sample = try sample()
        let target = TableTestFile()
        _ = try TableImport.write(
            file: target, record: sample.record, generation: 1, codec: compression
        ) { ordinal, _ throws(EngineError) in
            try sample.good.canonicalBlock(ordinal, fromMedium: false)
        }
        let copy = try open(target.bytes, sample)
        #expect(copy.verify(fromMedium: false).isClean)
        #expect((copy.dictionaryBytes > 0) == (compression.codec == .zstdDictionary))
        try readAll(copy)
        let back = TableTestFile()
        _ = try TableImport.write(
            file: back, record: sample.record, generation: 0, codec: .zstdDictionary(level: 3)
        ) { ordinal, _ throws(EngineError) in
            try copy.canonicalBlock(ordinal, fromMedium: false)
        }
        #expect(back.bytes == sample.bytes)
    }
}
