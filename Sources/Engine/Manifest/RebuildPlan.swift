// Decides what a lost manifest said, as far as tables and log still tell. Pure: evidence in, a plan
// out.
//
// Exactly, where the log names every table that is left: records of `seal` and `compacted` entries,
// and levels of inputs of `compact` entries. Else, as a last resort, every table goes to level 0,
// where versions are compared by sequence; a table that a compaction had replaced may then be among
// them, and bring back what was deleted.
//
// S is as low as the tables allow: what is in the log is replayed, and its flushes are made again
// with the same bytes. F is above every job entry of the log: they are part of the plan. A table
// that the log names and that cannot be read stays in the manifest, so that its range is an error
// and never "not found".

struct RebuildPlan {
    /// A readable table file.
    struct File {
        var name: String
        /// Its level is not known to the file.
        var record: TableRecord
        var local: LocalTable
    }

    /// A table file that does not say what it holds.
    struct Unreadable: Hashable {
        var name: String
        var id: TableID?
        var reason: String
    }

    private(set) var records: [TableRecord] = []
    private(set) var local: [TableID: LocalTable] = [:]
    /// In `records`, and without a file that can be read.
    private(set) var absent: [TableRecord] = []
    /// Names of files that are no part of the database.
    private(set) var setAside: [String] = []
    private(set) var flushed: LogPoint
    private(set) var frontier = LogIndex.zero
    private(set) var settings: LoggedSettings
    private(set) var membership: Membership
    private(set) var clock: ClockMilliseconds = 0
    private(set) var bounds = LogBounds(index: .zero, sequence: .zero)
    /// False for the last resort.
    private(set) var isExact = true
    /// Why something may be missing without an error that says so.
    private(set) var doubts: [String] = []

    // What the log says.
    private var live: [TableID: TableRecord] = [:]
    private var dead = Set<TableID>()
    private var levels: [TableID: CompactionSpec.Input] = [:]
    private var sealed = Set<LogIndex>()
    /// Inputs of concluded jobs.
    private var consumed = Set<TableID>()

    init(
        files: [TableID: File], unreadable: [Unreadable], log: LogEvidence, genesis: Digest128,
        ownEnd: LogPoint?
    ) {
        let start = log.start ?? ownEnd ?? .beginning(genesis: genesis)
        flushed = start
        settings = log.segments.first?.settings ?? LoggedSettings()
        membership = Membership()
        if log.start == nil {
            doubts.append("there is no log: what was written last and not flushed is lost")
        }
        doubts += log.flaws.map { "the log: " + $0 }
        let youngest = findFlushed(files, log)
        fold(log, files)
        sort(files, log)
        place(unreadable)
        chooseLevels(log)
        let end = log.end ?? flushed
        clock = max(flushed.clock, end.clock)
        frontier = max(
            log.jobs.last?.index ?? .zero,
            records.lazy.filter { !$0.id.kind.isFlush }.map(\.id.index).max() ?? .zero)
        bounds = LogBounds(
            index: max(end.position.index, frontier, flushed.position.index),
            sequence: max(
                youngest, SequenceNumber(max(end.nextSequence.rawValue, 1) - 1)))
        for change in log.settings where change.index <= flushed.position.index {
            settings = change.settings
        }
        for change in log.membership where change.index <= flushed.position.index {
            membership = change.membership
        }
    }

    /// The state that the manifest begins with.
    func state(genesis: Digest128) throws(EngineError) -> ManifestState {
        guard let tables = ManifestTables(records) else {
            throw .corrupt(file: "MANIFEST", reason: "the tables that are left overlap")
        }
        var state = ManifestState(genesis: genesis)
        state.manifest = LogicalManifest(tables: tables, sealedThrough: flushed.position.index)
        state.frontier = frontier
        state.flushed = flushed
        state.horizon = bounds.sequence
        state.clock = clock
        state.settings = settings
        state.membership = membership
        state.bounds = bounds
        if frontier > FrontierRoot.forgotten.frontier { state.roots = [.forgotten] }
        if frontier > .zero { state.roots.append(state.frontierRoot) }
        do throws(DecodingError) { try state.adopt(local: local) } catch {
            throw .corrupt(file: "MANIFEST", reason: "what is left does not fit: \(error)")
        }
        return state
    }

    // MARK: S

    /// Sets S; returns the highest sequence in any table that a replay does not make again.
    private mutating func findFlushed(_ files: [TableID: File], _ log: LogEvidence)
        -> SequenceNumber
    {
        var youngest = SequenceNumber.zero
        for file in files.values where !isReplayable(file.record.id, log) {
            youngest = max(youngest, file.record.largestSequence)
        }
        for segment in log.segments where youngest >= flushed.nextSequence && segment.isEnded {
            flushed = segment.end
        }
        if youngest >= flushed.nextSequence {
            if log.start != nil {
                doubts.append("tables hold what was written behind the end of the log")
            }
            flushed = log.end ?? flushed
            flushed.nextSequence = youngest + 1
        }
        return youngest
    }

