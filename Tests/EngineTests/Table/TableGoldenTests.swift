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

    private func build(_ codec: BlockCodec) throws -> (TableTestFile, TableRecord) {
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

    @Test func canonicalBytesAndDigest() throws {
        let (file, record) = try build(.none)
        #expect(record.digest.description == "08599b3f0e20b9c341e5ff29a63a227d")
        #expect(hex16(record.entrySum) == "16d263e2211c1ea1")
        #expect(record.canonicalBytes == 425)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0))
        let blocks = try (0..<reader.blockCount).map {
            hex(try reader.canonicalBlock(BlockOrdinal(UInt32($0)), fromMedium: false))
        }
        #expect(blocks == Self.blocks)
    }

    @Test func fileBytes() throws {
        let (file, _) = try build(.none)
        #expect(Digest128(of: file.bytes).description == "256688afb2b2071487aa6ad1cca585df")
        #expect(hex(Array(file.bytes.prefix(128))) == Self.fileHeader)
        #expect(hex(Array(file.bytes[128..<208])) == Self.firstBlockHeader)
        #expect(hex(Array(file.bytes.suffix(80))) == Self.footer)
    }

    /// Data, index, filter, range tombstones, properties, leaf list.
    private static let blocks = [
        "0300000009000000000000002c1e1e150023003600000604016d617274696e6269726404030bb124"
            + "6c65746e65766572206c616e64730403004a6c6574",
        "0100000000000000076d6172746c65740000",
        "01060000010000008000008000000004000020000000800000000200000000000020100000000040"
            + "0000800000000000000000000000004000000000000000000000000000000004",
        "02000000016101016207000000000000000178000800000000000000",
        "01000000001000000a0000004d00000000000000660300000000000000000000000001066d617274"
            + "696e076d6172746c657401610004000000000000002c010000000000000300000000000000010000"
            + "00000000000200000000000000a11e1c21e263d2160000000000000000000000000000000000",
        "010000000500000051d365aa423176641e42baacbd1e7a723d000000010000003916be7f95f4f307"
            + "9e5708fb591d728a1200000002000000e68af38ebb66840ae342b98d57c233a44800000003000000"
            + "ed0a8c6a7c6fb974eb7873abbd6a69721c00000004000000e1513e913fa08cdc4c9176a7f9039a21"
            + "7600000005000000",
    ]
    private static let fileHeader =
        "4d4c545441424c4501000000000000004d0000000000000066000000030000000200000000000000"
        + "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
        + "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
        + "00000000c737e1f4"
    private static let firstBlockHeader =
        "4d4c54420100000000000000030000004d00000000000000660000003d0000003d00000083e0805a"
        + "51d365aa423176641e42baacbd1e7a7200000000000000000000000000000000000000002ea43107"
    private static let footer =
        "4d4c54464f4f5452010000000600000009040000000000006109aba5000000000000000000000000"
        + "00000000000000007d223aa629ffe541c3b9200e3f9b59080000000000000000000000004c4dabf6"
}
