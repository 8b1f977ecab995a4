// Compaction jobs on this node: from the applied `compact` entry to the own result. A job starts
// when its inputs are usable here; results are reported until the log concludes the job.
import Synchronization

/// A `compact` entry that was applied and is not concluded.
struct JobState {
    enum Phase: Equatable {
        case waiting
        case running
        case retry(at: UInt64)
        /// Its outputs are proved, and nobody has them: computed once more then, if nobody has
        /// given them before.
        case again(at: UInt64)
        case computed
        /// This node gave up; it says so in its report.
        case failed
    }

    var spec: CompactionSpec
    var phase = Phase.waiting
    /// The last attempt found the disk full. To fetch the outputs takes as much room.
    var foundDiskFull = false
    var output: [BuiltTable] = []
    /// Of the next output's files.
    var generation: UInt32 = 0
    var cancellation = CancellationFlag()

    /// Its own result may still come.
    var isUndecided: Bool { phase != .computed && phase != .failed }
}

/// `JobAttempts` for the threads that run jobs.
final class SharedAttempts: @unchecked Sendable {
    // Unchecked: the file is touched under the lock only.
    private let attempts: JobAttempts
    private var isStopped = false
    private let lock = Mutex(())

    init(_ attempts: JobAttempts) { self.attempts = attempts }

    /// Nil after an orderly stop.
    func begin(_ job: JobID) throws(EngineError) -> JobAttempts.Decision? {
        try lock.withLock { (_) throws(EngineError) in
            isStopped ? nil : try attempts.begin(job)
        }
    }

    func end(_ job: JobID) throws(EngineError) {
        try lock.withLock { (_) throws(EngineError) in
            // After an orderly stop the attempt is struck off already.
            if !isStopped { try attempts.end(job) }
        }
    }

    func forget(_ job: JobID) throws(EngineError) {
        try lock.withLock { (_) throws(EngineError) in try attempts.forget(job) }
    }

    func stop() throws(EngineError) {
        try lock.withLock { (_) throws(EngineError) in
            isStopped = true
            try attempts.stop()
        }
    }
}

extension Store {
    /// Applies `seal`, `compact`, `compacted` or `cancelled` to M(applied).
    func applyJobEntry(_ entry: Entry) {
        let jobEntry = JobEntry(entry)
        openJobEntries.append(jobEntry)
        fold(logical.apply(entry), of: jobEntry)
        if pendingEdits.isEmpty { openJobEntries.removeAll() }
    }

    /// What follows from an entry's effect on the manifest.
    func fold(_ outcome: ManifestOutcome, of entry: JobEntry) {
        let index = entry.index
        switch outcome {
        case .unchanged: break
        case .void(let reason): healer.noteTrouble("entry \(index) is void: \(reason)")
        case .jobVoid(let reason): healer.noteTrouble("job \(index) is void: \(reason)")
        case .jobStarted(let job):
            noteJobInput(.jobStarted(job))
            jobStates[index] = JobState(spec: job.spec)
            pendingEdits.append(PendingEdit(index: index, kind: .started(job.spec)))
        case .sealed(let record):
            pendingEdits.append(PendingEdit(index: index, kind: .sealed(record)))
            conclude(JobID(index: record.last, kind: .flush))
        case .jobDone(let job, let removed, _):
            pendingEdits.append(
                PendingEdit(
                    index: index, kind: .compacted(compactedRecord(entry)),
                    removed: job.spec.action == .move ? [] : removed))
            conclude(JobID(index: job.index, kind: .compaction))
        case .jobCancelled(let job, let record):
            pendingEdits.append(PendingEdit(index: index, kind: .cancelled(record)))
            ownOutcomes[JobID(index: job.index, kind: .compaction)] = nil
            noteJobInput(.cancelled(job, logical.tables))
            abandon(job.index)
        }
    }

    private func compactedRecord(_ entry: JobEntry) -> CompactedRecord {
        entry.payload.withUnsafeBytes { payload in
            do throws(DecodingError) { return try CompactedRecord(decoding: payload) } catch {
                brokenInvariant("entry \(entry.index) was not validated: \(error)")
            }
        }
    }

