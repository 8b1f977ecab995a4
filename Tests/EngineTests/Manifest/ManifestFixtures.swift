// Short ways to write tables, jobs and entries in the tests of manifest and planner.
import Engine

enum Sample {
    static func key(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// A table over the keys from `first` to `last`, both included. Its digest follows from the
    /// rest.
    static func table(
        _ kind: TableKind, _ index: UInt64, _ ordinal: UInt32 = 0, level: UInt8, _ first: String,
        _ last: String, sequences: ClosedRange<UInt64>, bytes: UInt64 = 100
    ) -> TableRecord {
        let id = TableID(index: LogIndex(index), kind: kind, ordinal: ordinal)
        var record = TableRecord(
            id: id, level: level, canonicalBytes: bytes,
            points: .init(smallest: key(first), largest: key(last)),
            span: KeySpan(smallest: key(first), largest: key(last)),
            smallestSequence: SequenceNumber(sequences.lowerBound),
            largestSequence: SequenceNumber(sequences.upperBound), entryCount: 10, deleteCount: 1,
            rangeTombstoneCount: 0, entrySum: index &* 7919, digest: .zero)
        record.digest = record.leafDigest
        return record
    }

    /// A segment's only table; its sequences are its indexes.
    static func flush(
        _ segment: ClosedRange<UInt64>, _ first: String, _ last: String, bytes: UInt64 = 100
    )
        -> TableRecord
    {
        table(.flush, segment.upperBound, level: 0, first, last, sequences: segment, bytes: bytes)
    }

    static func seal(
        _ segment: ClosedRange<UInt64>, _ tables: [TableRecord],
        leader: FrontierRoot = FrontierRoot(frontier: .zero, root: .zero)
    ) -> SealRecord {
        SealRecord(
            first: LogIndex(segment.lowerBound), last: LogIndex(segment.upperBound), tables: tables,
            leader: leader)
    }

    /// Edits that flush and seal one small segment, the `step`th.
    static func sealing(_ step: Int) -> [ManifestEdit] {
        let round = UInt64(step + 1)
        let segment = (round * 10)...(round * 10 + 5)
        return [
            .flushedThrough(point(segment.upperBound, nextSequence: segment.upperBound + 1)),
            .sealInstalled(
                at: LogIndex(round * 10 + 6),
                seal(segment, [flush(segment, "a", "b")]),
                local: [local()], horizon: .zero),
        ]
    }

    static func spec(
        _ inputs: [TableRecord], to level: UInt8, bottommost: Bool = false, horizon: UInt64 = 0,
        clock: UInt64 = 0
    ) -> CompactionSpec {
        CompactionSpec(
            inputs: inputs.map { CompactionSpec.Input($0) }, outputLevel: level,
            targetBytes: 1 << 20,
            horizon: SequenceNumber(horizon), clock: clock, blockBytes: 4096,
            filter: FilterShape(kind: .burr, keyBits: 10), isBottommost: bottommost)
    }

    static func compacted(_ job: UInt64, _ tables: [TableRecord]) -> CompactedRecord {
        CompactedRecord(
            job: LogIndex(job), tables: tables,
            leader: FrontierRoot(frontier: .zero, root: .zero))
    }

    static func entry(
        _ kind: EntryKind, _ payload: [UInt8], index: UInt64, firstSequence: UInt64 = 1
    ) -> Entry {
        Entry(
            kind: kind, payload: payload, previous: .zero, group: 0, term: Term(1),
            index: LogIndex(index), firstSequence: SequenceNumber(firstSequence), clock: 0,
            commit: .zero)
    }

    /// Stands in for the executor: outputs of a job that cover the keys of its inputs, in up to
    /// `pieces` tables, with the bytes of the inputs.
    static func outputs(
        of spec: CompactionSpec, at index: UInt64, _ tables: ManifestTables, pieces: Int
    )
        -> [TableRecord]
    {
        let inputs = spec.inputs.compactMap { tables.record($0.id) }
        var keys: [[UInt8]] = []
        for input in inputs {
            if let points = input.points { keys += [points.smallest, points.largest] }
        }
        keys.sort { $0.isKeyBefore($1) }
        keys = keys.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
        let count = max(1, min(pieces, keys.count))
        let bytes = inputs.reduce(UInt64(0)) { $0 + $1.canonicalBytes }
        let sequences =
            inputs.map(\.smallestSequence.rawValue) + inputs.map(\.largestSequence.rawValue)
        var records: [TableRecord] = []
        for piece in 0..<count {
            let part = keys[(piece * keys.count / count)..<((piece + 1) * keys.count / count)]
            guard let first = part.first, let last = part.last else { continue }
            var record = table(
                .compaction, index, UInt32(records.count), level: spec.outputLevel, "", "",
                sequences: (sequences.min() ?? 1)...(sequences.max() ?? 1),
                bytes: bytes / UInt64(count))
            record.points = .init(smallest: first, largest: last)
            record.span = KeySpan(smallest: first, largest: last)
            record.digest = .zero
            record.digest = record.leafDigest
            records.append(record)
        }
        return records
    }

    static func throwsDecodingError<R>(_ body: () throws(DecodingError) -> R) -> Bool {
        do {
            _ = try body()
            return false
        } catch { return true }
    }

    /// A state of an empty log, for node 1.
    static let emptyState = ManifestState(genesis: Digest128(low: 7, high: 9))

    static func point(_ index: UInt64, nextSequence: UInt64) -> LogPoint {
        LogPoint(
            position: Position(
                term: Term(1), index: LogIndex(index), checksum: Digest128(low: index, high: 1)),
            nextSequence: SequenceNumber(nextSequence), clock: index * 10)
    }

    static func local(_ generation: UInt32 = 0, bytes: UInt64 = 4096) -> LocalTable {
        LocalTable(generation: generation, codec: 1, fileBytes: bytes)
    }

    static func standIn(_ segment: ClosedRange<UInt64>, _ tables: [TableRecord]) -> StandIn {
        StandIn(
            segment: SegmentBounds(
                first: LogIndex(segment.lowerBound), last: LogIndex(segment.upperBound)),
            tables: tables)
    }
}

extension LogicalManifest {
    /// Seals a segment that has just ended.
    @discardableResult
    mutating func land(_ segment: ClosedRange<UInt64>, _ tables: [TableRecord], at index: UInt64)
        -> ManifestOutcome
    {
        segmentEnded(
            SegmentBounds(
                first: LogIndex(segment.lowerBound), last: LogIndex(segment.upperBound)))
        return apply(Sample.entry(.seal, Sample.seal(segment, tables).encoded(), index: index))
    }

