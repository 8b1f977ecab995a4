// Writes a clean generation of a table from canonical blocks: each from this node's medium if it
// verifies, else from any replica, else made anew if it follows from others. Two replicas that are
// damaged in different blocks heal each other. The result equals the manifest's digest or the
// rewrite has failed.

/// Where the blocks of a rewritten table came from.
package struct BlockOrigin: Hashable, Sendable {
    package var local = 0
    package var fetched = 0
    /// Made anew from the table's data.
    package var remade = 0
    /// The first of them, without the leaf list.
    package var fetchedBlocks: [BlockOrdinal] = []
    package var bytesFetched: UInt64 = 0
    package var donor = MemberID.none

    /// For people; empty if nothing had to be found elsewhere.
    var detail: String {
        var parts: [String] = []
        if fetched > 0 { parts.append("\(fetched) blocks fetched") }
        if remade > 0 { parts.append("\(remade) blocks made anew from the data") }
        return parts.joined(separator: ", ")
    }
}

struct TableRewrite {
    private let healer: Healer
    private let record: TableRecord
    private let handle: TableHandle?
    private let isRotation: Bool
    private(set) var origin = BlockOrigin()
    /// Tried once, when a block is missed that nobody has.
    private var remade: RemadeTable?
    private var hasTriedToRemake = false

    /// Longest wait for one block; the worker is patient, a reader is not.
    private static let deadlineMilliseconds: UInt64 = 5_000

    /// `isRotation`: the file is sound and only written anew, so it is read here whatever the
    /// settings say of the source of heals.
    init(healer: Healer, handle: TableHandle, isRotation: Bool) {
        self.healer = healer
        self.record = handle.record
        self.handle = handle
        self.isRotation = isRotation
    }

    init(healer: Healer, record: TableRecord) {
        self.healer = healer
        self.record = record
        self.handle = nil
        self.isRotation = false
    }

    mutating func run() throws(EngineError) -> LocalTable {
        try run(generation: UInt32((handle?.generation ?? 0) + 1))
    }

    /// Writes this generation, or the next one that is free. The new file stands under its final
    /// name, synced and read back, in no manifest yet.
    mutating func run(generation wanted: UInt32) throws(EngineError) -> LocalTable {
        let generation = healer.claim(record.id, from: wanted)
        let name = TableHandle.fileName(record.id, generation: UInt64(generation))
        defer { healer.endClaim(name) }
        do throws(EngineError) {
            let local = try write(name, generation)
            try readBack(name)
            return local
        } catch {
            discard(name)
            throw error
        }
    }

    private mutating func write(_ name: String, _ generation: UInt32) throws(EngineError)
        -> LocalTable
    {
        let staged = healer.files.staged + "/" + name
        let fileSystem = healer.files.fileSystem
        let codec = healer.compression[record.level]
        let file = try engineError { () throws(FileError) in
            if fileSystem.exists(staged) { try fileSystem.unlink(staged) }
            return try fileSystem.open(staged, .create)
        }
        let reader = try openLocal()
        defer { remade?.remove() }
        let bytes = try TableImport.write(
            file: file, record: record, generation: UInt64(generation), codec: codec,
            keys: healer.files.keys
        ) { (ordinal, digest) throws(EngineError) in
            try self.block(ordinal, digest, reader, remakingAt: staged + ".remade")
        }
        try engineError { () throws(FileError) in
            try fileSystem.rename(staged, to: healer.files.tables + "/" + name)
            try fileSystem.syncDirectory(healer.files.tables)
        }
        return LocalTable(generation: generation, codec: codec.codec.rawValue, fileBytes: bytes)
    }

    /// Before the manifest names it, so that the damaged file is not given up for a worse one.
    private func readBack(_ name: String) throws(EngineError) {
        let fileSystem = healer.files.fileSystem
        let file = try engineError { () throws(FileError) in
            try fileSystem.open(healer.files.tables + "/" + name, .read)
        }
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0, shards: 1),
            keys: healer.files.keys)
        let found = reader.verify(fromMedium: true)
        guard found.isClean else {
            throw .corrupt(
                file: name, offset: found.firstOffset,
                reason: "the new generation reads back damaged")
        }
    }

    /// Best effort: what stays is an orphan that the next open removes.
    private func discard(_ name: String) {
        for directory in [healer.files.staged, healer.files.tables] {
            do throws(FileError) {
                try healer.files.fileSystem.unlink(directory + "/" + name)
            } catch {}
        }
    }

    /// The damaged file, as far as it opens. One that only lacks its key, is of another format
    /// version, or is one file too many for this process, is not damaged.
    private func openLocal() throws(EngineError) -> TableReader? {
        guard isRotation || healer.options.source != .replica, let handle else { return nil }
        do throws(EngineError) {
            return try handle.reader(io: .blocking)
        } catch {
            switch error {
            case .wrongKey, .identity: throw error
            case .file(let cause) where cause.isShortage: throw error
            default: return nil
            }
        }
    }

    private mutating func block(
        _ ordinal: BlockOrdinal, _ digest: Digest128, _ reader: TableReader?,
        remakingAt path: String
    ) throws(EngineError) -> [UInt8] {
        if let reader, let bytes = local(ordinal, reader) {
            origin.local += 1
            return bytes
        }
        // All of it is here and proved, once one block needed it: nobody else is asked.
        if let bytes = try remade?.block(ordinal) {
            origin.remade += 1
            return bytes
        }
        let address = BlockAddress(table: record.id, ordinal: ordinal)
        guard let block = remote(address, digest) else {
            if let bytes = try remake(ordinal, reader, at: path) {
                origin.remade += 1
                return bytes
            }
            throw .blockLost(
                address, reason: "it is unreadable here and no replica supplied it")
        }
        origin.fetched += 1
        origin.bytesFetched += UInt64(block.bytes.count)
        origin.donor = block.donor
        if ordinal != .leaves, origin.fetchedBlocks.count < Ledger.blocksMax {
            origin.fetchedBlocks.append(ordinal)
        }
        return block.bytes
    }

    private func remote(_ address: BlockAddress, _ digest: Digest128) -> RepairedBlock? {
        // A table that was never here has no other source, whatever heals may use.
        guard healer.options.source != .local || handle == nil else { return nil }
        return healer.repaired(address, record, digest)
            ?? healer.fetch(
                address, record, digest, deadline: TableRewrite.deadlineMilliseconds)
    }

    /// The block as the table's own data makes it; nil if it is data itself, or other data is lost.
    private mutating func remake(_ ordinal: BlockOrdinal, _ reader: TableReader?, at path: String)
        throws(EngineError) -> [UInt8]?
    {
        guard let handle, healer.options.source != .replica else { return nil }
        if ordinal != .leaves, let type = reader?.leafList[ordinal].type,
            type == .data || type == .rangeTombstones
        {
            return nil
        }
        if !hasTriedToRemake {
            hasTriedToRemake = true
            remade = try RemadeTable(of: handle, in: healer.files, at: path)
        }
        return try remade?.block(ordinal)
    }

    private func local(_ ordinal: BlockOrdinal, _ reader: TableReader) -> [UInt8]? {
        do throws(EngineError) {
            return try reader.canonicalBlock(ordinal, fromMedium: true)
        } catch {
            return nil
        }
    }
}
