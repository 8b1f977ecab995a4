// The engine's own work in an embedded database: reports of jobs come in, decisions of the job
// director go into the log, and callers of `flush` and `compactAll` wait here. With one member its
// own output proves a job.

extension EmbeddedOrder {
    // MARK: reports

    func handle(_ event: StoreEvent) {
        monitor.lock()
        // Nobody knows any more which manifest the disk holds.
        if case .installed(_, .poisoned(let reason)?) = event { fail(.poisoned(reason: reason)) }
        store.handle(event)
        goOn()
        let departed = store.takeDeparted()
        monitor.unlock()
        // Their files go here, without the lock. Whoever waited for the job may be ahead of that.
        withExtendedLifetime(departed) {}
    }

    private func removeDeparted() {
        monitor.lock()
        let departed = store.takeDeparted()
        monitor.unlock()
        withExtendedLifetime(departed) {}
    }

    /// Something came up that no commit and no report tells of.
    func look() {
        monitor.lock()
        defer { monitor.unlock() }
        advance()
    }

    /// As `goOn`, on a thread that has no time to remove files.
    func advance() {
        goOn()
        guard store.hasDeparted else { return }
        store.jobs.submit(.flush) { [weak self] in self?.removeDeparted() }
    }

    /// Lets the store and the leader's side of jobs go on. With the lock held; a second caller,
    /// let in while the first one is at the log, leaves the work to it.
    private func goOn() {
        mustAdvance = true
        guard !isAdvancing else { return }
        isAdvancing = true
        while mustAdvance {
            mustAdvance = false
            advanceOnce()
        }
        isAdvancing = false
        monitor.broadcast()
    }

    /// So often jobs are looked at for what time alone, or reads, may have made due.
    private static let lookIntervalMilliseconds: UInt64 = 1_000

    /// After a commit: if something follows from it, a failed job is due again, or it is time to
    /// look at ages.
    func advanceIfDue() {
        if mustAdvance || isTimeDue { advance() }
    }

    private var isTimeDue: Bool {
        guard store.nextRetry < .max || !proposals.isEmpty || nextLook < .max else { return false }
        let now = environment.monotonic()
        return store.nextRetry <= now || nextLook <= now
            || (!proposals.isEmpty && retryProposalsAt <= now)
    }

    /// What failed is tried again at once, with what could not be logged.
    private func retryNow() {
        store.retryNow()
        retryProposalsAt = 0
    }

    private func advanceOnce() {
        guard store.isOpen else { return }
        let now = environment.monotonic()
        if nextLook < .max { nextLook = now + EmbeddedOrder.lookIntervalMilliseconds }
        store.turn(now: now)
        director.setLeading(true, now: now)
        director.absorb(store.takeJobInputs(), now: now)
        director.note(store.outcomes, from: EmbeddedOrder.member, now: now)
        let decided = director.decide(
            JobSituation(
                store: store.jobFacts(at: clock), able: [EmbeddedOrder.member], now: now,
                clock: clock,
                unfinishedBytesMax: store.freeBytes / 3))
        for decision in decided {
            switch decision {
            case .entry(let kind, let payload):
                proposals.append(Proposal(kind, payload, isAwaited: false))
            case .recompute(let job, let attempt, _): store.recompute(job, attempt: attempt)
            case .alarm(let text): options.report?(text)
            }
        }
        // Whoever is at the log takes them with the next group.
        if !proposals.isEmpty, retryProposalsAt <= now, !isCommitting { commitWaiting() }
        store.noteMinimumFrontier(store.frontier)
        trim()
    }

    /// Drops log segments that are in tables and that nobody wants to keep. The log has one
    /// appender: a thread that commits does it when it is done.
    func trim() {
        var limit = store.flushedPosition.index
        guard !isCommitting, options.usesLog, limit > trimmedThrough, store.isOpen else { return }
        trimmedThrough = limit
        if options.retainLogBytes > 0 {
            limit = min(limit, log.excess(over: options.retainLogBytes))
        }
        do throws(EngineError) {
            try log.split(after: store.flushedPosition)
            try log.trim(through: limit)
        } catch {
            // They take space, nothing else; the next open removes them.
            options.report?("old log segments cannot be removed: \(error)")
        }
    }

