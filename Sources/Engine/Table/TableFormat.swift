// Byte layout of a table file: file header, block headers, footer. docs/formats/table.md is the
// specification; what is canonical (equal on every replica) and what is local is said there.
//
//   file header | dictionary block, if any | (block header, stored bytes)… | block map | footer
//
// Everything here decodes bytes that may be damaged or hostile: decoders return nil or throw, and
// lengths are bounded by the caller against the file and the table's record.

enum BlockType: UInt8, Sendable, CaseIterable {
    case data = 1
    case index = 2
    case filter = 3
    case rangeTombstones = 4
    case properties = 5
    case leaves = 6
    case filterPartition = 7
    case filterIndex = 8
    case prefixFilter = 9
    case indexPartition = 10
    case blockBounds = 11
    /// Types from 64 on are local: no leaf names such a block, and no digest covers it.
    case dictionary = 64

    /// Whether blocks of this type are part of the table, and not only of a file.
    var isCanonical: Bool { rawValue < 64 }

    /// Its place in the file: blocks come in this order.
    var place: Int {
        switch self {
        case .data: return 0
        case .indexPartition: return 1
        case .index: return 2
        case .blockBounds: return 3
        case .filterPartition: return 4
        case .filterIndex: return 5
        case .filter: return 6
        case .prefixFilter: return 7
        case .rangeTombstones: return 8
        case .properties: return 9
        case .leaves: return 10
        case .dictionary: return -1
        }
    }

    /// Whether a table may have more than one.
    var repeats: Bool {
        self == .data || self == .indexPartition || self == .filterPartition
    }
}

enum TableFormat {
    static let version: UInt16 = 2
    static let fileHeaderBytes = 128
    static let blockHeaderBytes = 80
    static let footerBytes = 80
    static let mapEntryBytes = 12
    /// "MLTTABLE" and "MLTFOOTR", "MLTB", read as little-endian numbers.
    static let fileMagic: UInt64 = 0x454c_4241_5454_4c4d
    static let footerMagic: UInt64 = 0x5254_4f4f_4654_4c4d
    static let blockMagic: UInt32 = 0x4254_4c4d

    /// Digest of a block: XXH3-128 over (type u8, zero ×3, ordinal u32, canonical length u64,
    /// XXH3-128 of the canonical bytes: low u64, high u64).
    static func digest(
        _ type: BlockType, _ ordinal: BlockOrdinal, _ canonical: UnsafeRawBufferPointer
    ) -> Digest128 {
        let content = Digest128(of: canonical)
        let place = UInt64(type.rawValue) | UInt64(ordinal.rawValue) << 32
        let words = (
            place.littleEndian, UInt64(canonical.count).littleEndian, content.low.littleEndian,
            content.high.littleEndian
        )
        return withUnsafeBytes(of: words) { Digest128(of: $0) }
    }
}

/// What a table file says of itself: facts of this node only.
package struct TableLocalHeader: Hashable, Sendable {
    package var id: TableID
    /// Counts heals of the table on this node.
    package var generation: UInt64
    /// The codec that the file was written for; each block names its own.
    package var codec: BlockCodec
    /// Of the key that encrypts the file's blocks; nil if they are plain.
    package var key: FileKeyHeader?

    /// Epoch of that node key; 0 for a plain file.
    package var keyEpoch: UInt32 { key?.epoch ?? 0 }

    package init(id: TableID, generation: UInt64, codec: BlockCodec, key: FileKeyHeader? = nil) {
        self.id = id
        self.generation = generation
        self.codec = codec
        self.key = key
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: TableFormat.fileHeaderBytes)
        writer.write(TableFormat.fileMagic)
        writer.write(TableFormat.version)
        writer.write(UInt16(0))  // flags
        writer.write(keyEpoch)
        writer.write(id.index.rawValue)
        writer.write(id.kind.rawValue)
        writer.write(codec.rawValue)
        writer.write(UInt8(0))  // parity scheme: none
        writer.write(UInt8(0))
        writer.write(id.ordinal)
        writer.write(generation)
        if let key {
            key.encodeSalt(into: &writer)
            writer.write(key.check)
        }
        let checked = TableFormat.fileHeaderBytes - 4
        writer.write(raw: [UInt8](repeating: 0, count: checked - writer.count))
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    /// Of a header that is sound, whatever this build can read.
    static func version(of bytes: UnsafeRawBufferPointer) throws(DecodingError) -> UInt16 {
        guard bytes.count >= TableFormat.fileHeaderBytes else {
            throw DecodingError("the file header ends early")
        }
        var reader = ByteReader(bytes)
        guard try reader.read(UInt64.self) == TableFormat.fileMagic else {
            throw DecodingError("not a table file")
        }
        let checked = TableFormat.fileHeaderBytes - 4
        let sum = bytes.loadUnaligned(fromByteOffset: checked, as: UInt32.self)
        let body = UnsafeRawBufferPointer(rebasing: bytes[..<checked])
        guard UInt32(littleEndian: sum) == Checksum.crc32c(body) else {
            throw DecodingError("the file header's checksum")
        }
        return try reader.read(UInt16.self)
    }

    init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        let version = try TableLocalHeader.version(of: bytes)
        // Behind magic and version.
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[10...]))
        let flags = try reader.read(UInt16.self)
        guard version == TableFormat.version, flags == 0 else {
            throw DecodingError("table format \(version), flags \(flags) are not supported")
        }
        let keyEpoch = try reader.read(UInt32.self)
        let index = try reader.readLogIndex()
        guard let kind = TableKind(rawValue: try reader.read(UInt8.self)),
            let codec = BlockCodec(rawValue: try reader.read(UInt8.self))
        else { throw DecodingError("the file header's table kind or codec") }
        self.codec = codec
        let parity = try reader.read(UInt8.self)
        guard parity == 0 else { throw DecodingError("parity scheme \(parity)") }
        _ = try reader.read(UInt8.self)
        id = TableID(index: index, kind: kind, ordinal: try reader.read(UInt32.self))
        generation = try reader.read(UInt64.self)
        guard keyEpoch > 0 else { return }
        key = FileKeyHeader(
            epoch: keyEpoch, salt: try FileKeyHeader.Salt(&reader), check: try reader.readDigest())
    }
}

