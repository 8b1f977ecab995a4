// What a member found when it computed a flush or a job: the currency of proof.

/// Which piece of work: the flush of the segment that ends at `index`, or the job of the `compact`
/// entry at `index`.
public struct JobID: Hashable, Sendable, Comparable {
    public var index: LogIndex
    public var kind: TableKind

    public init(index: LogIndex, kind: TableKind) {
        self.index = index
        self.kind = kind
    }

    public static func < (left: JobID, right: JobID) -> Bool {
        left.index != right.index
            ? left.index < right.index : left.kind.rawValue < right.kind.rawValue
    }
}

/// One member's result. Two members with equal records prove the job.
public struct JobOutcome: Hashable, Sendable {
    public enum Result: Hashable, Sendable {
        /// Records of the outputs, in ordinal order. `balanced` is the self-check: entry sums of
        /// inputs equal those of outputs and of what was dropped.
        case tables([TableRecord], balanced: Bool)
        /// Three attempts did not end, or the work failed for a reason that repeats.
        case failed(String)
    }

    public var job: JobID
    /// How often this member has computed it (a disagreement asks for one more).
    public var attempt: UInt32
    public var result: Result

    public init(job: JobID, attempt: UInt32, result: Result) {
        self.job = job
        self.attempt = attempt
        self.result = result
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(job.index.rawValue)
        writer.write(job.kind.rawValue)
        writer.write(attempt)
        switch result {
        case .tables(let records, let balanced):
            writer.write(UInt8(balanced ? 1 : 2))
            writer.writeVarint(UInt64(records.count))
            for record in records { record.encode(into: &writer) }
        case .failed(let reason):
            writer.write(UInt8(3))
            writer.writePrefixed(String(reason.prefix(512)))
        }
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let index = try reader.readLogIndex()
        guard let kind = TableKind(rawValue: try reader.read(UInt8.self)), !kind.isBlob else {
            throw DecodingError("a job kind")
        }
        job = JobID(index: index, kind: kind)
        attempt = try reader.read(UInt32.self)
        let tag = try reader.read(UInt8.self)
        switch tag {
        case 1, 2:
            let count = try reader.readVarint(atMost: UInt64(Limits.jobTables), "a table count")
            var records: [TableRecord] = []
            for _ in 0..<count { records.append(try TableRecord(&reader)) }
            result = .tables(records, balanced: tag == 1)
        case 3: result = .failed(try reader.readPrefixedString(atMost: 4096))
        default: throw DecodingError("outcome \(tag)")
        }
    }
}
