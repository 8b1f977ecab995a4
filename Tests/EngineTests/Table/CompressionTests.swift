// Codecs: what they are called, that every level comes back, and that bytes which claim to be
// compressed cost no more than what the leaf list allows.
import Engine
import Testing

@Suite struct CompressionTests {
    @Test func `Names are read and shown, and unknown ones are refused`() {
        let known: [(String, Compression)] = [
            ("none", .none), ("lz4", .lz4), ("zstd:1", .zstd(level: 1)),
            ("zstd:22", .zstd(level: 22)), ("zstd-dict:9", .zstdDictionary(level: 9)),
        ]
        for (text, compression) in known {
            #expect(Compression(text) == compression)
            #expect(compression.description == text)
        }
        #expect(Compression("zstd") == .zstd(level: 3))
        #expect(Compression("zstd-dict") == .zstdDictionary(level: 3))
        for text in [
            "", "zip", "LZ4", "lz4:1", "none:0", "zstd:", "zstd:0", "zstd:23", "zstd:-1", "zstd:+1",
            "zstd:01", "zstd:3:3", "zstd-dict:", "zstd 3",
        ] {
            #expect(Compression(text) == nil, "\(text)")
        }
        for name in ["none", "lz4", "zstd", "zstd-dict", "22"] {
            #expect(Compression.allowed.contains(name))
        }
    }

    @Test func `A level has its own compression or the base`() {
        let policy = CompressionPolicy(
            .zstd(level: 3),
            levels: [
                LevelCompression(level: 0, compression: .lz4),
                LevelCompression(level: 6, compression: .zstdDictionary(level: 19)),
            ])
        #expect(policy[0] == .lz4 && policy[1] == .zstd(level: 3))
        #expect(policy[6] == .zstdDictionary(level: 19))
    }