    /// The log has decided: the own result need not be reported any more.
    private func conclude(_ job: JobID) {
        ownOutcomes[job] = nil
        noteJobInput(.concluded(job))
    }

    private func abandon(_ job: LogIndex) {
        guard let state = jobStates.removeValue(forKey: job) else { return }
        state.cancellation.cancel()
        for table in state.output { discard(table.record.id) }
    }

    /// Forgets a file that no manifest names; it goes when nobody reads it.
    func discard(_ id: TableID) {
        guard let handle = tables.remove(id) else { return }
        handle.markObsolete()
        departed?.append(handle)
    }

    /// Tables that are let go stay from here on until the owner takes them, or begins to close: to
    /// remove and close a file takes the system a millisecond for every few megabytes, too long for
    /// the lock that every write takes or for the thread that answers for a replica.
    package func holdDeparted() { departed = [] }

    var hasDeparted: Bool { departed?.isEmpty == false }

    /// What was let go since the last call, by id. Whoever drops it removes the files.
    package func takeDeparted() -> [TableHandle] {
        guard let taken = departed, !taken.isEmpty else { return [] }
        departed = []
        return taken.sorted { $0.id < $1.id }
    }

    func startJobs() {
        for (index, state) in jobStates
        where state.spec.action != .merge && state.phase == .waiting {
            settleUnwritten(index)
        }
        guard runningJobs < options.concurrentJobs else { return }
        for index in jobStates.keys.sorted() {
            guard runningJobs < options.concurrentJobs else { return }
            guard let state = jobStates[index], isDue(state),
                let inputs = usable(state.spec.inputs),
                let witnesses = usable(state.spec.witnesses), let blobs = usableBlobs(of: inputs)
            else { continue }
            start(index, state, inputs, witnesses, blobs)
        }
    }

    /// A job that touches metadata only: what it comes to is known, and every member says so.
    private func settleUnwritten(_ index: LogIndex) {
        jobStates[index]?.phase = .computed
        guard logical.jobs.contains(where: { $0.index == index }) else { return }
        noteOutcome(
            JobID(index: index, kind: .compaction), JobResult(tables: [], isBalanced: true))
    }

    private func isDue(_ state: JobState) -> Bool {
        switch state.phase {
        case .waiting: return true
        case .retry(let time), .again(let time): return time <= now
        case .running, .computed, .failed: return false
        }
    }

    /// Handles of all these tables, in order; nil while one is still being made here. A move to the
    /// level that the job names may be applied and not installed yet.
    private func usable(_ tables: [CompactionSpec.Input]) -> [TableHandle]? {
        var handles: [TableHandle] = []
        for input in tables {
            guard let handle = self.tables.handle(input.id),
                handle.record.digest == input.digest
            else {
                return nil
            }
            handles.append(handle.placed(at: input.level))
        }
        return handles
    }

    /// The blob files that the inputs refer to; nil while one is still being made here. They are
    /// kept as long as the inputs are. Without those that nobody can have, since no manifest names
    /// them or tells their digest: a job that reads one fails, and one that does not goes on.
    private func usableBlobs(of inputs: [TableHandle]) -> BlobFiles? {
        var handles: [TableHandle] = []
        for file in Set(inputs.lazy.flatMap(\.record.blobs).map(\.file)) {
            guard let record = namedBlob(file), record.digest != .zero else { continue }
            guard let handle = tables.handle(file), handle.record.digest == record.digest else {
                return nil
            }
            handles.append(handle)
        }
        return BlobFiles(handles)
    }

    /// As the log names it. A job that is concluded and not computed here may be the last to read
    /// it; the edit that names it may wait, too.
    private func namedBlob(_ file: TableID) -> TableRecord? {
        if let record = logical.tables.record(file) ?? installed.manifest.tables.record(file) {
            return record
        }
        for pending in pendingEdits {
            if let record = pending.tables.first(where: { $0.id == file }) { return record }
        }
        return nil
    }

