// The filters of a table: what is loaded when it opens, and partitions, which are loaded when they
// are asked and live in the block cache. Filters are a help and nothing else: one that cannot be
// read is reported, answers "maybe", and costs no read its answer. Nobody is asked to supply one; a
// heal of the table mends it.

/// What of a table's filters stays in memory while it is open.
struct LoadedFilters {
    private(set) var whole: ResidentFilter?
    private(set) var index: DecodedIndex?
    private(set) var prefix: PrefixFilter?

    init(_ table: TableFile, _ leaves: LeafList, _ mender: (any BlockMender)?) {
        whole = LoadedFilters.load(leaves.filter, table, leaves, mender) {
            (bytes) throws(DecodingError) in try ResidentFilter(decoding: bytes)
        }
        index = LoadedFilters.load(leaves.filterIndex, table, leaves, mender) {
            (bytes) throws(DecodingError) in
            try DecodedIndex(decoding: bytes, count: leaves.filterPartitions.count)
        }
        prefix = LoadedFilters.load(leaves.prefixFilter, table, leaves, mender) {
            (bytes) throws(DecodingError) in try PrefixFilter(decoding: bytes)
        }
    }

    var residentBytes: Int {
        (whole?.residentBytes ?? 0) + (index?.residentBytes ?? 0) + (prefix?.residentBytes ?? 0)
    }

    private static func load<T>(
        _ ordinal: BlockOrdinal?, _ table: TableFile, _ leaves: LeafList,
        _ mender: (any BlockMender)?,
        decode: (UnsafeRawBufferPointer) throws(DecodingError) -> T
    ) -> T? {
        guard let ordinal else { return nil }
        do {
            let block = try table.load(leaves[ordinal], ordinal)
            defer { block.deallocate() }
            return try decode(block.canonical)
        } catch {
            mender?.noteDamage(table.id, block: ordinal, reason: table.reason(error, ordinal))
            return nil
        }
    }
}

extension TableFile {
    func load(_ leaf: LeafList.Leaf, _ ordinal: BlockOrdinal) throws(FileDamage)
        -> CachedBlock
    {
        try load(
            ordinal, leaf.type, length: leaf.length, limit: leaf.length, digest: leaf.digest,
            fromMedium: false)
    }

    /// What is wrong with a block that could not be loaded or decoded, with file and byte.
    func reason(_ error: any Error, _ ordinal: BlockOrdinal) -> String {
        let damage = FileDamage(error)
        return damage.placed(at: place(of: ordinal)?.offset).of(file.path)
    }
}

extension TableReader {
    /// Asks the partition that `key` belongs to. One that is not in memory is loaded if `io`
    /// allows it, and else not missed.
    func partitionMayContain(_ key: UnsafeRawBufferPointer, hash: UInt64, io: ReadIO) -> Bool {
        guard let filterIndex else { return true }
        let number = filterIndex.find(key, Trailer(rawValue: .max))
        // Behind the last partition there are no keys.
        guard number < leafList.filterPartitions.count else { return false }
        let index = leafList.dataCount + number
        let slot = BlockSlot(slots + index * BlockSlot.bytes)
        let pinned: PinnedBlock
        if let block = slot.pin() {
            pinned = PinnedBlock(block, in: slot)
        } else {
            guard io == .blocking else { return true }
            pinned = cache.install(
                loadPartition(number), in: slot, table: cacheNumber, index: index)
        }
        defer { pinned.release() }
        return FilterView(pinned.block.bytes).mayContain(hash)
    }

    /// The partition, or what stands for a damaged one until it leaves the cache.
    private func loadPartition(_ number: Int) -> CachedBlock {
        let ordinal = BlockOrdinal(UInt32(leafList.filterPartitions.lowerBound + number))
        do {
            let block = try table.load(leafList[ordinal], ordinal)
            do throws(DecodingError) {
                try FilterView.validate(block.canonical)
                return block
            } catch {
                block.deallocate()
                throw FileDamage(error.description)
            }
        } catch {
            mender?.noteDamage(record.id, block: ordinal, reason: table.reason(error, ordinal))
            let block = CachedBlock(length: FilterView.unknown.count)
            FilterView.unknown.withUnsafeBytes { block.writable.copyMemory(from: $0) }
            return block
        }
    }
}
