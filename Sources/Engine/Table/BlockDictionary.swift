// The zstd dictionary of one table file, ready to decode, and how the file holds it: as its first
// block, of a type that no leaf list names. It is local like the block map: the digest does not see
// it, and a rewrite trains another. It never leaves its file: what a donor sends is canonical.

import CZstd

package final class BlockDictionary: @unchecked Sendable {
    // @unchecked: the library only reads a decoder once it is made.

    /// The longest that a reader takes.
    package static let bytesMax = 64 << 10

    let decoder: OpaquePointer
    /// Its length in the file.
    let byteCount: Int

    /// Nil if the bytes are no dictionary with an id, which every frame made with it then names.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= BlockDictionary.bytesMax,
            ZDICT_getDictID(bytes.baseAddress, bytes.count) != 0,
            let decoder = ZSTD_createDDict(bytes.baseAddress, bytes.count)
        else { return nil }
        self.decoder = decoder
        byteCount = bytes.count
    }

    deinit { ZSTD_freeDDict(decoder) }

    var residentBytes: Int { ZSTD_sizeof_DDict(decoder) }

    // MARK: In the file

    /// Where every dictionary block starts.
    static let offset = UInt64(TableFormat.fileHeaderBytes)

    /// The header of its block, but for the checksum of what is stored.
    static func header(of bytes: [UInt8], in table: TableID) -> BlockHeader {
        let digest = bytes.withUnsafeBytes { TableFormat.digest(.dictionary, .first, $0) }
        return BlockHeader(
            type: .dictionary, codec: .none, ordinal: .first, table: table,
            canonicalLength: UInt32(bytes.count), storedLength: UInt32(bytes.count),
            storedChecksum: 0, digest: digest)
    }

    /// The dictionary of a file of `size` bytes; nil if there is none. `length` is what the footer
    /// says of it; nil if the footer is damaged, too: then the file has one if a sound dictionary
    /// block stands in its place. `cipher` is that of the file.
    static func load(
        _ file: any File, _ size: UInt64, of table: TableID, length: Int?, cipher: FileCipher?,
        fromMedium: Bool
    ) throws(FileDamage) -> BlockDictionary? {
        guard length != 0 else { return nil }
        let header = try header(file, size, table, fromMedium)
        guard let header, header.type == .dictionary else {
            if length == nil { return nil }
            throw damage("the dictionary's header is damaged")
        }
        guard header.codec == .none, header.storedLength == header.canonicalLength,
            Int(header.storedLength) == length ?? Int(header.storedLength),
            Int(header.storedLength) <= bytesMax
        else { throw damage("the dictionary's lengths are wrong") }
        let length = TableFormat.blockHeaderBytes + Int(header.storedLength)
        var block = try read(file, at: offset, count: length, fromMedium)
        guard block.count == length else {
            throw damage("the file ends within the dictionary")
        }
        var span = block.mutableSpan
        return try span.withUnsafeMutableBytes { raw throws(FileDamage) in
            try decode(raw, header, cipher)
        }
    }

    /// The dictionary of a whole block, which is decrypted in place.
    private static func decode(
        _ block: UnsafeMutableRawBufferPointer, _ header: BlockHeader, _ cipher: FileCipher?
    ) throws(FileDamage) -> BlockDictionary {
        let body = UnsafeMutableRawBufferPointer(
            rebasing: block[TableFormat.blockHeaderBytes...])
        let bytes = UnsafeRawBufferPointer(body)
        guard Checksum.crc32c(bytes) == header.storedChecksum else {
            throw damage("the dictionary's checksum is wrong")
        }
        guard header.isEncrypted == (cipher != nil) else {
            throw damage("the dictionary is not encrypted as its file is")
        }
        var digest = header.digest
        if let cipher {
            guard let opened = header.open(block, cipher, into: body) else {
                throw damage("the dictionary: \(TableFile.tampered)")
            }
            digest = opened
        }
        guard TableFormat.digest(.dictionary, .first, bytes) == digest else {
            throw damage("the dictionary's digest is wrong")
        }
        guard let dictionary = BlockDictionary(bytes) else {
            throw damage("the dictionary is none that zstd knows")
        }
        return dictionary
    }

    private static func damage(_ reason: String) -> FileDamage { FileDamage(at: offset, reason) }

    /// The first block header of the file; nil if it is damaged or of another table.
    private static func header(
        _ file: any File, _ size: UInt64, _ table: TableID, _ fromMedium: Bool
    ) throws(FileDamage) -> BlockHeader? {
        guard size >= offset + UInt64(TableFormat.blockHeaderBytes) else { return nil }
        let bytes = try read(file, at: offset, count: TableFormat.blockHeaderBytes, fromMedium)
        let header = bytes.withUnsafeBytes { BlockHeader(decoding: $0) }
        return header?.table == table && header?.ordinal == .first ? header : nil
    }

    private static func read(
        _ file: any File, at offset: UInt64, count: Int, _ fromMedium: Bool
    ) throws(FileDamage) -> [UInt8] {
        do throws(FileError) {
            return try file.readBytes(at: offset, count: count, fromMedium: fromMedium)
        } catch {
            throw damage("the dictionary: \(error)")
        }
    }
}

extension BlockOrdinal {
    fileprivate static let first = BlockOrdinal(0)
}
