// Writes the surviving entries of a merge into tables and decides where one ends and the next
// begins: at a user key or at the start of a range tombstone, once the canonical bytes have reached
// the target or the output names as many blob files as it may. Versions of one key never part.
//
// Range tombstones are clipped at the cut, which is the next output's first key, and go on behind
// it: what lies in the gap between two outputs stays covered, spans never overlap, and no key is
// invented. A table may hold nothing but range tombstones. Values that do not stay with their keys
// go through a `BlobWriter`. Used by `TableMerge` alone.

final class MergeOutput {
    private let parameters: MergeParameters
    private let storage: TableMerge.Storage
    private let makeFile: TableMerge.FileFactory
    /// Of the first table; of the first blob file, too.
    private let firstOrdinal: UInt32
    let blobs: BlobWriter
    /// By start, then newest first.
    private let tombstones: [RangeTombstone]

    private var builder: TableBuilder?
    private var outputs: [MergeResult.Output] = []
    /// First key that the current output may hold.
    private var lower: [UInt8] = []
    private var nextTombstone = 0
    /// Those that begin before where we are and reach into the current output.
    private var open: [RangeTombstone] = []
    private var lastStart: [UInt8]?
    /// Blob counters of the outputs that have ended.
    private var blobUses = 0
    /// Size of the tombstones that begin in the current output.
    private var tombstoneBytes: UInt64 = 0

    /// Wrapping sum of `EntrySum` over the pieces written.
    private(set) var tombstoneEntrySum: UInt64 = 0
    /// Their sum as `RangeTombstoneMerge` counts.
    private(set) var tombstonePieceSum: UInt64 = 0

    /// Of one part of the merge. `tombstones` do not reach beyond it.
    init(
        _ parameters: MergeParameters, part: Int, _ storage: TableMerge.Storage,
        tombstones: [RangeTombstone], blobSources: BlobFiles,
        makeFile: @escaping TableMerge.FileFactory
    ) {
        firstOrdinal = CompactionSpec.firstOrdinal(ofPart: part)
        self.parameters = parameters
        self.storage = storage
        self.tombstones = tombstones
        self.makeFile = makeFile
        blobs = BlobWriter(
            parameters.blobs, job: parameters.job, firstOrdinal: firstOrdinal, sources: blobSources
        ) {
            (id) throws(EngineError) in
            TableBuilder(
                file: try makeFile(id), id: id, level: 0,
                shape: TableShape(blockBytes: parameters.shape.blockBytes, filter: .none),
                codec: storage.blobCodec, keys: storage.keys, generation: 0)
        }
    }

    /// The merge has come to `key`, none of whose versions were added yet.
    @inline(__always)
    func reach(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        if nextTombstone < tombstones.count || isFull { try reachBoundary(key) }
    }

    /// There may be a range tombstone to enter or a cut to make before `key`.
    private func reachBoundary(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        while nextTombstone < tombstones.count,
            tombstones[nextTombstone].span.start.compare(with: key) <= 0
        {
            try enterTombstone()
        }
        if isFull, lastStart.map({ $0.compare(with: key) != 0 }) ?? true {
            try cut(at: [UInt8](key))
        }
    }

    @inline(__always)
    func add(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) throws(EngineError) {
        let builder = if let open = self.builder { open } else { try makeBuilder() }
        if blobs.isIdle, !isCrowded(builder) { return try builder.add(key, trailer, value) }
        try place(key, trailer, value, in: builder)
    }

    /// The output may name no further blob file but those that are made here.
    private func isCrowded(_ builder: TableBuilder) -> Bool {
        let bounds = parameters.blobs.bounds
        return builder.blobFileCount >= bounds.tableFiles
            || blobUses + builder.blobFileCount >= bounds.uses
    }

    @inline(never)
    private func place(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer,
        in builder: TableBuilder
    ) throws(EngineError) {
        let isPlaced = try blobs.place(key, trailer, value, movesAll: isCrowded(builder)) {
            (trailer, reference) throws(EngineError) in
            try builder.add(key, trailer, reference)
        }
        if !isPlaced { try builder.add(key, trailer, value) }
    }

    /// Writes what is left. Tables, and blob files behind them.
    func finish() throws(EngineError) -> [MergeResult.Output] {
        while nextTombstone < tombstones.count { try enterTombstone() }
        try cut(at: nil)
        let files = try blobs.finish()
        try MergeOutput.checkCount(outputs.count + files.count)
        return outputs + files
    }

    private var isFull: Bool {
        guard let builder else { return tombstoneBytes >= parameters.targetBytes }
        return builder.canonicalBytes + tombstoneBytes >= parameters.targetBytes
            || builder.blobFileCount >= parameters.blobs.bounds.tableFiles
    }

    /// The next range tombstone begins. All keys so far are before its start, so this is a place to
    /// cut, unless one with the same start is in the output already.
    private func enterTombstone() throws(EngineError) {
        let tombstone = tombstones[nextTombstone]
        if isFull, lastStart != tombstone.span.start { try cut(at: tombstone.span.start) }
        nextTombstone += 1
        lastStart = tombstone.span.start
        open.append(tombstone)
        tombstoneBytes += UInt64(
            tombstone.span.start.count + (tombstone.span.end?.count ?? 0) + 8)
    }

    /// Ends the current output before `key`; nil: behind all keys.
    private func cut(at key: [UInt8]?) throws(EngineError) {
        var pieces: [RangeTombstone] = []
        for tombstone in open {
            guard let piece = clip(tombstone, to: key) else { continue }
            let builder = if let open = self.builder { open } else { try makeBuilder() }
            builder.add(piece)
            if pieces.count <= LiveTombstone.tableMax { pieces.append(piece) }
            tombstoneEntrySum &+= EntrySum.of(piece)
            tombstonePieceSum &+= RangeTombstoneMerge.sum(of: piece)
        }
        if let builder {
            let (record, fileBytes) = try builder.finish()
            blobUses += record.blobs.count
            outputs.append(
                MergeResult.Output(
                    record: record, fileBytes: fileBytes,
                    rangeTombstones: pieces.count <= LiveTombstone.tableMax ? pieces : []))
        }
        builder = nil
        tombstoneBytes = 0
        guard let key else { return }
        lower = key
        open.removeAll { $0.span.end.map { !key.isKeyBefore($0) } ?? false }
    }

    /// The part of `tombstone` in the current output, which ends at `end`.
    private func clip(_ tombstone: RangeTombstone, to end: [UInt8]?) -> RangeTombstone? {
        var span = tombstone.span
        if span.start.isKeyBefore(lower) { span.start = lower }
        if let end, span.end.map({ end.isKeyBefore($0) }) ?? true { span.end = end }
        return span.isEmpty ? nil : RangeTombstone(span: span, sequence: tombstone.sequence)
    }

    private func makeBuilder() throws(EngineError) -> TableBuilder {
        try MergeOutput.checkCount(outputs.count + blobs.fileCount + 1)
        let ordinal = firstOrdinal + UInt32(outputs.count)
        let id = TableID(
            index: parameters.job.index, kind: parameters.job.kind, ordinal: ordinal)
        let made = TableBuilder(
            file: try makeFile(id), id: id, level: parameters.level, shape: parameters.shape,
            codec: storage.codec, keys: storage.keys, generation: 0)
        builder = made
        return made
    }

    /// Tables and blob files of a record together.
    static func checkCount(_ count: Int) throws(EngineError) {
        guard count <= Limits.jobTables else {
            throw .limit(
                what: "the number of a job's outputs", value: UInt64(count),
                limit: UInt64(Limits.jobTables))
        }
    }
}
