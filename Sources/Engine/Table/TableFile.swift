// One table file as this node has it: where its blocks lie, and loading one block with every check.
// Knows nothing of caches and never asks anybody for help: what is wrong with a block is thrown;
// what is wrong with header, dictionary, block map and footer, which are local, is in `damage`.
// Without its dictionary the blocks that were made with it are damaged.
//
// Immutable after init but for a dictionary that is read again, so any thread may load.

import Synchronization

final class TableFile: @unchecked Sendable {
    // @unchecked: immutable after init but for `late`; `File` is Sendable.
    let file: any File
    let id: TableID
    let size: UInt64
    /// Nil if the file header is damaged (in both copies, if the file is encrypted).
    let header: TableLocalHeader?
    /// Nil if the file is plain.
    let cipher: FileCipher?
    /// The root that the footer claims; nil if the footer is damaged or the file encrypted.
    let claimedRoot: Digest128?
    /// What is wrong with the parts that are not blocks.
    let damage: [FileDamage]
    /// Where block headers start, by ordinal; 0 where unknown.
    private let offsets: [UInt64]
    private let storedLengths: [UInt32]
    private let dictionary: BlockDictionary?
    /// For a file whose dictionary was damaged at open.
    private let late: Mutex<LateDictionary>

    private struct LateDictionary {
        var dictionary: BlockDictionary?
        /// What the footer says of its length; nil if it is damaged, too.
        var length: Int?
        /// It was read from the medium, and once is enough.
        var isSettled: Bool
    }

    var blockCount: Int { offsets.count }
    /// The leaf list is the last block.
    var leavesOrdinal: BlockOrdinal { BlockOrdinal(UInt32(clamping: max(blockCount, 1) - 1)) }
    /// Length of a sound dictionary; 0 without.
    var dictionaryBytes: Int { dictionary?.byteCount ?? 0 }
    var residentBytes: Int {
        offsets.count * TableFormat.mapEntryBytes + (dictionary?.residentBytes ?? 0)
    }

    /// `.tableLost` if the file cannot be this table at all, `.wrongKey` if it is encrypted with
    /// another key than `keys` has, `.identity` if it has another format version; damage within it
    /// is no error here.
    init(_ file: any File, id: TableID, keys: KeyRing, fromMedium: Bool = false)
        throws(EngineError)
    {
        var damage: [FileDamage] = []
        do throws(FileError) { size = try file.size() } catch {
            throw .tableLost(id, reason: error.description)
        }
        header = try TableFile.readHeader(file, size, fromMedium, &damage)
        if let header {
            guard header.id == id else {
                throw .tableLost(id, reason: "\(file.path) holds table \(header.id)")
            }
        }
        cipher = try keys.cipher(header?.key, .table, path: file.path)
        var map: BlockMap?
        var footer: TableFooter?
        do throws(FileDamage) {
            let found = try TableFile.readFooter(file, size, fromMedium)
            footer = found
            map = try BlockMap(file, size, found, fromMedium)
        } catch {
            damage.append(error)
        }
        let found = map ?? BlockMap(walking: file, size, id, fromMedium)
        let dictionaryBytes = footer.map { Int($0.dictionaryBytes) }
        var dictionary: BlockDictionary?
        do throws(FileDamage) {
            dictionary = try BlockDictionary.load(
                file, size, of: id, length: dictionaryBytes, cipher: cipher,
                fromMedium: fromMedium)
        } catch {
            damage.append(error)
        }
        self.file = file
        self.id = id
        self.damage = damage
        self.dictionary = dictionary
        late = Mutex(
            LateDictionary(
                dictionary: nil, length: dictionaryBytes,
                isSettled: fromMedium || dictionaryBytes == 0))
        claimedRoot = footer?.mirrorsHeader == true ? nil : footer?.root
        offsets = found.offsets
        storedLengths = found.storedLengths
    }

    /// From the start of the file, else, if it is encrypted, from before the footer.
    private static func readHeader(
        _ file: any File, _ size: UInt64, _ fromMedium: Bool, _ damage: inout [FileDamage]
    ) throws(EngineError) -> TableLocalHeader? {
        var header: TableLocalHeader?
        do throws(EngineError) {
            header = try TableImport.localHeader(file, fromMedium: fromMedium)
        } catch {
            if case .identity = error { throw error }
            damage.append(FileDamage(error))
        }
        return header ?? readMirror(file, size, fromMedium)
    }

    /// The second copy of an encrypted file's header.
    private static func readMirror(_ file: any File, _ size: UInt64, _ fromMedium: Bool)
        -> TableLocalHeader?
    {
        guard let offset = mirrorOffset(size),
            let bytes = try? file.readBytes(
                at: offset, count: TableFormat.fileHeaderBytes, fromMedium: fromMedium),
            let header = bytes.withUnsafeBytes({ try? TableLocalHeader(decoding: $0) }),
            header.key != nil
        else { return nil }
        return header
    }

