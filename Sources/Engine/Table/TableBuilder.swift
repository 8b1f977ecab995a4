// Builds a table from sorted versions: the bytes are a function of the entries, the table id and
// the shape alone, so every replica builds the same. Used by flush and compaction.
//
// One thread. After a throw the file is garbage and the builder must be dropped.

package final class TableBuilder {
    private let id: TableID
    private let level: UInt8
    private let shape: TableShape
    private let writer: TableFileWriter
    private var block = DataBlockBuilder()
    private var canonical = RawBuffer(capacity: 8 << 10)
    private var index = IndexBuilder()
    private var bounds = BlockBoundsBuilder()
    /// Of the open block.
    private var blockSmallest = SequenceNumber.max
    private var blockLargest = SequenceNumber.zero
    private var leaves: [LeafList.Leaf] = []
    private var filters: FilterBuilder
    private var tombstones: [RangeTombstone] = []
    private var finishedBytes: UInt64 = 0

    private var lastKey = RawBuffer(capacity: 256)
    private var lastTrailer = Trailer(rawValue: 0)
    private var lastHash: UInt64 = 0
    private var smallestKey: [UInt8] = []
    private var smallestSequence = SequenceNumber.max
    private var largestSequence = SequenceNumber.zero
    private var deleteCount: UInt64 = 0
    private var valueBytes: UInt64 = 0
    private var references = BlobTally()
    private var entrySum: UInt64 = 0

    /// Point entries so far.
    package private(set) var entryCount: UInt64 = 0
    /// Neither entries nor range tombstones.
    package var isEmpty: Bool { entryCount == 0 && tombstones.isEmpty }
    /// Canonical bytes of the data so far, the open block included: what cut rules go by.
    package var canonicalBytes: UInt64 {
        finishedBytes + UInt64(block.count == 0 ? 0 : block.length)
    }
    /// Blob files that the entries so far refer to.
    var blobFileCount: Int { references.uses.count }
    /// The data block that the last version went to, and which of its entries it is.
    var lastBlock: BlockOrdinal { writer.nextOrdinal }
    var lastPlace: UInt32 { UInt32(block.count - 1) }

    /// `file` is new and empty. `generation` counts heals of this table on this node; `keys` says
    /// whether the file is encrypted.
    package init(
        file: any File, id: TableID, level: UInt8, shape: TableShape, codec: Compression,
        keys: KeyRing = .plain, generation: UInt64
    ) {
        invariant(
            (64...16 << 20).contains(shape.blockBytes) && shape.filter.isValid,
            "a table shape out of range: \(shape)")
        self.id = id
        self.level = level
        self.shape = shape
        filters = FilterBuilder(shape.filter)
        writer = TableFileWriter(
            file: file,
            header: TableLocalHeader(id: id, generation: generation, codec: codec.codec),
            compression: codec, cipher: keys.makeCipher(.table))
    }

    /// Adds a version; in order: user key ascending, trailer descending.
    package func add(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) throws(EngineError) {
        try checkLimits(key, trailer, value)
        let order = entryCount == 0 ? -1 : compareKeys(lastKey.bytes, key)
        invariant(
            order < 0 || (order == 0 && lastTrailer > trailer), "entries out of order in \(id)")
        let hash = order == 0 ? lastHash : Checksum.hash64(key)
        if block.count > 0, block.length(adding: key, value) > shape.blockBytes {
            try finishBlock(next: key)
        }
        block.add(key, hash: hash, trailer, value)
        if order != 0 {
            filters.add(key, hash: hash, previous: lastKey.bytes)
            lastKey.removeAll()
            lastKey.append(key)
        }
        if entryCount == 0 { smallestKey = [UInt8](key) }
        lastTrailer = trailer
        lastHash = hash
        blockSmallest = min(blockSmallest, trailer.sequence)
        blockLargest = max(blockLargest, trailer.sequence)
        entryCount += 1
        switch trailer.kind {
        case .delete, .singleDelete: deleteCount += 1
        case .blobReference: references.add(try BlobReference(stored: value))
        case .put, .expiringPut, .merge, nil: valueBytes += UInt64(value.count)
        }
        entrySum &+= EntrySum.of(keyHash: hash, trailer, value)
    }

    /// Adds a range tombstone; in any order, any time before `finish`. Clipping is the caller's.
    package func add(_ tombstone: RangeTombstone) {
        invariant(!tombstone.span.isEmpty, "an empty range tombstone in \(id)")
        tombstones.append(tombstone)
        note(tombstone.sequence)
        entrySum &+= EntrySum.of(tombstone)
    }

    private func checkLimits(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) throws(EngineError) {
        guard key.count <= Limits.keyBytes else {
            throw .limit(
                what: "a key's length", value: UInt64(key.count), limit: UInt64(Limits.keyBytes))
        }
        // An expiring put carries its expiry in front of the value.
        guard value.count <= Limits.valueBytesMax + 8 else {
            throw .limit(
                what: "a value's length", value: UInt64(value.count),
                limit: UInt64(Limits.valueBytesMax))
        }
        invariant(trailer.kind != nil, "an entry of an unknown kind in \(id)")
    }

    private func note(_ sequence: SequenceNumber) {
        smallestSequence = min(smallestSequence, sequence)
        largestSequence = max(largestSequence, sequence)
    }

    private func finishBlock(next: UnsafeRawBufferPointer?) throws(EngineError) {
        block.finish(into: &canonical)
        index.add(last: lastKey.bytes, lastTrailer, next: next)
        bounds.add(blockSmallest...blockLargest)
        note(blockSmallest)
        note(blockLargest)
        blockSmallest = .max
        blockLargest = .zero
        finishedBytes += UInt64(canonical.count)
        try append(.data, canonical.bytes)
    }

    private func append(_ type: BlockType, _ bytes: UnsafeRawBufferPointer) throws(EngineError) {
        guard bytes.count <= Limits.blockBytes else {
            throw .limit(
                what: "a \(type) block's length", value: UInt64(bytes.count),
                limit: UInt64(Limits.blockBytes))
        }
        let digest = TableFormat.digest(type, writer.nextOrdinal, bytes)
        try writer.append(type, bytes, digest)
        leaves.append(LeafList.Leaf(type: type, length: bytes.count, digest: digest))
    }

    private func append(_ type: BlockType, _ bytes: [UInt8]) throws(EngineError) {
        try bytes.span.bytes.withUnsafeBytes { raw throws(EngineError) in
            try append(type, raw)
        }
    }

    /// Writes the rest of the file and syncs it. Not for an empty table.
    package func finish() throws(EngineError) -> (record: TableRecord, fileBytes: UInt64) {
        guard !isEmpty else { throw .invalid(reason: "table \(id) would be empty") }
        if block.count > 0 { try finishBlock(next: nil) }
        if index.count > 0 {
            let blocks = index.finish(atMost: shape.indexBytesMax)
            for partition in blocks.partitions { try append(.indexPartition, partition) }
            try append(.index, blocks.index)
            if let bounds = bounds.encoded() { try append(.blockBounds, bounds) }
        }
        try appendFilters()
        if !tombstones.isEmpty {
            try append(.rangeTombstones, RangeTombstoneBlock.encode(tombstones))
        }
        var record = describe()
        try append(.properties, TableProperties(shape: shape, record: record).encoded())
        let list = LeafList.encode(leaves)
        try append(.leaves, list)
        record.canonicalBytes = leaves.reduce(0) { $0 + UInt64($1.length) }
        record.digest = leaves[leaves.count - 1].digest
        return (record, try writer.finish(root: record.digest))
    }

    private func appendFilters() throws(EngineError) {
        let blocks = filters.finish(last: lastKey.bytes)
        for partition in blocks.partitions { try append(.filterPartition, partition) }
        if let index = blocks.index { try append(.filterIndex, index) }
        if let whole = blocks.whole { try append(.filter, whole) }
        if let prefix = blocks.prefix { try append(.prefixFilter, prefix) }
    }

    private func describe() -> TableRecord {
        var points: TableRecord.PointRange?
        var span: KeySpan?
        if entryCount > 0 {
            let largest = [UInt8](lastKey.bytes)
            points = TableRecord.PointRange(smallest: smallestKey, largest: largest)
            span = KeySpan(smallest: smallestKey, largest: largest)
        }
        for tombstone in tombstones { span = span?.union(tombstone.span) ?? tombstone.span }
        return TableRecord(
            id: id, level: level, canonicalBytes: 0, points: points, span: span ?? .everything,
            smallestSequence: smallestSequence, largestSequence: largestSequence,
            entryCount: entryCount, deleteCount: deleteCount,
            rangeTombstoneCount: UInt64(tombstones.count), entrySum: entrySum, digest: .zero,
            blobs: id.kind.isBlob
                ? [BlobUse(file: id, count: entryCount, bytes: valueBytes)] : references.uses)
    }
}
