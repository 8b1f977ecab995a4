// Encrypted table files: the same table as a plain one, nothing readable in it, and a wrong key,
// a rotten block and a tampered one told apart.
import Engine
import Synchronization
import Testing

@Suite struct TableEncryptionTests {
    private static let shape = TableShape(blockBytes: 300, filterBitsPerKey: 10)

    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var file: TableTestFile
        var keys: KeyRing
    }

    private static let marked = TestModel(
        (0..<40).map { number in
            TestEntry(
                key: Array("marker-key-\(1_000 + number)".utf8),
                trailer: Trailer(SequenceNumber(UInt64(number) + 1), .put),
                value: Array("marker value of \(1_000 + number) marker value".utf8))
        })

    private func sample(
        _ codec: Compression = .none, seed: UInt64 = 1, _ model: TestModel = Self.marked,
        observer: FileCipher.Observer? = nil
    ) throws -> Sample {
        let keys = KeyRing(try testKeys(1), random: seededNumbers(seed), observer: observer)
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: Self.shape, codec: codec, generation: 3, keys: keys)
        return Sample(model: model, record: record, file: file, keys: keys)
    }

    private func open(
        _ sample: Sample, _ bytes: [UInt8]? = nil, keys: KeyRing? = nil,
        mender: (any BlockMender)? = nil
    ) throws -> TableReader {
        try TableReader.open(
            file: bytes.map { TableTestFile($0) } ?? sample.file, record: sample.record,
            cache: BlockCache(capacity: 0), mender: mender, keys: keys ?? sample.keys)
    }

    private func readAll(_ reader: TableReader, _ sample: Sample) throws {
        for entry in sample.model.entries {
            #expect(try reader.lookup(entry.key, at: .max) == entry)
        }
    }

    /// (offset of the header, stored length) of each block.
    private func blocks(_ bytes: [UInt8]) -> [(start: Int, length: Int)] {
        var found: [(start: Int, length: Int)] = []
        var at = 128
        while at + 80 <= bytes.count, bytes[at..<(at + 4)].elementsEqual("MLTB".utf8) {
            let length = bytes[(at + 32)..<(at + 36)].reversed().reduce(0) { $0 << 8 | Int($1) }
            found.append((start: at, length: length))
            at += 80 + length
        }
        return found
    }

    /// Makes the checksums of a block right again.
    private func mendChecksums(_ bytes: inout [UInt8], _ block: (start: Int, length: Int)) {
        func put(_ value: UInt32, _ at: Int) {
            for byte in 0..<4 { bytes[at + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte)) }
        }
        let body = block.start + 80
        put(Checksum.crc32c(Array(bytes[body..<(body + block.length)])), block.start + 36)
        put(Checksum.crc32c(Array(bytes[block.start..<(block.start + 76)])), block.start + 76)
    }

    @Test func aVerificationSeesTheSecondCopyOfTheHeader() throws {
        let sample = try sample()
        #expect(try open(sample).verify(fromMedium: false).localDamage.isEmpty)
        let bytes = sample.file.bytes
        for offset in (bytes.count - 208)..<(bytes.count - 80) {
            var rotten = bytes
            rotten[offset] ^= 1
            let found = try open(sample, rotten).verify(fromMedium: false)
            #expect(
                found.localDamage.map(\.reason) == ["the second copy of the file header is damaged"]
            )
            #expect(found.damagedBlocks.isEmpty)
        }
    }

    @Test(arguments: Compression.ofEachCodec)
    func anEncryptedTableIsThePlainOne(codec: Compression) throws {
        let sample = try sample(codec)
        let plain = try buildTable(
            sample.model, file: TableTestFile(), shape: Self.shape, generation: 3)
        #expect(sample.record == plain)
        let reader = try open(sample)
        try readAll(reader, sample)
        #expect(reader.verify(fromMedium: true).isClean)
        #expect(try TableReader.describe(sample.file, keys: sample.keys).digest == plain.digest)
        #expect(try TableImport.localHeader(sample.file).keyEpoch == 1)
    }

    @Test(arguments: Compression.ofEachCodec)
    func nothingOfItIsReadable(codec: Compression) throws {
        let sample = try sample(codec)
        for text in ["marker", "key-10"] { #expect(!sample.file.bytes.contains(text)) }
        // Nor what a guess of the content could be compared with.
        let reader = try open(sample)
        for digest in reader.leaves() + [sample.record.digest] {
            let low = withUnsafeBytes(of: digest.low.littleEndian) { Array($0) }
            let found = sample.file.bytes.indices.dropLast(8).contains {
                sample.file.bytes[$0..<($0 + 8)].elementsEqual(low)
            }
            #expect(!found)
        }
    }

    @Test func aDictionaryIsSealedLikeABlock() throws {
        let watch = SealWatch()
        let model = TestModel.records(120)
        let sample = try sample(.zstdDictionary(level: 3), model, observer: watch.observer)
        let good = sample.file.bytes
        let stored = StoredBlocks(good)
        #expect(stored.dictionary != nil && watch.repeated.isEmpty)
        #expect(watch.count == stored.blocks.count)
        #expect(!good.contains("\"state\"") && !good.contains("example.com"))
        let reader = try open(sample)
        #expect(reader.dictionaryBytes > 0)
        try readAll(reader, sample)
        let dictionary = blocks(good)[0]
        for place in [40, 56, 80, 80 + dictionary.length - 1] {
            var bytes = good
            bytes[dictionary.start + place] ^= 1
            let damage = try open(sample, bytes).verify(fromMedium: true).localDamage
            #expect(
                damage.contains {
                    $0.reason.contains("dictionary") && !$0.reason.contains("tampered")
                })
            mendChecksums(&bytes, dictionary)
            let tampered = try open(sample, bytes)
            let found = tampered.verify(fromMedium: true).localDamage
            #expect(found.contains { $0.reason.contains("tampered") })
            #expect(throws: EngineError.self) { try readAll(tampered, sample) }
        }
    }

    @Test(arguments: Compression.ofEachCodec)
    func salvageKeepsTheKey(codec: Compression) throws {
        let sample = try sample(codec, .records(120))
        let files = MemoryFileSystem(seed: 1)
        try files.createDirectory("/t")
        var bytes = sample.file.bytes
        bytes[3] ^= 1
        bytes[bytes.count - 5] ^= 1
        let file = try files.open("/t/bad", .create)
        try file.writeAll(bytes, at: 0)
        let key = KeyRing(reading: try testKey(1))
        let report = try TableSalvage.run(files, from: "/t/bad", to: "/t/good", keys: key)
        #expect(report.isOriginal)
        let good = try files.readAll("/t/good", limit: 1 << 20)
        #expect(!good.contains("record:"))
        try readAll(try open(sample, good), sample)
        // Salts are drawn anew, also by a ring that only reads.
        #expect(Array(good[40..<72]) != Array(bytes[40..<72]))
        #expect(good[40..<72].contains { $0 != 0 })
        #expect(throws: EngineError.self) {
            try TableSalvage.run(files, from: "/t/bad", to: "/t/none", keys: .plain)
        }
        #expect(!files.exists("/t/none"))
    }

    @Test func toolsShowWhatIsDecryptedOnlyWithTheKey() throws {
        let sample = try sample(.zstdDictionary(level: 3), .records(120))
        let block = TableAnatomy.Selection.block(0, isDecoded: true)
        for part in [TableAnatomy.Selection.dictionary, block] {
            let parts = try TableAnatomy.parts(of: sample.file, part, keys: sample.keys)
            #expect(parts.map(\.damage) == [nil, nil])
            #expect(throws: EngineError.self) { try TableAnatomy.parts(of: sample.file, part) }
        }
        let shown = try TableAnatomy.parts(of: sample.file, block, keys: sample.keys)
        #expect(shown[1].bytes.contains("record:"))
        let header = try TableAnatomy.parts(of: sample.file, .fileHeader)[0]
        #expect(header.damage == nil)
        #expect(header.pieces.first { $0.name == "key epoch" }?.meaning == "1")
    }

    /// Trap 20: a random number costs a system call, so a file draws its salt and a block nothing.
    @Test func randomNumbersAreDrawnByFileNotByBlock() throws {
        var draws: [Int] = []
        for count in [20, 2_000] {
            let drawn = Atomic<Int>(0)
            let keys = KeyRing(
                try testKeys(1),
                random: { UInt64(drawn.add(1, ordering: .relaxed).newValue) })
            let file = TableTestFile()
            _ = try buildTable(.records(count), file: file, shape: Self.shape, keys: keys)
            #expect(blocks(file.bytes).count > count / 50)
            draws.append(drawn.load(ordering: .relaxed))
        }
        #expect(draws == [4, 4])
    }

    @Test func goldenBytes() throws {
        let sample = try sample()
        #expect(Digest128(of: sample.file.bytes).description == "facd834538aa1948be12de55266a9346")
        #expect(try self.sample(seed: 2).file.bytes != sample.file.bytes)
    }

    @Test func aWrongKeyIsToldFromDamage() throws {
        let sample = try sample()
        let other = try EncryptionKeys(current: 1, keys: [1: testKey(77)])
        for keys in [KeyRing(other), KeyRing.plain, KeyRing(try testKeys(2))] {
            let error = #expect(throws: EngineError.self) { _ = try open(sample, keys: keys) }
            guard case .wrongKey(epoch: 1, _, _)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    @Test func rotIsToldFromTampering() throws {
        let sample = try sample()
        let good = sample.file.bytes
        let block = blocks(good)[1]
        for place in [56, 80, 40, 80 + block.length - 1] {
            var bytes = good
            bytes[block.start + place] ^= 4
            let rotten = try open(sample, bytes).verify(fromMedium: true).damagedBlocks
            #expect(rotten.map(\.ordinal) == [BlockOrdinal(1)])
            #expect(rotten.first?.damage.reason.contains("tampered") == false)
            mendChecksums(&bytes, block)
            let tampered = try open(sample, bytes).verify(fromMedium: true).damagedBlocks
            #expect(tampered.map(\.ordinal) == [BlockOrdinal(1)])
            #expect(tampered.first?.damage.reason.contains("tampered") == true)
        }
    }

    /// Two blocks of equal length change places, each under the other's header fields.
    @Test func aSwappedBlockIsNotAuthentic() throws {
        let sample = try sample()
        var bytes = sample.file.bytes
        let all = blocks(bytes)
        let second = try #require(all.dropFirst().first { $0.length == all[0].length })
        for offset in Array(40..<72) + Array(80..<(80 + second.length)) {
            bytes.swapAt(all[0].start + offset, second.start + offset)
        }
        for block in [all[0], second] { mendChecksums(&bytes, block) }
        let damaged = try open(sample, bytes).verify(fromMedium: true).damagedBlocks
        #expect(damaged.count == 2)
        #expect(damaged.allSatisfy { $0.damage.reason.contains("tampered") })
    }

    @Test func anEncryptedBlockIsNotTakenForAPlainOne() throws {
        let sample = try sample()
        let plainFile = TableTestFile()
        _ = try buildTable(sample.model, file: plainFile, shape: Self.shape, generation: 3)
        var bytes = sample.file.bytes
        let block = blocks(bytes)[0]
        let end = block.start + 80 + block.length
        bytes.replaceSubrange(block.start..<end, with: plainFile.bytes[block.start..<end])
        let damaged = try open(sample, bytes).verify(fromMedium: true).damagedBlocks
        #expect(damaged.map(\.ordinal) == [BlockOrdinal(0)])
    }

    @Test func theHeaderStandsTwice() throws {
        let sample = try sample()
        let count = sample.file.bytes.count
        for places in [[20], [60], [count - 80 - 100], [20, count - 80 - 100]] {
            var bytes = sample.file.bytes
            for place in places { bytes[place] ^= 1 }
            let reader = try open(sample, bytes, mender: CopyMender(open(sample)))
            try readAll(reader, sample)
            let found = reader.verify(fromMedium: true)
            #expect(!found.localDamage.isEmpty)
            #expect(found.damagedBlocks.isEmpty == (places.count == 1))
        }
    }

    @Test func importsBetweenKeysKeepTheTable() throws {
        let sample = try sample(.lz4)
        let reader = try open(sample)
        let second = KeyRing(try testKeys(2), random: seededNumbers(9))
        for keys in [KeyRing.plain, second] {
            let file = TableTestFile()
            _ = try TableImport.write(
                file: file, record: sample.record, generation: 4, codec: .none, keys: keys
            ) { (ordinal, _) throws(EngineError) in
                try reader.canonicalBlock(ordinal, fromMedium: false)
            }
            let copy = try TableReader.open(
                file: file, record: sample.record, cache: BlockCache(capacity: 0), keys: keys)
            try readAll(copy, sample)
            #expect(copy.localHeader?.keyEpoch == keys.currentEpoch)
        }
    }

    @Test func aFlippedBitNeverGivesWrongData() throws {
        let sample = try sample(.lz4)
        for place in stride(from: 0, to: sample.file.bytes.count, by: 3) {
            var bytes = sample.file.bytes
            bytes[place] ^= 1 << UInt8(place % 8)
            do {
                let reader = try open(sample, bytes)
                for entry in sample.model.entries {
                    do {
                        #expect(try reader.lookup(entry.key, at: .max) == entry, "byte \(place)")
                    } catch is EngineError {}
                }
            } catch is EngineError {}
        }
    }
}