    /// Nil if a file of `size` bytes has no room for it.
    private static func mirrorOffset(_ size: UInt64) -> UInt64? {
        let tail = UInt64(TableFormat.fileHeaderBytes + TableFormat.footerBytes)
        return size >= tail ? size - tail : nil
    }

    /// What only a verification asks, besides `damage`: a copy that nothing needs yet, and bytes
    /// that belong to nothing.
    func idleDamage(fromMedium: Bool) -> [FileDamage] {
        var found: [FileDamage] = []
        if let header, header.key != nil, TableFile.readMirror(file, size, fromMedium) != header {
            found.append(
                FileDamage(
                    at: TableFile.mirrorOffset(size),
                    "the second copy of the file header is damaged"))
        }
        // Without header, map and footer nobody knows what belongs where.
        guard damage.isEmpty, let footer = try? TableFile.readFooter(file, size, fromMedium) else {
            return found
        }
        let starts = offsets.dropFirst() + [footer.mapOffset]
        for ((offset, length), next) in zip(zip(offsets, storedLengths), starts) {
            // The map holds its checksum, but may be anybody's.
            let end = offset &+ UInt64(TableFormat.blockHeaderBytes) &+ UInt64(length)
            if end != next { found.append(FileDamage(at: end, "to \(next) lies no block")) }
        }
        let tail = footer.mirrorsHeader ? UInt64(TableFormat.fileHeaderBytes) : 0
        let end = footer.mapOffset + footer.mapBytes + tail + UInt64(TableFormat.footerBytes)
        if end != size {
            found.append(
                FileDamage("the file has \(size) bytes, and its footer tells of \(end)"))
        }
        return found
    }

    private static func readFooter(
        _ file: any File, _ size: UInt64, _ fromMedium: Bool
    ) throws(FileDamage) -> TableFooter {
        let length = UInt64(TableFormat.footerBytes)
        guard size >= length + UInt64(TableFormat.fileHeaderBytes) else {
            throw FileDamage("the file has only \(size) bytes")
        }
        do {
            let bytes = try file.readBytes(
                at: size - length, count: Int(length), fromMedium: fromMedium)
            return try bytes.span.bytes.withUnsafeBytes { raw throws(DecodingError) in
                try TableFooter(decoding: raw)
            }
        } catch {
            throw FileDamage(at: size - length, "\(error)")
        }
    }

    /// Where the header of block `ordinal` starts, and how long its stored bytes are; nil where
    /// unknown. Not checked against the size of the file.
    func place(of ordinal: BlockOrdinal) -> (offset: UInt64, storedLength: UInt32)? {
        let number = Int(ordinal.rawValue)
        guard number < offsets.count, offsets[number] != 0 else { return nil }
        return (offsets[number], storedLengths[number])
    }

