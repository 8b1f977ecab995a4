// Tables with content, as small as can be: each holds the newest version it saw of some one-letter
// keys. Flushes make them, jobs merge them, and reads go through the levels as the engine's do; so
// a test sees whether the rules of the manifest keep reads right, not only tables in order.
import Engine

struct SimulatedTables {
    struct VersionOfKey: Equatable {
        var sequence: UInt64
        var isDelete: Bool
    }

    private(set) var manifest = LogicalManifest()
    /// What every sealed write came to.
    private(set) var expected: [String: VersionOfKey] = [:]
    private(set) var index: UInt64 = 0
    private var contents: [TableID: [String: VersionOfKey]] = [:]
    private var sequence: UInt64 = 0
    /// Tables of segments that wait for their seal.
    private(set) var unsealed: [(segment: ClosedRange<UInt64>, table: TableRecord)] = []

    static let letters = "abcdefghijklmnop".map(String.init)

    mutating func nextIndex() -> UInt64 {
        index += 1
        return index
    }

    // MARK: - Flushes

    /// Ends a segment that writes to a few keys between `range`'s letters.
    mutating func endSegment(_ random: inout SeededRandom, keys range: Range<Int>? = nil) {
        let range = range ?? 0..<SimulatedTables.letters.count
        var content: [String: VersionOfKey] = [:]
        let first = sequence + 1
        for _ in 0...random.below(6) {
            sequence += 1
            let letter = SimulatedTables.letters[range.lowerBound + random.below(range.count)]
            content[letter] = VersionOfKey(sequence: sequence, isDelete: random.oneIn(3))
        }
        let start = nextIndex()
        index += 2
        let segment = start...index
        let record = self.record(
            .flush, segment.upperBound, 0, level: 0, content, sequences: first...sequence)
        contents[record.id] = content
        unsealed.append((segment, record))
        manifest.segmentEnded(
            SegmentBounds(first: LogIndex(start), last: LogIndex(segment.upperBound)))
    }

    /// Applies the seal of the `position`-th waiting segment.
    mutating func seal(_ position: Int = 0) -> ManifestOutcome {
        let (segment, record) = unsealed[position]
        let payload = Engine.SealRecord(
            first: LogIndex(segment.lowerBound), last: LogIndex(segment.upperBound),
            tables: [record], leader: FrontierRoot(frontier: .zero, root: .zero))
        let outcome = manifest.apply(Sample.entry(.seal, payload.encoded(), index: nextIndex()))
        if case .sealed = outcome {
            unsealed.remove(at: position)
            for (letter, version) in contents[record.id] ?? [:] { expected[letter] = version }
        }
        return outcome
    }

    // MARK: - Jobs

    mutating func start(_ spec: CompactionSpec) -> ManifestOutcome {
        manifest.apply(Sample.entry(.compact, spec.encoded(), index: nextIndex()))
    }

    /// What any replica computes: newest versions, and no deletes where nothing older can be.
    func compute(_ job: PendingJob, keysPerTable: Int) -> (
        records: [TableRecord], contents: [[String: VersionOfKey]]
    ) {
        var merged: [String: VersionOfKey] = [:]
        var sequences: [UInt64] = []
        for input in job.spec.inputs {
            guard let record = manifest.tables.record(input.id) else { continue }
            sequences += [record.smallestSequence.rawValue, record.largestSequence.rawValue]
            for (letter, version) in contents[input.id] ?? [:]
            where version.sequence > merged[letter]?.sequence ?? 0 {
                merged[letter] = version
            }
        }
        if job.spec.isBottommost { merged = merged.filter { !$0.value.isDelete } }
        let letters = merged.keys.sorted()
        var records: [TableRecord] = []
        var parts: [[String: VersionOfKey]] = []
        for start in stride(from: 0, to: letters.count, by: keysPerTable) {
            let part = letters[start..<min(start + keysPerTable, letters.count)]
            let content = merged.filter { part.contains($0.key) }
            records.append(
                record(
                    .compaction, job.index.rawValue, UInt32(records.count),
                    level: job.spec.outputLevel, content,
                    sequences: (sequences.min() ?? 1)...(sequences.max() ?? 1)))
            parts.append(content)
        }
        return (records, parts)
    }

    mutating func finish(_ job: PendingJob, keysPerTable: Int = 3) -> ManifestOutcome {
        guard job.spec.action == .merge else {
            let payload = Sample.compacted(job.index.rawValue, [])
            return manifest.apply(
                Sample.entry(.compacted, payload.encoded(), index: nextIndex()))
        }
        let (records, parts) = compute(job, keysPerTable: keysPerTable)
        for (record, content) in zip(records, parts) { contents[record.id] = content }
        let payload = Sample.compacted(job.index.rawValue, records)
        return manifest.apply(Sample.entry(.compacted, payload.encoded(), index: nextIndex()))
    }

    mutating func apply(_ kind: EntryKind, _ payload: [UInt8]) -> ManifestOutcome {
        manifest.apply(Sample.entry(kind, payload, index: nextIndex()))
    }

    // MARK: - Reads

    /// The newest version by the engine's order of search: level 0 youngest first, then downwards.
    func read(_ letter: String) -> VersionOfKey? {
        for table in manifest.tables.tables(at: 0).reversed() {
            if let version = contents[table.id]?[letter] { return version }
        }
        for level in 1..<TableRecord.levelCount {
            for table in manifest.tables.tables(at: level) {
                if let version = contents[table.id]?[letter] { return version }
            }
        }
        return nil
    }

    /// The first key whose read is wrong; a delete and nothing at all are the same.
    func firstWrongRead() -> String? {
        SimulatedTables.letters.first { letter in
            let found = read(letter).flatMap { $0.isDelete ? nil : $0 }
            let right = expected[letter].flatMap { $0.isDelete ? nil : $0 }
            return found != right
        }
    }

    /// The first level whose tables overlap or are out of order.
    func firstBrokenLevel() -> UInt8? {
        (1..<TableRecord.levelCount).first { level in
            let tables = manifest.tables.tables(at: level)
            return zip(tables, tables.dropFirst()).contains { left, right in
                guard let end = left.span.end else { return true }
                return right.span.start.isKeyBefore(end)
            }
        }
    }

    private func record(
        _ kind: TableKind, _ index: UInt64, _ ordinal: UInt32, level: UInt8,
        _ content: [String: VersionOfKey], sequences: ClosedRange<UInt64>
    ) -> TableRecord {
        Sample.table(
            kind, index, ordinal, level: level, content.keys.min() ?? "", content.keys.max() ?? "",
            sequences: sequences, bytes: UInt64(content.count) * 10)
    }
}
