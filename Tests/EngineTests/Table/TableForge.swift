// Writes table files as docs/formats/table.md has them, from blocks of any content: every checksum
// and digest is right, whatever stands in the blocks. What a decoder must survive.
import Engine

struct ForgedBlock {
    var type: UInt8
    var bytes: [UInt8]
}

enum TableForge {
    private static let blockHeaderBytes = 80

    /// The blocks of a plain table file without damage, the leaf list left out.
    static func blocks(of file: [UInt8], _ record: TableRecord) throws -> [ForgedBlock] {
        let reader = try TableReader.open(
            file: TableTestFile(file), record: record, cache: BlockCache(capacity: 0))
        var blocks: [ForgedBlock] = []
        var failure: (any Error)?
        reader.forEachBlock { summary in
            guard summary.type != "leaves", let offset = summary.offset else { return }
            do {
                blocks.append(
                    ForgedBlock(
                        type: file[Int(offset) + 4],
                        bytes: try reader.canonicalBlock(summary.ordinal, fromMedium: false)))
            } catch { failure = error }
        }
        if let failure { throw failure }
        return blocks
    }

    /// A file of these blocks and a leaf list, for `testTable`.
    static func file(_ blocks: [ForgedBlock]) -> [UInt8] {
        var file = ByteWriter()
        file.write(raw: header())
        var map = ByteWriter()
        var leaves = ByteWriter()
        leaves.write(UInt16(2))
        leaves.write(UInt16(0))
        leaves.write(UInt32(blocks.count))
        for (ordinal, block) in blocks.enumerated() {
            map.write(UInt64(file.count))
            map.write(UInt32(block.bytes.count))
            leaves.write(append(block, ordinal, to: &file))
            leaves.write(UInt32(block.bytes.count))
            leaves.write(UInt32(block.type))
        }
        map.write(UInt64(file.count))
        map.write(UInt32(leaves.count))
        let list = ForgedBlock(type: 6, bytes: leaves.bytes)
        let root = append(list, blocks.count, to: &file)
        let mapOffset = UInt64(file.count)
        file.write(raw: map.bytes)
        var footer = ByteWriter()
        footer.write(raw: Array("MLTFOOTR".utf8))
        footer.write(UInt16(2))
        footer.write(UInt16(0))
        footer.write(UInt32(blocks.count + 1))
        footer.write(mapOffset)
        footer.write(Checksum.crc32c(map.bytes))
        footer.write(raw: [UInt8](repeating: 0, count: 20))
        footer.write(root)
        footer.write(raw: [UInt8](repeating: 0, count: 12))
        footer.write(Checksum.crc32c(footer.bytes))
        file.write(raw: footer.bytes)
        return file.bytes
    }

    private static func header() -> [UInt8] {
        var header = ByteWriter()
        header.write(raw: Array("MLTTABLE".utf8))
        header.write(UInt16(2))
        header.write(raw: [UInt8](repeating: 0, count: 6))
        header.write(testTable.index.rawValue)
        header.write(testTable.kind.rawValue)
        header.write(raw: [0, 0, 0])
        header.write(testTable.ordinal)
        header.write(raw: [UInt8](repeating: 0, count: 124 - header.count))
        header.write(Checksum.crc32c(header.bytes))
        return header.bytes
    }

    /// Returns the block's digest.
    private static func append(_ block: ForgedBlock, _ ordinal: Int, to file: inout ByteWriter)
        -> Digest128
    {
        let content = Digest128(of: block.bytes)
        var place = ByteWriter()
        place.write(UInt32(block.type))
        place.write(UInt32(ordinal))
        place.write(UInt64(block.bytes.count))
        place.write(content)
        let digest = Digest128(of: place.bytes)
        var header = ByteWriter()
        header.write(raw: Array("MLTB".utf8))
        header.write(block.type)
        header.write(raw: [0, 0, 0])
        header.write(UInt32(ordinal))
        header.write(testTable.ordinal)
        header.write(testTable.index.rawValue)
        header.write(UInt32(testTable.kind.rawValue))
        header.write(UInt32(block.bytes.count))
        header.write(UInt32(block.bytes.count))
        header.write(Checksum.crc32c(block.bytes))
        header.write(digest)
        header.write(raw: [UInt8](repeating: 0, count: 20))
        header.write(Checksum.crc32c(header.bytes))
        file.write(raw: header.bytes)
        file.write(raw: block.bytes)
        return digest
    }
}
