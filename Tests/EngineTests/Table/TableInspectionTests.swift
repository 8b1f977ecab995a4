// What tools see of a table: blocks and where they lie, filters and how often they err, bytes by
// name; right for sound files, told for damaged ones, and without a trap for hostile ones.

import Engine
import Testing

@Suite struct TableInspectionTests {
    private func keys(_ count: Int) -> TestModel {
        TestModel(
            (0..<count).map { number in
                TestEntry(
                    key: [UInt8]("g\(number % 40)/k\(number)".utf8),
                    trailer: Trailer(SequenceNumber(UInt64(number) + 1), .put),
                    value: [UInt8](repeating: 0x76, count: 20))
            })
    }

    private func build(
        _ model: TestModel, _ filter: FilterShape = FilterShape(kind: .burr, keyBits: 10),
        codec: Compression = .none
    ) throws -> (file: TableTestFile, record: TableRecord) {
        let file = TableTestFile()
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 512, filter: filter), codec: codec)
        return (file, record)
    }

    private func open(_ file: TableTestFile) throws -> TableReader {
        try TableReader.open(
            file: file, record: TableReader.describe(file),
            cache: BlockCache(capacity: 1 << 20, shards: 1))
    }

    private func blocks(_ reader: TableReader) -> [BlockSummary] {
        var blocks: [BlockSummary] = []
        reader.forEachBlock { blocks.append($0) }
        return blocks
    }

    // MARK: Layout

    @Test func bytesThatBelongToNothingAreSaid() throws {
        for codec in [Compression.none, .lz4, .zstd(level: 3)] {
            let (file, record) = try build(keys(300), codec: codec)
            let sound = file.bytes
            func damage(_ bytes: [UInt8]) throws -> [String] {
                let file = TableTestFile(bytes)
                let reader = try TableReader.open(
                    file: file, record: record, cache: BlockCache(capacity: 0))
                return reader.verify(fromMedium: false).localDamage.map(\.reason)
            }
            #expect(try damage(sound).isEmpty)
            #expect(try damage(sound + sound).count == 1)
            let strange = [UInt8](repeating: 9, count: 500)
            let found = try damage(sound.dropLast(80) + strange + sound.suffix(80))
            #expect(
                found == [
                    "the file has \(sound.count + 500) bytes, and its footer tells of"
                        + " \(sound.count)"
                ])
        }
    }

    // MARK: Blocks

    @Test func blocksAreListedWithTheirKeys() throws {
        let model = keys(300)
        let (file, record) = try build(model, codec: .lz4)
        let found = blocks(try open(file))
        #expect(found.map(\.ordinal.rawValue) == Array(0..<UInt32(found.count)))
        #expect(found.suffix(4).map(\.type) == ["index", "filter", "properties", "leaves"])
        #expect(found[0].offset == 128)
        for (block, next) in zip(found, found.dropFirst()) {
            #expect(block.damage == nil && block.codec != nil)
            #expect(
                next.offset == (block.offset ?? 0) + 80 + UInt64(block.storedBytes ?? 0))
        }
        #expect(found.reduce(0) { $0 + UInt64($1.canonicalBytes) } == record.canonicalBytes)
        let data = found.compactMap(\.data)
        #expect(data.reduce(0) { $0 + $1.entries } == 300)
        #expect(data.first?.firstKey == model.entries.first?.key)
        #expect(data.last?.lastKey == model.entries.last?.key)
        for (left, right) in zip(data, data.dropFirst()) {
            #expect(left.lastKey.isKeyBefore(right.firstKey))
        }
    }

    @Test func damageIsSaidOfItsBlock() throws {
        let (file, _) = try build(keys(100))
        let sound = blocks(try open(file))
        for number in [1, sound.count - 3] {
            let (file, _) = try build(keys(100))
            file.bytes[Int(sound[number].offset ?? 0) + 84] ^= 1
            let found = blocks(try open(file))
            #expect(found.filter { $0.damage != nil }.map(\.ordinal) == [sound[number].ordinal])
            #expect(found.count == sound.count)
        }
    }

    /// An index with the right digest that leads astray.
    @Test func anIndexThatLiesIsFound() throws {
        let (file, record) = try build(keys(100))
        var forged = try TableForge.blocks(of: file.bytes, record)
        let index = try #require(forged.firstIndex { $0.type == 2 })
        // Behind count, flags and the common prefix "g": the first separator's first byte.
        let place = 8 + 1 + Int(forged[index].bytes[8]) + 1
        forged[index].bytes[place] = 0xff
        let found = blocks(try open(TableTestFile(TableForge.file(forged))))
        #expect(found.contains { $0.damage?.reason.contains("index") == true })
    }

    @Test(arguments: [0, 90, -1])
    func aDamagedHeaderOrFooterIsNoObstacle(offset: Int) throws {
        let (file, record) = try build(keys(60))
        let place = offset < 0 ? file.bytes.count + offset : offset
        file.bytes[place] ^= 1
        let reader = try open(file)
        #expect(reader.record == record && reader.localDamage.count == 1)
        #expect(blocks(reader).allSatisfy { $0.damage == nil })
    }

    @Test func propertiesAreThoseOfTheBuilder() throws {
        let filter = FilterShape(kind: .bloom, keyBits: 12)
        let (file, record) = try build(keys(60), filter)
        let properties = try open(file).properties()
        #expect(properties.shape == TableShape(blockBytes: 512, filter: filter))
        #expect(properties.record.entrySum == record.entrySum)
    }

    // MARK: Filters

    @Test(arguments: [
        (FilterShape(kind: .burr, keyBits: 7), 1.0 / 128, 7.0...8.2),
        (FilterShape(kind: .bloom, keyBits: 10), 0.012, 9.9...10.6),
        (FilterShape(kind: .burr, keyBits: 7, partitionAbove: 512), 1.0 / 128, 7.0...11.0),
    ])
    func aFilterIsMeasured(
        shape: FilterShape, rate: Double, bits: ClosedRange<Double>
    ) throws {
        let (file, _) = try build(keys(3000), shape)
        let report = try open(file).filterReport(samples: 20_000, seed: 1)
        let trial = try #require(report.keys)
        #expect(report.shape == shape && report.isSound && report.prefixes == nil)
        #expect(trial.present == 3000 && trial.falseNegatives == 0)
        #expect(trial.absent == 20_000)
        #expect((rate * 0.6...rate * 1.5).contains(trial.falsePositiveRate), "\(trial)")
        #expect(bits.contains(trial.bitsPerKey), "\(trial.bitsPerKey)")
        #expect(report.blocks.reduce(0) { $0 + $1.bytes } == trial.bytes)
        #expect(report.residentBytes > 0)
        let forms = report.blocks.compactMap(\.form)
        let isExpected = forms.allSatisfy { form in
            switch form {
            case .bloom(let probes, _): return shape.kind == .bloom && probes == 6
            case .burr(let bits, _, _): return shape.kind == .burr && bits == 7
            }
        }
        #expect(isExpected && !forms.isEmpty)
    }

    @Test(arguments: [
        PrefixExtractor.delimiter(byte: 0x2f, occurrence: 1), .fixed(length: 3),
    ])
    func aPrefixFilterIsMeasured(extractor: PrefixExtractor) throws {
        let shape = FilterShape(kind: .burr, keyBits: 8, prefixBits: 6, prefix: extractor)
        let (file, _) = try build(keys(1000), shape)
        let report = try open(file).filterReport(samples: 4000, seed: 1)
        let trial = try #require(report.prefixes)
        #expect(trial.present >= 35 && trial.falseNegatives == 0 && trial.absent > 3900)
        #expect(trial.falsePositiveRate < 0.05)
    }

    @Test func withoutAFilterThereIsNothingToMeasure() throws {
        let (file, _) = try build(keys(100), .none)
        let report = try open(file).filterReport(samples: 100, seed: 1)
        #expect(report.keys == nil && report.blocks.isEmpty && report.residentBytes == 0)
    }

    @Test func aFilterThatDeniesAKeyIsUnsound() throws {
        let (file, record) = try build(keys(200))
        var forged = try TableForge.blocks(of: file.bytes, record)
        let filter = try #require(forged.firstIndex { $0.type == 3 })
        let middle = forged[filter].bytes.count / 2
        for place in middle..<(middle + 40) { forged[filter].bytes[place] ^= 0xff }
        let lying = try open(TableTestFile(TableForge.file(forged)))
        let report = lying.filterReport(samples: 10, seed: 1)
        #expect(!report.isSound && (report.keys?.falseNegatives ?? 0) > 0)
    }

    // MARK: Bytes

    @Test func partsHaveTheirNames() throws {
        let (file, record) = try build(keys(60))
        let header = try #require(try TableAnatomy.parts(of: file, .fileHeader).first)
        #expect(header.bytes == Array(file.bytes[..<128]) && header.damage == nil)
        #expect(header.pieces.last?.range.upperBound == 128)
        #expect(header.pieces.first?.meaning == "MLTTABLE")
        let footer = try #require(try TableAnatomy.parts(of: file, .footer).first)
        #expect(footer.offset == UInt64(file.bytes.count - 80) && footer.damage == nil)
        #expect(footer.pieces.first { $0.name == "digest" }?.meaning == record.digest.description)
        let map = try #require(try TableAnatomy.parts(of: file, .blockMap).first)
        #expect(map.pieces.first?.meaning == "128" && map.damage == nil)
        let block = try TableAnatomy.parts(of: file, .block(1, isDecoded: false))
        #expect(block.count == 2 && block.allSatisfy { $0.damage == nil })
        #expect(block[0].pieces.first { $0.name == "type" }?.meaning == "data")
        #expect(block[0].pieces.last?.range.upperBound == 80)
        #expect(block[1].pieces.last?.range.upperBound == block[1].bytes.count)
        #expect(block[1].pieces.last?.name.hasPrefix("entry ") == true)
    }

    @Test func aCompressedBlockIsShownStoredOrDecoded() throws {
        let (file, _) = try build(keys(200), codec: .lz4)
        let stored = try TableAnatomy.parts(of: file, .block(0, isDecoded: false))
        let decoded = try TableAnatomy.parts(of: file, .block(0, isDecoded: true))
        #expect(stored[1].bytes.count < decoded[1].bytes.count)
        #expect(stored[1].pieces.isEmpty && !decoded[1].pieces.isEmpty)
        #expect(stored[1].offset == 208 && decoded[1].offset == nil)
        #expect(
            decoded[1].bytes
                == (try open(file).canonicalBlock(BlockOrdinal(0), fromMedium: false)))
    }

    @Test func aDictionaryIsShownSoundOrDamaged() throws {
        let (plain, _) = try build(keys(60))
        #expect(throws: EngineError.self) { try TableAnatomy.parts(of: plain, .dictionary) }
        let file = TableTestFile()
        _ = try buildTable(
            .records(120), file: file, shape: TableShape(blockBytes: 400, filterBitsPerKey: 10),
            codec: .zstdDictionary(level: 3))
        let parts = try TableAnatomy.parts(of: file, .dictionary)
        #expect(parts.map(\.damage) == [nil, nil] && parts.map(\.offset) == [128, 208])
        #expect(parts[0].pieces.first { $0.name == "type" }?.meaning == "dictionary")
        let length = parts[1].bytes.count
        let footer = try #require(try TableAnatomy.parts(of: file, .footer).first)
        #expect(footer.pieces.first { $0.name == "dictionary length" }?.meaning == "\(length)")
        file.bytes[300] ^= 1
        #expect(
            try TableAnatomy.parts(of: file, .dictionary).map(\.damage)
                == [nil, "the dictionary's checksum is wrong"])
        file.bytes[140] ^= 1
        #expect(
            try TableAnatomy.parts(of: file, .dictionary).map(\.damage)
                == ["its header is damaged", "the dictionary's header is damaged"])
    }

    @Test func damagedPartsAreShownAndSaid() throws {
        let (file, _) = try build(keys(60))
        let sound = file.bytes
        func damage(_ offset: Int, _ part: TableAnatomy.Selection) throws -> [String?] {
            file.bytes = sound
            file.bytes[offset] ^= 1
            return try TableAnatomy.parts(of: file, part).map(\.damage)
        }
        #expect(try damage(30, .fileHeader)[0] != nil)
        #expect(try damage(sound.count - 9, .footer)[0] != nil)
        #expect(try damage(sound.count - 85, .blockMap)[0] != nil)
        #expect(
            try damage(128 + 100, .block(0, isDecoded: false)) == [nil, "its checksum is wrong"])
        // The leaf list knows what the header said.
        #expect(
            try damage(128 + 20, .block(0, isDecoded: false)) == ["its header is damaged", nil])
        file.bytes = sound
        #expect(throws: EngineError.self) {
            try TableAnatomy.parts(of: file, .block(9999, isDecoded: false))
        }
    }

    // MARK: Hostile files

    private func lookAtEverything(_ bytes: [UInt8]) {
        let file = TableTestFile(bytes)
        for part in [TableAnatomy.Selection.fileHeader, .dictionary, .footer, .blockMap] {
            _ = try? TableAnatomy.parts(of: file, part)
        }
        for number in 0..<UInt32(8) {
            _ = try? TableAnatomy.parts(of: file, .block(number, isDecoded: number % 2 == 0))
        }
        guard let reader = try? open(file) else { return }
        _ = blocks(reader)
        _ = try? reader.properties()
        _ = reader.filterReport(samples: 20, seed: 2)
        _ = reader.verify(fromMedium: false)
    }

    @Test func hostileFilesNeverTrap() throws {
        let shape = FilterShape(
            kind: .burr, keyBits: 8, prefixBits: 6, partitionAbove: 64,
            prefix: .fixed(length: 3))
        let (file, record) = try build(keys(70), shape)
        let blocks = try TableForge.blocks(of: file.bytes, record)
        var random = TableTestRandom(seed: 12)
        for round in 0..<300 {
            if round % 3 == 0 {
                var bytes = file.bytes
                for _ in 0...random.below(6) {
                    bytes[random.below(bytes.count)] = UInt8(random.below(256))
                }
                bytes.removeLast(random.below(4) == 0 ? random.below(bytes.count) : 0)
                lookAtEverything(bytes)
                continue
            }
            var forged = blocks
            for _ in 0...random.below(3) {
                let block = random.below(blocks.count)
                let place = random.below(forged[block].bytes.count)
                forged[block].bytes[place] = UInt8(random.below(256))
            }
            if random.below(9) == 0 { forged[random.below(forged.count)].type = 7 }
            lookAtEverything(TableForge.file(forged))
        }
        lookAtEverything([])
        lookAtEverything(random.bytes(5000))
    }
}
