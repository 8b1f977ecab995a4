// Scans leave blocks unread that cannot hold anything for them: by the sequences of the block, and
// by the index at the end of their span. What they show stays the same.

import Engine
import Testing

@Suite struct BlockBoundsTests {
    private struct Sample {
        var model: TestModel
        var record: TableRecord
        var file: TableTestFile
        var cache = BlockCache(capacity: 4 << 20, shards: 1)

        func open(_ mender: (any BlockMender)? = nil) throws -> TableReader {
            try TableReader.open(file: file, record: record, cache: cache, mender: mender)
        }
    }

    private func sample(
        _ model: TestModel, partitionAbove: UInt32 = 4 << 20, codec: Compression = .lz4
    ) throws -> Sample {
        let file = TableTestFile()
        let filter = FilterShape(kind: .none, keyBits: 0, partitionAbove: partitionAbove)
        let record = try buildTable(
            model, file: file, shape: TableShape(blockBytes: 500, filter: filter), codec: codec)
        return Sample(model: model, record: record, file: file)
    }

    /// Keys in the order of time, some written again much later.
    private func timeline(_ count: Int = 600, again: Int = 0) -> TestModel {
        var entries = TestModel.records(count).entries
        for number in 0..<again {
            let entry = entries[number * 7 % count]
            entries.append(
                TestEntry(
                    key: entry.key,
                    trailer: Trailer(SequenceNumber(UInt64(count + number + 1)), .put),
                    value: bytes("again")))
        }
        return TestModel(entries)
    }

    /// The body gets a cursor of that scope, which ends with it.
    private func withCursor(
        _ reader: TableReader, visible: SequenceNumber = .max, span: KeySpan = .everything,
        _ body: (TableCursor) throws -> Void
    ) throws {
        try withBytes(span.start) { start in
            try withBytes(span.end ?? []) { end in
                let scope = ScanScope(
                    visible: visible, start: start, end: span.end == nil ? nil : end)
                try body(reader.makeCursor(io: .blocking, scope: scope))
            }
        }
    }

    private func scan(_ cursor: TableCursor) throws -> [TestEntry] {
        var found: [TestEntry] = []
        try cursor.seekToFirst()
        while cursor.isValid {
            found.append(cursor.entry)
            try cursor.next()
        }
        return found
    }

    private func scanBack(_ cursor: TableCursor) throws -> [TestEntry] {
        var found: [TestEntry] = []
        try cursor.seekToLast()
        while cursor.isValid {
            found.append(cursor.entry)
            try cursor.previous()
        }
        return found.reversed()
    }

    // MARK: When a table has them

    @Test func `A table has bounds where they tell something`() throws {
        var random = TableTestRandom(seed: 2)
        let scattered = TestModel.random(900, &random)
        #expect(try sample(timeline()).open().leafList.blockBounds != nil)
        #expect(try sample(scattered).open().leafList.blockBounds == nil)
        #expect(try sample(timeline(40)).open().leafList.blockBounds == nil, "few blocks")
    }

    @Test func `Bounds are those of the blocks`() throws {
        let reader = try sample(timeline(again: 100)).open()
        let ordinal = try #require(reader.leafList.blockBounds)
        let bytes = try reader.canonicalBlock(ordinal, fromMedium: false)
        let bounds = try withBytes(bytes) {
            try BlockBounds(decoding: $0, count: reader.leafList.dataCount)
        }
        var checked = 0
        reader.forEachBlock { summary in
            guard let data = summary.data else { return }
            #expect(bounds[Int(summary.ordinal.rawValue)] == data.sequences)
            #expect(summary.damage == nil)
            checked += 1
        }
        #expect(checked == reader.leafList.dataCount)
    }

    // MARK: Scans as of an older sequence

