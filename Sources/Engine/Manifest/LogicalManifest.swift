// M(i): the tables that exist as of log index i, and the reservations of jobs under way. A fold of
// the log's `seal`, `compact`, `compacted` and `cancelled` entries and of where its segments end,
// so it is the same on every replica; which entries are void is decided here and nowhere else.
//
// `compact` changes no table: it reserves its inputs and, at every level from 1 on that it reads,
// writes or passes, the hull of its inputs' spans. At level 0 it reserves only the inputs, so a
// `seal` always lands. Segments are sealed in their order; one without writes has no tables and is
// not told.
//
// A blob file comes with the tables that refer to it, and goes with the job that takes away the
// last of them.
//
// The store folds two of these: one at the applied index (`apply`, which judges) and one at the
// frontier (`install`, for what was judged good).

/// First and last entry of a log segment.
package struct SegmentBounds: Hashable, Sendable {
    package var first: LogIndex
    package var last: LogIndex

    package init(first: LogIndex, last: LogIndex) {
        self.first = first
        self.last = last
    }
}

/// A job that the log has started and not concluded.
package struct PendingJob: Hashable, Sendable {
    /// Index of its `compact` entry.
    package var index: LogIndex
    package var spec: CompactionSpec
    /// Smallest span that holds every input.
    package var hull: KeySpan

    package init(index: LogIndex, spec: CompactionSpec, hull: KeySpan) {
        self.index = index
        self.spec = spec
        self.hull = hull
    }

    /// Whether the hull is reserved at `level`.
    package func reserves(level: UInt8) -> Bool {
        level > 0 && level >= spec.sourceLevel && level <= spec.outputLevel
    }

    /// Why these outputs cannot be the job's; nil if they can.
    package func refusal(of tables: [TableRecord]) -> VoidReason? {
        for table in tables {
            let number = CompactionSpec.part(ofOrdinal: table.id.ordinal)
            guard spec.action == .merge, table.isBlob || table.level == spec.outputLevel,
                hull.union(table.span) == hull, number < spec.partCount
            else { return .outputOutsideJob(table.id) }
            let part = KeySpan.part(number, of: spec.boundaries)
            guard part.union(table.span) == part else { return .outputOutsideJob(table.id) }
        }
        return nil
    }

    /// Why tables cannot count the blob files that they do; nil if they can. References come from
    /// the inputs, and lead to what these count and the job does not collect, or to its own files.
    package func refusal(ofBlobsOf tables: [TableRecord], inputs: [TableRecord]) -> VoidReason? {
        guard tables.contains(where: { !$0.blobs.isEmpty }) else { return nil }
        let own = Set(tables.lazy.filter(\.isBlob).map(\.id))
        let kept = Set(inputs.lazy.flatMap(\.blobs).map(\.file)).subtracting(spec.collected)
        for use in tables.lazy.flatMap(\.blobs)
        where !own.contains(use.file) && !kept.contains(use.file) {
            return .foreignBlob(use.file)
        }
        return nil
    }
}

/// Why an entry changes nothing, on every replica.
package enum VoidReason: Error, Hashable, CustomStringConvertible {
    case inputNotLive(TableID)
    /// Live, but at another level or with another digest.
    case inputDiffers(TableID)
    case inputReserved(TableID, by: LogIndex)
    case hullReserved(by: LogIndex)
    /// A live table inside the hull, at the output level or between, that is no input.
    case tableInHull(TableID)
    /// An older table of level 0 that overlaps the hull would stay above newer data; or an older
    /// one of any level would come to light.
    case olderTableLeftBehind(TableID)
    /// A table of level 0 that is younger, but not than all of an input that it overlaps: only a
    /// manifest that was rebuilt without levels has such.
    case entangled(TableID)
    /// A merge inside level 0 whose inputs are not neighbours in age, or that takes only some of
    /// those that are of one age.
    case notContiguous(TableID)
    /// To be moved to a sorted level, and it overlaps another that is.
    case inputOverlaps(TableID)
    /// To be collected, and not there.
    case blobNotLive(TableID)
    /// An output counts it, and it is collected, or neither of the job nor of its inputs.
    case foreignBlob(TableID)
    /// One of the boundaries of a job's parts is not inside its hull.
    case boundaryOutsideJob
    case sealOutOfOrder(SegmentBounds)
    case unknownJob(LogIndex)
    case outputOutsideJob(TableID)

    package var description: String {
        switch self {
        case .inputNotLive(let id): return "input \(id) is not live"
        case .inputDiffers(let id): return "input \(id) is not as named"
        case .inputReserved(let id, let job): return "input \(id) is reserved by job \(job)"
        case .hullReserved(let job): return "its hull meets that of job \(job)"
        case .tableInHull(let id): return "table \(id) is in its hull and no input"
        case .olderTableLeftBehind(let id): return "older table \(id) would stay behind"
        case .entangled(let id): return "table \(id) is younger only in part"
        case .notContiguous(let id): return "table \(id) lies between its inputs in age"
        case .inputOverlaps(let id): return "moved table \(id) overlaps another one"
        case .blobNotLive(let id): return "blob file \(id) is not live"
        case .foreignBlob(let id): return "outputs cannot refer to blob file \(id)"
        case .boundaryOutsideJob: return "a boundary of its parts is outside its hull"
        case .sealOutOfOrder(let segment):
            return "segment \(segment.first)-\(segment.last) is not the next to be sealed"
        case .unknownJob(let job): return "no job \(job) is under way"
        case .outputOutsideJob(let id): return "table \(id) is outside its job"
        }
    }
}

