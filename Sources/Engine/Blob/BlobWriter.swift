// Takes long values out of the entries of a flush or a job and writes them to blob files of its
// own; what stays is a reference. A flush separates what is long enough; a job moves the values
// that still live out of the blob files that it collects, and any value once its tables name as
// many blob files as they may (`BlobBounds`). Blob files are tables in all but what they mean:
// `TableBuilder` writes them, with the entries' own keys and kinds, in their order.
//
// The books (`TableMerge`): a separated value leaves the key table and is an entry of the blob file
// instead, so what is made is the reference. A collected one is made anew with its reference, and
// the old reference goes. Used by `MergeOutput` alone.

/// What keeps the records of a piece of work short, whatever was written. Constant but in tests.
package struct BlobBounds: Hashable, Sendable {
    /// Files to write; the last takes all that comes.
    package var files = Limits.workBlobs
    /// Files that a table names before it ends at the next key. Values of the rest of its last key
    /// move.
    package var tableFiles = Limits.tableBlobs
    /// Counters of all tables before every value moves that comes.
    package var uses = Limits.workBlobUses

    package init() {}

    /// What each part of a job may do, so that all of them keep the bounds: it cannot see what the
    /// others do.
    func share(of parts: Int) -> BlobBounds {
        var share = self
        share.files = max(1, files / parts)
        share.uses = uses / parts
        return share
    }
}

/// Which values go to blob files, and how those are cut. A function of the log.
package struct BlobPlan: Hashable, Sendable {
    /// Values of so many bytes leave their entries; 0 leaves all where they are.
    package var threshold: UInt32 = 0
    /// Canonical bytes at which a blob file ends.
    package var fileBytes = BlobPlan.defaultFileBytes
    /// Blob files whose values move to new ones, sorted.
    package var collected: [TableID] = []
    package var bounds = BlobBounds()

    package init() {}

    /// That of a flush.
    package init(_ settings: LoggedSettings) {
        threshold = settings.blobThreshold
        fileBytes = settings.blobFileBytes
    }

    /// That of a job.
    package init(collecting files: [TableID], fileBytes: UInt64) {
        collected = files
        self.fileBytes = fileBytes
    }

    package static let off = BlobPlan()
    package static let defaultFileBytes: UInt64 = 64 << 20
    /// Bounds of `fileBytes`.
    package static let fileBytesRange: ClosedRange<UInt64> = (1 << 10)...(16 << 30)
}

final class BlobWriter {
    /// All values stay where they are, unless they have to move.
    let isIdle: Bool

    private let plan: BlobPlan
    private let collected: Set<TableID>
    private let sources: BlobFiles
    private let makeBuilder: (TableID) throws(EngineError) -> TableBuilder
    private let job: JobID
    private let firstOrdinal: UInt32

    private var builder: TableBuilder?
    private var outputs: [MergeResult.Output] = []
    private var reference = ByteWriter(capacity: 64)

    private(set) var created = MergeResult.Dropped()
    /// References whose values were moved.
    private(set) var collectedReferences = MergeResult.Dropped()

    /// `makeBuilder` begins a blob file.
    init(
        _ plan: BlobPlan, job: JobID, firstOrdinal: UInt32, sources: BlobFiles,
        makeBuilder: @escaping (TableID) throws(EngineError) -> TableBuilder
    ) {
        isIdle = plan.threshold == 0 && plan.collected.isEmpty
        self.plan = plan
        collected = Set(plan.collected)
        self.sources = sources
        self.makeBuilder = makeBuilder
        self.job = job
        self.firstOrdinal = firstOrdinal
    }

    /// Files begun so far.
    var fileCount: Int { outputs.count + (builder == nil ? 0 : 1) }

    /// Writes the entry's value to a blob file if the plan says so, and shows the entry that takes
    /// its place; false leaves it as it is. `movesAll`: values of other files move, whichever.
    func place(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer,
        movesAll: Bool,
        _ body: (Trailer, UnsafeRawBufferPointer) throws(EngineError) -> Void
    ) throws(EngineError) -> Bool {
        switch trailer.kind {
        case .put:
            guard isLong(value.count) else { return false }
            try write(key, trailer, value, expiry: nil)
        case .expiringPut:
            guard isLong(value.count - 8) else { return false }
            try write(key, trailer, value, expiry: try VersionContent.expiry(value))
        case .blobReference:
            guard movesAll || !collected.isEmpty else { return false }
            let old = try BlobReference(stored: value)
            guard movesAll || collected.contains(old.file) else { return false }
            let moved = Trailer(trailer.sequence, old.kind)
            try sources.withStored(old, io: .blocking, fillsCache: false) {
                (stored) throws(EngineError) in
                try write(key, moved, stored, expiry: old.expiry)
                note(&created, key, moved, stored)
            }
            note(&collectedReferences, key, trailer, value)
        case .delete, .singleDelete, .merge, nil: return false
        }
        let left = Trailer(trailer.sequence, .blobReference)
        try withKey(reference.bytes) { (bytes) throws(EngineError) in
            note(&created, key, left, bytes)
            try body(left, bytes)
        }
        return true
    }

    private func isLong(_ count: Int) -> Bool {
        plan.threshold > 0 && count >= Int(plan.threshold)
    }

    /// Appends the value to the current blob file, and leaves its reference in `reference`.
    private func write(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ stored: UnsafeRawBufferPointer,
        expiry: ClockMilliseconds?
    ) throws(EngineError) {
        if let builder, builder.canonicalBytes >= plan.fileBytes, fileCount < plan.bounds.files {
            try end(builder)
        }
        let file = TableID(
            index: job.index, kind: job.kind.blob, ordinal: firstOrdinal + UInt32(outputs.count))
        let builder = if let open = self.builder { open } else { try makeBuilder(file) }
        self.builder = builder
        try builder.add(key, trailer, stored)
        let made = BlobReference(
            file: file, block: builder.lastBlock, place: builder.lastPlace,
            length: UInt32(stored.count), checksum: Checksum.hash64(stored), expiry: expiry)
        reference.bytes.removeAll(keepingCapacity: true)
        made.encode(into: &reference)
    }

    private func note(
        _ books: inout MergeResult.Dropped, _ key: UnsafeRawBufferPointer, _ trailer: Trailer,
        _ value: UnsafeRawBufferPointer
    ) {
        books.count += 1
        books.entrySum &+= EntrySum.of(key, trailer, value)
    }

    private func end(_ builder: TableBuilder) throws(EngineError) {
        let (record, fileBytes) = try builder.finish()
        outputs.append(MergeResult.Output(record: record, fileBytes: fileBytes))
        self.builder = nil
    }

    /// Writes what is left. The blob files in their order.
    func finish() throws(EngineError) -> [MergeResult.Output] {
        if let builder { try end(builder) }
        return outputs
    }
}