    @Test func `A scan passes over blocks that came later`() throws {
        let sample = try sample(timeline())
        let reader = try sample.open()
        try withCursor(reader, visible: SequenceNumber(60)) { cursor in
            let found = try scan(cursor)
            #expect(Array(found.prefix(60)) == Array(sample.model.entries.prefix(60)))
        }
        let touched = sample.cache.usedBytes
        #expect(try scan(reader.makeCursor(io: .blocking)) == sample.model.entries)
        #expect(touched > 0 && touched * 5 < sample.cache.usedBytes)
    }

    @Test func `A reader of the newest loads no bounds`() throws {
        let sample = try sample(timeline())
        let reader = try sample.open()
        let ordinal = try #require(reader.leafList.blockBounds)
        // They are damaged, which nobody notices.
        try damage(sample, ordinal)
        let mender = CopyMender(reader)
        try withCursor(try sample.open(mender), visible: sample.record.largestSequence) { cursor in
            let found = try scan(cursor)
            #expect(found == sample.model.entries)
        }
        #expect(mender.noted.isEmpty)
    }

    /// Everything in the scope is shown, in order, whatever else is; forward, in reverse, and after
    /// seeks.
    @Test(arguments: [4 << 20, 1024])
    func `Nothing in the scope is left out`(partitionAbove: UInt32) throws {
        let sample = try sample(timeline(300, again: 60), partitionAbove: partitionAbove)
        let all = sample.model.entries
        let reader = try sample.open()
        #expect(reader.leafList.blockBounds != nil)
        var random = TableTestRandom(seed: 11)
        for _ in 0..<150 {
            let visible = SequenceNumber(UInt64(random.below(400)))
            var ends = [all[random.below(all.count)].key, all[random.below(all.count)].key]
            ends.sort { $0.isKeyBefore($1) }
            let span = KeySpan(
                start: random.below(4) == 0 ? [] : ends[0],
                end: random.below(4) == 0 ? nil : ends[1])
            func isInScope(_ entry: TestEntry) -> Bool {
                entry.trailer.sequence <= visible
                    && !entry.key.isKeyBefore(span.start)
                    && (span.end.map { entry.key.isKeyBefore($0) } ?? true)
            }
            let wanted = all.filter(isInScope)
            try withCursor(reader, visible: visible, span: span) { cursor in
                for found in [try scan(cursor), try scanBack(cursor)] {
                    #expect(found == found.sorted(by: TestEntry.isBefore))
                    if span == .everything { #expect(found.filter(isInScope) == wanted) }
                }
                // As a scan of the span goes.
                try cursor.seek(span.start, Trailer(rawValue: .max))
                var found: [TestEntry] = []
                while cursor.isValid, span.end.map({ cursor.entry.key.isKeyBefore($0) }) ?? true {
                    found.append(cursor.entry)
                    try cursor.next()
                }
                #expect(found.filter(isInScope) == wanted)
                if let end = span.end {
                    try cursor.seekBefore(end)
                } else {
                    try cursor.seekToLast()
                }
                found = []
                while cursor.isValid, !cursor.entry.key.isKeyBefore(span.start) {
                    found.append(cursor.entry)
                    try cursor.previous()
                }
                #expect(found.reversed().filter(isInScope) == wanted)
            }
        }
    }

    // MARK: Ends of spans

    /// Four pairs of a user fill a block.
    @Test func `A scan of a prefix does not read the blocks around it`() throws {
        let entries = (0..<400).map { number in
            TestEntry(
                key: bytes("user\(100 + number / 4):\(number % 4)"),
                trailer: Trailer(SequenceNumber(UInt64(number + 1)), .put),
                value: [UInt8](repeating: 0x2e, count: 100))
        }
        let sample = try sample(TestModel(entries), codec: .none)
        let reader = try sample.open()
        #expect(reader.leafList.dataCount == 100)
        let span = KeySpan.prefix(bytes("user120:"))
        let before = sample.file.readCount
        try withCursor(reader, span: span) { cursor in
            try cursor.seek(span.start, Trailer(rawValue: .max))
            for entry in entries[80..<84] {
                #expect(cursor.isValid && cursor.entry == entry)
                try cursor.next()
            }
            #expect(!cursor.isValid)
            try cursor.seekBefore(try #require(span.end))
            for entry in entries[80..<84].reversed() {
                #expect(cursor.isValid && cursor.entry == entry)
                try cursor.previous()
            }
            #expect(!cursor.isValid)
        }
        #expect(sample.file.readCount == before + 1)
    }

    // MARK: Damage

    private func damage(_ sample: Sample, _ ordinal: BlockOrdinal) throws {
        let reader = try sample.open()
        var place: UInt64?
        reader.forEachBlock { if $0.ordinal == ordinal { place = $0.offset } }
        var bytes = sample.file.bytes
        bytes[Int(try #require(place)) + 80 + 12] ^= 1
        sample.file.bytes = bytes
    }

    @Test func `Damaged bounds are noted once and cost nothing but their help`() throws {
        let sample = try sample(timeline())
        let good = try TableReader.open(
            file: TableTestFile(sample.file.bytes), record: sample.record,
            cache: BlockCache(capacity: 0))
        try damage(sample, try #require(good.leafList.blockBounds))
        let mender = CopyMender(good)
        let reader = try sample.open(mender)
        for _ in 0..<3 {
            try withCursor(reader, visible: SequenceNumber(60)) { cursor in
                let found = try scan(cursor)
                #expect(found == sample.model.entries)
            }
        }
        #expect(mender.noted.count == 1 && mender.asked.isEmpty)
    }

    @Test func `Bounds that do not decode are refused`() throws {
        let reader = try sample(timeline()).open()
        let ordinal = try #require(reader.leafList.blockBounds)
        let bytes = try reader.canonicalBlock(ordinal, fromMedium: false)
        let count = reader.leafList.dataCount
        func refuses(_ bytes: [UInt8], _ count: Int) -> Bool {
            withBytes(bytes) { (try? BlockBounds(decoding: $0, count: count)) == nil }
        }
        #expect(!refuses(bytes, count))
        #expect(refuses(bytes, count + 1) && refuses(bytes, 0))
        #expect(refuses(bytes + [0], count) && refuses(bytes.dropLast(), count))
        for length in 0..<16 { #expect(refuses(Array(bytes.prefix(length)), count)) }
        var huge = bytes
        for place in 8..<15 { huge[place] = 0xff }
        #expect(refuses(huge, count), "above the largest sequence")
    }

    /// An index or bounds of blocks, right by their digests, that lie: the tools say so.
    @Test func `Bounds that tell of other sequences are found by the tools`() throws {
        let sample = try sample(timeline(), codec: .none)
        var blocks = try TableForge.blocks(of: sample.file.bytes, sample.record)
        let place = try #require(blocks.firstIndex { $0.type == 11 })
        blocks[place].bytes[17] += 1
        let file = TableTestFile(TableForge.file(blocks))
        let reader = try TableReader.open(
            file: file, record: try TableReader.describe(file), cache: BlockCache(capacity: 0))
        var damage: [String] = []
        reader.forEachBlock { if let found = $0.damage { damage.append(found.reason) } }
        #expect(damage == ["the bounds of blocks tell of other sequences"])
    }

    // MARK: Golden bytes

    @Test func `The bytes of bounds`() throws {
        let entries = (0..<17).map { number in
            TestEntry(
                key: bytes("key\(10 + number)"),
                trailer: Trailer(SequenceNumber(UInt64(1000 + number * number)), .put),
                value: [UInt8](repeating: 0x2e, count: 80))
        }
        let file = TableTestFile()
        let record = try buildTable(
            TestModel(entries), file: file,
            shape: TableShape(blockBytes: 100, filter: .none))
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        let ordinal = try #require(reader.leafList.blockBounds)
        let block = try reader.canonicalBlock(ordinal, fromMedium: false)
        let hex = block.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
        #expect(
            hex == "1100000000000000e8030000000000000000010004000900100019002400310040005100"
                + "64007900900100a90100c40100e10100800200")
        #expect(record.digest.description == "18f9b11823e1d400f0b63c4020f99a89")
    }
}
