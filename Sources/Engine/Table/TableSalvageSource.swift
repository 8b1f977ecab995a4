// What can still be told of a damaged table file, for `TableSalvage`: which blocks it had, which of
// them are sound, what its properties and range tombstones say. Nothing here is needed: without
// the leaf list block headers tell what is where, and each block proves itself by its own digest.
// All of it may be hostile; nothing traps and nothing is allocated beyond `Limits.blockBytes`.

extension TableFile {
    /// Whose file it is: by its header, else by the first sound block header. If there is neither
    /// it throws what is wrong with the file header.
    static func owner(of file: any File) throws(EngineError) -> TableID {
        do throws(EngineError) {
            return try TableImport.localHeader(file).id
        } catch {
            let size = try engineError { () throws(FileError) in try file.size() }
            if let owner = BlockMap.owner(of: file, size) { return owner }
            throw error
        }
    }

    /// The header of block `ordinal` as it stands in the file; nil if it is damaged.
    func blockHeader(_ ordinal: BlockOrdinal) -> BlockHeader? {
        guard let place = place(of: ordinal), place.offset < size,
            let bytes = try? file.readBytes(
                at: place.offset, count: TableFormat.blockHeaderBytes),
            let header = bytes.withUnsafeBytes({ BlockHeader(decoding: $0) }),
            header.ordinal == ordinal, header.table == id
        else { return nil }
        return header
    }
}

struct SalvageSource {
    enum Tombstones {
        case none
        case found([RangeTombstone])
        case lost(reason: String)
        /// Neither leaf list nor properties tell whether there were any.
        case unknown
    }

    let keys: KeyRing
    let table: TableFile
    let leaves: LeafList?
    let properties: TableProperties?
    /// Data blocks are those below; see `isDataCountKnown`.
    let dataCount: Int
    /// False if there may have been more of them, or fewer.
    let isDataCountKnown: Bool
    /// Types by ordinal, as far as block headers are sound; empty beside a leaf list.
    private let outline: [BlockType?]

    /// `keys` as for `TableFile`.
    init(_ file: any File, keys: KeyRing) throws(EngineError) {
        self.keys = keys
        table = try TableFile(file, id: TableFile.owner(of: file), keys: keys)
        leaves = SalvageSource.loadLeaves(table)
        if let leaves {
            outline = []
            (dataCount, isDataCountKnown) = (leaves.dataCount, true)
        } else {
            let table = table
            outline = (0..<table.blockCount).map {
                table.blockHeader(BlockOrdinal(UInt32($0)))?.type
            }
            (dataCount, isDataCountKnown) = SalvageSource.countData(outline)
        }
        properties = SalvageSource.loadProperties(table, leaves, outline)
    }

    /// The digest of the table as it was, if the file still tells.
    var digest: Digest128? {
        guard let leaves else { return table.claimedRoot }
        return leaves.canonical.withUnsafeBytes {
            TableFormat.digest(.leaves, leaves.ordinal, $0)
        }
    }

    /// How the result is cut and filtered: as the original, or by default.
    var shape: TableShape {
        if let shape = properties?.shape, (64...16 << 20).contains(shape.blockBytes),
            shape.filter.isValid
        {
            return shape
        }
        return TableShape(blockBytes: 4096, filterBitsPerKey: 10)
    }

    // MARK: What was where

    private static func loadLeaves(_ table: TableFile) -> LeafList? {
        guard table.blockCount > 0 else { return nil }
        let last = BlockOrdinal(UInt32(clamping: table.blockCount - 1))
        do {
            let block = try table.load(
                last, .leaves, length: nil, limit: Limits.blockBytes, digest: table.claimedRoot,
                fromMedium: false)
            defer { block.deallocate() }
            let list = try LeafList(decoding: [UInt8](block.canonical))
            return list.ordinal == last ? list : nil
        } catch { return nil }
    }

    private static func loadProperties(
        _ table: TableFile, _ leaves: LeafList?, _ outline: [BlockType?]
    ) -> TableProperties? {
        let found = leaves?.properties ?? place(of: .properties, outline)
        guard let ordinal = found else { return nil }
        do {
            let block = try load(table, ordinal, .properties, leaves?[ordinal])
            defer { block.deallocate() }
            return try TableProperties(decoding: block.canonical)
        } catch { return nil }
    }

    private static func place(of type: BlockType, _ outline: [BlockType?]) -> BlockOrdinal? {
        outline.firstIndex(of: type).map { BlockOrdinal(UInt32($0)) }
    }

