// What `martlet sst properties|index|filter|hex|salvage` print.
import Engine
import Foundation
import Node
import Testing

@Suite struct TableToolsTests {
    private let files = MemoryFileSystem(seed: 3)

    /// Puts of "key100", "key101"…, with a delete, a single delete, a merge and a range tombstone.
    private func makeTable(_ path: String, count: Int = 200) throws -> TableRecord {
        let builder = TableBuilder(
            file: try files.open(path, .create),
            id: TableID(index: LogIndex(64), kind: .compaction, ordinal: 1), level: 0,
            shape: TableShape(blockBytes: 512, filterBitsPerKey: 10), codec: .none, generation: 2)
        func add(_ key: String, _ sequence: UInt64, _ kind: ValueKind, _ value: [UInt8]) throws {
            try [UInt8](key.utf8).withUnsafeBytes { key in
                try value.withUnsafeBytes {
                    try builder.add(key, Trailer(SequenceNumber(sequence), kind), $0)
                }
            }
        }
        builder.add(
            RangeTombstone(
                span: KeySpan(start: [0x6d], end: nil), sequence: SequenceNumber(5000)))
        try add("a", 9, .delete, [])
        try add("b", 8, .singleDelete, [])
        try add("c", 7, .merge, [1, 0] + [5, 0, 0, 0, 0, 0, 0, 0])
        for number in 0..<count {
            try add("key\(100 + number)", UInt64(10 + number), .put, [0x76])
        }
        return try builder.finish().record
    }

    private func object(_ json: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    }

    private func flip(_ path: String, block: UInt32) throws {
        let parts = try TableAnatomy.parts(
            of: files.open(path, .read), .block(block, isDecoded: false))
        files.flip(path, try #require(parts[1].offset) + 7)
    }

    @Test func propertiesNameEverything() throws {
        let record = try makeTable("t.sst")
        let found = try TableInspection(files.open("t.sst", .read)).properties()
        for line in [
            "table                   0000000000000040-c1",
            "digest                  \(record.digest)", "generation              2",
            "entries                 203", "deletes                 2",
            "range tombstones        1", "smallest sequence       7",
            "largest key             \"key299\"", "block bytes             512",
            "filter kind             burr", "filter key bits         10",
        ] {
            #expect(found.text.contains(line + "\n") || found.text.hasSuffix(line), "\(line)")
        }
        let json = try object(found.json)
        #expect(json["digest"] as? String == record.digest.description)
        #expect(json["entries"] as? Int == 203 && json["filterKeyBits"] as? Int == 10)
        #expect(json["smallestKey"] as? String == "YQ==" && json["spanEnd"] == nil)
    }

    @Test func theIndexListsBlocksAndWhatIsWrong() throws {
        _ = try makeTable("t.sst")
        let sound = try TableInspection(files.open("t.sst", .read)).blockList()
        let lines = sound.text.split(separator: "\n")
        #expect(lines[0].hasPrefix("block  type"))
        #expect(lines[1].contains("data") && lines[1].contains("\"a\""))
        #expect(lines.last?.contains("leaves") == true && sound.damage.isEmpty)
        let blocks = try #require(try object(sound.json)["blocks"] as? [[String: Any]])
        #expect(blocks.count == lines.count - 1)
        #expect(blocks[0]["offset"] as? Int == 128 && blocks[0]["firstKey"] as? String == "YQ==")
        #expect(blocks.compactMap { $0["entries"] as? Int }.reduce(0, +) == 203)
        try flip("t.sst", block: 1)
        let damaged = try TableInspection(files.open("t.sst", .read)).blockList()
        let place = try #require(blocks[1]["offset"] as? Int)
        #expect(damaged.damage == ["damaged: block 1 at byte \(place): its checksum is wrong"])
        #expect(damaged.text.hasSuffix(damaged.damage[0]))
    }

    @Test func filtersAreDescribedAndMeasured() throws {
        _ = try makeTable("t.sst")
        let report = try TableInspection(files.open("t.sst", .read)).filters(
            samples: 5000, seed: 1)
        let text = FilterText.text(report)
        #expect(text.hasPrefix("built as burr: 10 bits a key, 0 a prefix (none), partitions"))
        #expect(text.contains("ribbon of 10 bits") && text.contains("keys: 203, "))
        #expect(text.contains("of 5000 absent ones") && text.contains("; 0 present ones denied"))
        let json = try object(FilterText.json(report))
        let keys = try #require(json["keys"] as? [String: Any])
        #expect(json["sound"] as? Bool == true && keys["present"] as? Int == 203)
        #expect((keys["falsePositiveRate"] as? Double).map { $0 < 0.01 } == true)
    }

    @Test func hexNamesThePieces() throws {
        _ = try makeTable("t.sst")
        let file = try files.open("t.sst", .read)
        func lines(_ part: TableAnatomy.Selection, limit: Int = 1 << 16) throws -> [String] {
            var lines: [String] = []
            for part in try TableAnatomy.parts(of: file, part) {
                HexText.forEachLine(part, limit: limit) { lines.append($0) }
            }
            return lines
        }
        let header = try lines(.fileHeader)
        #expect(header[0] == "file header, 128 bytes at 0")
        #expect(
            header[1]
                == "00000000  4d 4c 54 54 41 42 4c 45                          |MLTTABLE|"
                + "          magic MLTTABLE")
        #expect(header.contains { $0.hasSuffix("generation 2") })
        let block = try lines(.block(0, isDecoded: false))
        #expect(block[0] == "block 0, 80 bytes at 128")
        #expect(block.contains { $0.hasSuffix("type data") })
        #expect(block.contains { $0.hasSuffix("  entry 0") })
        let short = try lines(.block(0, isDecoded: true), limit: 40)
        #expect(short.last?.hasSuffix("more bytes; see --limit") == true)
    }