    @discardableResult
    mutating func start(_ spec: CompactionSpec, at index: UInt64) -> ManifestOutcome {
        apply(Sample.entry(.compact, spec.encoded(), index: index))
    }

    @discardableResult
    mutating func finish(_ job: UInt64, _ tables: [TableRecord], at index: UInt64)
        -> ManifestOutcome
    {
        apply(Sample.entry(.compacted, Sample.compacted(job, tables).encoded(), index: index))
    }

    @discardableResult
    mutating func cancel(_ job: UInt64, at index: UInt64) -> ManifestOutcome {
        let record = CancelledRecord(job: LogIndex(job), reason: .failed)
        return apply(Sample.entry(.cancelled, record.encoded(), index: index))
    }

    /// Puts tables of deeper levels in by moving them down with jobs.
    mutating func place(_ tables: [TableRecord]) {
        self = LogicalManifest(
            placing: self.tables.sortedByID + tables, sealedThrough: sealedThrough)
    }

    /// A manifest of these tables, however they came there.
    init(placing tables: [TableRecord], sealedThrough: LogIndex = .zero) {
        var writer = ByteWriter()
        writer.write(UInt16(1))
        writer.write(sealedThrough.rawValue)
        writer.writeVarint(UInt64(tables.count))
        for table in tables.sorted(by: { $0.id < $1.id }) { table.encode(into: &writer) }
        writer.writeVarint(0)
        let decoded = writer.bytes.withUnsafeBytes { bytes -> LogicalManifest? in
            var reader = ByteReader(bytes)
            return try? LogicalManifest(&reader)
        }
        guard let decoded else { brokenInvariant("tables that overlap in a test") }
        self = decoded
    }
}