/// What an entry did to the manifest.
package enum ManifestOutcome: Hashable, Sendable {
    /// Not an entry of jobs.
    case unchanged
    case sealed(SealRecord)
    case jobStarted(PendingJob)
    /// A `compact` that reserves nothing and will not be computed.
    case jobVoid(VoidReason)
    case jobDone(PendingJob, removed: [TableRecord], added: [TableRecord])
    case jobCancelled(PendingJob, CancelledRecord)
    /// A conclusion that concludes nothing.
    case void(VoidReason)
}

package struct LogicalManifest: Hashable, Sendable {
    package private(set) var tables: ManifestTables
    /// Jobs under way, by index.
    package private(set) var jobs: [PendingJob]
    /// Last entry of the youngest sealed segment.
    package private(set) var sealedThrough: LogIndex
    /// Ended segments with writes that wait for their `seal`, oldest first.
    package private(set) var unsealed: [SegmentBounds]

    package init() {
        tables = ManifestTables()
        jobs = []
        sealedThrough = .zero
        unsealed = []
    }

    init(tables: ManifestTables, sealedThrough: LogIndex) {
        self.init()
        self.tables = tables
        self.sealedThrough = sealedThrough
    }

    // MARK: - Folding the log

    /// A segment that holds a write has ended. In the order of the log.
    package mutating func segmentEnded(_ segment: SegmentBounds) {
        invariant(
            segment.first > (unsealed.last?.last ?? sealedThrough) && segment.first <= segment.last,
            "segments end in order")
        unsealed.append(segment)
    }

    /// Folds one committed entry in. The entry has passed `EntryValidation`.
    package mutating func apply(_ entry: Entry) -> ManifestOutcome {
        do throws(DecodingError) {
            return try entry.withPayload { (payload) throws(DecodingError) in
                try apply(entry.header.kind, payload, at: entry.index)
            }
        } catch {
            brokenInvariant("entry \(entry.index) was validated and does not decode: \(error)")
        }
    }

    package mutating func apply(
        _ kind: EntryKind, _ payload: UnsafeRawBufferPointer, at index: LogIndex
    ) throws(DecodingError) -> ManifestOutcome {
        switch kind {
        case .seal: return apply(try SealRecord(decoding: payload))
        case .compact: return start(try CompactionSpec(decoding: payload), at: index)
        case .compacted: return install(try CompactedRecord(decoding: payload))
        case .cancelled: return install(try CancelledRecord(decoding: payload))
        case .noop, .write, .bulk, .rotate, .excise, .membership, .settings: return .unchanged
        }
    }

    private mutating func apply(_ seal: SealRecord) -> ManifestOutcome {
        let segment = SegmentBounds(first: seal.first, last: seal.last)
        guard unsealed.first == segment else { return .void(.sealOutOfOrder(segment)) }
        unsealed.removeFirst()
        return install(seal)
    }

    /// Lands a seal that was judged to be in order.
    package mutating func install(_ seal: SealRecord) -> ManifestOutcome {
        guard seal.first > sealedThrough else {
            return .void(.sealOutOfOrder(SegmentBounds(first: seal.first, last: seal.last)))
        }
        tables.replace([], with: seal.tables.sorted { ManifestTables.isOlder($0, $1) })
        sealedThrough = seal.last
        return .sealed(seal)
    }

    /// Reserves for a job, or says why it is void.
    package mutating func start(_ spec: CompactionSpec, at index: LogIndex) -> ManifestOutcome {
        if let reason = refusal(of: spec) { return .jobVoid(reason) }
        switch reserve(spec, at: index) {
        case .success(let job): return .jobStarted(job)
        case .failure(let reason): return .jobVoid(reason)
        }
    }

    package mutating func install(_ record: CompactedRecord) -> ManifestOutcome {
        guard let at = jobs.firstIndex(where: { $0.index == record.job }) else {
            return .void(.unknownJob(record.job))
        }
        let job = jobs[at]
        if let reason = job.refusal(of: record.tables) { return .void(reason) }
        let removed = job.spec.inputs.map { input in
            guard let table = tables.record(input.id) else {
                brokenInvariant("reserved table \(input.id) is not live")
            }
            return table
        }
        if let reason = job.refusal(ofBlobsOf: record.tables, inputs: removed) {
            return .void(reason)
        }
        let added = job.spec.action == .move ? moved(removed, by: job.spec) : record.tables
        jobs.remove(at: at)
        tables.replace(removed, with: levelOrder(added))
        let unused = tables.unusedBlobs(after: removed)
        tables.replace(unused, with: [])
        return .jobDone(job, removed: removed + unused, added: added)
    }

    /// The same tables at the output level, in its order.
    private func moved(_ tables: [TableRecord], by spec: CompactionSpec) -> [TableRecord] {
        tables.map { table in
            var moved = table
            moved.level = spec.outputLevel
            return moved
        }.sorted { $0.span.start.isKeyBefore($1.span.start) }
    }

    package mutating func install(_ record: CancelledRecord) -> ManifestOutcome {
        guard let at = jobs.firstIndex(where: { $0.index == record.job }) else {
            return .void(.unknownJob(record.job))
        }
        return .jobCancelled(jobs.remove(at: at), record)
    }

    private func levelOrder(_ outputs: [TableRecord]) -> [TableRecord] {
        outputs.first?.level == 0
            ? outputs.sorted { ManifestTables.isOlder($0, $1) } : outputs
    }

    // MARK: - Reservations

    /// Every table that a job under way reads.
    package var reservedTables: Set<TableID> {
        var reserved = Set<TableID>()
        for job in jobs {
            for input in job.spec.inputs + job.spec.witnesses { reserved.insert(input.id) }
        }
        return reserved
    }

    /// Why `spec` would be void here and now; nil if it could start.
    package func refusal(of spec: CompactionSpec) -> VoidReason? {
        let inputs: [TableRecord]
        switch live(spec.inputs) {
        case .success(let live): inputs = live
        case .failure(let reason): return reason
        }
        if case .failure(let reason) = live(spec.witnesses) { return reason }
        if let gone = spec.collected.first(where: { !tables.contains($0) }) {
            return .blobNotLive(gone)
        }
        guard let hull = CompactionSpec.hull(of: inputs) else { return nil }
        return conflict(of: spec, inputs, hull) ?? revealed(by: spec, hull)
            ?? (spec.sourceLevel == 0 ? ageConflict(of: spec, inputs, hull) : nil)
    }

    /// What is older than what a drop takes would come to light.
    private func revealed(by spec: CompactionSpec, _ hull: KeySpan) -> VoidReason? {
        guard spec.action == .drop else { return nil }
        for level in (spec.sourceLevel + 1)..<TableRecord.levelCount {
            if let older = tables.overlapping(hull, at: level).first {
                return .olderTableLeftBehind(older.id)
            }
        }
        return nil
    }

    /// Enters a job whose age order was judged when it started: by `start`, or before the manifest
    /// was written (another job may have widened an older table's span since).
    private mutating func reserve(_ spec: CompactionSpec, at index: LogIndex)
        -> Result<PendingJob, VoidReason>
    {
        let inputs: [TableRecord]
        switch live(spec.inputs) {
        case .success(let live): inputs = live
        case .failure(let reason): return .failure(reason)
        }
        if case .failure(let reason) = live(spec.witnesses) { return .failure(reason) }
        guard let hull = CompactionSpec.hull(of: inputs) else {
            brokenInvariant("a compaction without inputs")
        }
        if let reason = conflict(of: spec, inputs, hull) {
            return .failure(reason)
        }
        let job = PendingJob(index: index, spec: spec, hull: hull)
        jobs.append(job)
        return .success(job)
    }

    private func live(_ named: [CompactionSpec.Input]) -> Result<[TableRecord], VoidReason> {
        var inputs: [TableRecord] = []
        inputs.reserveCapacity(named.count)
        for input in named {
            guard let table = tables.record(input.id) else {
                return .failure(.inputNotLive(input.id))
            }
            guard table.level == input.level, table.digest == input.digest else {
                return .failure(.inputDiffers(input.id))
            }
            inputs.append(table)
        }
        return .success(inputs)
    }

    private func conflict(of spec: CompactionSpec, _ inputs: [TableRecord], _ hull: KeySpan)
        -> VoidReason?
    {
        let named = Set(inputs.lazy.map(\.id))
        if spec.boundaries.contains(where: { !hull.contains($0) || $0 == hull.start }) {
            return .boundaryOutsideJob
        }
        if spec.action == .move, let table = CompactionSpec.firstOverlap(inputs) {
            return .inputOverlaps(table)
        }
        for job in jobs {
            for input in job.spec.inputs where named.contains(input.id) {
                return .inputReserved(input.id, by: job.index)
            }
            // Several jobs may have one witness, but none of them takes it away.
            for witness in job.spec.witnesses where named.contains(witness.id) {
                return .inputReserved(witness.id, by: job.index)
            }
            for witness in spec.witnesses
            where job.spec.inputs.contains(where: { $0.id == witness.id }) {
                return .inputReserved(witness.id, by: job.index)
            }
            let meets = (spec.sourceLevel...spec.outputLevel).contains { job.reserves(level: $0) }
            if meets, job.hull.overlaps(hull) { return .hullReserved(by: job.index) }
        }
        guard spec.outputLevel > 0 else { return nil }
        // Nor may anything lie between: what is newer would come to stand below it.
        for level in max(min(spec.sourceLevel + 1, spec.outputLevel), 1)...spec.outputLevel {
            let inside = tables.overlapping(hull, at: level)
            if let table = inside.first(where: { !named.contains($0.id) }) {
                return .tableInHull(table.id)
            }
        }
        return nil
    }

    /// Level 0 hides by age, so what leaves it must leave nothing older above it, and what is
    /// merged inside it must not jump over a neighbour.
    private func ageConflict(
        of spec: CompactionSpec, _ inputs: [TableRecord], _ hull: KeySpan
    ) -> VoidReason? {
        let named = Set(inputs.lazy.map(\.id))
        let fromLevel0 = inputs.filter { $0.level == 0 }
        guard let youngest = fromLevel0.max(by: ManifestTables.isOlder),
            let oldest = fromLevel0.min(by: ManifestTables.isOlder)
        else { return nil }
        for table in tables.tables(at: 0) where !named.contains(table.id) {
            // Cut range tombstones give tables of one job the same age. What takes some of them
            // along with older ones would be made, and so count, as younger than the rest.
            if spec.outputLevel == 0, spec.action == .merge, spec.witnesses.isEmpty,
                table.largestSequence == youngest.largestSequence
            {
                return .notContiguous(table.id)
            }
            guard ManifestTables.isOlder(table, youngest) else {
                let isEntangled = fromLevel0.contains { input in
                    table.smallestSequence < input.largestSequence
                        && table.span.overlaps(input.span)
                }
                if isEntangled { return .entangled(table.id) }
                continue
            }
            if spec.outputLevel > 0 || spec.action == .drop {
                if table.span.overlaps(hull) { return .olderTableLeftBehind(table.id) }
            } else if ManifestTables.isOlder(oldest, table) {
                return .notContiguous(table.id)
            }
        }
        return nil
    }

    /// Whether no table below `level` overlaps `hull`. Together with inputs that include all of the
    /// hull at `level`, and everything older above it, nothing older than the job's inputs exists
    /// there: segments are sealed in order, so an unsealed one is younger than every table.
    package func isBottommost(_ hull: KeySpan, below level: UInt8) -> Bool {
        for deeper in (level + 1)..<max(level + 1, TableRecord.levelCount)
        where tables.overlaps(hull, at: deeper) {
            return false
        }
        return true
    }

    package func stateRoot() -> Digest128 { tables.stateRoot() }
}

