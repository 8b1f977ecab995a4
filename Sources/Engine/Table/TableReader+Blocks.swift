// The block-wise side of a table: loading its leaf list at open, handing canonical
// blocks to peers and heals, verifying all of it.

extension TableReader {
    static func loadLeaves(
        _ table: TableFile, _ record: TableRecord, _ mender: (any BlockMender)?
    ) throws(EngineError) -> LeafList {
        let bytes: [UInt8]
        var source: TableFile? = table
        do throws(FileDamage) {
            let ordinal = table.leavesOrdinal
            bytes = try readLeaves(table, ordinal, record, fromMedium: false)
        } catch {
            source = nil
            let address = BlockAddress(table: record.id, ordinal: .leaves)
            let reason = error.of(table.file.path)
            guard let mender else { throw .blockLost(address, reason: reason) }
            bytes = try mender.mend(
                address, record: record, expected: record.digest, reason: reason)
        }
        return try decodeLeaves(bytes, record, from: source)
    }

    /// The leaf list as the medium has it: canonical, verified, or `.blockLost`.
    static func leavesOnMedium(_ file: any File, _ record: TableRecord, keys: KeyRing)
        throws(EngineError) -> [UInt8]
    {
        let table = try TableFile(file, id: record.id, keys: keys, fromMedium: true)
        let bytes: [UInt8]
        do throws(FileDamage) {
            let ordinal = table.leavesOrdinal
            bytes = try readLeaves(table, ordinal, record, fromMedium: true)
        } catch {
            throw .blockLost(
                BlockAddress(table: record.id, ordinal: .leaves), reason: error.of(file.path))
        }
        _ = try decodeLeaves(bytes, record, from: table)
        return bytes
    }

    private static func readLeaves(
        _ table: TableFile, _ ordinal: BlockOrdinal, _ record: TableRecord, fromMedium: Bool
    ) throws(FileDamage) -> [UInt8] {
        let limit = min(record.canonicalBytes, UInt64(Limits.blockBytes))
        let block = try table.load(
            ordinal, .leaves, length: nil, limit: Int(limit), digest: record.digest,
            fromMedium: fromMedium)
        defer { block.deallocate() }
        return [UInt8](block.canonical)
    }

    /// Checks a leaf list against the record and decodes it. `table` is the file that it was read
    /// from; nil if somebody supplied it.
    static func decodeLeaves(
        _ bytes: [UInt8], _ record: TableRecord, from table: TableFile?
    ) throws(EngineError) -> LeafList {
        func lost(_ reason: String) -> EngineError {
            let place = table.flatMap { $0.place(of: $0.leavesOrdinal) }
            let damage = FileDamage(at: place?.offset, reason)
            return .blockLost(
                BlockAddress(table: record.id, ordinal: .leaves),
                reason: damage.of(table?.file.path ?? "the one supplied"))
        }
        let list: LeafList
        do throws(DecodingError) { list = try LeafList(decoding: bytes) } catch {
            throw lost(error.description)
        }
        let digest = bytes.withUnsafeBytes { TableFormat.digest(.leaves, list.ordinal, $0) }
        guard digest == record.digest else { throw lost("it has another digest") }
        guard list.canonicalBytes == record.canonicalBytes,
            (list.dataCount > 0) == (record.entryCount > 0),
            (list.rangeTombstones != nil) == (record.rangeTombstoneCount > 0)
        else {
            throw .invalid(reason: "the record of table \(record.id) contradicts its digest")
        }
        return list
    }

    /// Verified canonical bytes off this file, the leaf list's for its ordinal or `.leaves`. Never
    /// asks the mender: `.blockLost` if damaged. For donors and heals.
    package func canonicalBlock(_ ordinal: BlockOrdinal, fromMedium: Bool) throws(EngineError)
        -> [UInt8]
    {
        do throws(FileDamage) {
            if ordinal == .leaves || ordinal == leafList.ordinal {
                if !fromMedium { return leafList.canonical }
                return try TableReader.readLeaves(
                    table, leafList.ordinal, record, fromMedium: true)
            }
            guard ordinal < leafList.ordinal else {
                throw FileDamage("the table has only \(blockCount) blocks")
            }
            let leaf = leafList[ordinal]
            let block = try table.load(
                ordinal, leaf.type, length: leaf.length, limit: leaf.length, digest: leaf.digest,
                fromMedium: fromMedium)
            defer { block.deallocate() }
            return [UInt8](block.canonical)
        } catch {
            throw .blockLost(
                BlockAddress(table: record.id, ordinal: ordinal),
                reason: error.of(table.file.path))
        }
    }

