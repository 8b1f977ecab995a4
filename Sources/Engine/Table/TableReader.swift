// Reads one table. The chain of trust: record.digest (from the log) proves the leaf list, the leaf
// list proves each block, and a block is proved on every cache miss before anybody sees a byte of
// it. What cannot be proved here is asked of the mender; what nobody can supply is a typed error,
// never "not found".
//
// Open needs the leaf list only. Index and range tombstones are loaded then too if they are sound;
// if not, the first read that needs them asks the mender. A damaged filter, or partition of one,
// answers "maybe".

import CEngineShims
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Where in a table a key may be.
enum BlockPlace {
    /// What would tell is not in memory.
    case unknown
    case none
    case block(Int)
}

/// A version that a point read found, where it lies in a block, or a cached row, that is pinned for
/// it. The reader of the table must stay as long.
struct PinnedVersion {
    let trailer: Trailer
    let value: UnsafeRawBufferPointer
    let pinned: PinnedBlock
}

package final class TableReader: @unchecked Sendable {
    // @unchecked: what changes after init is atomic (`slots`, the words, `charged`) or under a
    // lock (`loadedTombstones`, `loadedBounds`).
    package let record: TableRecord
    let table: TableFile
    package let leafList: LeafList
    let cache: BlockCache
    /// By which the cache knows this opening of the table.
    let cacheNumber: UInt64
    /// The cache's; nil without.
    let rows: Unmanaged<RowCache>?
    let mender: (any BlockMender)?
    let keys: KeyRing
    /// Of whole keys, unless it is in partitions.
    let filter: ResidentFilter?
    /// Finds partitions by key; nil without them, or if it is damaged.
    let filterIndex: DecodedIndex?
    let prefixFilter: PrefixFilter?
    /// A BlockSlot per data block, then one per filter partition and one per index partition.
    let slots: UnsafeMutableRawPointer
    /// Data blocks: those with ordinals below it.
    let dataCount: Int
    /// The address of a retained DecodedIndex; 0 until loaded. Set once.
    private let indexWord = Atomic<UInt>(0)
    /// The same, if that is all of the index and there is no row cache; else it stays 0. Point
    /// reads ask it first, so that what most tables are without costs them nothing.
    private let plainIndexWord = Atomic<UInt>(0)
    private let loadedTombstones = Mutex<RangeTombstoneList?>(nil)
    let loadedBounds = Mutex(LoadedBounds.unasked)
    private let charged = Atomic<Int>(0)
    private let fruitless = Atomic<UInt64>(0)

    /// Blocking. Throws `.tableLost` if the file is another table's or cannot be read at all, and
    /// `.blockLost` if the leaf list is damaged and nobody has it. With `mendsLeaves` false nobody
    /// is asked for it.
    package static func open(
        file: any File, record: TableRecord, cache: BlockCache, mender: (any BlockMender)? = nil,
        mendsLeaves: Bool = true, keys: KeyRing = .plain
    ) throws(EngineError) -> TableReader {
        let table = try TableFile(file, id: record.id, keys: keys)
        for damage in table.damage {
            mender?.noteDamage(record.id, block: nil, reason: damage.of(file.path))
        }
        let leaves = try loadLeaves(table, record, mendsLeaves ? mender : nil)
        let reader = TableReader(
            record: record, table: table, leaves: leaves,
            filters: LoadedFilters(table, leaves, mender), cache: cache, mender: mender,
            keys: keys)
        // Damage here surfaces with the first read that needs the block.
        if leaves.index != nil { _ = try? reader.loadIndex(mending: false) }
        if leaves.rangeTombstones != nil { _ = try? reader.loadTombstones(mending: false) }
        return reader
    }

    private init(
        record: TableRecord, table: TableFile, leaves: LeafList, filters: LoadedFilters,
        cache: BlockCache, mender: (any BlockMender)?, keys: KeyRing
    ) {
        self.record = record
        self.table = table
        self.leafList = leaves
        dataCount = leaves.dataCount
        filter = filters.whole
        filterIndex = filters.index
        prefixFilter = filters.prefix
        self.cache = cache
        cacheNumber = cache.admitTable()
        rows = cache.rows.map { .passUnretained($0) }
        self.mender = mender
        self.keys = keys
        guard let memory = calloc(max(leaves.slotCount, 1), BlockSlot.bytes) else {
            brokenInvariant("out of memory for the slots of a table")
        }
        slots = memory
        charge(
            leaves.slotCount * BlockSlot.bytes + leaves.residentBytes + table.residentBytes
                + filters.residentBytes)
    }

    deinit {
        cache.removeAll(slots, count: leafList.slotCount, table: cacheNumber)
        free(slots)
        if let index = UnsafeRawPointer(bitPattern: indexWord.load(ordering: .acquiring)) {
            Unmanaged<DecodedIndex>.fromOpaque(index).release()
        }
        cache.charge(-charged.load(ordering: .relaxed))
    }

    func charge(_ bytes: Int) {
        charged.wrappingAdd(bytes, ordering: .relaxed)
        cache.charge(bytes)
    }

    /// Point reads so far that read a block and did not find their key in it.
    package var fruitlessReads: UInt64 { fruitless.load(ordering: .relaxed) }

    /// Blocks of the table, the leaf list included.
    package var blockCount: Int { leafList.count + 1 }
    /// Size of the file.
    package var fileBytes: UInt64 { table.size }
    /// What the file says of itself; nil if its header is damaged.
    package var localHeader: TableLocalHeader? { table.header }
    /// Length of the file's dictionary; 0 without, or if it is damaged.
    package var dictionaryBytes: Int { table.dictionaryBytes }
    /// What was damaged at open besides blocks; a rewrite mends it.
    package var localDamage: [FileDamage] { table.damage }

    /// Digests of blocks 0..<blockCount - 1. The last block is the leaf list itself, whose digest
    /// is `record.digest`.
    package func leaves() -> [Digest128] {
        (0..<leafList.count).map { leafList[BlockOrdinal(UInt32($0))].digest }
    }

    // MARK: Point reads

    /// False only if no version of `key` is in the table. `hash` is `Checksum.hash64(key)`.
    @inline(__always)
    package func mayContain(_ key: UnsafeRawBufferPointer, hash: UInt64, io: ReadIO) -> Bool {
        if record.entryCount == 0 { return false }
        if let filter { return filter.mayContain(hash) }
        return filterIndex == nil || partitionMayContain(key, hash: hash, io: io)
    }

    /// False only if no key of the table begins with `prefix`.
    package func mayContainPrefix(_ prefix: UnsafeRawBufferPointer) -> Bool {
        guard let points = record.points, points.largest.compare(with: prefix) >= 0 else {
            return false
        }
        return prefixFilter?.mayContain(keysFrom: prefix) ?? true
    }

    /// The newest version of `key` at or below `sequence`, whatever its kind. Asks the filter
    /// itself. `hash` is `Checksum.hash64(key)`.
    package func lookup(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, io: ReadIO
    ) throws(EngineError) -> FoundVersion? {
        guard let found = try find(key, hash: hash, at: sequence, io: io) else { return nil }
        defer { found.pinned.release() }
        return FoundVersion(trailer: found.trailer, value: [UInt8](found.value))
    }

    /// As `lookup`, without a copy.
    @inline(__always)
    func find(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        guard let index = plainIndex else {
            return try findOtherwise(key, hash: hash, at: sequence, io: io)
        }
        guard mayContain(key, hash: hash, io: io) else { return nil }
        let ordinal = index._withUnsafeGuaranteedRef { $0.find(key, Trailer.seek(sequence)) }
        guard ordinal < dataCount else { return nil }
        return try search(key, hash: hash, at: sequence, in: ordinal, io: io)
    }

    /// As `find`, with a row cache, with two levels of index, or before the index is in memory.
    @inline(never)
    private func findOtherwise(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        if rows != nil { return try findByRow(key, hash: hash, at: sequence, io: io) }
        guard mayContain(key, hash: hash, io: io) else { return nil }
        let ordinal = try blockOrdinal(key, Trailer.seek(sequence), io: io)
        guard ordinal < dataCount else { return nil }
        return try search(key, hash: hash, at: sequence, in: ordinal, io: io)
    }

    /// The first block that may hold a version at or after (key, seek); `dataCount` if there is
    /// none.
    @inline(__always)
    package func blockOrdinal(_ key: UnsafeRawBufferPointer, _ seek: Trailer, io: ReadIO)
        throws(EngineError) -> Int
    {
        guard let index = plainIndex else { return try searchIndex(key, seek, io: io) }
        return index._withUnsafeGuaranteedRef { $0.find(key, seek) }
    }

    /// As above, in the block that the index names.
    @inline(__always)
    func find(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, in ordinal: Int,
        io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        guard rows == nil else {
            return try findKeepingRow(key, hash: hash, at: sequence, in: ordinal, io: io)
        }
        return try search(key, hash: hash, at: sequence, in: ordinal, io: io)
    }

    /// As above, past the row cache.
    @inline(__always)
    func search(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, in ordinal: Int,
        io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        let pinned = try pin(ordinal, io, fillCache: true)
        let block = DataBlock(pinned.block.bytes)
        let entry = block.find(
            key, tag: DataBlockFormat.tag(hash), seek: Trailer.seek(sequence))
        guard let entry else {
            pinned.release()
            fruitless.wrappingAdd(1, ordering: .relaxed)
            return nil
        }
        return PinnedVersion(trailer: entry.trailer, value: entry.value, pinned: pinned)
    }

    // What `find` will touch, fetched by the CPU if it is in memory: first what the filter says,
    // then where the block lies, then the block.

    @inline(__always)
    func prefetchFilter(_ hash: UInt64) { filter?.prefetch(hash) }

    /// Where the newest version of `key` at or below `sequence` is, by filter and index.
    @inline(__always)
    func prefetchSlot(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber
    ) -> BlockPlace {
        // A partition of a filter or of the index may have to be loaded first.
        guard filterIndex == nil, let index = plainIndex ?? indexBesideRows else {
            return .unknown
        }
        guard mayContain(key, hash: hash, io: .cacheOnly) else { return .none }
        if rows != nil, hasRow(key, hash: hash, at: sequence) { return .unknown }
        let ordinal = index._withUnsafeGuaranteedRef { $0.find(key, Trailer.seek(sequence)) }
        guard ordinal < dataCount else { return .none }
        martlet_prefetch(slots + ordinal * BlockSlot.bytes)
        return .block(ordinal)
    }

    @inline(__always)
    func prefetchBlock(_ ordinal: Int) { BlockSlot(slots + ordinal * BlockSlot.bytes).prefetch() }

    /// Visits the versions of `key` at or below `sequence`, newest first, until `body` is done.
    func forEachVersion(
        of key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, io: ReadIO,
        _ body: (Trailer, UnsafeRawBufferPointer) -> VersionStep
    ) throws(EngineError) {
        guard mayContain(key, hash: hash, io: io) else { return }
        let cursor = makeCursor(io: io)
        try cursor.seek(key, Trailer.seek(sequence))
        while cursor.isValid, compareKeys(cursor.key, key) == 0 {
            guard body(cursor.trailer, cursor.value) == .goOn else { return }
            try cursor.next()
        }
    }

    /// A cursor that need not show what is outside of `scope`.
    package func makeCursor(
        io: ReadIO, fillCache: Bool = true, scope: ScanScope = .everything
    ) -> TableCursor {
        TableCursor(self, io, fillCache: fillCache, scope)
    }

    /// Data block `ordinal`, pinned.
    @inline(__always)
    func pin(_ ordinal: Int, _ io: ReadIO, fillCache: Bool) throws(EngineError) -> PinnedBlock {
        let slot = BlockSlot(slots + ordinal * BlockSlot.bytes)
        if let block = slot.pin() { return PinnedBlock(block, in: slot) }
        if io == .cacheOnly { throw .wouldBlock }
        return try take(try load(ordinal), ordinal, slot, fillCache: fillCache)
    }

    /// As `pin`, for a cursor that may read in order.
    func pin(_ ordinal: Int, _ io: ReadIO, fillCache: Bool, _ ahead: inout ReadAhead)
        throws(EngineError) -> PinnedBlock
    {
        let slot = BlockSlot(slots + ordinal * BlockSlot.bytes)
        if let block = slot.pin() { return PinnedBlock(block, in: slot) }
        if io == .cacheOnly { throw .wouldBlock }
        let leaf = leafList[BlockOrdinal(UInt32(ordinal))]
        let found = table.load(
            BlockOrdinal(UInt32(ordinal)), leaf.type, length: leaf.length, digest: leaf.digest,
            from: &ahead)
        guard let found else {
            return try take(try load(ordinal), ordinal, slot, fillCache: fillCache)
        }
        let isKept = fillCache && !(ahead.isBulk && table.isStoredAsRead(ordinal, leaf.length))
        return try take(found, ordinal, slot, fillCache: isKept)
    }

    @inline(never)
    private func load(_ ordinal: Int) throws(EngineError) -> CachedBlock {
        try loadBlock(BlockOrdinal(UInt32(ordinal)), mending: true)
    }

    /// A proved block that somebody wants pinned.
    private func take(
        _ block: CachedBlock, _ ordinal: Int, _ slot: BlockSlot, fillCache: Bool
    ) throws(EngineError) -> PinnedBlock {
        do throws(DecodingError) {
            try DataBlockFormat.validate(block.canonical)
        } catch {
            block.deallocate()
            throw malformed(BlockOrdinal(UInt32(ordinal)), error)
        }
        guard fillCache else { return PinnedBlock(block, in: nil) }
        return cache.install(block, in: slot, table: cacheNumber, index: ordinal)
    }

    // MARK: Index and range tombstones

    /// The decoded index, or the upper of its two levels; lives as long as the reader.
    func index(_ io: ReadIO) throws(EngineError) -> DecodedIndex {
        if let loadedIndex { return loadedIndex.takeUnretainedValue() }
        if io == .cacheOnly { throw .wouldBlock }
        return try loadIndex(mending: true)
    }

    @inline(__always)
    private var plainIndex: Unmanaged<DecodedIndex>? {
        UnsafeRawPointer(bitPattern: plainIndexWord.load(ordering: .acquiring))
            .map { Unmanaged<DecodedIndex>.fromOpaque($0) }
    }

    /// The index of one level of a table with a row cache, if it is in memory.
    private var indexBesideRows: Unmanaged<DecodedIndex>? {
        rows != nil && leafList.indexPartitions.isEmpty ? loadedIndex : nil
    }

    @inline(__always)
    private var loadedIndex: Unmanaged<DecodedIndex>? {
        UnsafeRawPointer(bitPattern: indexWord.load(ordering: .acquiring))
            .map { Unmanaged<DecodedIndex>.fromOpaque($0) }
    }

    private func loadIndex(mending: Bool) throws(EngineError) -> DecodedIndex {
        guard let ordinal = leafList.index else {
            brokenInvariant("the index of a table without entries was asked for")
        }
        let block = try loadBlock(ordinal, mending: mending)
        defer { block.deallocate() }
        let index: DecodedIndex
        do throws(DecodingError) {
            let partitions = leafList.indexPartitions
            index =
                partitions.isEmpty
                ? try DecodedIndex(decoding: block.canonical, count: dataCount)
                : try DecodedIndex(
                    decoding: block.canonical, count: partitions.count, over: dataCount)
        } catch {
            throw malformed(ordinal, error)
        }
        let retained = Unmanaged.passRetained(index)
        let (exchanged, present) = indexWord.compareExchange(
            expected: 0, desired: UInt(bitPattern: retained.toOpaque()),
            ordering: .acquiringAndReleasing)
        if exchanged {
            charge(index.residentBytes)
            if leafList.indexPartitions.isEmpty, rows == nil {
                plainIndexWord.store(UInt(bitPattern: retained.toOpaque()), ordering: .releasing)
            }
            return index
        }
        retained.release()
        guard let address = UnsafeRawPointer(bitPattern: present) else { return index }
        return Unmanaged<DecodedIndex>.fromOpaque(address).takeUnretainedValue()
    }

    /// The table's range tombstones. They are asked for before any "not found" of the table may
    /// be believed; lost ones throw.
    package func rangeTombstones(io: ReadIO) throws(EngineError) -> RangeTombstoneList {
        if leafList.rangeTombstones == nil { return .empty }
        if let list = loadedTombstones.withLock({ $0 }) { return list }
        if io == .cacheOnly { throw .wouldBlock }
        return try loadTombstones(mending: true)
    }

    private func loadTombstones(mending: Bool) throws(EngineError) -> RangeTombstoneList {
        guard let ordinal = leafList.rangeTombstones else { return .empty }
        let block = try loadBlock(ordinal, mending: mending)
        defer { block.deallocate() }
        let list: RangeTombstoneList
        do throws(DecodingError) {
            list = RangeTombstoneList(try RangeTombstoneBlock.decode(block.canonical))
        } catch {
            throw malformed(ordinal, error)
        }
        let isFirst = loadedTombstones.withLock { present in
            defer { present = list }
            return present == nil
        }
        if isFirst { charge(4 * block.length) }
        return list
    }

    // MARK: Loading

    /// Verified canonical bytes of a block, off the file or from the mender. The caller owns them.
    func loadBlock(_ ordinal: BlockOrdinal, mending: Bool) throws(EngineError) -> CachedBlock {
        let leaf = leafList[ordinal]
        do throws(FileDamage) {
            return try table.load(
                ordinal, leaf.type, length: leaf.length, limit: leaf.length, digest: leaf.digest,
                fromMedium: false)
        } catch {
            let address = BlockAddress(table: record.id, ordinal: ordinal)
            let reason = error.of(table.file.path)
            guard mending, let mender else { throw .blockLost(address, reason: reason) }
            let bytes = try mender.mend(
                address, record: record, expected: leaf.digest, reason: reason)
            try TableReader.check(bytes, leaf, address)
            let block = CachedBlock(length: bytes.count)
            bytes.withUnsafeBytes { block.writable.copyMemory(from: $0) }
            return block
        }
    }

    /// Throws unless `bytes` are the block that `leaf` describes.
    static func check(
        _ bytes: [UInt8], _ leaf: LeafList.Leaf, _ address: BlockAddress
    ) throws(EngineError) {
        let digest = bytes.withUnsafeBytes { TableFormat.digest(leaf.type, address.ordinal, $0) }
        guard bytes.count == leaf.length, digest == leaf.digest else {
            throw .blockLost(address, reason: "the bytes supplied for it have another digest")
        }
    }

    /// A block with the right digest that does not decode: written by something else than this
    /// format. No replica can help.
    func malformed(_ ordinal: BlockOrdinal, _ error: DecodingError) -> EngineError {
        .corrupt(
            file: table.file.path, offset: table.place(of: ordinal)?.offset,
            reason: "block \(ordinal.rawValue): \(error)")
    }
}