    /// How many data blocks there were, by block headers alone. Behind them stand the partitions of
    /// the index, if it has any, and the index, one block: so a gap of one in front of any other
    /// type is the index. What a larger gap was, or one in front of a partition, is not known: it
    /// counts as data, which is more often right than wrong.
    private static func countData(_ outline: [BlockType?]) -> (count: Int, isKnown: Bool) {
        let behindData = (outline.lastIndex(of: .data) ?? -1) + 1
        let rest = outline[behindData...]
        guard let other = rest.firstIndex(where: { $0 != nil }) else { return (behindData, false) }
        if other == behindData { return (other, true) }
        if outline[other] == .indexPartition { return (other, false) }
        if outline[other] == .index { return (other, other == behindData + 1) }
        if other == behindData + 1, behindData > 0 { return (behindData, true) }
        return (other - 1, false)
    }

    /// What block `ordinal` is, by leaf list or header; nil if neither tells.
    func type(of ordinal: BlockOrdinal) -> BlockType? {
        guard let leaves else { return table.blockHeader(ordinal)?.type }
        if ordinal == leaves.ordinal { return .leaves }
        return ordinal < leaves.ordinal ? leaves[ordinal].type : nil
    }

    // MARK: Loading

    private func leaf(_ ordinal: BlockOrdinal) -> LeafList.Leaf? {
        guard let leaves, ordinal < leaves.ordinal else { return nil }
        return leaves[ordinal]
    }

    /// Block `ordinal`, proved as far as it can be; the caller owns it.
    func load(_ ordinal: BlockOrdinal, _ type: BlockType) throws(FileDamage) -> CachedBlock {
        try SalvageSource.load(table, ordinal, type, leaf(ordinal))
    }

    private static func load(
        _ table: TableFile, _ ordinal: BlockOrdinal, _ type: BlockType, _ leaf: LeafList.Leaf?
    ) throws(FileDamage) -> CachedBlock {
        func load(fromMedium: Bool) throws(FileDamage) -> CachedBlock {
            try table.load(
                ordinal, type, length: leaf?.length, limit: Limits.blockBytes,
                digest: leaf?.digest, fromMedium: fromMedium)
        }
        do throws(FileDamage) {
            return try load(fromMedium: false)
        } catch {
            // What the page cache holds proves nothing.
            if let block = try? load(fromMedium: true) { return block }
            if let leaf, let block = loadHeaderless(table, ordinal, leaf) { return block }
            throw error
        }
    }

    /// A block of which only the header is damaged: the leaf list knows all that it said but the
    /// codec, and the tag if it is encrypted.
    private static func loadHeaderless(
        _ table: TableFile, _ ordinal: BlockOrdinal, _ leaf: LeafList.Leaf
    ) -> CachedBlock? {
        let headerBytes = UInt64(TableFormat.blockHeaderBytes)
        guard table.cipher == nil, let place = table.place(of: ordinal),
            place.offset <= table.size,
            headerBytes + UInt64(place.storedLength) <= table.size - place.offset,
            let stored = try? table.file.readBytes(
                at: place.offset + headerBytes, count: Int(place.storedLength))
        else { return nil }
        let dictionary = try? table.dictionary(fromMedium: true)
        for codec in BlockCodec.allCases {
            let block = CachedBlock(length: leaf.length)
            let isDecoded = stored.withUnsafeBytes {
                codec.decode($0, into: block.writable, dictionary: dictionary)
            }
            if isDecoded,
                TableFormat.digest(leaf.type, ordinal, block.canonical) == leaf.digest
            {
                return block
            }
            block.deallocate()
        }
        return nil
    }

    func rangeTombstones() -> Tombstones {
        let place =
            leaves == nil
            ? SalvageSource.place(of: .rangeTombstones, outline) : leaves?.rangeTombstones
        guard let ordinal = place else {
            if leaves != nil { return .none }
            guard let properties else { return .unknown }
            return properties.record.rangeTombstoneCount == 0
                ? .none : .lost(reason: "their block is not in the file")
        }
        do {
            let block = try load(ordinal, .rangeTombstones)
            defer { block.deallocate() }
            let tombstones = try RangeTombstoneBlock.decode(block.canonical)
            guard !tombstones.contains(where: \.span.isEmpty) else {
                return .lost(reason: "one of them is empty")
            }
            return tombstones.isEmpty ? .none : .found(tombstones)
        } catch {
            let damage = FileDamage(error)
            return .lost(
                reason: damage.placed(at: table.place(of: ordinal)?.offset).description)
        }
    }

    /// What is damaged and made anew from the data: local parts, index, filters and the like.
    func remade() -> [String] {
        var parts = table.damage.map(\.description)
        guard let leaves else { return parts + ["leaf list"] }
        for number in leaves.dataCount..<leaves.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = leaves[ordinal]
            guard leaf.type != .rangeTombstones else { continue }
            do throws(FileDamage) {
                try load(ordinal, leaf.type).deallocate()
            } catch {
                parts.append(error.of("block \(number) (\(leaf.type))"))
            }
        }
        return parts
    }
}