// MARK: - Bytes

extension LogicalManifest {
    static let format: UInt16 = 1

    /// Tables and jobs under way. Segments that wait for a seal are the log's to tell.
    package func encode(into writer: inout ByteWriter) {
        writer.write(LogicalManifest.format)
        writer.write(sealedThrough.rawValue)
        TableRecord.encode(tables.sortedByID, into: &writer)
        writer.writeVarint(UInt64(jobs.count))
        for job in jobs {
            writer.write(job.index.rawValue)
            job.spec.encode(into: &writer)
        }
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == LogicalManifest.format else {
            throw DecodingError("manifest format \(format) is not supported")
        }
        let sealedThrough = try reader.readLogIndex()
        // Every record takes many bytes, which bounds the count by what is there.
        let count = try reader.readVarint(atMost: UInt64(reader.remaining), "a table count")
        var records: [TableRecord] = []
        for _ in 0..<count {
            let record = try TableRecord(&reader)
            try record.checkStructure()
            records.append(record)
        }
        guard let tables = ManifestTables(records) else {
            throw DecodingError("the tables of a level overlap")
        }
        self.init(tables: tables, sealedThrough: sealedThrough)
        let jobCount = try reader.readVarint(atMost: UInt64(reader.remaining), "a job count")
        for _ in 0..<jobCount {
            let index = try reader.readLogIndex()
            guard index > jobs.last?.index ?? .zero else {
                throw DecodingError("jobs are not in order")
            }
            guard case .success = reserve(try CompactionSpec(&reader), at: index) else {
                throw DecodingError("job \(index) contradicts the tables")
            }
        }
    }
}