    /// Reads every byte of the file again and lists what is wrong. Never asks the mender and leaves
    /// the cache alone.
    package func verify(fromMedium: Bool) -> TableVerification {
        var result = TableVerification()
        let fresh: TableFile
        do throws(EngineError) {
            fresh = try TableFile(table.file, id: record.id, keys: keys, fromMedium: fromMedium)
        } catch {
            result.localDamage.append(FileDamage(error))
            return result
        }
        result.localDamage = fresh.damage + fresh.idleDamage(fromMedium: fromMedium)
        if fresh.damage.isEmpty, fresh.cipher == nil, fresh.claimedRoot != record.digest {
            result.localDamage.append(
                FileDamage(
                    at: fresh.size - UInt64(TableFormat.footerBytes),
                    "the footer names another digest"))
        }
        for number in 0..<leafList.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = leafList[ordinal]
            result.note(ordinal) { () throws(FileDamage) in
                try fresh.load(
                    ordinal, leaf.type, length: leaf.length, limit: leaf.length,
                    digest: leaf.digest, fromMedium: fromMedium
                ).deallocate()
            }
        }
        result.note(leafList.ordinal) { () throws(FileDamage) in
            _ = try TableReader.readLeaves(
                fresh, leafList.ordinal, record, fromMedium: fromMedium)
        }
        return result
    }

    /// The record of a table file as the file tells it, for tools without a manifest: the level is
    /// unknown (0), and the digest is the footer's claim, or that of an encrypted leaf list, proved
    /// by everything below it. A damaged file header, block map or footer is no obstacle: then
    /// blocks tell whose file it is, and the leaf list its own digest.
    package static func describe(_ file: any File, keys: KeyRing = .plain) throws(EngineError)
        -> TableRecord
    {
        let table = try TableFile(file, id: TableFile.owner(of: file), keys: keys)
        let last = table.leavesOrdinal
        var ordinal = last
        do {
            let list = try table.load(
                last, .leaves, length: nil, limit: Limits.blockBytes, digest: table.claimedRoot,
                fromMedium: false)
            defer { list.deallocate() }
            let leaves = try LeafList(decoding: [UInt8](list.canonical))
            ordinal = leaves.properties
            let leaf = leaves[ordinal]
            let block = try table.load(
                ordinal, leaf.type, length: leaf.length, limit: leaf.length,
                digest: leaf.digest, fromMedium: false)
            defer { block.deallocate() }
            var record = try TableProperties(decoding: block.canonical).record
            record.canonicalBytes = leaves.canonicalBytes
            record.digest = TableFormat.digest(.leaves, last, list.canonical)
            return record
        } catch {
            let damage = FileDamage(error).placed(at: table.place(of: ordinal)?.offset)
            let part = ordinal == last ? "leaf list" : "properties"
            throw .corrupt(
                file: file.path, offset: damage.offset,
                reason: (["\(part): \(damage.reason)"] + table.damage.map(\.description))
                    .joined(separator: "; "))
        }
    }
}

/// What a look at every byte of a table file found.
package struct TableVerification: Sendable {
    package var damagedBlocks: [(ordinal: BlockOrdinal, damage: FileDamage)] = []
    /// Damage outside blocks (file header, block map, footer): costs no data, a rewrite mends it.
    package var localDamage: [FileDamage] = []
    package var isClean: Bool { damagedBlocks.isEmpty && localDamage.isEmpty }

    /// All of it, for people.
    package var texts: [String] {
        localDamage.map(\.description)
            + damagedBlocks.map { $0.damage.of("block \($0.ordinal.rawValue)") }
    }
    /// Of the first of `texts` that has one.
    var firstOffset: UInt64? {
        (localDamage + damagedBlocks.map(\.damage)).lazy.compactMap(\.offset).first
    }

    fileprivate mutating func note(
        _ ordinal: BlockOrdinal, _ load: () throws(FileDamage) -> Void
    ) {
        do throws(FileDamage) { try load() } catch {
            damagedBlocks.append((ordinal: ordinal, damage: error))
        }
    }
}