/// In front of each block's stored bytes.
package struct BlockHeader {
    var type: BlockType
    var codec: BlockCodec
    var ordinal: BlockOrdinal
    var table: TableID
    var canonicalLength: UInt32
    var storedLength: UInt32
    /// Of the stored bytes, as they are on disk.
    var storedChecksum: UInt32
    /// In an encrypted block the digest is part of what is encrypted: in the clear it would let
    /// anybody confirm a guess of the content.
    var digest: Digest128
    var isEncrypted = false
    /// Of an encrypted block.
    var tag = Digest128.zero

    /// What stands before the checksum is authenticated with an encrypted block.
    static let authenticatedBytes = 36
    static let digestOffset = 40
    static let tagOffset = 56

    init(
        type: BlockType, codec: BlockCodec, ordinal: BlockOrdinal, table: TableID,
        canonicalLength: UInt32, storedLength: UInt32, storedChecksum: UInt32, digest: Digest128
    ) {
        self.type = type
        self.codec = codec
        self.ordinal = ordinal
        self.table = table
        self.canonicalLength = canonicalLength
        self.storedLength = storedLength
        self.storedChecksum = storedChecksum
        self.digest = digest
    }

    func encode(into writer: inout ByteWriter) {
        let start = writer.count
        writer.write(TableFormat.blockMagic)
        writer.write(type.rawValue)
        writer.write(codec.rawValue)
        writer.write(UInt16(isEncrypted ? 1 : 0))
        writer.write(ordinal.rawValue)
        writer.write(table.ordinal)
        writer.write(table.index.rawValue)
        writer.write(UInt32(table.kind.rawValue))
        writer.write(canonicalLength)
        writer.write(storedLength)
        writer.write(storedChecksum)
        writer.write(digest)
        writer.write(tag)
        writer.write(UInt32(0))
        let sum = writer.bytes.withUnsafeBytes { bytes in
            Checksum.crc32c(UnsafeRawBufferPointer(rebasing: bytes[start...]))
        }
        writer.write(sum)
    }

    /// Encrypts a block in place: this header, encoded, and the stored bytes. Digest and stored
    /// bytes are one message; the rest of the header is authenticated with it or sums it up.
    func seal(_ block: UnsafeMutableRawBufferPointer, _ cipher: FileCipher) {
        let body = UnsafeMutableRawBufferPointer(
            rebasing: block[TableFormat.blockHeaderBytes...])
        guard let base = block.baseAddress else { return }
        cipher.seal(
            nonce,
            authenticated: UnsafeRawBufferPointer(
                rebasing: block[..<BlockHeader.authenticatedBytes]),
            head: UnsafeMutableRawBufferPointer(
                rebasing: block[BlockHeader.digestOffset..<BlockHeader.tagOffset]),
            UnsafeRawBufferPointer(body), to: body.baseAddress, tag: base + BlockHeader.tagOffset)
        let stored = Checksum.crc32c(UnsafeRawBufferPointer(body)).littleEndian
        block.storeBytes(
            of: stored, toByteOffset: BlockHeader.authenticatedBytes, as: UInt32.self)
        let checked = TableFormat.blockHeaderBytes - 4
        let sum = Checksum.crc32c(UnsafeRawBufferPointer(rebasing: block[..<checked]))
        block.storeBytes(of: sum.littleEndian, toByteOffset: checked, as: UInt32.self)
    }

    /// Decrypts the stored bytes of `block`, which starts with this header as it is in the file,
    /// to `target`; its digest field is decrypted in place. That digest, or nil if block and tag
    /// do not belong together.
    func open(
        _ block: UnsafeMutableRawBufferPointer, _ cipher: FileCipher,
        into target: UnsafeMutableRawBufferPointer
    ) -> Digest128? {
        let head = UnsafeMutableRawBufferPointer(
            rebasing: block[BlockHeader.digestOffset..<BlockHeader.tagOffset])
        let tag = UnsafeRawPointer(head.baseAddress.unsafelyUnwrapped + head.count)
        let holds = cipher.open(
            nonce,
            authenticated: UnsafeRawBufferPointer(
                rebasing: block[..<BlockHeader.authenticatedBytes]),
            head: head,
            UnsafeRawBufferPointer(rebasing: block[TableFormat.blockHeaderBytes...]),
            to: target.baseAddress, tag: tag)
        guard holds else { return nil }
        return Digest128(
            low: UInt64(littleEndian: head.loadUnaligned(as: UInt64.self)),
            high: UInt64(littleEndian: head.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    /// A file is written once, from front to back, under a key of its own, so no ordinal comes
    /// twice; blocks that are not canonical have a row of their own.
    private var nonce: CipherNonce {
        CipherNonce(
            high: type.isCanonical ? 0 : UInt32(type.rawValue), low: UInt64(ordinal.rawValue))
    }

    /// Nil if the bytes are not a block header of this format with a good checksum.
    package init?(decoding bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= TableFormat.blockHeaderBytes else { return nil }
        func word(_ offset: Int) -> UInt32 {
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        func wide(_ offset: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        let checked = TableFormat.blockHeaderBytes - 4
        guard word(0) == TableFormat.blockMagic,
            word(checked) == Checksum.crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<checked])),
            let type = BlockType(rawValue: bytes[4]), let codec = BlockCodec(rawValue: bytes[5]),
            bytes[6] <= 1, bytes[7] == 0, word(24) <= 0xff,
            let kind = TableKind(rawValue: bytes[24])
        else { return nil }
        self.type = type
        self.codec = codec
        ordinal = BlockOrdinal(word(8))
        table = TableID(index: LogIndex(wide(16)), kind: kind, ordinal: word(12))
        canonicalLength = word(28)
        storedLength = word(32)
        storedChecksum = word(36)
        digest = Digest128(low: wide(40), high: wide(48))
        isEncrypted = bytes[6] == 1
        tag = Digest128(low: wide(56), high: wide(64))
    }
}

/// The last bytes of the file: where the block map is, and the root, for tools without a manifest.
package struct TableFooter {
    var blockCount: UInt32
    var mapOffset: UInt64
    var mapChecksum: UInt32
    /// Length of the dictionary, which stands in front of the first block; 0 without.
    var dictionaryBytes: UInt32
    /// Zero in an encrypted file, whose leaf list tells it.
    var root: Digest128
    /// An encrypted file ends with its header once more, before the footer: without the salt
    /// nothing in it could be read.
    var mirrorsHeader = false

    var mapBytes: UInt64 { UInt64(blockCount) * UInt64(TableFormat.mapEntryBytes) }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: TableFormat.footerBytes)
        writer.write(TableFormat.footerMagic)
        writer.write(TableFormat.version)
        writer.write(UInt16(mirrorsHeader ? 1 : 0))
        writer.write(blockCount)
        writer.write(mapOffset)
        writer.write(mapChecksum)
        writer.write(dictionaryBytes)
        writer.write(UInt64(0))  // offset of the parity region
        writer.write(UInt64(0))  // its length
        writer.write(root)
        let checked = TableFormat.footerBytes - 4
        writer.write(raw: [UInt8](repeating: 0, count: checked - writer.count))
        writer.write(Checksum.crc32c(writer.bytes))
        return writer.bytes
    }

    init(
        blockCount: UInt32, mapOffset: UInt64, mapChecksum: UInt32, dictionaryBytes: UInt32 = 0,
        root: Digest128
    ) {
        self.blockCount = blockCount
        self.mapOffset = mapOffset
        self.mapChecksum = mapChecksum
        self.dictionaryBytes = dictionaryBytes
        self.root = root
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        let checked = TableFormat.footerBytes - 4
        guard bytes.count == TableFormat.footerBytes else { throw DecodingError("no footer") }
        let sum = bytes.loadUnaligned(fromByteOffset: checked, as: UInt32.self)
        let body = UnsafeRawBufferPointer(rebasing: bytes[..<checked])
        guard UInt32(littleEndian: sum) == Checksum.crc32c(body) else {
            throw DecodingError("the footer's checksum")
        }
        var reader = ByteReader(bytes)
        guard try reader.read(UInt64.self) == TableFormat.footerMagic,
            try reader.read(UInt16.self) == TableFormat.version
        else { throw DecodingError("not a footer of this format") }
        let flags = try reader.read(UInt16.self)
        guard flags <= 1 else { throw DecodingError("footer flags \(flags) are not supported") }
        mirrorsHeader = flags == 1
        blockCount = try reader.read(UInt32.self)
        mapOffset = try reader.read(UInt64.self)
        mapChecksum = try reader.read(UInt32.self)
        dictionaryBytes = try reader.read(UInt32.self)
        guard dictionaryBytes <= BlockDictionary.bytesMax else {
            throw DecodingError("a dictionary of \(dictionaryBytes) bytes")
        }
        guard try reader.read(UInt64.self) == 0, try reader.read(UInt64.self) == 0 else {
            throw DecodingError("a parity region")
        }
        root = try reader.readDigest()
    }
}
