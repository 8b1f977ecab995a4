// Fixed bytes of a small table: a change of the format, or of anything that a digest or an entry
// sum rests on, shows here before it splits replicas.

import Engine
import Testing

@Suite struct TableGoldenTests {
    private static let model = TestModel([
        TestEntry(
            key: [UInt8]("martin".utf8), trailer: Trailer(SequenceNumber(9), .put),
            value: [UInt8]("bird".utf8)),
        TestEntry(
            key: [UInt8]("martlet".utf8), trailer: Trailer(SequenceNumber(300), .put),
            value: [UInt8]("never lands".utf8)),
        TestEntry(
            key: [UInt8]("martlet".utf8), trailer: Trailer(SequenceNumber(4), .delete), value: []),
    ])
    private static let tombstones = [
        RangeTombstone(
            span: KeySpan(start: [UInt8]("a".utf8), end: [UInt8]("b".utf8)),
            sequence: SequenceNumber(7)),
        RangeTombstone(
            span: KeySpan(start: [UInt8]("x".utf8), end: nil), sequence: SequenceNumber(8)),
    ]

    private func build(_ codec: Compression) throws -> (TableTestFile, TableRecord) {
        let file = TableTestFile()
        let record = try buildTable(
            Self.model, tombstones: Self.tombstones, file: file,
            shape: TableShape(blockBytes: 4096, filterBitsPerKey: 10), codec: codec,
            generation: 2)
        return (file, record)
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
    }

    /// Trap 21: what is optional stays out of the bytes that every read touches.
    @Test func canonicalBytesAndDigest() throws {
        let (file, record) = try build(.none)
        #expect(record.digest.description == "961e357c3d2211b729d5e43662f17a7b")
        #expect(hex16(record.entrySum) == "16d263e2211c1ea1")
        #expect(record.canonicalBytes == 391)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        let blocks = try (0..<reader.blockCount).map {
            hex(try reader.canonicalBlock(BlockOrdinal(UInt32($0)), fromMedium: false))
        }
        #expect(blocks == Self.blocks)
    }

    /// Kinds 4 and 5: an operand behind its operator's id, and a single delete.
    @Test func operandsAndSingleDeletes() throws {
        let file = TableTestFile()
        let record = try buildTable(
            TestModel([
                TestEntry(
                    key: [UInt8]("count".utf8), trailer: Trailer(SequenceNumber(9), .merge),
                    value: MergeOperand.stored(.int64Add, [5, 0, 0, 0, 0, 0, 0, 0])),
                TestEntry(
                    key: [UInt8]("counter".utf8),
                    trailer: Trailer(SequenceNumber(8), .singleDelete), value: []),
            ]), tombstones: [], file: file,
            shape: TableShape(blockBytes: 4096, filterBitsPerKey: 0), codec: .none, generation: 0)
        #expect(record.deleteCount == 1)
        #expect(hex16(record.entrySum) == "10e388c5e127cd9f")
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        let block = hex(try reader.canonicalBlock(BlockOrdinal(0), fromMedium: false))
        #expect(
            block
                == "020000000900000000000000f11d1200250000050a04636f756e740100050000000000000005"
                + "02000d6572")
    }

    @Test func fileBytes() throws {
        let (file, _) = try build(.none)
        #expect(Digest128(of: file.bytes).description == "26cb26886db5abb7b76c4b8ed99d1df2")
        #expect(hex(Array(file.bytes.prefix(128))) == Self.fileHeader)
        #expect(hex(Array(file.bytes[128..<208])) == Self.firstBlockHeader)
        #expect(hex(Array(file.bytes.suffix(80))) == Self.footer)
    }

    /// Data, index, filter, range tombstones, properties, leaf list.
    private static let blocks = [
        "0300000009000000000000002c1e1e150023003600000604016d617274696e6269726404030bb124"
            + "6c65746e65766572206c616e64730403004a6c6574",
        "0100000000000000076d6172746c65740000",
        "020a000002000000d09a63928f8d000000000000000000000000000000000000",
        "02000000016101016207000000000000000178000800000000000000",
        "0200000000100000020a00000040000000004d000000000000006603000000000000000000000000"
            + "01066d617274696e076d6172746c657401610004000000000000002c010000000000000300000000"
            + "00000001000000000000000200000000000000a11e1c21e263d21600000000000000000000000000"
            + "00000000",
        "020000000500000051d365aa423176641e42baacbd1e7a723d000000010000003916be7f95f4f307"
            + "9e5708fb591d728a120000000200000011d1d31d19cfba3f4e85e1e252a0ab222000000003000000"
            + "ed0a8c6a7c6fb974eb7873abbd6a69721c000000040000001537b6afd45c1a289c1f4e75d04ba3ef"
            + "7c00000005000000",
    ]
    private static let fileHeader =
        "4d4c545441424c4502000000000000004d0000000000000066000000030000000200000000000000"
        + "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
        + "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
        + "000000001da05dcf"
    private static let firstBlockHeader =
        "4d4c54420100000000000000030000004d00000000000000660000003d0000003d00000083e0805a"
        + "51d365aa423176641e42baacbd1e7a7200000000000000000000000000000000000000002ea43107"
    private static let footer =
        "4d4c54464f4f54520200000006000000e703000000000000b5177bb0000000000000000000000000"
        + "00000000000000007b7af16236e4d529b711223d7c351e96000000000000000000000000873743a2"
}
