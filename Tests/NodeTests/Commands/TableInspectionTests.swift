import Engine
import Node
import Testing

@Suite struct TableInspectionTests {
    private let files = MemoryFileSystem(seed: 3)

    /// A table of `count` puts, a delete, an expiring put and a range tombstone.
    private func makeTable(_ path: String, count: Int = 300, keys: KeyRing = .plain) throws
        -> TableRecord
    {
        let builder = TableBuilder(
            file: try files.open(path, .create),
            id: TableID(index: LogIndex(64), kind: .flush, ordinal: 0), level: 0,
            shape: TableShape(blockBytes: 512, filterBitsPerKey: 10), codec: .none, keys: keys,
            generation: 2)
        func add(_ key: String, _ trailer: Trailer, _ value: [UInt8]) throws {
            try [UInt8](key.utf8).withUnsafeBytes { key in
                try value.withUnsafeBytes { try builder.add(key, trailer, $0) }
            }
        }
        builder.add(
            RangeTombstone(
                span: KeySpan(start: [0x6d], end: nil), sequence: SequenceNumber(5000)))
        try add("a", Trailer(SequenceNumber(9), .delete), [])
        try add("b", Trailer(SequenceNumber(8), .expiringPut), [1, 1, 0, 0, 0, 0, 0, 0, 0x78])
        for number in 0..<count {
            let key = "key" + String(10_000 + number)
            try add(key, Trailer(SequenceNumber(UInt64(10 + number)), .put), [0x76, 0, 0x22])
        }
        return try builder.finish().record
    }

    @Test func summaryNamesWhatTheRecordHolds() throws {
        let record = try makeTable("t.sst")
        let summary = try TableInspection(files.open("t.sst", .read)).summary
        #expect(summary.contains("table 0000000000000040-f0"))
        #expect(summary.contains("digest \(record.digest)"))
        #expect(summary.contains("generation 2, codec none"))
        #expect(summary.contains("entries 302, of them deletes 1, range tombstones 1"))
        #expect(summary.contains("sequences 8 to 5000"))
        #expect(summary.contains("keys \"a\" to \"key10299\""))
        #expect(summary.contains("speaks of \"a\" up to the last key"))
        #expect(!summary.contains("damaged"))
    }

    @Test func anEncryptedTableIsReadWithItsKey() throws {
        let key = try EncryptionKey([UInt8](repeating: 7, count: 32))
        let record = try makeTable(
            "t.sst", keys: KeyRing(try EncryptionKeys(current: 3, keys: [3: key])))
        let table = try TableInspection(files.open("t.sst", .read), keys: KeyRing(reading: key))
        #expect(table.summary.contains("codec none, key epoch 3"))
        #expect(table.summary.contains("digest \(record.digest)"))
        #expect(table.verify(fromMedium: false).isEmpty)
        let other = try EncryptionKey([UInt8](repeating: 8, count: 32))
        for (ring, kind) in [
            (KeyRing.plain, NodeFailure.Kind.configuration),
            (KeyRing(reading: other), NodeFailure.Kind.identity),
        ] {
            let failure = #expect(throws: NodeFailure.self) {
                try TableInspection(files.open("t.sst", .read), keys: ring)
            }
            #expect(failure?.kind == kind)
        }
    }

    @Test func entriesComeInOrder() throws {
        _ = try makeTable("t.sst")
        let table = try TableInspection(files.open("t.sst", .read))
        var lines: [String] = []
        try table.forEachEntry(limit: .max) { lines.append($0) }
        #expect(lines.count == 303)
        #expect(
            lines[..<4] == [
                "5000 delete range \"m\" up to the last key", "9 delete \"a\"",
                "8 put \"b\" until 257 = \"x\"", "10 put \"key10000\" = \"v\\x00\\\"\"",
            ])
        var few = 0
        try table.forEachEntry(limit: 2) { _ in few += 1 }
        #expect(few == 3)
    }

    @Test func damageIsListedByBlock() throws {
        _ = try makeTable("t.sst")
        let table = try TableInspection(files.open("t.sst", .read))
        #expect(table.verify(fromMedium: true).isEmpty)
        files.flip("t.sst", 128 + 80 + 40)
        let found = table.verify(fromMedium: true)
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix("damaged: block 0 at byte 128: ") == true)
    }

    @Test func whatIsNoTableIsSaidToBeDamaged() throws {
        let file = try files.open("x.sst", .create)
        #expect(throws: NodeFailure.self) { try TableInspection(file) }
        try file.writeAll([UInt8](repeating: 0x41, count: 8192), at: 0)
        do {
            _ = try TableInspection(file)
            Issue.record("accepted")
        } catch let failure as NodeFailure {
            #expect(failure.kind == .damage)
        }
        do {
            _ = try TableInspection("/nonexistent/t.sst")
            Issue.record("opened")
        } catch let failure as NodeFailure {
            #expect(failure.kind == .noInput && failure.message.contains("No such file"))
        }
    }
}