    /// Loads block `ordinal` and checks header, checksum and digest; what is thrown names the byte
    /// at which it starts. `length` is its canonical length; nil takes the header's, up to `limit`.
    /// Without a `digest` the block's own counts, which proves it against accidents only, unless
    /// the block is encrypted: its tag proves it.
    func load(
        _ ordinal: BlockOrdinal, _ type: BlockType, length: Int?, limit: Int, digest: Digest128?,
        fromMedium: Bool
    ) throws(FileDamage) -> CachedBlock {
        let (offset, total) = try extent(of: ordinal)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: total, alignment: 16)
        defer { buffer.deallocate() }
        let got: Int
        do throws(FileError) {
            got =
                fromMedium
                ? try file.readFromMedium(at: offset, into: buffer)
                : try file.read(at: offset, into: buffer)
        } catch {
            throw FileDamage(at: offset, error.description)
        }
        guard got == total else { throw FileDamage(at: offset, "the file ends within it") }
        do throws(FileDamage) {
            return try check(
                buffer, ordinal, type, length: length, limit: limit, digest,
                fromMedium: fromMedium)
        } catch { throw error.placed(at: offset) }
    }

    /// As `load`, of what `ahead` holds of the file; nil if it does not hold the block, or holds it
    /// damaged.
    func load(
        _ ordinal: BlockOrdinal, _ type: BlockType, length: Int, digest: Digest128,
        from ahead: inout ReadAhead
    ) -> CachedBlock? {
        guard let (offset, total) = try? extent(of: ordinal),
            let bytes = ahead.take(file, size, at: offset, count: total)
        else { return nil }
        return try? check(
            bytes, ordinal, type, length: length, limit: length, digest, fromMedium: false)
    }

    /// Whether the file holds the bytes of a block, of canonical length `length`, without codec and
    /// cipher.
    func isStoredAsRead(_ ordinal: Int, _ length: Int) -> Bool {
        cipher == nil && ordinal < storedLengths.count && Int(storedLengths[ordinal]) == length
    }

    /// Where a block lies, its header included.
    private func extent(of ordinal: BlockOrdinal) throws(FileDamage)
        -> (offset: UInt64, total: Int)
    {
        guard Int(ordinal.rawValue) < offsets.count, offsets[Int(ordinal.rawValue)] != 0 else {
            throw FileDamage("the file does not hold it")
        }
        let offset = offsets[Int(ordinal.rawValue)]
        let total =
            TableFormat.blockHeaderBytes + Int(storedLengths[Int(ordinal.rawValue)])
        guard offset <= size, UInt64(total) <= size - offset else {
            throw FileDamage(at: offset, "it reaches beyond the end of the file")
        }
        return (offset, total)
    }

    /// The dictionary, read once more if it was damaged at open: by another reader from the medium,
    /// or now if that is what this one wants.
    func dictionary(fromMedium: Bool) throws(FileDamage) -> BlockDictionary {
        if let dictionary { return dictionary }
        let found = late.withLock { late in
            if late.dictionary == nil, fromMedium, !late.isSettled {
                late.isSettled = true
                late.dictionary = try? BlockDictionary.load(
                    file, size, of: id, length: late.length, cipher: cipher, fromMedium: true)
            }
            return late.dictionary
        }
        guard let found else {
            throw FileDamage(
                "the file's dictionary, at byte \(BlockDictionary.offset), is damaged")
        }
        return found
    }

    private func check(
        _ bytes: UnsafeMutableRawBufferPointer, _ ordinal: BlockOrdinal, _ type: BlockType,
        length: Int?, limit: Int, _ expected: Digest128?, fromMedium: Bool
    ) throws(FileDamage) -> CachedBlock {
        guard let header = BlockHeader(decoding: UnsafeRawBufferPointer(bytes)) else {
            throw FileDamage("its header is damaged")
        }
        guard header.type == type, header.ordinal == ordinal, header.table == id else {
            throw FileDamage("another block stands in its place")
        }
        let body = UnsafeMutableRawBufferPointer(
            rebasing: bytes[TableFormat.blockHeaderBytes...])
        let stored = UnsafeRawBufferPointer(body)
        guard Int(header.storedLength) == stored.count,
            Int(header.canonicalLength) == length ?? Int(header.canonicalLength),
            Int(header.canonicalLength) <= limit
        else { throw FileDamage("its lengths are wrong") }
        guard Checksum.crc32c(stored) == header.storedChecksum else {
            throw FileDamage("its checksum is wrong")
        }
        let dictionary =
            header.codec == .zstdDictionary ? try dictionary(fromMedium: fromMedium) : nil
        let block = CachedBlock(length: Int(header.canonicalLength))
        do throws(FileDamage) {
            let digest = try decode(header, bytes, dictionary, into: block.writable)
            guard digest == expected ?? digest,
                TableFormat.digest(type, ordinal, block.canonical) == digest
            else { throw FileDamage("its digest is wrong") }
        } catch {
            block.deallocate()
            throw error
        }
        return block
    }

    /// Undoes cipher and codec, the former in place; returns the digest that the block claims.
    private func decode(
        _ header: BlockHeader, _ bytes: UnsafeMutableRawBufferPointer,
        _ dictionary: BlockDictionary?, into target: UnsafeMutableRawBufferPointer
    ) throws(FileDamage) -> Digest128 {
        guard header.isEncrypted == (cipher != nil) else {
            throw FileDamage(
                header.isEncrypted
                    ? "its key is lost with both copies of the file header"
                    : "it is plain in an encrypted file: it was tampered with")
        }
        let body = UnsafeMutableRawBufferPointer(
            rebasing: bytes[TableFormat.blockHeaderBytes...])
        var digest = header.digest
        // What no codec has to decode is decrypted to where it belongs.
        let isPlaced = cipher != nil && header.codec == .none && body.count == target.count
        if let cipher {
            guard let opened = header.open(bytes, cipher, into: isPlaced ? target : body) else {
                throw FileDamage(TableFile.tampered)
            }
            digest = opened
        }
        let stored = UnsafeRawBufferPointer(body)
        guard isPlaced || header.codec.decode(stored, into: target, dictionary: dictionary) else {
            throw FileDamage("it does not decode")
        }
        return digest
    }

    static let tampered = "its checksum holds, its authentication does not: it was tampered with"
}
