// Whatever happens to the bytes of a file, a read is right or a typed error: never wrong data,
// never "not found" for what was written.

import Engine
import Testing

@Suite struct TableDamageTests {
    private static func smallModel() -> TestModel {
        var random = TableTestRandom(seed: 21)
        return TestModel.random(24, &random)
    }
    private static let tombstone = RangeTombstone(
        span: KeySpan(start: [0x62], end: [0x63]), sequence: SequenceNumber(4_000))

    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var bytes: [UInt8]
        var good: TableReader
    }

    private func sample(_ codec: Compression) throws -> Sample {
        let file = TableTestFile()
        let model = codec.codec == .zstdDictionary ? TestModel.records(40) : Self.smallModel()
        let record = try buildTable(
            model, tombstones: [Self.tombstone], file: file,
            shape: TableShape(blockBytes: 300, filterBitsPerKey: 10), codec: codec)
        let good = try TableReader.open(
            file: TableTestFile(file.bytes), record: record, cache: BlockCache(capacity: 0))
        return Sample(model: model, record: record, bytes: file.bytes, good: good)
    }

    /// Every byte; with zstd, whose blocks are no different to what is around them, every seventh.
    private func offsets(_ sample: Sample, _ codec: Compression) -> [Int] {
        let step = [.none, .lz4].contains(codec) ? 1 : 7
        return Array(stride(from: 0, to: sample.bytes.count, by: step))
    }

    /// Reads everything; wrong data is a failure, a typed error counts. Returns how many failed.
    private func readAll(
        _ bytes: [UInt8], _ sample: Sample, mender: (any BlockMender)? = nil, _ what: String
    ) -> Int {
        var errors = 0
        let reader: TableReader
        do {
            reader = try TableReader.open(
                file: TableTestFile(bytes), record: sample.record,
                cache: BlockCache(capacity: 1 << 20, shards: 1), mender: mender)
        } catch { return 1 }
        for entry in sample.model.entries {
            do {
                let found = try reader.lookup(entry.key, at: entry.trailer.sequence)
                if found != entry { Issue.record("\(what): \(entry)") }
            } catch { errors += 1 }
        }
        do {
            let list = try reader.rangeTombstones(io: .blocking)
            if list.tombstones != [Self.tombstone] { Issue.record("\(what): range tombstones") }
        } catch { errors += 1 }
        do {
            let cursor = reader.makeCursor(io: .blocking)
            var all: [TestEntry] = []
            try cursor.seekToFirst()
            while cursor.isValid {
                all.append(cursor.entry)
                try cursor.next()
            }
            if all != sample.model.entries { Issue.record("\(what): a scan") }
        } catch { errors += 1 }
        return errors
    }

    /// Traps 16 and 18: every byte is covered, headers among them, and none costs the whole table.
    @Test(arguments: Compression.ofEachCodec)
    func everyFlippedByteIsMendedOrAnError(codec: Compression) throws {
        let sample = try sample(codec)
        var random = TableTestRandom(seed: 4)
        var damaging = 0
        let offsets = offsets(sample, codec)
        for offset in offsets {
            var bytes = sample.bytes
            bytes[offset] ^= UInt8(random.below(255) + 1)
            if readAll(bytes, sample, "byte \(offset)") > 0 { damaging += 1 }
            let mender = CopyMender(sample.good)
            if readAll(bytes, sample, mender: mender, "mended byte \(offset)") > 0 {
                Issue.record("byte \(offset) was not mended")
            }
        }
        // Most bytes are data; header, map, footer and filter cost no read.
        #expect(damaging > offsets.count / 2)
    }

    @Test(arguments: Compression.ofEachCodec)
    func everyFlippedByteIsFoundByVerify(codec: Compression) throws {
        let sample = try sample(codec)
        let stored = StoredBlocks(sample.bytes)
        let dictionary = 128..<128 + (stored.dictionary.map { 80 + $0.stored.count } ?? 0)
        #expect(dictionary.isEmpty == (codec.codec != .zstdDictionary))
        let file = TableTestFile(sample.bytes)
        let reader = try TableReader.open(
            file: file, record: sample.record, cache: BlockCache(capacity: 0))
        for offset in offsets(sample, codec) {
            var bytes = sample.bytes
            bytes[offset] ^= 0x40
            file.bytes = bytes
            let found = reader.verify(fromMedium: true)
            // With the dictionary all blocks that were made with it are lost.
            let count =
                dictionary.contains(offset)
                ? found.localDamage.count : found.damagedBlocks.count + found.localDamage.count
            if count != 1 {
                Issue.record("byte \(offset): \(found)")
            }
        }
        file.bytes = sample.bytes
        #expect(reader.verify(fromMedium: false).isClean)
    }

    @Test(arguments: [Compression.lz4, .zstdDictionary(level: 3)])
    func everyTruncationIsMendedOrAnError(codec: Compression) throws {
        let sample = try sample(codec)
        for length in offsets(sample, codec) {
            let bytes = [UInt8](sample.bytes[..<length])
            _ = readAll(bytes, sample, "cut at \(length)")
            let mender = CopyMender(sample.good)
            if readAll(bytes, sample, mender: mender, "mended cut at \(length)") > 0 {
                Issue.record("a cut at \(length) was not mended")
            }
        }
    }

    /// Trap 16: a header without a checksum made what follows it unreadable.
    @Test func aLostMapAndAHoleInTheHeadersLeaveTheOtherBlocksReadable() throws {
        let sample = try sample(.none)
        var bytes = sample.bytes
        bytes[bytes.count - 1] ^= 1
        // The header of block 1 follows the file header, block 0's header and its bytes.
        let first = try sample.good.canonicalBlock(BlockOrdinal(0), fromMedium: false).count
        bytes[128 + 80 + first + 9] ^= 1
        let reader = try TableReader.open(
            file: TableTestFile(bytes), record: sample.record, cache: BlockCache(capacity: 0))
        let found = reader.verify(fromMedium: false)
        #expect(found.damagedBlocks.map(\.ordinal) == [BlockOrdinal(1)])
        #expect(found.localDamage.count == 1)
        #expect(reader.localDamage.count == 1)
    }

    @Test func aDamagedFilterSaysMaybeAndIsNoted() throws {
        let sample = try sample(.none)
        let ordinal = try #require(sample.good.leafList.filter)
        let filter = try sample.good.canonicalBlock(ordinal, fromMedium: false)
        var bytes = sample.bytes
        let place = try #require(
            bytes.indices.first { bytes[$0...].starts(with: filter) })
        bytes[place + 20] ^= 1
        let mender = CopyMender(sample.good)
        #expect(readAll(bytes, sample, mender: mender, "filter") == 0)
        #expect(mender.noted.count == 1 && mender.asked.isEmpty)
        #expect(readAll(bytes, sample, "filter without a mender") == 0)
    }

    @Test func aMenderThatLiesIsNotBelieved() throws {
        final class Liar: BlockMender {
            func mend(
                _ address: BlockAddress, record: TableRecord, expected: Digest128?, reason: String
            ) throws(EngineError) -> [UInt8] { [UInt8](repeating: 7, count: 300) }
        }
        let sample = try sample(.none)
        for offset in stride(from: 0, to: sample.bytes.count, by: 5) {
            var bytes = sample.bytes
            bytes[offset] ^= 0x80
            _ = readAll(bytes, sample, mender: Liar(), "byte \(offset), liar")
        }
    }

    @Test func aFileOfAnotherTableIsRefused() throws {
        let sample = try sample(.none)
        var other = sample.record
        other.id = TableID(index: LogIndex(78), kind: .flush, ordinal: 3)
        #expect {
            _ = try TableReader.open(
                file: TableTestFile(sample.bytes), record: other, cache: BlockCache(capacity: 0))
        } throws: { error in
            if case EngineError.tableLost = error { return true }
            return false
        }
        var wrongDigest = sample.record
        wrongDigest.digest.low ^= 1
        #expect(throws: EngineError.self) {
            _ = try TableReader.open(
                file: TableTestFile(sample.bytes), record: wrongDigest,
                cache: BlockCache(capacity: 0))
        }
    }

    /// Random bytes into every decoder: an error or a value, never a trap.
    @Test func decodersTakeAnyBytes() throws {
        let sample = try sample(.none)
        var random = TableTestRandom(seed: 6)
        var blocks: [[UInt8]] = []
        for number in 0..<sample.good.blockCount {
            blocks.append(
                try sample.good.canonicalBlock(BlockOrdinal(UInt32(number)), fromMedium: false))
        }
        for _ in 0..<6000 {
            var bytes = blocks[random.below(blocks.count)]
            for _ in 0...random.below(3) {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            if random.below(4) == 0 { bytes.removeLast(random.below(bytes.count)) }
            _ = try? LeafList(decoding: bytes)
            withBytes(bytes) { raw in
                if (try? DataBlockFormat.validate(raw)) != nil { readEverything(raw) }
                _ = try? DecodedIndex(decoding: raw, count: sample.good.leafList.dataCount)
                _ = try? RangeTombstoneBlock.decode(raw)
                _ = try? TableProperties(decoding: raw)
                _ = try? ResidentFilter(decoding: raw)
                _ = BlockHeader(decoding: raw)
                _ = try? TableFooter(decoding: raw)
            }
        }
    }

    private func readEverything(_ raw: UnsafeRawBufferPointer) {
        guard let base = raw.baseAddress else { return }
        let block = DataBlock(base)
        for index in 0..<block.count {
            let entry = block.entry(index)
            let end = base + raw.count
            if let value = entry.value.baseAddress { #expect(value + entry.value.count <= end) }
            #expect(entry.shared <= block.firstKey.count)
        }
        _ = withBytes([0x6b, 0x65, 0x79]) { block.lowerBound($0, .seek(.max)) }
    }
}
