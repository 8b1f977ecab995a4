// Payloads of the entries that conclude work: `seal` (a segment's flush), `compacted` and
// `cancelled` (a job). With `CompactionSpec` they are all that the logical manifest is folded from.
//
// Invariants (checked when decoding): a record's tables bear the work's index and kind, ordinals
// from 0 up (of a job with parts, from each part's first), one level, and spans in key order
// without overlap; behind them come its blob files,
// with ordinals of their own, each of which a table of the record refers to, and not more than it
// holds; those of a flush refer to no other. So no fold has to judge them again.

/// A frontier and the root of the state there: what replicas compare.
package struct FrontierRoot: Hashable, Sendable {
    package var frontier: LogIndex
    package var root: Digest128

    /// Stands first where the roots before the next one are not known. No state has this root.
    package static let forgotten = FrontierRoot(frontier: LogIndex(1), root: .zero)

    package init(frontier: LogIndex, root: Digest128) {
        self.frontier = frontier
        self.root = root
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(frontier.rawValue)
        writer.write(root)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        frontier = try reader.readLogIndex()
        root = try reader.readDigest()
    }
}

/// The flush of one log segment is proved: its tables are level 0's youngest.
package struct SealRecord: Hashable, Sendable {
    /// First and last entry of the segment.
    package var first: LogIndex
    package var last: LogIndex
    package var tables: [TableRecord]
    /// The leader's own frontier when it proposed this.
    package var leader: FrontierRoot

    package init(first: LogIndex, last: LogIndex, tables: [TableRecord], leader: FrontierRoot) {
        self.first = first
        self.last = last
        self.tables = tables
        self.leader = leader
    }

    static let format: UInt16 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        encode(into: &writer)
        return writer.bytes
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(SealRecord.format)
        writer.write(first.rawValue)
        writer.write(last.rawValue)
        leader.encode(into: &writer)
        TableRecord.encode(tables, into: &writer)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == SealRecord.format else {
            throw DecodingError("seal format \(format) is not supported")
        }
        first = try reader.readLogIndex()
        last = try reader.readLogIndex()
        guard first > .zero, first <= last else { throw DecodingError("a segment's bounds") }
        leader = try FrontierRoot(&reader)
        tables = try TableRecord.outputs(
            &reader, of: JobID(index: last, kind: .flush), level: 0)
        guard !tables.isEmpty else { throw DecodingError("a seal without tables") }
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a seal")
    }
}

/// A job is proved: its inputs go, these tables come.
package struct CompactedRecord: Hashable, Sendable {
    /// Index of the job's `compact` entry.
    package var job: LogIndex
    package var tables: [TableRecord]
    package var leader: FrontierRoot

    package init(job: LogIndex, tables: [TableRecord], leader: FrontierRoot) {
        self.job = job
        self.tables = tables
        self.leader = leader
    }

    static let format: UInt16 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        encode(into: &writer)
        return writer.bytes
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(CompactedRecord.format)
        writer.write(job.rawValue)
        leader.encode(into: &writer)
        TableRecord.encode(tables, into: &writer)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == CompactedRecord.format else {
            throw DecodingError("compacted format \(format) is not supported")
        }
        job = try reader.readLogIndex()
        guard job > .zero else { throw DecodingError("a job's index") }
        leader = try FrontierRoot(&reader)
        tables = try TableRecord.outputs(
            &reader, of: JobID(index: job, kind: .compaction), level: nil)
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a compacted")
    }
}

/// A job is given up: its reservations go and nothing else changes.
package struct CancelledRecord: Hashable, Sendable {
    package enum Reason: UInt8, Hashable, Sendable {
        /// Every member that could compute it failed.
        case failed = 1
        /// Members disagree about its outputs and nothing decides between them.
        case divergence = 2
        /// An operator asked for it.
        case requested = 3
    }

    package var job: LogIndex
    package var reason: Reason
    /// For people; at most `detailBytes` of UTF-8.
    package var detail: String

    package init(job: LogIndex, reason: Reason, detail: String = "") {
        self.job = job
        self.reason = reason
        self.detail = detail.clipped(toUTF8: CancelledRecord.detailBytes)
    }

    package static let detailBytes = 1024
    static let format: UInt16 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 32)
        encode(into: &writer)
        return writer.bytes
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(CancelledRecord.format)
        writer.write(job.rawValue)
        writer.write(reason.rawValue)
        writer.writePrefixed(detail)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == CancelledRecord.format else {
            throw DecodingError("cancelled format \(format) is not supported")
        }
        job = try reader.readLogIndex()
        guard job > .zero else { throw DecodingError("a job's index") }
        let rawReason = try reader.read(UInt8.self)
        guard let reason = Reason(rawValue: rawReason) else {
            throw DecodingError("cancel reason \(rawReason) is unknown")
        }
        self.reason = reason
        detail = try reader.readPrefixedString(atMost: CancelledRecord.detailBytes)
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a cancelled")
    }
}

// MARK: - Outputs