    // MARK: maintenance

    /// Ends the active segment and returns when all that was committed before is in tables.
    func flush() throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        try flushLocked()
    }

    /// What is in tables once all that was committed before is there.
    func flushedState() throws(EngineError) -> CheckpointSource {
        monitor.lock()
        defer { monitor.unlock() }
        try flushLocked()
        return store.checkpointSource
    }

    private func flushLocked() throws(EngineError) {
        try gate.check()
        retryNow()
        if !store.isActiveEmpty { _ = try propose(.rotate, []) }
        let target = store.lastFrozenIndex
        advance()
        while !store.isFlushed(through: target) {
            try gate.check()
            if let trouble = store.flushTrouble { throw trouble }
            guard isWorking else {
                throw proposalTrouble ?? .busy(reason: "the flush is not proved yet")
            }
            wait()
            advanceIfDue()
        }
    }

    /// Merges all of `span` that was committed before into the deepest level there, and waits for
    /// it. One at a time: the director plans for one span, and a second would take its place.
    func compact(_ span: KeySpan) throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        while isCompacting {
            try gate.check()
            wait()
        }
        isCompacting = true
        defer {
            isCompacting = false
            monitor.broadcast()
        }
        try flushLocked()
        retryNow()
        director.requestFullCompaction(
            store.logical, span: span, functions: store.settings.functions)
        mustAdvance = true
        do throws(EngineError) {
            while director.isFullCompactionPending { try awaitJobs() }
            let last = store.applied
            while !store.isInstalled(through: last) { try awaitJobs() }
        } catch {
            director.cancelFullCompaction()
            throw error
        }
    }

    /// Returns when no flush or compaction is under way or due.
    func awaitIdle() throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        retryProposalsAt = 0
        mustAdvance = true
        while !isIdle {
            try gate.check()
            advanceIfDue()
            if let trouble = store.trouble { throw trouble }
            if isIdle { return }
            if !isWorking, let proposalTrouble { throw proposalTrouble }
            wait()
        }
    }

    private var isIdle: Bool {
        !mustAdvance && !isWorking && proposals.isEmpty && store.logical.jobs.isEmpty
            && store.isInstalled(through: store.applied)
    }

    private func awaitJobs() throws(EngineError) {
        try gate.check()
        let wasDue = mustAdvance
        advanceIfDue()
        // Another thread is at it, and at the log without the lock; it says when it is done.
        if isAdvancing { return wait() }
        guard !wasDue else { return }
        if let trouble = store.trouble { throw trouble }
        guard isWorking else {
            throw proposalTrouble
                ?? .busy(reason: "tables of a failed compaction are left out for a while")
        }
        wait()
    }

    /// What this process stored in its log through mappings, of which the system keeps no count.
    var mappedLogBytes: UInt64 {
        monitor.lock()
        defer { monitor.unlock() }
        return options.sync == .never ? log.appendedBytes : 0
    }

    var storageUse: StorageUse {
        monitor.lock()
        defer { monitor.unlock() }
        return store.storageUse
    }

    func tables() -> [TableRecord] {
        monitor.lock()
        defer { monitor.unlock() }
        return store.installed.manifest.tables.sortedByID
    }

    /// Refuses what comes from now on and syncs the log. Running jobs are told to stop; what they
    /// report is still taken, but nothing new begins. Throws what stopped the database before, if
    /// something did: what was not synced then may be lost.
    func close() throws(EngineError) {
        monitor.lock()
        defer { monitor.unlock() }
        while isCommitting { wait() }
        guard gate.shut(.closed) else { return try gate.check() }
        store.prepareToClose()
        store.noteOrderlyStop()
        monitor.broadcast()
        if options.usesLog { _ = try log.sync() }
    }
}