    private func start(
        _ index: LogIndex, _ state: JobState, _ inputs: [TableHandle], _ witnesses: [TableHandle],
        _ blobs: BlobFiles
    ) {
        runningJobs += 1
        jobStates[index]?.phase = .running
        let builder = OutputBuilder(
            files: files, index: index, kind: .compaction, options: options,
            functions: functions, pacer: pacer, threads: jobThreads, generation: state.generation)
        let attempts = self.attempts
        jobs.submit(.compaction) { [weak self] in
            let job = JobID(index: index, kind: .compaction)
            let result: Result<JobResult, JobFailure>
            var attempt: UInt32 = 0
            do throws(JobFailure) {
                attempt = try Store.beginAttempt(job, attempts)
                result = .success(
                    try builder.compact(
                        state.spec, inputs, witnesses: witnesses, blobs: blobs,
                        cancellation: state.cancellation))
            } catch {
                result = .failure(error)
            }
            if attempt > 0 { self?.endAttempt(job) }
            self?.post(.computed(job: index, attempt: attempt, result))
        }
    }

    /// Durable before the job starts: one that kills the node is not tried for ever.
    private static func beginAttempt(_ job: JobID, _ attempts: SharedAttempts)
        throws(JobFailure) -> UInt32
    {
        let decision: JobAttempts.Decision?
        do throws(EngineError) { decision = try attempts.begin(job) } catch {
            throw .transient(error)
        }
        switch decision {
        case .start(let attempt): return attempt
        case .exhausted: throw .failed("its attempts did not end")
        case nil: throw .cancelled
        }
    }

    /// The job was cancelled in the meantime, or installed with tables that peers had: those are in
    /// the directory, in files of other generations.
    private func discardUnneeded(_ outcome: JobResult) {
        for table in outcome.tables
        where tables.handle(table.record.id)?.generation != UInt64(table.local.generation) {
            makeHandle(table.record, table.local).markObsolete()
        }
    }

    /// An attempt whose end is not recorded counts as one that did not end. On the job's thread.
    private func endAttempt(_ job: JobID) {
        do throws(EngineError) { try attempts.end(job) } catch {
            healer.noteTrouble(
                "the end of an attempt at job \(job.index) is not recorded: \(error)")
        }
    }

    func computed(
        _ index: LogIndex, _ attempt: UInt32, _ result: Result<JobResult, JobFailure>
    ) {
        runningJobs -= 1
        if case .success(let outcome) = result { written.compactedBytes += outcome.fileBytes }
        let job = JobID(index: index, kind: .compaction)
        guard jobStates[index] != nil else {
            if case .success(let outcome) = result { discardUnneeded(outcome) }
            return
        }
        switch result {
        case .success(let outcome):
            jobStates[index]?.phase = .computed
            jobStates[index]?.output = outcome.tables
            for table in outcome.tables { adopt(table) }
            if logical.jobs.contains(where: { $0.index == index }) { noteOutcome(job, outcome) }
        case .failure(.transient(let error)):
            healer.noteTrouble("job \(index): \(error)")
            failures.job = error
            jobStates[index]?.foundDiskFull = error.isNoSpace
            jobStates[index]?.phase = .retry(at: now + Store.retryMilliseconds)
        case .failure(.failed(let reason)):
            healer.noteTrouble("job \(index) failed: \(reason)")
            jobStates[index]?.phase = .failed
            guard logical.jobs.contains(where: { $0.index == index }) else { return }
            ownOutcomes[job] = JobOutcome(job: job, attempt: attempt, result: .failed(reason))
        case .failure(.cancelled):
            jobStates[index]?.phase = .waiting
        }
    }

    /// This node gave the job up, others proved that it can be computed, and nobody has its outputs
    /// any more: it gets new attempts, after a while in which the node serves.
    func giveNewAttempts(_ index: LogIndex) {
        guard let state = jobStates[index], state.phase == .failed else { return }
        do throws(EngineError) {
            try attempts.forget(JobID(index: index, kind: .compaction))
            jobStates[index]?.phase = .again(at: now + Store.newAttemptsMilliseconds)
        } catch {
            healer.noteTrouble("job \(index) gets no new attempts: \(error)")
        }
    }

