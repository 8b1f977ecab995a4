// The quorum of one: an entry is committed when the own log has it (synced, or not, as the options
// say), and applied at once. One term for each open.
//
// Everything that changes is guarded by `monitor`. Writers form a group while a sync is under way;
// whoever finds nobody committing takes the group, and with it the entries that the engine itself
// wants in the log, in one append and one sync. The lock is not held over the sync; `isCommitting`
// keeps others from the log meanwhile, and whatever comes up then is left to the committing thread.
// So a thread that reports finished work never waits for a disk or for a writer. Writers that wait
// for their group sleep at its latch, without the lock; who ends a commit calls one of the next
// group to commit that.
//
// No wait without somebody who ends it: a thread sleeps only while work is under way, else it
// throws. Jobs and maintenance are in `EmbeddedOrder+Jobs.swift`.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class EmbeddedOrder: LogOrder, @unchecked Sendable {
    let monitor = Monitor()
    let store: Store
    let log: Log
    let options: DatabaseOptions
    let environment: DatabaseEnvironment
    let gate = AccessGate()
    private let term: Term
    /// A write waits for the sync of its group.
    private let syncsGroups: Bool

    @exclusivity(unchecked) var tail: LogPoint
    @exclusivity(unchecked) private var waiting = WriteGroup()
    /// What is at the log now, and applied when it is back.
    private var underWay = WriteBatch()
    private var proposalsUnderWay: [Proposal] = []
    /// Entries of the engine's own that wait for their place in the log, in order.
    @exclusivity(unchecked) var proposals: [Proposal] = []
    /// When proposals that found no space or no descriptor are tried again.
    @exclusivity(unchecked) var retryProposalsAt: UInt64 = 0
    /// Why they wait.
    @exclusivity(unchecked) private(set) var proposalTrouble: EngineError?
    /// When jobs are looked at again because time alone, or reads, may have made one due; `.max` if
    /// nothing that was asked for depends on that.
    @exclusivity(unchecked) var nextLook: UInt64
    /// One thread is at the log, without the lock.
    @exclusivity(unchecked) private(set) var isCommitting = false
    /// Entries were applied that flushes or jobs follow from.
    @exclusivity(unchecked) var mustAdvance = false
    @exclusivity(unchecked) var isAdvancing = false
    /// Somebody waits for a compaction that was asked for.
    @exclusivity(unchecked) var isCompacting = false
    var director: JobDirector
    @exclusivity(unchecked) private var throttle: WriteThrottle
    @exclusivity(unchecked) private var delay = CommitDelay()
    var trimmedThrough = LogIndex.zero

    static let member = MemberID(1)

    /// Writers that wait for one commit. `failure` is what came of it once the latch is open.
    private final class WriteGroup {
        var batch = WriteBatch()
        var writers = 0
        var isDone = false
        var failure: EngineError?
        let latch = Latch()

        func conclude() {
            isDone = true
            latch.open()
        }
    }

    final class Proposal {
        let kind: EntryKind
        let payload: [UInt8]
        /// Somebody waits for the outcome; else a failure that passes is retried.
        let isAwaited: Bool
        private(set) var outcome: Result<Position, EngineError>?

        init(_ kind: EntryKind, _ payload: [UInt8], isAwaited: Bool) {
            self.kind = kind
            self.payload = payload
            self.isAwaited = isAwaited
        }

        func conclude(_ outcome: Result<Position, EngineError>) { self.outcome = outcome }
    }

    init(
        store: Store, log: Log, options: DatabaseOptions, environment: DatabaseEnvironment,
        term: Term, tail: LogPoint
    ) {
        self.store = store
        self.log = log
        self.options = options
        self.environment = environment
        self.term = term
        self.tail = tail
        syncsGroups = options.sync == .always && options.usesLog
        throttle = WriteThrottle(
            slowdown: options.store.compaction.level0SlowdownTrigger,
            stop: options.store.level0StopTables)
        director = JobDirector(own: EmbeddedOrder.member, options: options.store.compaction)
        nextLook = options.store.compaction.dependsOnTime ? 0 : .max
        store.holdDeparted()
        store.setEventHandler { [weak self] event in self?.handle(event) }
    }

    /// Runs after open: the term's no-op and, before the first write, the settings.
    func begin() throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        _ = try propose(.noop, [])
        // Nothing was ever written: a crash may have come between these entries before.
        if tail.nextSequence == SequenceNumber(1) {
            if store.settings != options.settings {
                _ = try propose(.settings, options.settings.encoded())
            }
            if store.segmentSettings != options.settings { _ = try propose(.rotate, []) }
        } else {
            for difference in options.settings.differences(from: store.settings) {
                options.report?(difference)
            }
            // Shapes stay as they were made; which functions there are, this process decides.
            if store.settings.functions != options.settings.functions {
                var settings = store.settings
                settings.functions = options.settings.functions
                _ = try propose(.settings, settings.encoded())
            }
        }
        advance()
    }

    // MARK: writing

    func commit(_ batch: WriteBatch) throws(EngineError) {
        try batch.checkLimits()
        try batch.checkOperators(store.functions)
        monitor.lock()
        do throws(EngineError) { try waitForPlace(batch) } catch {
            advanceIfDue()
            monitor.unlock()
            throw error
        }
        try commitPlaced(batch)
    }

    /// Orders a `bulk` entry, and waits until it is as durable as a write would be.
    func commit(bulk payload: [UInt8]) throws(EngineError) {
        monitor.lock()
        defer {
            advanceIfDue()
            monitor.unlock()
        }
        try checkSpace(grows: true)
        slowDown(payload.count)
        try waitForRoom()
        _ = try propose(.bulk, payload)
    }

    /// As `commit`, if nothing above `sequence` touched what was read. Throws `.conflict` else.
    func commit(_ batch: WriteBatch, reads: ReadSet, at sequence: SequenceNumber)
        throws(EngineError)
    {
        try batch.checkLimits()
        try batch.checkOperators(store.functions)
        let checked = try check(reads, above: sequence)
        monitor.lock()
        do throws(EngineError) { try waitForPlace(batch, reads, checked: checked) } catch {
            advanceIfDue()
            monitor.unlock()
            throw error
        }
        try commitPlaced(batch)
    }

    /// As `waitForPlace`; until then nothing above `sequence` touched what was read.
    private func waitForPlace(
        _ batch: WriteBatch, _ reads: ReadSet, checked sequence: SequenceNumber
    ) throws(EngineError) {
        var checked = sequence
        try waitForPlace(batch)
        // What was applied meanwhile is in memtables; if it was flushed meanwhile, too, then it
        // is read without the lock, again.
        while !store.pin().view.isInMemory(above: checked) {
            monitor.unlock()
            let outcome = Result { () throws(EngineError) in try check(reads, above: checked) }
            monitor.lock()
            checked = try outcome.get()
            try waitForPlace(batch)
        }
        _ = try check(reads, above: checked)
        for ahead in [underWay, waiting.batch] {
            if let key = reads.touched(by: ahead) { throw .conflict(key: key) }
        }
        for ahead in proposalsUnderWay + proposals where ahead.kind == .bulk {
            if let key = reads.touched(byBulk: ahead.payload) { throw .conflict(key: key) }
        }
    }

    /// Returns through which sequence nothing touched what was read.
    private func check(_ reads: ReadSet, above sequence: SequenceNumber) throws(EngineError)
        -> SequenceNumber
    {
        let (view, visible) = store.pin()
        guard visible > sequence else { return sequence }
        if let key = try view.firstTouched(reads, above: sequence) { throw .conflict(key: key) }
        return visible
    }

    /// From here on the horizon stays at or below the sequence of the view, until `endRead`.
    func beginRead() -> (view: ReadView, sequence: SequenceNumber) {
        monitor.lock()
        defer { monitor.unlock() }
        let pinned = store.pin()
        store.openReads.begin(at: pinned.sequence)
        return pinned
    }

    func endRead(at sequence: SequenceNumber) {
        monitor.lock()
        store.openReads.end(at: sequence)
        monitor.unlock()
    }

    /// Returns when `batch` may be committed: with the lock, which was not released since.
    private func waitForPlace(_ batch: WriteBatch) throws(EngineError) {
        try checkSpace(grows: batch.grows)
        slowDown(batch.byteCount)
        try waitForRoom()
        guard syncsGroups else { return }
        while waiting.batch.byteCount > 0,
            waiting.batch.byteCount + batch.byteCount > Limits.groupBytes
        {
            commitOrWait()
            try waitForRoom()
        }
    }

    /// With the lock, which it releases.
    private func commitPlaced(_ batch: WriteBatch) throws(EngineError) {
        guard syncsGroups else {
            defer {
                advanceIfDue()
                monitor.unlock()
            }
            return try commitAlone(batch)
        }
        try commitInGroup(batch)
    }

    /// Without a sync the whole commit is short: it happens under the lock.
    private func commitAlone(_ batch: WriteBatch) throws(EngineError) {
        try gate.check()
        let entry = makeWrite(batch, after: tail)
        do throws(EngineError) { try append([entry], writers: 1) } catch {
            throw noteAppendFailure(error)
        }
        applyCommitted(entry)
    }

    /// With the lock, which it releases.
    private func commitInGroup(_ batch: WriteBatch) throws(EngineError) {
        let group = waiting
        if group.batch.isEmpty { group.batch = batch } else { group.batch.append(batch) }
        group.writers += 1
        if isCommitting, environment.yield == nil {
            monitor.unlock()
            while group.latch.wait() == .called { commitCalled(group) }
        } else {
            while !group.isDone { commitOrWait() }
            advanceIfDue()
            monitor.unlock()
        }
        if let failure = group.failure { throw failure }
    }

    /// For `group`, unless somebody came before.
    private func commitCalled(_ group: WriteGroup) {
        monitor.lock()
        if group === waiting, !isCommitting {
            commitWaiting()
            advanceIfDue()
        }
        monitor.unlock()
    }

    /// Orders an entry that is no batch of a writer, and waits for it. With the lock held.
    func propose(_ kind: EntryKind, _ payload: [UInt8]) throws(EngineError) -> Position {
        let proposal = Proposal(kind, payload, isAwaited: true)
        proposals.append(proposal)
        while true {
            if let outcome = proposal.outcome { return try outcome.get() }
            commitOrWait()
        }
    }

    private func commitOrWait() {
        if isCommitting { wait() } else { commitWaiting() }
    }

    /// Commits everything that waits, and what comes up of the engine's own meanwhile. With the
    /// lock held, which an append with a sync releases.
    func commitWaiting() {
        isCommitting = true
        waitForWriters()
        repeat {
            let group = waiting
            let taken = proposals
            waiting = WriteGroup()
            underWay = group.batch
            proposalsUnderWay = taken
            proposals = []
            do throws(EngineError) {
                try gate.check()
                let entries = makeEntries(group, taken)
                try append(entries, writers: group.writers)
                for entry in entries { applyCommitted(entry) }
                for (proposal, entry) in zip(taken, entries.suffix(taken.count)) {
                    proposal.conclude(.success(entry.position))
                }
                if !taken.isEmpty { proposalTrouble = nil }
            } catch {
                let error = noteAppendFailure(error)
                group.failure = error
                refuse(taken, error)
            }
            underWay = WriteBatch()
            proposalsUnderWay = []
            group.conclude()
            monitor.broadcast()
        } while !proposals.isEmpty && retryProposalsAt <= environment.monotonic()
        isCommitting = false
        if waiting.writers > 0 { waiting.latch.call() }
        trim()
    }

    /// Lets those join the group that are likely to come at once.
    private func waitForWriters() {
        guard syncsGroups, environment.yield == nil, waiting.writers > 0,
            let plan = delay.plan(joined: waiting.writers)
        else { return }
        let end = monotonicNanoseconds() + plan.nanoseconds
        repeat {
            monitor.unlock()
            sched_yield()
            monitor.lock()
        } while waiting.writers < plan.writers && monotonicNanoseconds() < end
        delay.waited(for: plan.writers, joined: waiting.writers)
    }

    private func makeEntries(_ group: WriteGroup, _ proposals: [Proposal]) -> [Entry] {
        var entries: [Entry] = []
        var end = tail
        if !group.batch.isEmpty {
            let entry = makeWrite(group.batch, after: end)
            entries.append(entry)
            end = LogPoint(after: entry)
        }
        for proposal in proposals {
            let entry = make(proposal.kind, proposal.payload, after: end)
            check(entry)
            entries.append(entry)
            end = LogPoint(after: entry)
        }
        return entries
    }

    /// Better no node than one whose log cannot be applied.
    private func check(_ entry: Entry) {
        do throws(DecodingError) { try EntryValidation.validate(entry) } catch {
            brokenInvariant("the engine made an entry that is malformed: \(error)")
        }
    }

    private func makeWrite(_ batch: WriteBatch, after end: LogPoint) -> Entry {
        let now = max(environment.wall(), end.clock)
        let distance = end.nextSequence.rawValue - store.horizon(at: now).rawValue
        return Entry(
            kind: .write, payloadBytes: batch.payloadBytes(horizonDistance: distance),
            previous: end.position.checksum, group: 0, term: term, index: end.position.index + 1,
            firstSequence: end.nextSequence, clock: now, commit: promisedCommit
        ) { batch.writePayload(horizonDistance: distance, into: $0) }
    }

    /// Never earlier than that of what is in the log.
    var clock: ClockMilliseconds { max(environment.wall(), tail.clock) }

    private func make(_ kind: EntryKind, _ payload: [UInt8], after end: LogPoint) -> Entry {
        Entry(
            kind: kind, payload: payload, previous: end.position.checksum, group: 0, term: term,
            index: end.position.index + 1, firstSequence: end.nextSequence,
            clock: max(environment.wall(), end.clock), commit: promisedCommit)
    }

    /// `commit` promises that what is below was synced: an unsynced log promises nothing.
    private var promisedCommit: LogIndex { syncsGroups ? store.applied : .zero }

    /// One group, also if that takes the reserve of space. With a sync the lock is released; only a
    /// committing thread may call it then.
    private func append(_ entries: [Entry], writers: Int) throws(EngineError) {
        guard options.usesLog, !entries.isEmpty else { return }
        do throws(EngineError) { try appendOnce(entries, writers: writers) } catch {
            guard error.isNoSpace, store.gaveReserve(now: environment.monotonic()) else {
                throw error
            }
            try appendOnce(entries, writers: writers)
        }
    }

    private func appendOnce(_ entries: [Entry], writers: Int) throws(EngineError) {
        guard syncsGroups else { return try log.append(entries, sync: false) }
        let start = monotonicNanoseconds()
        monitor.unlock()
        defer {
            monitor.lock()
            delay.committed(
                writers: writers, behind: waiting.writers,
                nanoseconds: monotonicNanoseconds() - start)
        }
        try log.append(entries, sync: true)
    }

    private func applyCommitted(_ entry: Entry) {
        let frozen = store.frozenCount
        store.apply(entry)
        tail = store.appliedTail
        store.noteDurable(entry.index)
        if entry.header.kind == .compact { director.compactApplied() }
        switch entry.header.kind {
        case .write, .bulk: if store.frozenCount != frozen { mustAdvance = true }
        default: mustAdvance = true
        }
    }

    // MARK: failures

    /// Lack of space or of descriptors passes: the log is as it was before. Everything else is for
    /// good.
    private func noteAppendFailure(_ error: EngineError) -> EngineError {
        switch error {
        case .file(let cause) where cause.isShortage: return error
        case .poisoned, .closed:
            fail(error)
            return error
        default:
            let poisoned = EngineError.poisoned(reason: "\(error)")
            fail(poisoned)
            return poisoned
        }
    }

    private func refuse(_ taken: [Proposal], _ error: EngineError) {
        var kept: [Proposal] = []
        for proposal in taken {
            if case .file = error, !proposal.isAwaited {
                kept.append(proposal)
            } else {
                proposal.conclude(.failure(error))
            }
        }
        guard !kept.isEmpty else { return }
        proposals = kept + proposals
        proposalTrouble = error
        retryProposalsAt = environment.monotonic() + Store.retryMilliseconds
        options.report?("an entry of the engine's own cannot be logged: \(error)")
    }

    /// Every later call throws `error`; who waits is told.
    func fail(_ error: EngineError) {
        if gate.shut(error) { options.report?("the database stops: \(error)") }
        store.prepareToClose()
        monitor.broadcast()
    }

    // MARK: waiting

    /// While space is low every write looks anew: it may have come back.
    private func checkSpace(grows: @autoclosure () -> Bool) throws(EngineError) {
        guard store.space.isEnabled else { return }
        let now = environment.monotonic()
        guard store.space.isLow || store.isSpaceDue(now: now) else { return }
        store.measureSpace(now: now)
        if let refusal = store.spaceRefusal(grows: grows()) { throw refusal }
    }

    /// Stalls while memory is full of unflushed data and something is being done about it.
    private func waitForRoom() throws(EngineError) {
        while store.writeRefusal != nil {
            try gate.check()
            advance()
            guard let refusal = store.writeRefusal else { return }
            if let trouble = store.refusalTrouble {
                throw .busy(reason: "\(refusal): \(trouble)")
            }
            guard isWorking else {
                throw .busy(reason: proposalTrouble.map { "\(refusal): \($0)" } ?? refusal)
            }
            wait()
        }
    }

    /// Holds a write up for a moment when level 0 grows, as long as something is being done about
    /// it.
    private func slowDown(_ bytes: Int) {
        guard store.boundsLevel0 else { return }
        let delay = throttle.delay(bytes: bytes, level0: store.level0Count)
        guard delay > 0, isWorking else { return }
        if environment.yield != nil { return wait() }
        let end = monotonicMilliseconds() + delay
        while isWorking, monotonicMilliseconds() < end { monitor.wait(until: end) }
    }

    /// Something is under way that will report.
    var isWorking: Bool { isCommitting || isAdvancing || store.isWorking }

    /// Lets others go on until something may have changed. With the lock held.
    func wait() {
        if let yield = environment.yield {
            monitor.unlock()
            let isChanged = yield()
            monitor.lock()
            if isChanged { return }
        }
        // Times come due without a report.
        monitor.wait(until: monotonicMilliseconds() + 1_000)
    }
}