    @Test func aSalvageTellsWhatIsLost() throws {
        let record = try makeTable("bad")
        let whole = try TableSalvage.run(files, from: "bad", to: "copy")
        let text = SalvageText.text(whole, "copy")
        #expect(text.contains("203 of 203 versions, 1 range tombstones"))
        #expect(text.contains("digest \(record.digest), that of the original: nothing was lost"))
        try flip("bad", block: 1)
        try flip("bad", block: 2)
        let report = try TableSalvage.run(files, from: "bad", to: "good")
        let lines = SalvageText.text(report, "good").split(separator: "\n")
        #expect(lines.contains { $0.hasPrefix("lost: 2 blocks, 1 to 2, keys from \"key1") })
        #expect(
            lines.contains {
                $0.hasPrefix("  block 2 at byte ") && $0.hasSuffix(": its checksum is wrong")
            })
        #expect(!lines.contains { $0.contains("nothing was lost") })
        let json = try object(SalvageText.json(report, "good"))
        #expect(json["whole"] as? Bool == false && json["blocksLost"] as? Int == 2)
        let losses = try #require(json["lost"] as? [[String: Any]])
        #expect((losses[0]["blocks"] as? [[String: Any]])?.count == 2)
        // What was written opens with the other tools.
        let copy = try TableInspection(files.open("good", .read))
        #expect(copy.verify(fromMedium: true).isEmpty)
        #expect(copy.digest == report.record.digest)
    }

    @Test func aSalvageKeepsOutOfANodesDirectory() throws {
        #expect(try SSTSalvageCommand.target(nil, for: "/n/sst/x.0.sst") == "x.0.sst.salvaged")
        #expect(try SSTSalvageCommand.target("/o/y", for: "/n/sst/x.0.sst") == "/o/y")
        let node = FileManager.default.temporaryDirectory
            .appendingPathComponent("martlet-salvage-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: node) }
        let system = POSIXFileSystem()
        try system.createDirectory(node + "/sst")
        _ = try system.open(node + "/CURRENT", .create)
        do throws(NodeFailure) {
            _ = try SSTSalvageCommand.target(node + "/sst/y", for: "x")
            Issue.record("accepted")
        } catch {
            #expect(error.kind == .usage)
        }
    }

    @Test func dumpsShowMergesAndSingleDeletes() throws {
        _ = try makeTable("t.sst")
        var lines: [String] = []
        try TableInspection(files.open("t.sst", .read)).forEachEntry(limit: 3) { lines.append($0) }
        #expect(
            lines.suffix(3) == [
                "9 delete \"a\"", "8 single delete \"b\"",
                "7 merge \"c\" by 1: \"\\x05\\x00\\x00\\x00\\x00\\x00\\x00\\x00\"",
            ])
    }
}