    private static let newAttemptsMilliseconds: UInt64 = 30_000

    /// The leader asks for one more computation, as this attempt at least: results disagreed.
    package func recompute(_ job: JobID, attempt: UInt32) {
        guard let outcome = ownOutcomes[job], outcome.attempt < attempt else { return }
        switch job.kind {
        case .compaction:
            guard let state = jobStates[job.index], state.phase == .computed else { return }
            for table in state.output { discard(table.record.id) }
            jobStates[job.index]?.output = []
            jobStates[job.index]?.generation += 1
            jobStates[job.index]?.phase = .waiting
        case .flush:
            guard let at = frozen.firstIndex(where: { $0.last == job.index }),
                installingSegment != job.index
            else {
                // Its table is in the manifest, or about to be: that is the answer, now as before.
                ownOutcomes[job]?.attempt = attempt
                return
            }
            guard frozen[at].state == .flushed else { return }
            for table in frozen[at].output { discard(table.record.id) }
            frozen[at].output = []
            frozen[at].generation += 1
            frozen[at].state = .waiting
        case .flushBlob, .compactionBlob: brokenInvariant("work is named after its tables")
        }
        startFlushes()
        startJobs()
    }

    /// What the leader's decisions are made from, at its clock.
    package func jobFacts(at clock: ClockMilliseconds) -> JobFacts {
        let (tombstones, unread) = liveTombstones()
        readTombstones(of: unread)
        return JobFacts(
            manifest: logical, settings: settings, horizon: horizon(at: clock),
            frontier: FrontierRoot(frontier: frontier, root: stateRoot),
            level0Count: level0Count, compression: options.compression,
            rangeTombstones: tombstones, isReadingTombstones: isReadingTombstones,
            fruitlessReads: fruitlessReads, damagedBlobs: damagedBlobs)
    }

    private var damagedBlobs: Set<TableID> {
        guard !logical.tables.blobs.isEmpty else { return [] }
        return Set(healer.hints.damaged.filter(\.kind.isBlob))
    }

    /// Of tables that readers ask now, those with enough to count.
    private var fruitlessReads: [FruitlessReads] {
        let enough = options.compaction.fruitlessReadsMax
        guard enough > 0 else { return [] }
        let found = pin().view.version.tables.compactMap { table -> FruitlessReads? in
            let count = table.fruitlessReads
            // One that is on its way to another level has been heard.
            guard logical.tables.record(table.id)?.level == table.record.level else { return nil }
            return count >= enough ? FruitlessReads(table: table.id, count: count) : nil
        }
        return Array(found.sorted { $0.count > $1.count }.prefix(FruitlessReads.tableMax))
    }

    /// Range tombstones of tables with few, and the tables of which they are not in memory.
    private func liveTombstones() -> (known: [LiveTombstone], unread: [TableHandle]) {
        var known: [LiveTombstone] = []
        var unread: [TableHandle] = []
        for level in 0..<TableRecord.levelCount {
            for record in logical.tables.tables(at: level)
            where (1...UInt64(LiveTombstone.tableMax)).contains(record.rangeTombstoneCount) {
                guard let handle = tables.handle(record.id),
                    handle.record.digest == record.digest
                else { continue }
                guard let tombstones = handle.knownTombstones else {
                    unread.append(handle)
                    continue
                }
                for tombstone in tombstones {
                    known.append(LiveTombstone(table: record.id, tombstone: tombstone))
                }
            }
        }
        return (known, unread)
    }

    /// Nobody waits for a disk here: another thread reads them, and what is planned waits for it.
    private func readTombstones(of handles: [TableHandle]) {
        guard !handles.isEmpty, !isReadingTombstones, !isClosing else { return }
        isReadingTombstones = true
        jobs.submit(.compaction) { [weak self] in
            for handle in handles { handle.readTombstones() }
            self?.post(.tombstonesRead)
        }
    }
}
