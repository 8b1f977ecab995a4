// Memtables, tables, manifest and jobs of one group on one node: the state that committed entries
// are applied to, and what reads see.
//
// Ownership: everything that is not marked otherwise belongs to the owner, the one thread (or lock)
// that applies entries. Long work runs as jobs and reports through `StoreEvent`s, which the owner
// feeds back through `handle`. Readers on other threads take the published `ReadView` and the
// visible sequence, in this order: what they then see is a prefix of the log.
//
// Invariants: entries are applied in index order; the installed manifest is M(F), edited only in
// the order of the log's job entries; `logical` is M(applied); a table file is named by the
// manifest only after the file and its directory are synced.
import Synchronization

package final class Store: @unchecked Sendable {
    let options: StoreOptions
    let files: StoreFiles
    let jobs: any JobRunner
    let tables: TableDirectory
    let openTables: OpenTables
    let cache: BlockCache
    /// Nil without a bound over memtables and caches together.
    let memory: MemoryBudget?
    /// What this process can fold and filter by.
    package let functions: FunctionRegistry
    package let healer: Healer
    package let scrubber: Scrubber

    // The log side.
    @exclusivity(unchecked) var active: ActiveSegment
    @exclusivity(unchecked) var frozen: [FrozenSegment] = []
    package internal(set) var settings: LoggedSettings
    package internal(set) var membership: Membership
    @exclusivity(unchecked) package internal(set) var appliedTail: LogPoint
    @exclusivity(unchecked) var durable = LogIndex.zero

    // The manifest side.
    let manifestFile: ManifestFile
    /// What is on disk: M(F), S, stand-ins and the rest.
    package internal(set) var installed: ManifestState
    /// M(applied).
    package internal(set) var logical: LogicalManifest
    /// Applied job entries whose edits wait, in log order.
    var pendingEdits: [PendingEdit] = []
    /// The same entries as the log has them: those in (F, S] go into the manifest with S.
    var openJobEntries: [JobEntry] = []
    /// Job entries up to here were part of the manifest when it was opened.
    let recordedThrough: LogIndex
    /// Rewritten tables that wait to be swapped in.
    var healedTables: [HealResult] = []
    var isInstalling = false
    /// Its flushed tables are being recorded in the manifest file.
    var installingSegment: LogIndex?
    var isHealing = false
    var isClosing = false
    var retryInstallAt: UInt64 = 0
    var now: UInt64 = 0
    /// Whether writes are refused for lack of space.
    @exclusivity(unchecked) package internal(set) var space: SpaceGuard
    var reserve: Reserve
    @exclusivity(unchecked) var nextSpaceCheck: UInt64 = 0
    /// When failed work is due again; `.max` if none waits.
    @exclusivity(unchecked) package private(set) var nextRetry = UInt64.max
    /// Why it failed, by what it was.
    var failures = WorkFailures()

    /// Tables at level 0, stand-ins among them: as the published view has them.
    @exclusivity(unchecked) package private(set) var level0Count = 0

    // Jobs.
    @exclusivity(unchecked) private var history: HistoryWindow
    /// Of this node's transactions.
    @exclusivity(unchecked) var openReads = OpenReads()
    let attempts: SharedAttempts
    let pacer: CompactionPacer?
    /// Those that compute jobs.
    let jobThreads: JobThreads
    var jobStates: [LogIndex: JobState] = [:]
    var runningJobs = 0
    /// Own results that the log has not concluded, by job.
    var ownOutcomes: [JobID: JobOutcome] = [:]
    var obsolete: [ObsoleteTable] = []
    /// A frontier at which another member's state root is not this node's, until the owner has
    /// settled it.
    package var dispute: LogIndex?
    /// See `holdDeparted`.
    var departed: [TableHandle]?
    var fetching: Set<TableID> = []
    /// Of tables that an earlier process wrote.
    var isReadingTombstones = false
    /// Fetched, and waiting for the edit that names them.
    var fetchedTables: [TableID: BuiltTable] = [:]
    /// What finished flushes and compactions wrote; see `storageUse`.
    var written = StorageUse()
    /// News for the leader's side of jobs, until the owner takes it.
    private var jobInputs: [JobInput] = []
    var minimumFrontier = LogIndex.zero

    // Read by any thread.
    private let viewLock = PlainLock()
    private var view = ReadView(memtables: [], standIns: [], version: Version.empty)
    /// The same view, for reads that need no pair with a sequence of that moment.
    private let currentView: SharedReference<ReadView>
    /// Guards the two below.
    private let sharedLock = PlainLock()
    private var manifestRecord: ManifestState
    private var eventHandler: (@Sendable (StoreEvent) -> Void)?
    private let visible: Atomic<UInt64>
    private let appliedIndex: Atomic<UInt64>
    private let appliedClock: Atomic<UInt64>

    init(_ parts: StoreParts) {
        options = parts.options
        files = parts.files
        jobs = parts.jobs
        tables = parts.tables
        openTables = parts.openTables
        cache = parts.cache
        memory = parts.memory
        functions = parts.functions
        healer = parts.healer
        scrubber = Scrubber(
            tables: parts.tables, healer: parts.healer, jobs: parts.jobs,
            clock: parts.clock)
        manifestFile = parts.manifestFile
        attempts = SharedAttempts(parts.attempts)
        space = parts.space
        reserve = parts.reserve
        jobThreads = JobThreads(parts.jobs, max: parts.options.concurrentJobs)
        let rate = parts.options.compaction.bytesPerSecondMax
        pacer =
            rate > 0
            ? CompactionPacer(bytesPerSecond: max(rate, CompactionPacer.bytesPerSecondMin)) : nil
        installed = parts.state
        logical = LogicalManifest()
        recordedThrough = max(parts.state.frontier, parts.state.flushed.position.index)
        settings = parts.state.settings
        membership = parts.state.membership
        appliedTail = parts.state.flushed
        active = ActiveSegment(
            first: parts.state.flushed.position.index + 1, settings: parts.state.settings)
        manifestRecord = parts.state
        currentView = SharedReference(view)
        history = HistoryWindow(
            milliseconds: parts.options.historyWindowMilliseconds, clock: parts.state.flushed.clock,
            sequence: SequenceNumber(parts.state.flushed.nextSequence.rawValue - 1))
        visible = Atomic(parts.state.flushed.nextSequence.rawValue - 1)
        appliedIndex = Atomic(parts.state.flushed.position.index.rawValue)
        appliedClock = Atomic(max(parts.state.flushed.clock, parts.state.clock))
        resume()
    }

    deinit { healer.end() }

    /// Goes on from the manifest: its jobs, and the job entries that it kept.
    private func resume() {
        let base = installed.replayBase()
        let records =
            installed.manifest.tables.sortedByID + installed.standIns.flatMap(\.tables)
        for record in records {
            guard let local = installed.local[record.id] else {
                brokenInvariant("table \(record.id) of the manifest has no file")
            }
            adopt(BuiltTable(record: record, local: local))
        }
        for job in installed.manifest.jobs { jobStates[job.index] = JobState(spec: job.spec) }
        for standIn in installed.standIns { noteStandIn(standIn) }
        openJobEntries = installed.jobEntries
        for (entry, folded) in zip(installed.jobEntries, base.outcomes) {
            fold(folded.outcome, of: entry)
        }
        logical = base.manifest
        jobInputs =
            logical.unsealed.map { .segmentEnded($0) } + logical.jobs.map { .jobStarted($0) }
        publishView()
    }

    func noteJobInput(_ input: JobInput) { jobInputs.append(input) }

    /// What applied entries did to flushes and jobs since the last call, in their order.
    package func takeJobInputs() -> [JobInput] {
        defer { jobInputs.removeAll(keepingCapacity: true) }
        return jobInputs
    }

    /// Where long work reports; the owner passes each event to `handle`.
    package func setEventHandler(_ handler: @escaping @Sendable (StoreEvent) -> Void) {
        sharedLock.withLock { eventHandler = handler }
    }

    func post(_ event: StoreEvent) {
        let handler = sharedLock.withLock { eventHandler }
        handler?(event)
    }

    // MARK: any thread

    /// Index of the last applied entry.
    package var applied: LogIndex { LogIndex(appliedIndex.load(ordering: .acquiring)) }
    /// Clock of the last applied entry, or of the jobs in the tables where that is later: after a
    /// restart the manifest may be ahead of S.
    package var clock: ClockMilliseconds { appliedClock.load(ordering: .acquiring) }

    /// A consistent prefix of the log: the view shows all through the sequence. Both under the
    /// lock, else a view could be paired with a sequence of a memtable that it does not have.
    package func pin() -> (view: ReadView, sequence: SequenceNumber) {
        viewLock.withLock { (view, SequenceNumber(visible.load(ordering: .acquiring))) }
    }

    /// Calls `body` with a view that stays meanwhile, and then a sequence: together a prefix of the
    /// log, which ends with the view if that has no memtable for the sequence any more. Costs less
    /// than `pin`.
    @inline(__always)
    func withView<Value>(
        _ body: (ReadView, SequenceNumber) throws(EngineError) -> Value
    ) throws(EngineError) -> Value {
        let use = currentView.use()
        defer { use.end() }
        guard let view = use.object else { brokenInvariant("a store without a view") }
        return try view.with { (view) throws(EngineError) in
            try body(view, SequenceNumber(visible.load(ordering: .acquiring)))
        }
    }

    /// The manifest as it is installed: what a donor gives to a peer that lost its own, and what
    /// status pages show.
    package var manifest: ManifestState { sharedLock.withLock { manifestRecord } }

    // MARK: owner

    /// Publishes memtables, stand-ins and tables as they are now.
    func publishView() {
        let standIns = installed.standIns.flatMap(\.tables)
        let blobs = installed.manifest.tables.blobs + standIns.filter(\.isBlob)
        var next = ReadView(
            memtables: [active.memtable] + frozen.reversed().map(\.memtable),
            standIns: standIns.reversed().filter { !$0.isBlob }.map { handle($0.id) },
            version: makeVersion(), blobs: BlobFiles(blobs.map { handle($0.id) }),
            mergeOperators: functions.mergeOperators, clock: installed.clock,
            horizon: installed.horizon)
        // Before the view: who reads at this clock sees what the view shows.
        appliedClock.store(max(clock, installed.clock), ordering: .releasing)
        currentView.replace(with: next)
        // The old ones are let go outside of the locks: files may go with them.
        viewLock.withLock { swap(&view, &next) }
        level0Count =
            options.compaction.pressingCount(installed.manifest.tables.tables(at: 0))
            + standIns.count { !$0.isBlob }
        pacer?.setPressed(
            level0Count >= options.compaction.level0SlowdownTrigger || frozen.count > 1
                || areMemtablesFull)
        var record = installed
        sharedLock.withLock { swap(&manifestRecord, &record) }
    }

    private func makeVersion() -> Version {
        let records = installed.manifest.tables.sortedByID.filter { !$0.isBlob }
        let handles = records.map { handle($0.id) }
        do throws(EngineError) { return try Version(handles) } catch {
            brokenInvariant("the manifest's levels overlap: \(error)")
        }
    }

    /// A table without a handle would be missing from every read.
    private func handle(_ id: TableID) -> TableHandle {
        guard let handle = tables.handle(id) else {
            brokenInvariant("table \(id) of the manifest has no handle")
        }
        return handle
    }

    /// Makes effects up to `tail` visible to readers.
    func publishApplied(_ tail: LogPoint) {
        appliedTail = tail
        history.note(tail.clock, appliedSequence)
        appliedClock.store(max(tail.clock, installed.clock), ordering: .releasing)
        visible.store(tail.nextSequence.rawValue - 1, ordering: .releasing)
        appliedIndex.store(tail.position.index.rawValue, ordering: .releasing)
        shareMemory()
    }

    /// F: the last job entry whose edit is installed.
    package var frontier: LogIndex { installed.frontier }
    /// R(F).
    package var stateRoot: Digest128 {
        installed.roots.last?.root ?? ManifestTables().stateRoot()
    }
    /// S: the last entry of the last flushed segment, and what follows it.
    package var flushedTail: LogPoint { installed.flushed }
    package var flushedPosition: Position { installed.flushed.position }
    /// What the log needs to know of the manifest at open.
    package var logBase: LogBase {
        LogBase(
            position: flushedPosition, settings: installed.settings,
            highestIndex: max(installed.bounds.index, installed.frontier))
    }
    /// Sequence of the last applied effect.
    package var appliedSequence: SequenceNumber {
        SequenceNumber(appliedTail.nextSequence.rawValue - 1)
    }
    /// Of two versions at or below it the older is garbage: what was applied a history window ago,
    /// or what a transaction still reads at. By the leader's clock.
    package func horizon(at clock: ClockMilliseconds) -> SequenceNumber {
        let horizon = history.horizon(at: clock)
        return openReads.oldest.map { min($0, horizon) } ?? horizon
    }
    /// Own results that the log has not concluded, in job order.
    package var outcomes: [JobOutcome] {
        ownOutcomes.values.sorted { $0.job < $1.job }
    }

    /// The local log is durable through `index`.
    package func noteDurable(_ index: LogIndex) { durable = index }

    /// Advances everything that waits: flushes, jobs, edits. Called often; `now` is monotonic.
    package func turn(now: UInt64) {
        self.now = now
        guard !isClosing else { return }
        turnSpace()
        startFlushes()
        startJobs()
        startHealing()
        installNext()
        shareMemory()
        nextRetry = retryTimes.min() ?? .max
    }

    /// Nothing new is started; what runs goes on, and what it reports is taken.
    package func prepareToClose() {
        isClosing = true
        departed = nil
        pacer?.release()
    }
    package var isOpen: Bool { !isClosing }

    /// The node stops in order: attempts that run do not count as failed.
    package func noteOrderlyStop() {
        for state in jobStates.values { state.cancellation.cancel() }
        do throws(EngineError) { try attempts.stop() } catch {
            healer.noteTrouble("recording the orderly stop: \(error)")
        }
    }

    /// Takes a report of long work.
    package func handle(_ event: StoreEvent) {
        switch event {
        case .flushed(let segment, let result): flushed(segment, result)
        case .computed(let job, let attempt, let result): computed(job, attempt, result)
        case .installed(let installation, let error): didInstall(installation, error)
        case .fetched(let table, let result): fetched(table, result)
        case .healEnded(let result): healEnded(result)
        case .reserved(let isMade): reserved(isMade)
        case .tombstonesRead: isReadingTombstones = false
        }
        turn(now: now)
    }
}

/// What `Store.open` gathers.
struct StoreParts {
    var options: StoreOptions
    var files: StoreFiles
    var jobs: any JobRunner
    var tables: TableDirectory
    var openTables: OpenTables
    var cache: BlockCache
    var memory: MemoryBudget?
    var functions: FunctionRegistry
    var healer: Healer
    var manifestFile: ManifestFile
    var attempts: JobAttempts
    var state: ManifestState
    var space: SpaceGuard
    var reserve: Store.Reserve
    var clock: @Sendable () -> UInt64
}
