// Every decoder of a file, given a wrong byte at a known place: the error names the file, where what
// is damaged starts, and the cause.
import Engine
import Testing

/// A file of a database that was damaged, and what an open must say of it.
struct DamagePlace: Sendable, CustomTestStringConvertible {
    struct Expected {
        /// The end of the path or name in the error.
        var file: String
        var offset: UInt64?
    }

    var name: String
    var mode = RecoveryMode.strict
    var inflict: @Sendable (RecoveryBed) throws -> Expected

    var testDescription: String { "\(name), \(mode)" }
}

extension RecoveryBed {
    fileprivate func size(_ path: String) throws -> UInt64 { try memory.open(path, .read).size() }

    /// Where the frame starts whose entry has the value of a key.
    fileprivate func frame(ofKey number: Int, in path: String) throws -> UInt64 {
        let value = UInt64(try offset(ofKey: number, in: path))
        var found: UInt64?
        _ = try SegmentInspection.inspect(memory.open(path, .read)) { item in
            if item.offset < value { found = item.offset }
            return true
        }
        return try #require(found)
    }

    fileprivate func tableBlocks(_ path: String) throws -> [BlockSummary] {
        let file = try memory.open(path, .read)
        let reader = try TableReader.open(
            file: file, record: TableReader.describe(file), cache: BlockCache(capacity: 0))
        var blocks: [BlockSummary] = []
        reader.forEachBlock { blocks.append($0) }
        return blocks
    }

    /// Where the data block starts that has the value of a key.
    fileprivate func block(ofKey number: Int, in path: String) throws -> UInt64 {
        let value = UInt64(try offset(ofKey: number, in: path))
        return try #require(tableBlocks(path).compactMap(\.offset).last { $0 < value })
    }
}

@Suite struct DamagePlaceTests {
    private typealias Expected = DamagePlace.Expected

    private static func appending(_ name: String) -> DamagePlace {
        DamagePlace(name: "a record of \(name)") { bed in
            let path = bed.group + "/" + name
            let end = try bed.size(path)
            try bed.append([9, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2], to: path)
            return Expected(file: name, offset: end)
        }
    }

    private static func entry(_ mode: RecoveryMode, isFirst: Bool = false) -> DamagePlace {
        DamagePlace(name: isFirst ? "the first entry" : "an entry", mode: mode) { bed in
            let path = isFirst ? try bed.segments()[0] : try bed.middleSegment()
            let key = isFirst ? RecoveryBed.flushed : 60
            let frame = try bed.frame(ofKey: key, in: path)
            try bed.damage(key: key, in: path)
            return Expected(file: path, offset: frame)
        }
    }