    /// The flush of a segment whose entries are all in the log.
    private func isReplayable(_ id: TableID, _ log: LogEvidence) -> Bool {
        id.kind.isFlush && log.first.map { id.index >= $0 } ?? false
    }

    // MARK: jobs

    private mutating func fold(_ log: LogEvidence, _ files: [TableID: File]) {
        noteConsumed(log)
        var pending: [LogIndex: CompactionSpec] = [:]
        for entry in log.jobs {
            entry.payload.withUnsafeBytes { payload in
                switch entry.kind {
                case .seal:
                    if let seal = try? SealRecord(decoding: payload) { note(seal) }
                case .compact:
                    guard let spec = try? CompactionSpec(decoding: payload) else { return }
                    for input in spec.inputs + spec.witnesses { levels[input.id] = input }
                    pending[entry.index] = spec
                case .compacted:
                    guard let record = try? CompactedRecord(decoding: payload) else { return }
                    conclude(record, pending.removeValue(forKey: record.job), files)
                case .cancelled:
                    guard let record = try? CancelledRecord(decoding: payload) else { return }
                    pending[record.job] = nil
                case .noop, .write, .bulk, .rotate, .excise, .membership, .settings: break
                }
            }
        }
        for segment in log.segments
        where segment.end.position.index <= flushed.position.index && segment.hasWrites
            && !sealed.contains(segment.bounds.last)
        {
            doubts.append(
                "segment \(segment.bounds.first)-\(segment.bounds.last) may not be in tables")
        }
    }

    private mutating func noteConsumed(_ log: LogEvidence) {
        var specs: [LogIndex: CompactionSpec] = [:]
        for entry in log.jobs {
            entry.payload.withUnsafeBytes { payload in
                if entry.kind == .compact {
                    specs[entry.index] = try? CompactionSpec(decoding: payload)
                } else if entry.kind == .compacted,
                    let record = try? CompactedRecord(decoding: payload),
                    let spec = specs[record.job], spec.action != .move
                {
                    consumed.formUnion(spec.inputs.map(\.id))
                }
            }
        }
    }

    private mutating func note(_ seal: SealRecord) {
        guard seal.last <= flushed.position.index else { return }
        sealed.insert(seal.last)
        for table in seal.tables { live[table.id] = table }
    }

    private mutating func conclude(
        _ record: CompactedRecord, _ spec: CompactionSpec?, _ files: [TableID: File]
    ) {
        guard let spec else {
            // Which tables it replaced was in an entry that is gone.
            isExact = false
            for table in record.tables { live[table.id] = table }
            return
        }
        guard spec.action != .move else { return move(spec, files) }
        let hasOutputs = record.tables.allSatisfy { files[$0.id]?.record.digest == $0.digest }
        let hasInputs = spec.inputs.allSatisfy { input in
            isWhole(input, files)
                || input.id.kind == .flush && input.id.index > flushed.position.index
        }
        // With its inputs a job that lost an output counts as never concluded; not if a later job
        // took its outputs: then they are gone for good, and a reader kept the inputs.
        let wasConsumed = record.tables.contains { consumed.contains($0.id) }
        if !hasOutputs, hasInputs, !wasConsumed { return }
        for input in spec.inputs {
            live[input.id] = nil
            dead.insert(input.id)
        }
        for table in record.tables { live[table.id] = table }
    }

    /// A table's file is there, and those of its values.
    private func isWhole(_ input: CompactionSpec.Input, _ files: [TableID: File]) -> Bool {
        guard let record = files[input.id]?.record, record.digest == input.digest else {
            return false
        }
        return record.blobs.allSatisfy { files[$0.file] != nil }
    }

    /// The files stay; the level is the new one. A flush behind S is made again, in level 0: all
    /// that is younger than it is made again, too.
    private mutating func move(_ spec: CompactionSpec, _ files: [TableID: File]) {
        for input in spec.inputs {
            let known = live[input.id] ?? files[input.id]?.record
            guard var record = known, record.digest == input.digest,
                input.id.kind != .flush || input.id.index <= flushed.position.index
            else { continue }
            record.level = spec.outputLevel
            live[input.id] = record
        }
    }

    // MARK: tables

