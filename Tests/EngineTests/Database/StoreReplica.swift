// One store as a member of a group has it: it applies a log that others made, computes flushes and
// jobs in its own time, and may die and come back. With the model of what it must hold.
import Engine
import Testing

final class StoreReplica: @unchecked Sendable {
    // Unchecked: one test's thread uses it.
    static let genesis = logGenesis(cluster: "determinism", group: 0)

    let files: MemoryFileSystem
    let jobs: ManualJobs
    private let options: StoreOptions
    private(set) var store: Store
    var now: UInt64 = 1
    /// What the applied entries come to.
    private(set) var model: KeyValueModel
    private let log: SharedLog
    private let keys: KeyRing
    let notes = Notes()
    /// Called whenever the frontier has moved.
    var onFrontier: ((Store) throws -> Void)?
    private var lastFrontier = LogIndex.zero
    /// What was pinned at the last check, and what it must go on showing.
    private var pinned: (reader: any KeyValueReader, model: KeyValueModel, clock: UInt64)?

    init(
        _ log: SharedLog, seed: UInt64, _ policy: ManualJobs.Policy,
        codec: CompressionPolicy,
        concurrentJobs: Int, keys: KeyRing = .plain,
        compaction: CompactionOptions = SharedLog.compaction
    ) throws {
        self.keys = keys
        self.log = log
        files = MemoryFileSystem(seed: seed)
        jobs = ManualJobs(seed: seed, policy)
        var options = StoreOptions()
        options.compression = codec
        options.concurrentJobs = concurrentJobs
        options.memtablesMax = 3
        options.standInsMax = 4
        options.cacheBytes = 64 << 10
        options.openTables = 8
        options.compaction = compaction
        options.mergeOperators = TestMerge.operators
        options.compactionFilters = [TouchingFilter()]
        self.options = options
        model = KeyValueModel(keys: SharedLog.keys)
        store = try StoreReplica.open(files, jobs, options, notes, keys)
        listen()
    }

    private static func open(
        _ files: MemoryFileSystem, _ jobs: ManualJobs, _ options: StoreOptions, _ notes: Notes,
        _ keys: KeyRing
    ) throws -> Store {
        let group = StoreFiles(fileSystem: files, directory: "data/group-0", keys: keys)
        try group.create()
        let store = try Store.open(
            StoreConfiguration(
                files: group,
                identity: ManifestIdentity(genesis: genesis, group: 0, node: MemberID(1)),
                options: options, jobs: jobs,
                healEnvironment: HealEnvironment(
                    clock: { 0 }, wake: {}, note: { notes.add($0) }, halt: { notes.add($0) })))
        try store.removeOrphans()
        return store
    }

    private func listen() {
        store.setEventHandler { [weak self] event in self?.store.handle(event) }
    }

    /// The process dies, or the power goes; the next one starts from the manifest.
    func restart(powerCut: Bool) throws {
        jobs.dropAll()
        pinned = nil
        if powerCut { files.powerCut() } else { files.restart() }
        store = try StoreReplica.open(files, jobs, options, notes, keys)
        listen()
        model = log.model(through: store.applied)
        lastFrontier = .zero
        try settle()
    }

    /// Applies the next entry, if there is room and one is there.
    @discardableResult
    func applyNext() throws -> Bool {
        guard store.canApply, let entry = log.entry(store.applied + 1) else { return false }
        store.apply(entry)
        log.apply(entry.index, to: &model)
        try settle()
        return true
    }

    func runJob() throws {
        jobs.runOne()
        try settle()
    }

    func noteDurable(lag: UInt64) {
        let applied = store.applied.rawValue
        store.noteDurable(LogIndex(applied > lag ? applied - lag : 0))
    }

    func settle() throws {
        now += 1
        store.turn(now: now)
        store.noteMinimumFrontier(store.frontier)
        guard store.frontier != lastFrontier else { return }
        lastFrontier = store.frontier
        try onFrontier?(store)
    }

    /// Every read must be the model's, and every read through the last pin the model's of then.
    func check() throws {
        try check(store, model, clock: store.clock)
        if let pinned { try check(pinned.reader, pinned.model, clock: pinned.clock) }
        pinned = (store.pinned(), model, store.clock)
    }

    private func check(_ reader: any KeyValueReader, _ model: KeyValueModel, clock: UInt64) throws {
        let found = try reader.scan(
            .everything, reverse: false, limit: .max, limitBytes: .max, now: clock)
        let live = model.live(0, nil, now: clock)
        try #require(found.map(\.key) == live.map { KeyValueModel.key($0) })
        try #require(found.map(\.value) == live.map { model.read($0, now: clock) })
        for key in stride(from: 0, to: SharedLog.keys, by: 7) {
            let value = try reader.get(KeyValueModel.key(key), now: clock, io: .blocking)
            try #require(value?.value == model.get(key, now: clock))
        }
    }
}

/// A log in memory, with what each of its writes means.
final class SharedLog {
    static let keys = 200
    private var entries: [Entry] = []
    private var changes: [[KeyValueModel.Change]] = []
    private(set) var tail = LogPoint.beginning(genesis: StoreReplica.genesis)

    static var compaction: CompactionOptions {
        var options = CompactionOptions()
        options.level0Trigger = 2
        options.baseLevelBytes = 12 << 10
        options.multiplier = 3
        options.targetBytes = 3 << 10
        options.clockMaxOffsetMilliseconds = 50
        return options
    }

    var last: LogIndex { tail.position.index }

    func entry(_ index: LogIndex) -> Entry? {
        let place = Int(index.rawValue) - 1
        return entries.indices.contains(place) ? entries[place] : nil
    }

    func apply(_ index: LogIndex, to model: inout KeyValueModel) {
        for change in changes[Int(index.rawValue) - 1] { model.apply(change) }
    }

    func model(through index: LogIndex) -> KeyValueModel {
        var model = KeyValueModel(keys: SharedLog.keys)
        for place in 0..<index.rawValue { apply(LogIndex(place + 1), to: &model) }
        return model
    }

    @discardableResult
    func append(
        _ kind: EntryKind, _ payload: [UInt8], clock: UInt64,
        _ meaning: [KeyValueModel.Change] = []
    ) throws -> Entry {
        let entry = Entry(
            kind: kind, payload: payload, previous: tail.position.checksum, group: 0,
            term: Term(1), index: last + 1, firstSequence: tail.nextSequence, clock: clock,
            commit: last)
        try EntryValidation.validate(entry)
        entries.append(entry)
        changes.append(meaning)
        tail = LogPoint(after: entry)
        return entry
    }
}