    private static let places: [DamagePlace] = [
        DamagePlace(name: "the identity", mode: .normal) { bed in
            bed.memory.flip(DatabaseRig.path + "/node", 12)
            return Expected(file: "node", offset: 0)
        },
        DamagePlace(name: "a copy of hard state") { bed in
            bed.memory.flip(bed.group + "/state", HardStateFormat.copyOffset(2) + 30)
            return Expected(file: "state", offset: HardStateFormat.copyOffset(2))
        },
        appending("hints"), appending("ledger"),
        DamagePlace(name: "a slot of jobs") { bed in
            let attempts = try JobAttempts.open(bed.memory, path: bed.group + "/jobs")
            let end = try bed.size(bed.group + "/jobs")
            _ = try attempts.begin(JobID(index: LogIndex(7), kind: .compaction))
            _ = try attempts.begin(JobID(index: LogIndex(8), kind: .compaction))
            bed.memory.flip(bed.group + "/jobs", end + 40 + 9)
            return Expected(file: "jobs", offset: end + 40)
        },
        DamagePlace(name: "the header of a segment") { bed in
            let path = try bed.middleSegment()
            bed.memory.flip(path, 40)
            return Expected(file: path, offset: 0)
        },
        entry(.strict), entry(.normal), entry(.strict, isFirst: true),
        entry(.normal, isFirst: true),
        DamagePlace(name: "the frame of an entry", mode: .normal) { bed in
            let path = try bed.middleSegment()
            let frame = try bed.frame(ofKey: 60, in: path)
            bed.memory.flip(path, frame + 20)
            return Expected(file: path, offset: frame)
        },
        DamagePlace(name: "a torn append") { bed in
            let path = try bed.lastSegment()
            let frame = try bed.frame(ofKey: RecoveryBed.total - 1, in: path)
            try bed.forgetDurability()
            try bed.tearLastAppend()
            return Expected(file: path, offset: frame)
        },
        DamagePlace(name: "a missing segment", mode: .normal) { bed in
            let path = try bed.middleSegment()
            try bed.memory.unlink(path)
            return Expected(file: path, offset: nil)
        },
        DamagePlace(name: "a copy of the manifest") { bed in
            bed.memory.flip(try bed.manifests()[1], 100)
            return Expected(file: "MANIFEST-1.mirror", offset: 100)
        },
        DamagePlace(name: "the headers of the manifest", mode: .normal) { bed in
            for path in try bed.manifests() { bed.memory.flip(path, 20) }
            return Expected(file: "MANIFEST-1", offset: 0)
        },
        DamagePlace(name: "the snapshots of the manifest", mode: .normal) { bed in
            for path in try bed.manifests() { bed.memory.flip(path, 100) }
            return Expected(file: "MANIFEST-1", offset: 64)
        },
        DamagePlace(name: "an early record of the manifest", mode: .normal) { bed in
            let record = try ManifestInspection.inspect(bed.memory, bed.group).records[1]
            for path in try bed.manifests() {
                bed.memory.flip(path, UInt64(record.range.upperBound - 1))
            }
            return Expected(file: "MANIFEST-1", offset: UInt64(record.range.lowerBound))
        },
        DamagePlace(name: "CURRENT") { bed in
            bed.memory.flip(bed.group + "/CURRENT", 9)
            return Expected(file: "CURRENT", offset: 0)
        },
        // By that name a node knows that its peers have what it lost.
        DamagePlace(name: "CURRENT, with every manifest gone", mode: .normal) { bed in
            bed.memory.flip(bed.group + "/CURRENT", 9)
            for path in try bed.manifests() { try bed.memory.unlink(path) }
            return Expected(file: "MANIFEST", offset: nil)
        },
        DamagePlace(name: "a block of a table") { bed in
            let path = try bed.table()
            let block = try bed.block(ofKey: 5, in: path)
            try bed.damage(key: 5, in: path)
            return Expected(file: path, offset: block)
        },
        DamagePlace(name: "the header of a table") { bed in
            let path = try bed.table()
            bed.memory.flip(path, 20)
            return Expected(file: path, offset: 0)
        },
        DamagePlace(name: "the footer of a table") { bed in
            let path = try bed.table()
            let size = try bed.size(path)
            bed.memory.flip(path, size - 20)
            return Expected(file: path, offset: size - 80)
        },
    ]

    @Test(arguments: places)
    func `An open that is refused says which file is damaged, where and why`(
        place: DamagePlace
    ) throws {
        let bed = try RecoveryBed()
        let expected = try place.inflict(bed)
        bed.rig.options.recovery = place.mode
        let error = #expect(throws: EngineError.self) { try bed.rig.open() }
        guard case .corrupt(let file, let offset, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(offset == expected.offset && !reason.isEmpty, "\(reason)")
        #expect(!file.isEmpty && expected.file.hasSuffix(file), "\(file)")
        let text = expected.offset.map { "\(file) is damaged at byte \($0): \(reason)" }
        #expect(error?.description == text ?? "\(file) is damaged: \(reason)")
    }

    @Test func `A read of a lost block names the file and where the block starts in it`() throws {
        let bed = try RecoveryBed()
        let path = try bed.table()
        let block = try bed.block(ofKey: 5, in: path)
        try bed.damage(key: 5, in: path)
        try bed.rig.open()
        let error = #expect(throws: EngineError.self) {
            _ = try bed.rig.database.get(RecoveryBed.key(5))
        }
        guard case .blockLost(_, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.hasPrefix("\(path) at byte \(block): its checksum is wrong"), "\(reason)")
    }

    // MARK: - Tables

    private static let shape = TableShape(blockBytes: 400, filterBitsPerKey: 10)
    private static let tombstone = RangeTombstone(
        span: KeySpan(start: [0x62], end: [0x63]), sequence: SequenceNumber(4_000))

    private struct Sample {
        var record: TableRecord
        var bytes: [UInt8]
        var blocks: [BlockSummary] = []

