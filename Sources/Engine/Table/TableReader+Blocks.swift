// The block-wise side of a table: loading its leaf list at open, handing canonical
// blocks to peers and heals, verifying all of it.

extension TableReader {
    static func loadLeaves(
        _ table: TableFile, _ record: TableRecord, _ mender: (any BlockMender)?
    ) throws(EngineError) -> LeafList {
        let bytes: [UInt8]
        do throws(BlockDamage) {
            let ordinal = BlockOrdinal(UInt32(clamping: max(table.blockCount, 1) - 1))
            bytes = try readLeaves(table, ordinal, record, fromMedium: false)
        } catch {
            let address = BlockAddress(table: record.id, ordinal: .leaves)
            guard let mender else { throw .blockLost(address, reason: error.reason) }
            bytes = try mender.mend(
                address, record: record, expected: record.digest, reason: error.reason)
        }
        return try decodeLeaves(bytes, record)
    }

    /// The leaf list as the medium has it: canonical, verified, or `.blockLost`.
    static func leavesOnMedium(_ file: any File, _ record: TableRecord, keys: KeyRing)
        throws(EngineError) -> [UInt8]
    {
        let table = try TableFile(file, id: record.id, keys: keys, fromMedium: true)
        let bytes: [UInt8]
        do throws(BlockDamage) {
            let ordinal = BlockOrdinal(UInt32(clamping: max(table.blockCount, 1) - 1))
            bytes = try readLeaves(table, ordinal, record, fromMedium: true)
        } catch {
            throw .blockLost(
                BlockAddress(table: record.id, ordinal: .leaves), reason: error.reason)
        }
        _ = try decodeLeaves(bytes, record)
        return bytes
    }

    private static func readLeaves(
        _ table: TableFile, _ ordinal: BlockOrdinal, _ record: TableRecord, fromMedium: Bool
    ) throws(BlockDamage) -> [UInt8] {
        let limit = min(record.canonicalBytes, UInt64(Limits.blockBytes))
        let block = try table.load(
            ordinal, .leaves, length: nil, limit: Int(limit), digest: record.digest,
            fromMedium: fromMedium)
        defer { block.deallocate() }
        return [UInt8](block.canonical)
    }

    /// Checks a leaf list against the record and decodes it.
    static func decodeLeaves(_ bytes: [UInt8], _ record: TableRecord) throws(EngineError)
        -> LeafList
    {
        let address = BlockAddress(table: record.id, ordinal: .leaves)
        let list: LeafList
        do throws(DecodingError) { list = try LeafList(decoding: bytes) } catch {
            throw .blockLost(address, reason: error.description)
        }
        let digest = bytes.withUnsafeBytes { TableFormat.digest(.leaves, list.ordinal, $0) }
        guard digest == record.digest else {
            throw .blockLost(address, reason: "the leaf list has another digest")
        }
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
        do throws(BlockDamage) {
            if ordinal == .leaves || ordinal == leafList.ordinal {
                if !fromMedium { return leafList.canonical }
                return try TableReader.readLeaves(
                    table, leafList.ordinal, record, fromMedium: true)
            }
            guard ordinal < leafList.ordinal else {
                throw BlockDamage(reason: "the table has only \(blockCount) blocks")
            }
            let leaf = leafList[ordinal]
            let block = try table.load(
                ordinal, leaf.type, length: leaf.length, limit: leaf.length, digest: leaf.digest,
                fromMedium: fromMedium)
            defer { block.deallocate() }
            return [UInt8](block.canonical)
        } catch {
            throw .blockLost(
                BlockAddress(table: record.id, ordinal: ordinal), reason: error.reason)
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
            result.localDamage.append(error.description)
            return result
        }
        result.localDamage = fresh.damage + fresh.idleDamage(fromMedium: fromMedium)
        if fresh.damage.isEmpty, fresh.cipher == nil, fresh.claimedRoot != record.digest {
            result.localDamage.append("the footer names another digest")
        }
        for number in 0..<leafList.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = leafList[ordinal]
            result.note(ordinal) { () throws(BlockDamage) in
                try fresh.load(
                    ordinal, leaf.type, length: leaf.length, limit: leaf.length,
                    digest: leaf.digest, fromMedium: fromMedium
                ).deallocate()
            }
        }
        result.note(leafList.ordinal) { () throws(BlockDamage) in
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
        do {
            let last = BlockOrdinal(UInt32(clamping: max(table.blockCount, 1) - 1))
            let list = try table.load(
                last, .leaves, length: nil, limit: Limits.blockBytes, digest: table.claimedRoot,
                fromMedium: false)
            defer { list.deallocate() }
            let leaves = try LeafList(decoding: [UInt8](list.canonical))
            let leaf = leaves[leaves.properties]
            let block = try table.load(
                leaves.properties, leaf.type, length: leaf.length, limit: leaf.length,
                digest: leaf.digest, fromMedium: false)
            defer { block.deallocate() }
            var record = try TableProperties(decoding: block.canonical).record
            record.canonicalBytes = leaves.canonicalBytes
            record.digest = TableFormat.digest(.leaves, last, list.canonical)
            return record
        } catch {
            let reason = (error as? BlockDamage)?.reason ?? "\(error)"
            throw .corrupt(
                file: file.path,
                reason: (table.damage + ["leaf list or properties: \(reason)"])
                    .joined(separator: "; "))
        }
    }
}

/// What a look at every byte of a table file found.
package struct TableVerification: Sendable {
    package var damagedBlocks: [(ordinal: BlockOrdinal, reason: String)] = []
    /// Damage outside blocks (file header, block map, footer): costs no data, a rewrite mends it.
    package var localDamage: [String] = []
    package var isClean: Bool { damagedBlocks.isEmpty && localDamage.isEmpty }

    fileprivate mutating func note(
        _ ordinal: BlockOrdinal, _ load: () throws(BlockDamage) -> Void
    ) {
        do throws(BlockDamage) { try load() } catch {
            damagedBlocks.append((ordinal: ordinal, reason: error.reason))
        }
    }
}
