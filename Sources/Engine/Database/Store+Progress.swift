// How far the store's own work has come: what those who wait for it ask, so that nobody waits for
// what is not under way.

/// The last failure of each kind of work. What failed is tried again; see `Store.trouble`.
struct WorkFailures {
    var flush: EngineError?
    var install: EngineError?
    var job: EngineError?
}

extension Store {
    /// What the disk has left; without an answer, enough.
    package var freeBytes: UInt64 {
        do throws(FileError) { return try files.fileSystem.freeBytes(files.directory) } catch {
            return .max
        }
    }

    package var frozenCount: Int { frozen.count }
    /// Nothing was applied to the active segment that a flush would have to write.
    package var isActiveEmpty: Bool { active.memtable.isEmpty }
    /// What the active segment and its flush are made by.
    package var segmentSettings: LoggedSettings { active.settings }
    /// The last entry of the youngest segment that has ended.
    package var lastFrozenIndex: LogIndex { frozen.last?.last ?? flushedPosition.index }

    /// The effects of every segment that ends at or below `index` are in tables of the manifest.
    package func isFlushed(through index: LogIndex) -> Bool {
        flushedPosition.index >= index
            && installed.standIns.first.map { $0.segment.last > index } ?? true
    }

    /// The edits of every job entry at or below `index` are installed.
    package func isInstalled(through index: LogIndex) -> Bool {
        pendingEdits.first.map { $0.index > index } ?? true
    }

    /// A job runs that will report and may move flushes, jobs or edits on.
    package var isWorking: Bool {
        isInstalling || runningJobs > 0 || !fetching.isEmpty || isReadingTombstones
            || frozen.contains { $0.state == .flushing }
    }

    /// Why flushed data does not reach the manifest now; nil if nothing failed or it is tried again
    /// at this moment.
    package var flushTrouble: EngineError? {
        if frozen.contains(where: { $0.state.retryTime != nil }) { return failures.flush }
        return retryInstallAt > now ? failures.install : nil
    }

    /// As `flushTrouble`, of all work.
    package var trouble: EngineError? {
        if let trouble = flushTrouble { return trouble }
        // One that is due waits for a place among the jobs that run, not for the world to change.
        let isStuck = jobStates.values.contains { ($0.phase.retryTime ?? 0) > now }
        return isStuck ? failures.job : nil
    }

    /// What keeps writes refused, other than work that goes on.
    package var refusalTrouble: EngineError? {
        areMemtablesFull ? flushTrouble : trouble
    }

    /// Makes everything that waits for another try due.
    package func retryNow() {
        retryInstallAt = 0
        for at in frozen.indices where frozen[at].state.retryTime != nil {
            frozen[at].state = .waiting
        }
        for (index, state) in jobStates where state.phase.retryTime != nil {
            jobStates[index]?.phase = .waiting
        }
    }

    var retryTimes: [UInt64] {
        var times = frozen.compactMap(\.state.retryTime)
        times += jobStates.values.compactMap(\.phase.retryTime)
        if retryInstallAt > now { times.append(retryInstallAt) }
        if let time = healer.nextTry(after: now) { times.append(time) }
        return times
    }
}

extension FrozenSegment.State {
    fileprivate var retryTime: UInt64? {
        if case .retry(let time) = self { return time }
        return nil
    }
}

extension JobState.Phase {
    fileprivate var retryTime: UInt64? {
        switch self {
        case .retry(let time), .again(let time): return time
        case .waiting, .running, .computed, .failed: return nil
        }
    }
}