        func open(_ bytes: [UInt8], _ mender: (any BlockMender)? = nil) throws -> TableReader {
            try TableReader.open(
                file: TableTestFile(bytes), record: record, cache: BlockCache(capacity: 0),
                mender: mender)
        }

        func place(_ type: String) throws -> UInt64 {
            try #require(blocks.first { $0.type == type }?.offset)
        }

        func flipped(_ offset: UInt64) -> [UInt8] {
            var copy = bytes
            copy[Int(offset)] ^= 1
            return copy
        }
    }

    private func sample(_ codec: Compression = .none) throws -> Sample {
        let file = TableTestFile()
        let record = try buildTable(
            .records(120), tombstones: [Self.tombstone], file: file, shape: Self.shape,
            codec: codec)
        var sample = Sample(record: record, bytes: file.bytes)
        var blocks: [BlockSummary] = []
        try sample.open(file.bytes).forEachBlock { blocks.append($0) }
        sample.blocks = blocks
        return sample
    }

    private func place(of error: EngineError?, _ file: String) -> UInt64? {
        guard case .corrupt(file, let offset, _)? = error else {
            Issue.record("\(String(describing: error))")
            return nil
        }
        return offset
    }

    @Test(arguments: Compression.ofEachCodec)
    func `A lost block of any kind is said with file and byte`(codec: Compression) throws {
        let sample = try sample(codec)
        let types = Set(sample.blocks.map(\.type))
        #expect(types.isSuperset(of: ["data", "index", "filter", "rangeTombstones", "properties"]))
        let good = try sample.open(sample.bytes)
        for block in sample.blocks {
            let start = try #require(block.offset)
            // Of its header and of its content.
            for place in [start + 30, start + 80] {
                let reader = try sample.open(sample.flipped(place), CopyMender(good))
                let found = reader.verify(fromMedium: true)
                #expect(found.damagedBlocks.map(\.ordinal) == [block.ordinal])
                #expect(found.damagedBlocks.first?.damage.offset == start)
                let error = #expect(throws: EngineError.self) {
                    try reader.canonicalBlock(block.ordinal, fromMedium: true)
                }
                guard case .blockLost(_, let reason)? = error else {
                    Issue.record("\(String(describing: error))")
                    continue
                }
                #expect(reason.hasPrefix("test.sst at byte \(start): its "), "\(reason)")
            }
        }
    }

    @Test func `The parts of a table that are not blocks have a place`() throws {
        let sample = try sample(.zstdDictionary(level: 3))
        let size = UInt64(sample.bytes.count)
        let map = size - 80 - 12 * UInt64(sample.blocks.count)
        for (flip, place) in [(20, 0), (128 + 100, 128), (map + 3, map), (size - 9, size - 80)] {
            let found = try sample.open(sample.flipped(flip)).localDamage
            #expect(found.map(\.offset) == [place], "\(found)")
        }
        // What needs the dictionary is lost with it.
        let reader = try sample.open(sample.flipped(128 + 100))
        let error = #expect(throws: EngineError.self) {
            try reader.canonicalBlock(BlockOrdinal(0), fromMedium: false)
        }
        guard case .blockLost(_, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let start = try sample.place("data")
        #expect(
            reason == "test.sst at byte \(start): the file's dictionary, at byte 128, is damaged")
    }

    @Test func `A damaged filter is reported with file and byte`() throws {
        let sample = try sample()
        let filter = try sample.place("filter")
        let mender = CopyMender(try sample.open(sample.bytes))
        _ = try sample.open(sample.flipped(filter + 90), mender)
        #expect(mender.noted == ["test.sst at byte \(filter): its checksum is wrong"])
    }

    @Test func `Tools for a table alone say where its parts are damaged`() throws {
        let sample = try sample()
        let header = #expect(throws: EngineError.self) {
            try TableImport.localHeader(TableTestFile(sample.flipped(30)))
        }
        #expect(place(of: header, "test.sst") == 0)
        for type in ["properties", "leaves"] {
            let start = try sample.place(type)
            let error = #expect(throws: EngineError.self) {
                try TableReader.describe(TableTestFile(sample.flipped(start + 85)))
            }
            #expect(place(of: error, "test.sst") == start)
        }
        let size = UInt64(sample.bytes.count)
        let footer = #expect(throws: EngineError.self) {
            try TableAnatomy.parts(of: TableTestFile(sample.flipped(size - 9)), .blockMap)
        }
        #expect(place(of: footer, "test.sst") == size - 80)
    }

    /// The digest is right, and so it is no damage that a replica could mend.
    @Test func `A block that does not decode has a place`() throws {
        let sample = try sample()
        let forged = try TableForge.blocks(of: sample.bytes, sample.record)
        for (type, name) in [(UInt8(2), "index"), (4, "rangeTombstones"), (5, "properties")] {
            var blocks = forged
            let number = try #require(blocks.firstIndex { $0.type == type })
            blocks[number].bytes = [0xff, 0xff, 0xff]
            let file = TableTestFile(TableForge.file(blocks))
            let block = try #require(StoredBlocks(file.bytes).start(of: number))
            guard type != 5 else {
                let error = #expect(throws: EngineError.self) { try TableReader.describe(file) }
                #expect(place(of: error, "test.sst") == block, "\(name)")
                continue
            }
            let reader = try TableReader.open(
                file: file, record: TableReader.describe(file), cache: BlockCache(capacity: 0))
            let error = #expect(throws: EngineError.self) {
                _ = try reader.lookup(TestModel.records(120).entries[0].key, at: .max)
                _ = try reader.rangeTombstones(io: .blocking)
            }
            #expect(place(of: error, "test.sst") == block, "\(name)")
        }
        var blocks = forged
        blocks[0].bytes = [0xff, 0xff, 0xff]
        let file = TableTestFile(TableForge.file(blocks))
        let reader = try TableReader.open(
            file: file, record: TableReader.describe(file), cache: BlockCache(capacity: 0))
        let error = #expect(throws: EngineError.self) {
            try reader.makeCursor(io: .blocking).seekToFirst()
        }
        #expect(place(of: error, "test.sst") == 128)
    }

    // MARK: - Blob files

    @Test func `A blob file says where it is damaged, and where a reference goes wrong`() throws {
        let bed = try TableBed(codec: .none)
        bed.blobs.threshold = 100
        let entries = (0..<9).map {
            ModelEntry([UInt8($0)], UInt64($0 + 1), .put, [UInt8](repeating: 7, count: 900))
        }
        let handles = try bed.flush(TableBed.memtable(entries), at: 9)
        let table = try #require(handles.first { !$0.record.isBlob })
        let blob = try #require(handles.first { $0.record.isBlob })
        let cursor = try table.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        for _ in 0..<8 { try cursor.next() }
        let last = try BlobReference(stored: cursor.value)
        var blocks: [BlockSummary] = []
        try blob.reader(io: .blocking).forEachBlock { blocks.append($0) }
        let start = try #require(blocks[Int(last.block.rawValue)].offset)
        #expect(start > 128)

        var astray = last
        astray.checksum ^= 1
        let wrong = #expect(throws: EngineError.self) {
            try BlobFiles([blob]).value(astray, io: .blocking)
        }
        #expect(place(of: wrong, bed.path(blob)) == start)

        bed.fileSystem.flip(bed.path(blob), start + 200)
        let error = #expect(throws: EngineError.self) {
            try BlobFiles([bed.reopened(blob)]).value(last, io: .blocking)
        }
        guard case .blockLost(_, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason == "\(bed.path(blob)) at byte \(start): its checksum is wrong")
    }

    // MARK: - Files by themselves

    @Test func `Tools for a segment or a manifest alone name the header`() throws {
        let bed = try RecoveryBed()
        let segment = TableTestFile([UInt8](repeating: 3, count: 9_000), path: "a/strange")
        let error = #expect(throws: EngineError.self) {
            try SegmentInspection.inspect(segment) { _ in true }
        }
        #expect(place(of: error, "a/strange") == 0)
        let manifest = try bed.manifests()[0]
        bed.memory.flip(manifest, 12)
        let second = #expect(throws: EngineError.self) {
            try ManifestInspection.inspect(bed.memory, manifest)
        }
        #expect(place(of: second, manifest) == 0)
    }
}

extension StoredBlocks {
    /// Where block `number` starts in the file.
    fileprivate func start(of number: Int) -> UInt64? {
        guard number < blocks.count else { return nil }
        return UInt64(128 + blocks[..<number].reduce(0) { $0 + 80 + $1.stored.count })
    }
}