    private mutating func sort(_ files: [TableID: File], _ log: LogEvidence) {
        for (id, file) in files.sorted(by: { $0.key < $1.key }) where !id.kind.isBlob {
            guard let level = level(of: file.record, log) else {
                setAside.append(file.name)
                continue
            }
            var record = live[id] ?? file.record
            record.level = level
            records.append(record)
            local[id] = file.local
        }
        for record in live.values.sorted(by: { $0.id < $1.id })
        where local[record.id] == nil && !record.isBlob {
            noteAbsent(record)
        }
        sortBlobs(files)
    }

    private mutating func noteAbsent(_ record: TableRecord) {
        absent.append(record)
        records.append(record)
        local[record.id] = LocalTable(
            generation: 0, codec: BlockCodec.none.rawValue, fileBytes: 0)
    }

    /// Blob files are part of the database as long as a table of it refers to them.
    private mutating func sortBlobs(_ files: [TableID: File]) {
        let used = Set(records.lazy.flatMap(\.blobs).map(\.file))
        for (id, file) in files.sorted(by: { $0.key < $1.key }) where id.kind.isBlob {
            guard used.contains(id), live[id].map({ $0.digest == file.record.digest }) ?? true
            else {
                setAside.append(file.name)
                continue
            }
            records.append(file.record)
            local[id] = file.local
        }
        for id in used.sorted() where local[id] == nil {
            if let record = live[id] {
                noteAbsent(record)
            } else {
                doubts.append("there is no blob file \(id), and tables refer to it")
                noteAbsent(lostBlob(id))
            }
        }
    }

    /// What the tables that refer to a blob file tell of it. Its digest is unknown, so nobody can
    /// ever prove a block of it: its values are errors. It takes no room, so nothing of it counts
    /// as dead, and no job tries to collect it; it goes with the last reference.
    private func lostBlob(_ id: TableID) -> TableRecord {
        var own = BlobUse(file: id, count: 0, bytes: 0)
        var users: [TableRecord] = []
        for record in records {
            guard let use = record.blobs.first(where: { $0.file == id }) else { continue }
            users.append(record)
            own.count = own.count.addingOrMax(use.count)
        }
        let points = users.compactMap(\.points)
        guard let hull = CompactionSpec.hull(of: users),
            let smallest = points.map(\.smallest).min(by: { $0.isKeyBefore($1) }),
            let largest = points.map(\.largest).max(by: { $0.isKeyBefore($1) })
        else { brokenInvariant("nothing refers to blob file \(id)") }
        return TableRecord(
            id: id, level: 0, canonicalBytes: 0,
            points: TableRecord.PointRange(smallest: smallest, largest: largest), span: hull,
            smallestSequence: users.lazy.map(\.smallestSequence).min() ?? .zero,
            largestSequence: users.lazy.map(\.largestSequence).max() ?? .zero,
            entryCount: own.count, deleteCount: 0, rangeTombstoneCount: 0, entrySum: 0,
            digest: .zero, blobs: [own])
    }

    /// Of a table that is part of the database; nil for one that is not.
    private mutating func level(of record: TableRecord, _ log: LogEvidence) -> UInt8? {
        let id = record.id
        if let known = live[id] { return known.digest == record.digest ? known.level : nil }
        if dead.contains(id) { return nil }
        // A replay makes the one again; the other's job was not concluded.
        if let first = log.first, id.index >= first { return nil }
        if let taught = levels[id], taught.digest == record.digest { return taught.level }
        isExact = false
        return 0
    }

    private mutating func place(_ unreadable: [Unreadable]) {
        for file in unreadable {
            setAside.append(file.name)
            guard let id = file.id, live[id] == nil else {
                if file.id == nil { doubts.append("\(file.name) is unreadable: \(file.reason)") }
                continue
            }
            let isExplained =
                dead.contains(id) || local[id] != nil
                || id.kind.isFlush && id.index > flushed.position.index
                || id.kind.isBlob && !records.contains { $0.blobs.contains { $0.file == id } }
            if !isExplained { doubts.append("\(file.name) is unreadable: \(file.reason)") }
        }
        // Their names are all that is known of them.
        let isNamed = Set(unreadable.compactMap(\.id))
        for id in levels.keys.sorted()
        where local[id] == nil && !dead.contains(id) && !isNamed.contains(id)
            && (id.kind != .flush || id.index <= flushed.position.index)
        {
            doubts.append("there is no file of table \(id), and the log names it")
        }
    }

    private mutating func chooseLevels(_ log: LogEvidence) {
        if isExact, log.flaws.isEmpty, ManifestTables(records) != nil { return }
        isExact = records.isEmpty
        for place in records.indices { records[place].level = 0 }
    }
}

extension UInt64 {
    /// Counters are read from files.
    fileprivate func addingOrMax(_ other: UInt64) -> UInt64 {
        let sum = addingReportingOverflow(other)
        return sum.overflow ? .max : sum.partialValue
    }
}
