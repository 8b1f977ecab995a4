// Flushes and compaction across the group: members report outcomes to the leader, the leader
// proves them and writes `seal`, `compact`, `compacted` and `cancelled` into the log.
import Engine

/// What the leader knows of another member.
struct MemberState {
    var report: MemberReport?
    var lastSeen: UInt64 = 0
}

/// The last report that went to a leader: only news is sent, and everything again to a new leader.
struct SentReport {
    var leader = MemberID.none
    var report: MemberReport?
    var at: UInt64 = 0
}

/// How far every member has come, as the leader last knew. Never falls.
struct ClusterFloors: Equatable {
    /// Inputs of jobs at or below it are not needed by anybody.
    var frontier = LogIndex.zero
    /// Log entries at or below it are flushed and durable everywhere.
    var log = LogIndex.zero

    mutating func raise(frontier: LogIndex, log: LogIndex) {
        self.frontier = max(self.frontier, frontier)
        self.log = max(self.log, log)
    }
}

extension Replica {
    /// Reports are repeated this often even without news.
    private static let reportIntervalMilliseconds: UInt64 = 500
    /// News of plain progress is sent at most this often.
    private static let progressIntervalMilliseconds: UInt64 = 100

    /// What writes alone change is looked at from time to time: a look costs more than a write.
    private static let directionIntervalMilliseconds: UInt64 = 10

    func directJobs() {
        guard !hasFailed else { return }
        let now = environment.monotonicMilliseconds
        guard hasJobNews || now >= nextDirection else { return }
        hasJobNews = false
        nextDirection = now + Replica.directionIntervalMilliseconds
        store.turn(now: now)
        director.absorb(store.takeJobInputs(), now: now)
        if core.role == .leader {
            directAsLeader()
        } else {
            reportToLeader()
        }
        settleDispute()
        releaseOldThings()
        removeDeparted()
        memberStatuses = makeMemberStatuses()
    }

    var voters: [MemberID] {
        (store.membership.members.isEmpty ? options.seedMembers : store.membership).voters
    }

    private func ownReport() -> MemberReport {
        MemberReport(
            applied: store.applied, durable: durable, flushed: store.flushedPosition.index,
            frontier: store.frontier, stateRoot: store.stateRoot, outcomes: store.outcomes)
    }

    private func reportToLeader() {
        let leader = core.leader
        guard leader != .none else { return }
        let now = environment.monotonicMilliseconds
        let isNew = lastReport.leader != leader
        guard isNew || now >= lastReport.at + Replica.progressIntervalMilliseconds else { return }
        let report = ownReport()
        guard
            isNew || report != lastReport.report
                || now >= lastReport.at + Replica.reportIntervalMilliseconds
        else { return }
        if environment.send(.report(group: options.group, report), to: leader) {
            lastReport = SentReport(leader: leader, report: report, at: now)
        }
    }

    func noteReport(_ report: MemberReport, from member: MemberID) {
        var state = reports[member] ?? MemberState()
        state.report = report
        state.lastSeen = environment.monotonicMilliseconds
        reports[member] = state
        guard core.role == .leader else { return }
        store.compare(FrontierRoot(frontier: report.frontier, root: report.stateRoot))
        director.note(
            report.outcomes, from: member, now: environment.monotonicMilliseconds)
    }

    private func directAsLeader() {
        // Without room for an entry nothing is decided: what consensus drops is lost.
        guard evaluableTerm != nil, core.canPropose(bytes: Limits.groupBytes) else { return }
        let now = environment.monotonicMilliseconds
        director.setLeading(true, now: now)
        director.note(store.outcomes, from: options.node, now: now)
        let able = voters.filter { $0 == options.node || connected.contains($0) }
        let wanted = director.decide(
            JobSituation(
                store: store.jobFacts(at: leaderClock()), able: Set(able), now: now,
                clock: leaderClock(),
                unfinishedBytesMax: freeBytes / 3))
        for proposal in wanted {
            switch proposal {
            case .entry(let kind, let payload):
                step(.propose([make(kind, payload)]))
            case .recompute(let job, let attempt, let members):
                askToRecompute(job, attempt: attempt, members)
            case .alarm(let text): environment.note(.divergence(text))
            }
        }
        updateFloors(now: now)
    }

    private func askToRecompute(_ job: JobID, attempt: UInt32, _ members: [MemberID]) {
        for member in members {
            if member == options.node {
                store.recompute(job, attempt: attempt)
            } else {
                environment.send(
                    .recompute(group: options.group, job, attempt: attempt), to: member)
            }
        }
    }

    /// The lowest frontier of all members, of those away only for a while; and the lowest index
    /// that is flushed and durable, of all members, since log is held for them up to its own bound.
    private func updateFloors(now: UInt64) {
        let before = floors
        var frontier = store.frontier
        var floor = min(store.flushedPosition.index, durable)
        for voter in voters where voter != options.node {
            let state = reports[voter]
            let report = state?.report
            floor = min(floor, min(report?.flushed ?? .zero, report?.durable ?? .zero))
            let isAway =
                !connected.contains(voter)
                && now > (state?.lastSeen ?? 0) + options.keepObsoleteMilliseconds
            if !isAway { frontier = min(frontier, report?.frontier ?? .zero) }
        }
        floors.raise(frontier: frontier, log: floor)
        guard floors != before || now >= lastProgress + Replica.reportIntervalMilliseconds else {
            return
        }
        lastProgress = now
        let progress = ClusterProgress(
            minimumFrontier: floors.frontier, logFloor: floors.log,
            matches: core.progress(now: now).map { member in
                ClusterProgress.Match(
                    member: member.id, index: member.id == options.node ? durable : member.match)
            })
        for voter in voters where voter != options.node {
            environment.send(.progress(group: options.group, progress), to: voter)
        }
    }

    /// Inputs that every member is past, and log that nobody needs or that is too much to keep.
    private func releaseOldThings() {
        store.noteMinimumFrontier(floors.frontier)
        let flushed = store.flushedPosition
        if flushed.index > splitThrough {
            splitThrough = flushed.index
            logWriter.split(after: flushed)
        }
        var limit = floors.log
        let now = environment.monotonicMilliseconds
        if now >= nextRetentionCheck {
            nextRetentionCheck = now + Replica.retentionCheckMilliseconds
            freeBytes = store.freeBytes
            limit = max(limit, log.excess(over: options.retainBytes))
        }
        limit = min(limit, flushed.index)
        guard limit > trimmedThrough else { return }
        trimmedThrough = limit
        logWriter.trim(through: limit)
    }

    /// Files go on another thread, since some take long.
    private func removeDeparted() {
        let departed = store.takeDeparted()
        guard !departed.isEmpty else { return }
        environment.jobs.submit(.flush) { withExtendedLifetime(departed) {} }
    }

    private static let retentionCheckMilliseconds: UInt64 = 1_000
}