extension TableRecord {
    static func encode(_ tables: [TableRecord], into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(tables.count))
        for table in tables { table.encode(into: &writer) }
    }

    /// The outputs of one piece of work, in ordinal order, each checked and against the one before.
    static func outputs(_ reader: inout ByteReader, of job: JobID, level: UInt8?)
        throws(DecodingError) -> [TableRecord]
    {
        let count = try reader.readVarint(atMost: UInt64(Limits.jobTables), "a table count")
        var tables: [TableRecord] = []
        for _ in 0..<count { tables.append(try TableRecord(&reader)) }
        try check(outputs: tables, of: job, level: level)
        return tables
    }

    /// What holds for the outputs of one piece of work, whoever reports them. A nil level is any,
    /// the same for all.
    static func check(outputs: [TableRecord], of job: JobID, level: UInt8?)
        throws(DecodingError)
    {
        guard outputs.count <= Limits.jobTables else { throw DecodingError("too many tables") }
        let tables = outputs.prefix { !$0.isBlob }
        try check(blobs: outputs[tables.endIndex...], besides: tables, of: job)
        try checkOrdinals(tables, of: job, job.kind)
        var last: TableRecord?
        for table in tables {
            try table.checkStructure()
            let id = table.id
            guard table.level == level ?? last?.level ?? table.level else {
                throw DecodingError("table \(id) is at level \(table.level)")
            }
            if let last {
                guard let end = last.span.end, !table.span.start.isKeyBefore(end) else {
                    throw DecodingError("table \(id) overlaps the one before")
                }
            }
            last = table
        }
    }

    /// Each follows the one before, or is the first of a part. Only the manifest knows how many
    /// parts a job has (`PendingJob.refusal`).
    private static func checkOrdinals(
        _ outputs: ArraySlice<TableRecord>, of job: JobID, _ kind: TableKind
    ) throws(DecodingError) {
        var next: UInt32 = 0
        for output in outputs {
            let id = output.id
            let part = CompactionSpec.part(ofOrdinal: id.ordinal)
            let isFirst =
                id.ordinal > next && id.ordinal == CompactionSpec.firstOrdinal(ofPart: part)
                && job.kind == .compaction && part < Limits.jobParts
            guard id.index == job.index, id.kind == kind, id.ordinal == next || isFirst else {
                let due = TableID(index: job.index, kind: kind, ordinal: next)
                throw DecodingError("table \(id) is not \(due)")
            }
            next = id.ordinal + 1
        }
    }

    /// Blob files are cut between entries, not keys, so the versions of a key may be in several.
    private static func check(
        blobs: ArraySlice<TableRecord>, besides tables: ArraySlice<TableRecord>, of job: JobID
    ) throws(DecodingError) {
        var named: [TableID: BlobUse] = [:]
        var useCount = 0
        for table in tables {
            useCount += table.blobs.count
            guard useCount <= BlobUse.workMax else { throw DecodingError("too many blob counters") }
            for use in table.blobs where use.file.index == job.index {
                let before = named[use.file] ?? BlobUse(file: use.file, count: 0, bytes: 0)
                let (count, isCountOver) = before.count.addingReportingOverflow(use.count)
                let (bytes, isBytesOver) = before.bytes.addingReportingOverflow(use.bytes)
                guard !isCountOver, !isBytesOver else { throw DecodingError("blob counters") }
                named[use.file] = BlobUse(file: use.file, count: count, bytes: bytes)
            }
        }
        if job.kind == .flush { try checkFlush(tables, of: job, blobs: blobs.count) }
        try checkOrdinals(blobs, of: job, job.kind.blob)
        for blob in blobs {
            try blob.checkStructure()
            let id = blob.id
            guard let use = named[id] else {
                throw DecodingError("blob file \(id) belongs to no table")
            }
            // Its own counter was checked above.
            guard use.count <= blob.blobs[0].count, use.bytes <= blob.blobs[0].bytes else {
                throw DecodingError("tables count more of blob file \(id) than it holds")
            }
        }
    }

    /// A flush reads no blob file, so its tables count only those that it wrote.
    private static func checkFlush(
        _ tables: ArraySlice<TableRecord>, of job: JobID, blobs: Int
    ) throws(DecodingError) {
        for use in tables.lazy.flatMap(\.blobs) {
            guard use.file.index == job.index, use.file.kind == job.kind.blob,
                use.file.ordinal < blobs
            else { throw DecodingError("blob file \(use.file) is not of the flush \(job.index)") }
        }
    }

    /// What holds for every honest record: hulls and orders rely on it.
    package func checkStructure() throws(DecodingError) {
        guard !span.isEmpty else { throw DecodingError("table \(id) has an empty span") }
        guard (points == nil) == (entryCount == 0), deleteCount <= entryCount,
            entryCount > 0 || rangeTombstoneCount > 0
        else { throw DecodingError("table \(id) has impossible counts") }
        if let points {
            guard span.contains(points.smallest), span.contains(points.largest) else {
                throw DecodingError("table \(id) has points outside its span")
            }
        }
        try checkBlobs()
    }

    private func checkBlobs() throws(DecodingError) {
        if isBlob {
            guard blobs.count == 1, blobs[0].file == id, blobs[0].count == entryCount,
                level == 0, deleteCount == 0, rangeTombstoneCount == 0
            else { throw DecodingError("blob file \(id) has impossible counts") }
        } else {
            var count: UInt64 = 0
            for use in blobs {
                let sum = count.addingReportingOverflow(use.count)
                guard !sum.overflow, sum.partialValue <= entryCount else {
                    throw DecodingError("table \(id) has more references than entries")
                }
                count = sum.partialValue
            }
        }
    }
}

extension String {
    /// The longest prefix of whole characters within `limit` bytes of UTF-8.
    func clipped(toUTF8 limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var clipped = ""
        var count = 0
        for character in self {
            count += character.utf8.count
            guard count <= limit else { break }
            clipped.append(character)
        }
        return clipped
    }
}