    private func expectSame(
        _ file: TableTestFile, _ record: TableRecord, _ model: TestModel, seed: UInt64
    ) throws {
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 1 << 20))
        #expect(reader.verify(fromMedium: true).isClean)
        for entry in model.entries {
            try #require(try reader.lookup(entry.key, at: entry.trailer.sequence) == entry)
        }
    }

    @Test(arguments: Compression.zstdLevels)
    func `Every level of zstd comes back, with and without a dictionary`(level: Int) throws {
        let model = TestModel.records(200, seed: UInt64(level))
        let shape = TableShape(blockBytes: 512, filterBitsPerKey: 10)
        let plain = try buildTable(model, file: TableTestFile(), shape: shape)
        for compression in [Compression.zstd(level: level), .zstdDictionary(level: level)] {
            let file = TableTestFile()
            let record = try buildTable(model, file: file, shape: shape, codec: compression)
            #expect(record == plain)
            let stored = StoredBlocks(file.bytes)
            let codec = stored.blocks[stored.firstData].codec
            #expect(codec == compression.codec.rawValue, "\(compression)")
            try expectSame(file, record, model, seed: UInt64(level))
        }
    }

    @Test(arguments: Compression.ofEachCodec)
    func `What does not shrink is stored as it is`(compression: Compression) throws {
        var random = TableTestRandom(seed: 3)
        let model = TestModel(
            (1...200 as ClosedRange<UInt64>).map {
                TestEntry(
                    key: random.bytes(12), trailer: Trailer(SequenceNumber($0), .put),
                    value: random.bytes(100))
            })
        let file = TableTestFile()
        let record = try buildTable(model, file: file, codec: compression)
        let stored = StoredBlocks(file.bytes)
        #expect(stored.dictionary == nil)
        #expect(stored.blocks.filter { $0.type == 1 }.allSatisfy { $0.codec == 0 })
        try expectSame(file, record, model, seed: 4)
    }

    @Test(arguments: [Compression.lz4, .zstd(level: 1), .zstdDictionary(level: 22)])
    func `Huge blocks come back, before and behind the sample`(compression: Compression) throws {
        var entries = TestModel.records(40).entries
        for (place, megabytes) in [(0, 9), (20, 2), (39, 1)] {
            entries[place].value = [UInt8](repeating: UInt8(place), count: megabytes << 20)
        }
        let model = TestModel(entries)
        let file = TableTestFile()
        let shape = TableShape(blockBytes: 256, filterBitsPerKey: 10)
        let record = try buildTable(model, file: file, shape: shape, codec: compression)
        #expect(file.bytes.count < 1 << 20)
        try expectSame(file, record, model, seed: 5)
    }

    // MARK: Hostile bytes

    /// Decodes into room for `length` bytes between guards, which must stay whole.
    private func decode(_ codec: BlockCodec, _ stored: [UInt8], length: Int) -> Bool {
        let margin = 64
        var room = [UInt8](repeating: 0xa5, count: length + 2 * margin)
        let decoded = room.withUnsafeMutableBytes { all in
            let target = UnsafeMutableRawBufferPointer(rebasing: all[margin..<margin + length])
            return stored.withUnsafeBytes { codec.decode($0, into: target, dictionary: nil) }
        }
        let guards = room[..<margin] + room[(margin + length)...]
        #expect(guards.allSatisfy { $0 == 0xa5 }, "written beyond the target")
        return decoded
    }

    /// Stored bytes of a data block, and how long it is decoded.
    private func frame() throws -> (stored: [UInt8], length: Int) {
        let file = TableTestFile()
        _ = try buildTable(TestModel.records(60), file: file, codec: .zstd(level: 3))
        let block = try #require(StoredBlocks(file.bytes).blocks.first)
        let length = block.header[28..<32].reversed().reduce(0) { $0 << 8 | Int($1) }
        #expect(block.codec == BlockCodec.zstd.rawValue)
        return (block.stored, length)
    }

    @Test func `A frame is decoded only to the length that was promised`() throws {
        let (stored, length) = try frame()
        #expect(decode(.zstd, stored, length: length))
        for other in [0, 1, length - 1, length + 1, length * 2] {
            #expect(!decode(.zstd, stored, length: other))
        }
        for count in stored.indices {
            #expect(!decode(.zstd, [UInt8](stored[..<count]), length: length))
        }
        #expect(!decode(.zstd, stored + [0], length: length))
        #expect(!decode(.zstdDictionary, stored, length: length), "there is no dictionary")
    }

    @Test func `Trap 17: frames of other kinds and huge claims are refused`() throws {
        let (stored, length) = try frame()
        // Descriptor 0x60: one segment, its content's length in two bytes.
        #expect(stored[4] == 0x60)
        let body = [UInt8](stored[7...])
        let magic = [UInt8](stored[..<4])
        let claims: [UInt64] = [0, UInt64(length) * 1000, 1 << 40, .max]
        for claim in claims {
            let bytes = withUnsafeBytes(of: claim.littleEndian) { [UInt8]($0) }
            #expect(!decode(.zstd, magic + [0xe0] + bytes + body, length: length))
            // A window of the same size is claimed too.
            #expect(!decode(.zstd, magic + [0xc0, 0xff] + bytes + body, length: length))
        }
        // No length at all, behind a window of a megabyte.
        #expect(!decode(.zstd, magic + [0x00, 0x50] + body, length: length))
        // Two frames, one to be skipped, and the magic of version 0.7.
        let empty = magic + [0x20, 0x00, 0x01, 0x00, 0x00]
        #expect(!decode(.zstd, stored + empty, length: length))
        #expect(!decode(.zstd, [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0] + stored, length: length))
        #expect(!decode(.zstd, [0x27] + [UInt8](stored[1...]), length: length))
        #expect(!decode(.zstd, [], length: length))
    }

    @Test func `Random changes of a frame never write beyond the target`() throws {
        let (stored, length) = try frame()
        var random = TableTestRandom(seed: 8)
        for _ in 0..<3_000 {
            var bytes = stored
            for _ in 0...random.below(4) {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            if random.below(4) == 0 { bytes.removeLast(random.below(bytes.count)) }
            _ = decode(.zstd, bytes, length: length)
        }
    }

    @Test(arguments: Compression.ofEachCodec)
    func `A block that lies behind right checksums is lost, not believed`(
        compression: Compression
    ) throws {
        let model = TestModel.records(120)
        let file = TableTestFile()
        let shape = TableShape(blockBytes: 400, filterBitsPerKey: 10)
        let record = try buildTable(model, file: file, shape: shape, codec: compression)
        let sound = StoredBlocks(file.bytes)
        let place = sound.firstData
        func expectLost(_ what: String, _ change: (inout StoredBlocks.Block) -> Void) throws {
            var changed = sound
            change(&changed.blocks[place])
            let reader = try TableReader.open(
                file: TableTestFile(changed.bytes), record: record, cache: BlockCache(capacity: 0))
            let error = #expect(throws: EngineError.self, "\(what)") {
                _ = try reader.lookup(model.entries[0].key, at: .max)
            }
            guard case .blockLost(let address, _)? = error else {
                Issue.record("\(what): \(String(describing: error))")
                return
            }
            #expect(address.ordinal == BlockOrdinal(0), "\(what)")
            let last = model.entries[model.entries.count - 1]
            #expect(try reader.lookup(last.key, at: .max) == last, "\(what)")
        }
        for codec in BlockCodec.allCases where codec.rawValue != sound.blocks[place].codec {
            try expectLost("codec \(codec)") { $0.codec = codec.rawValue }
        }
        try expectLost("an unknown codec") { $0.codec = 200 }
        try expectLost("a huge length") { $0.set(28, 500 << 20) }
        try expectLost("no bytes") { $0.stored = [] }
        try expectLost("a byte less") { $0.stored.removeLast() }
        try expectLost("a changed byte") { $0.stored[$0.stored.count / 2] ^= 0x55 }
    }
}
