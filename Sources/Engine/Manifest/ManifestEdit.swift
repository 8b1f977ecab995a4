// One change of the manifest state, and the fold that applies it. Several edits go into one record
// of the manifest file and take effect together or not at all.
//
// The fold is total in one sense only: an edit that contradicts the state throws and leaves the
// caller's copy behind, so recovery reports damage instead of going on with a wrong state.

package enum ManifestEdit: Hashable, Sendable {
    /// A flushed segment stands in for its memtable; `local` is in the order of its tables.
    /// `horizon` is that of the segment's last write, zero without.
    case flushInstalled(StandIn, local: [LocalTable], horizon: SequenceNumber)
    /// S moves on. In the same record as what was flushed.
    case flushedThrough(LogPoint)
    /// A seal is installed. Without `local`, its tables are those that stood in.
    case sealInstalled(at: LogIndex, SealRecord, local: [LocalTable], horizon: SequenceNumber)
    /// A job's `compact` entry is passed by the frontier and reserves.
    case jobStarted(at: LogIndex, CompactionSpec)
    case jobInstalled(at: LogIndex, CompactedRecord, local: [LocalTable])
    case jobCancelled(at: LogIndex, CancelledRecord)
    /// A job entry in (F, S] that the log may lose.
    case jobEntry(JobEntry)
    /// A new generation of a table's file, if `replacing` is the live one.
    case healed(TableID, replacing: UInt32, LocalTable)
    case settings(LoggedSettings)
    case membership(Membership)
    case bounds(LogBounds)
}

extension ManifestState {
    /// Folds one record's edits in.
    package mutating func apply(_ edits: [ManifestEdit]) throws(DecodingError) {
        for edit in edits { try apply(edit) }
        if let first = jobEntries.first, first.index <= frontier {
            jobEntries.removeAll { $0.index <= frontier }
        }
        try check()
    }

    private mutating func apply(_ edit: ManifestEdit) throws(DecodingError) {
        switch edit {
        case .flushInstalled(let standIn, let rows, let horizon):
            standIns.append(standIn)
            try addLocal(standIn.tables, rows)
            self.horizon = max(self.horizon, horizon)
        case .flushedThrough(let point):
            guard point.position.index >= flushed.position.index,
                point.nextSequence >= flushed.nextSequence
            else { throw DecodingError("S moves back") }
            flushed = point
        case .sealInstalled(let index, let seal, let rows, let horizon):
            try installSeal(seal, rows, at: index)
            self.horizon = max(self.horizon, horizon)
        case .jobStarted(let index, let spec):
            guard case .jobStarted = manifest.start(spec, at: index) else {
                throw DecodingError("job \(index) contradicts the manifest")
            }
            try moveFrontier(to: index)
        case .jobInstalled(let index, let record, let rows):
            try installJob(record, rows, at: index)
        case .jobCancelled(let index, let record):
            guard case .jobCancelled = manifest.install(record) else {
                throw DecodingError("job \(record.job) is not under way")
            }
            try moveFrontier(to: index)
        case .jobEntry(let entry):
            try entry.check()
            jobEntries.append(entry)
        case .healed(let id, let replacing, let row):
            guard local[id]?.generation == replacing, row.generation > replacing else {
                throw DecodingError("generation \(replacing) of table \(id) is not the live one")
            }
            local[id] = row
        case .settings(let settings): self.settings = settings
        case .membership(let membership): self.membership = membership
        case .bounds(let bounds):
            self.bounds = LogBounds(
                index: max(self.bounds.index, bounds.index),
                sequence: max(self.bounds.sequence, bounds.sequence))
        }
    }

    private mutating func installSeal(
        _ seal: SealRecord, _ rows: [LocalTable], at index: LogIndex
    ) throws(DecodingError) {
        let segment = SegmentBounds(first: seal.first, last: seal.last)
        if let standIn = standIns.first, standIn.segment.first <= seal.last {
            guard standIn.segment == segment else {
                throw DecodingError("a seal passes over a segment that stands in")
            }
            standIns.removeFirst()
            if rows.isEmpty {
                guard standIn.tables == seal.tables else {
                    throw DecodingError("a sealed segment's tables are not those that stood in")
                }
            } else {
                for table in standIn.tables { local[table.id] = nil }
            }
        } else if rows.isEmpty {
            throw DecodingError("a sealed segment without files")
        }
        if !rows.isEmpty { try addLocal(seal.tables, rows) }
        guard case .sealed = manifest.install(seal) else {
            throw DecodingError("a seal is out of order")
        }
        try moveFrontier(to: index)
        noteRoot()
    }

    private mutating func installJob(
        _ record: CompactedRecord, _ rows: [LocalTable], at index: LogIndex
    ) throws(DecodingError) {
        guard case .jobDone(let job, let removed, let added) = manifest.install(record) else {
            throw DecodingError("job \(record.job) is not under way, or its tables are not")
        }
        if job.spec.action == .move {
            // The rows of what moves stay.
            guard rows.isEmpty else { throw DecodingError("job \(record.job) writes no file") }
        } else {
            for table in removed { local[table.id] = nil }
            try addLocal(added, rows)
        }
        horizon = max(horizon, job.spec.horizon)
        if job.spec.isBottommost { clock = max(clock, job.spec.clock) }
        try moveFrontier(to: index)
        noteRoot()
    }

    private mutating func addLocal(_ tables: [TableRecord], _ rows: [LocalTable])
        throws(DecodingError)
    {
        guard tables.count == rows.count else {
            throw DecodingError("\(rows.count) files for \(tables.count) tables")
        }
        for (table, row) in zip(tables, rows) {
            guard local.updateValue(row, forKey: table.id) == nil else {
                throw DecodingError("table \(table.id) is there already")
            }
        }
    }

    private mutating func moveFrontier(to index: LogIndex) throws(DecodingError) {
        guard index > frontier else { throw DecodingError("the frontier moves back") }
        frontier = index
    }

    private mutating func noteRoot() {
        roots.append(FrontierRoot(frontier: frontier, root: manifest.stateRoot()))
        if roots.count > ManifestState.rootCount {
            roots.removeFirst(roots.count - ManifestState.rootCount)
        }
    }
}

extension JobEntry {
    /// Decodes the payload, so that folding it later cannot fail.
    func check() throws(DecodingError) {
        try payload.withBytes { (bytes) throws(DecodingError) in
            switch kind {
            case .seal: _ = try SealRecord(decoding: bytes)
            case .compact: _ = try CompactionSpec(decoding: bytes)
            case .compacted: _ = try CompactedRecord(decoding: bytes)
            case .cancelled: _ = try CancelledRecord(decoding: bytes)
            case .noop, .write, .bulk, .rotate, .excise, .membership, .settings:
                throw DecodingError("entry \(index) is none of jobs")
            }
        }
    }
}

extension [UInt8] {
    /// `withUnsafeBytes` with a typed error.
    package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws(DecodingError) -> R)
        throws(DecodingError) -> R
    {
        let result = withUnsafeBytes { bytes -> Result<R, DecodingError> in
            do throws(DecodingError) { return .success(try body(bytes)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
