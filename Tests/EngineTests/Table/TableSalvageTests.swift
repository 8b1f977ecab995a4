// What a salvage takes is right, all that is sound is taken, and what is lost is told: against a
// model, with every kind of damage, and with hostile bytes.

import Engine
import Testing

@Suite struct TableSalvageTests {
    private static let tombstones = [
        RangeTombstone(
            span: KeySpan(start: [0x62], end: [0x63]), sequence: SequenceNumber(4_000))
    ]

    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var bytes: [UInt8]
        var blocks: [BlockSummary]
        /// Entries of each data block.
        var entries: [[TestEntry]]

        var dataEnd: Int { entries.count }
        func bytes(ofBlock number: Int) -> Range<Int> {
            let start = Int(blocks[number].offset ?? 0) + 80
            return start..<(start + Int(blocks[number].storedBytes ?? 0))
        }
        func number(of type: String) -> Int { blocks.firstIndex { $0.type == type } ?? -1 }
    }

    private func sample(
        _ codec: Compression = .none, count: Int = 40, tombstones: [RangeTombstone] = tombstones
    ) throws -> Sample {
        var random = TableTestRandom(seed: 31)
        return try sample(codec, of: TestModel.random(count, &random), tombstones: tombstones)
    }

    private func sample(
        _ codec: Compression, of model: TestModel, tombstones: [RangeTombstone] = [],
        shape: TableShape = TableShape(blockBytes: 300, filterBitsPerKey: 10)
    ) throws -> Sample {
        let file = TableTestFile()
        let record = try buildTable(
            model, tombstones: tombstones, file: file, shape: shape, codec: codec, generation: 3)
        let reader = try TableReader.open(
            file: TableTestFile(file.bytes), record: record, cache: BlockCache(capacity: 0))
        var sample = Sample(
            model: model, record: record, bytes: file.bytes, blocks: [], entries: [])
        reader.forEachBlock { sample.blocks.append($0) }
        var left = model.entries[...]
        for block in sample.blocks {
            guard let data = block.data else { continue }
            sample.entries.append(Array(left.prefix(data.entries)))
            left = left.dropFirst(data.entries)
        }
        #expect(left.isEmpty && sample.entries.count > 4)
        return sample
    }

    private struct Result {
        var report: SalvageReport
        var bytes: [UInt8]
        var entries: [TestEntry] = []
        var tombstones: [RangeTombstone] = []
    }

    private func write(_ bytes: [UInt8], _ files: MemoryFileSystem, _ path: String) throws {
        let file = try files.open(path, .create)
        try file.writeAll(bytes, at: 0)
        try file.sync()
    }

    /// Salvages and reads the new file back. Nil if nothing could be taken.
    private func salvage(
        _ bytes: [UInt8], damage: (MemoryFileSystem) -> Void = { _ in }
    ) throws -> Result? {
        let files = MemoryFileSystem(seed: 1)
        try files.createDirectory("/t")
        try write(bytes, files, "/t/bad")
        damage(files)
        let report: SalvageReport
        do throws(EngineError) {
            report = try TableSalvage.run(files, from: "/t/bad", to: "/t/good")
        } catch {
            guard case .corrupt = error else { throw error }
            #expect(!files.exists("/t/good"))
            return nil
        }
        var result = Result(report: report, bytes: try files.readAll("/t/good", limit: 1 << 20))
        #expect(UInt64(result.bytes.count) == report.fileBytes)
        let file = try files.open("/t/good", .read)
        var record = try TableReader.describe(file)
        record.level = report.record.level
        #expect(record == report.record)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        #expect(reader.verify(fromMedium: true).isClean)
        result.tombstones = try reader.rangeTombstones(io: .blocking).tombstones
        let cursor = reader.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        while cursor.isValid {
            result.entries.append(cursor.entry)
            try cursor.next()
        }
        return result
    }

    // MARK: Sound and nearly sound files

    @Test(arguments: Compression.ofEachCodec)
    func aSoundTableComesOutByteForByte(codec: Compression) throws {
        let sample = try sample(codec)
        let result = try #require(try salvage(sample.bytes))
        #expect(result.bytes == sample.bytes)
        #expect(result.report.isOriginal && result.report.remade.isEmpty)
        #expect(result.report.blocksTaken == sample.entries.count)
    }

    /// One byte anywhere: a byte of a data block costs that block, one of the range tombstones costs
    /// those, and everything else costs nothing.
    @Test(arguments: Compression.ofEachCodec)
    func everyFlippedByteCostsWhatItMust(codec: Compression) throws {
        let sample = try sample(codec)
        let data = (0..<sample.dataEnd).map { sample.bytes(ofBlock: $0) }
        let ranges = sample.bytes(ofBlock: sample.number(of: "rangeTombstones"))
        let properties = sample.number(of: "properties")
        for offset in stride(from: 0, to: sample.bytes.count, by: 5) {
            var bytes = sample.bytes
            bytes[offset] ^= 0x10
            guard let result = try salvage(bytes) else {
                Issue.record("byte \(offset): nothing was taken")
                continue
            }
            let report = result.report
            let lost = data.firstIndex { $0.contains(offset) }
            var expected = sample.entries
            if let lost { expected[lost] = [] }
            if result.entries != expected.flatMap(\.self) {
                Issue.record("byte \(offset): other entries than expected")
            }
            let lostBlocks = report.losses.flatMap(\.blocks).map { Int($0.ordinal.rawValue) }
            #expect(lostBlocks == (lost.map { [$0] } ?? []), "byte \(offset)")
            if ranges.contains(offset) {
                #expect(result.tombstones.isEmpty && report.tombstoneLoss != .none)
            } else {
                #expect(result.tombstones == Self.tombstones && report.tombstoneLoss == .none)
            }
            #expect(
                report.isWhole == (lost == nil && !ranges.contains(offset)), "byte \(offset)")
            if report.isWhole, !sample.bytes(ofBlock: properties).contains(offset) {
                #expect(report.isOriginal && report.record == sample.record, "byte \(offset)")
                #expect(report.remade.count <= 1, "byte \(offset): \(report.remade)")
            }
        }
    }

    @Test func withoutLeafListPropertiesAndMapEveryBlockProvesItself() throws {
        let sample = try sample(.lz4)
        var bytes = sample.bytes
        bytes[sample.bytes(ofBlock: sample.number(of: "leaves")).lowerBound] ^= 1
        bytes[sample.bytes(ofBlock: sample.number(of: "properties")).lowerBound] ^= 1
        bytes[bytes.count - 1] ^= 1
        bytes[sample.bytes(ofBlock: 2).lowerBound + 9] ^= 1
        let result = try #require(try salvage(bytes))
        var expected = sample.entries
        expected[2] = []
        #expect(result.entries == expected.flatMap(\.self))
        #expect(result.tombstones == Self.tombstones)
        #expect(result.report.entriesExpected == nil && result.report.originalDigest == nil)
        #expect(!result.report.mayLackBlocks && result.report.blocksLost == 1)
    }

    /// Nothing but the header of the last data block says that it was data, and not a partition.
    @Test func theLastDataBlockIsMissedInFrontOfTheIndexPartitions() throws {
        var random = TableTestRandom(seed: 32)
        let filter = FilterShape(kind: .none, keyBits: 0, partitionAbove: 64)
        let sample = try sample(
            .none, of: TestModel.random(200, &random), tombstones: Self.tombstones,
            shape: TableShape(blockBytes: 300, filter: filter))
        #expect(sample.blocks[sample.dataEnd].type == "indexPartition")
        var bytes = sample.bytes
        bytes[sample.bytes(ofBlock: sample.dataEnd - 1).lowerBound - 80] ^= 1
        for type in ["leaves", "properties"] {
            bytes[sample.bytes(ofBlock: sample.number(of: type)).lowerBound] ^= 1
        }
        let result = try #require(try salvage(bytes))
        #expect(result.entries.count < sample.model.entries.count)
        #expect(!result.report.isWhole)
        #expect(result.report.mayLackBlocks || result.report.blocksLost == 1)
    }

    @Test func aFileWithADictionaryIsAsGoodAsItsDictionary() throws {
        let sample = try sample(.zstdDictionary(level: 3), of: .records(120))
        #expect(StoredBlocks(sample.bytes).dictionary != nil)
        #expect(try salvage(sample.bytes)?.bytes == sample.bytes)
        var bytes = sample.bytes
        // The header of a block which the leaf list knows: the dictionary still reads it.
        bytes[sample.bytes(ofBlock: 3).lowerBound - 20] ^= 1
        #expect(try salvage(bytes)?.report.isOriginal == true)
        bytes = sample.bytes
        bytes[128 + 80 + 40] ^= 1
        #expect(try salvage(bytes) == nil)
        bytes[sample.bytes(ofBlock: 3).lowerBound - 20] ^= 1
        #expect(try salvage(bytes) == nil)
    }

    // MARK: Losses

    @Test func lossesAreToldByBlocksAndKeys() throws {
        let sample = try sample()
        var bytes = sample.bytes
        let last = sample.dataEnd - 1
        for number in [0, 2, 3, last] { bytes[sample.bytes(ofBlock: number).lowerBound] ^= 4 }
        let result = try #require(try salvage(bytes))
        let losses = result.report.losses
        let points = try #require(sample.record.points)
        #expect(losses.map { $0.blocks.map(\.ordinal.rawValue) } == [[0], [2, 3], [UInt32(last)]])
        #expect(
            losses.map(\.first) == [
                points.smallest, sample.entries[1].last?.key, sample.entries[last - 1].last?.key,
            ])
        #expect(
            losses.map(\.last) == [
                sample.entries[1].first?.key, sample.entries[4].first?.key, points.largest,
            ])
        #expect(!result.report.isWhole && result.report.blocksLost == 4)
        #expect(result.report.entriesExpected == sample.record.entryCount)
        let kept = sample.entries.enumerated().filter { ![0, 2, 3, last].contains($0.offset) }
        #expect(result.entries == kept.flatMap(\.element))
    }

    @Test func aTruncatedFileGivesTheBlocksBeforeTheCut() throws {
        let sample = try sample(.lz4, tombstones: [])
        for length in stride(from: 0, to: sample.bytes.count, by: 9) {
            let whole = (0..<sample.dataEnd).filter {
                sample.bytes(ofBlock: $0).upperBound <= length
            }
            let result = try salvage([UInt8](sample.bytes[..<length]))
            guard !whole.isEmpty else {
                #expect(result == nil, "cut at \(length)")
                continue
            }
            let found = try #require(result)
            #expect(
                found.entries == sample.entries[..<whole.count].flatMap(\.self), "cut at \(length)")
            if whole.count < sample.dataEnd { #expect(!found.report.isWhole, "cut at \(length)") }
        }
    }

    @Test func unreadableSectorsCostTheirBlocksOnly() throws {
        // Long enough for a search that goes on behind the page.
        let sample = try sample(count: 200)
        let sector = UInt64(0)..<512
        let result = try #require(
            try salvage(sample.bytes) { $0.failReads("/t/bad", [sector]) })
        // The file header, and the blocks with stored bytes in the sector: of a block with only its
        // header there the leaf list knows the rest.
        let lost = (0..<sample.dataEnd).filter { sample.bytes(ofBlock: $0).lowerBound < 512 }
        #expect(!lost.isEmpty && lost.count < sample.dataEnd)
        #expect(result.entries == sample.entries[lost.count...].flatMap(\.self))
        #expect(result.report.losses.map(\.blocks.count) == [lost.count])
    }

    @Test func whatOnlyThePageCacheHasWrongIsNotLost() throws {
        let sample = try sample()
        let place = UInt64(sample.bytes(ofBlock: 1).lowerBound)
        let result = try #require(
            try salvage(sample.bytes) { $0.flip("/t/bad", place, onMedium: false) })
        #expect(result.report.isOriginal)
    }

    @Test func withoutSpaceNothingIsLeftBehind() throws {
        let sample = try sample()
        let files = MemoryFileSystem(seed: 1)
        try files.createDirectory("/t")
        try write(sample.bytes, files, "/t/bad")
        files.capacity = UInt64(sample.bytes.count) + 500
        #expect(throws: EngineError.self) {
            try TableSalvage.run(files, from: "/t/bad", to: "/t/good")
        }
        #expect(!files.exists("/t/good") && files.exists("/t/bad"))
    }

    @Test func aTableOfRangeTombstonesOnlyIsSalvaged() throws {
        let file = TableTestFile()
        let record = try buildTable(TestModel([]), tombstones: Self.tombstones, file: file)
        var bytes = file.bytes
        bytes[3] ^= 1
        bytes[bytes.count - 3] ^= 1
        let result = try #require(try salvage(bytes))
        #expect(result.report.isOriginal && result.report.record.digest == record.digest)
        #expect(result.tombstones == Self.tombstones && result.report.blocksTaken == 0)
    }

    // MARK: Refusals

    @Test func whatIsNoTableIsRefused() throws {
        var random = TableTestRandom(seed: 8)
        for bytes in [[], [0x41], [UInt8](repeating: 0, count: 9_000), random.bytes(20_000)] {
            #expect(try salvage(bytes) == nil)
        }
        let sample = try sample()
        #expect(try salvage([UInt8](sample.bytes[..<128])) == nil)
    }

    @Test func nothingIsOverwritten() throws {
        let sample = try sample()
        let files = MemoryFileSystem(seed: 1)
        try files.createDirectory("/t")
        try write(sample.bytes, files, "/t/bad")
        try write([1, 2, 3], files, "/t/there")
        for output in ["/t/there", "/t/bad"] {
            #expect {
                _ = try TableSalvage.run(files, from: "/t/bad", to: output)
            } throws: { error in
                if case EngineError.invalid = error { return true }
                return false
            }
        }
        #expect(try files.readAll("/t/there", limit: 9) == [1, 2, 3])
        #expect(try files.readAll("/t/bad", limit: 1 << 20) == sample.bytes)
        #expect(throws: EngineError.self) {
            try TableSalvage.run(files, from: "/t/none", to: "/t/new")
        }
        #expect(!files.exists("/t/new"))
    }

    // MARK: Hostile files

    @Test func blocksOutOfOrderAreNotTaken() throws {
        let sample = try sample()
        var blocks = try TableForge.blocks(of: sample.bytes, sample.record)
        let copy = try TableReader.describe(TableTestFile(TableForge.file(blocks)))
        #expect(copy == sample.record)
        blocks.swapAt(1, 3)
        let result = try #require(try salvage(TableForge.file(blocks)))
        // Block 3 stands where block 1 was, so the old blocks 2 and 1 come too late.
        #expect(result.report.losses.flatMap(\.blocks).map(\.ordinal.rawValue) == [2, 3])
        let taken = [0, 3] + Array(4..<sample.dataEnd)
        #expect(result.entries == taken.flatMap { sample.entries[$0] })
    }

    /// Blocks whose digests are right and whose content is not: taken or not, never a trap, and what
    /// comes out is a sound table.
    @Test func forgedContentNeverTraps() throws {
        let sample = try sample()
        let blocks = try TableForge.blocks(of: sample.bytes, sample.record)
        var random = TableTestRandom(seed: 77)
        var taken = 0
        for _ in 0..<250 {
            var forged = blocks
            for _ in 0...random.below(3) {
                let block = random.below(3) == 0 ? random.below(blocks.count) : blocks.count - 1
                for _ in 0...random.below(2) {
                    let place = random.below(forged[block].bytes.count)
                    forged[block].bytes[place] = UInt8(random.below(256))
                }
            }
            if random.below(8) == 0 { forged.remove(at: random.below(forged.count)) }
            if random.below(8) == 0 {
                forged[random.below(forged.count)].type = UInt8(random.below(12))
            }
            guard let result = try salvage(TableForge.file(forged)) else { continue }
            taken += 1
            #expect(result.entries == TestModel(result.entries).entries)
        }
        #expect(taken > 100)
    }

    @Test func noisyFilesNeverTrap() throws {
        let sample = try sample(.lz4)
        var random = TableTestRandom(seed: 5)
        for _ in 0..<150 {
            var bytes = sample.bytes
            for _ in 0...random.below(20) {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            if random.below(3) == 0 {
                let start = random.below(bytes.count)
                bytes.removeSubrange(start..<min(bytes.count, start + random.below(300)))
            }
            guard let result = try salvage(bytes) else { continue }
            let known = Set(sample.model.entries.map(\.description))
            #expect(result.entries.allSatisfy { known.contains($0.description) })
        }
    }
}
