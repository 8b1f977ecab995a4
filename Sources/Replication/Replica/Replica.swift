// One member of a replication group: drives consensus, log and store, and answers for them. All of
// its state belongs to one thread (a node's replica thread, or the simulated cluster's), which
// calls `turn`; other threads only append to the inbox and read the atomics and the store's view.
//
// A turn: take what came → step the consensus machine → make entries from waiting proposals → act
// on its outbox (ship, append) → apply what is committed → answer.
import Engine
import Synchronization

package final class Replica: @unchecked Sendable {
    let options: ReplicaOptions
    let environment: any ReplicaEnvironment
    package let store: Store
    package let log: Log
    let hardState: HardState
    let inbox = ReplicaInbox()
    package let logWriter: LogWriter
    var core: RaftCore

    /// The last entry handed to the log, durable or not, and what the next one needs.
    var tail: LogPoint
    var durable: LogIndex
    var cache: EntryCache
    var outbox: [RaftAction] = []
    var spareEvents: [ReplicaEvent] = []
    var hasFailed = false

    // Proposals (Replica+Proposals).
    var waitingProposals: [WaitingProposal] = []
    var waitingHead = 0
    var openProposals = ProposalTable()

    // Reads and forwards (Replica+Reads, Replica+Peers).
    var newReads: [PendingRead] = []
    var reads = ReadTable()
    var forwards: RequestTable<@Sendable (ForwardOutcome) -> Void>
    var nextRequest: RequestID
    /// Highest clock of a leader: heard in heartbeats and votes, or told as one.
    var leaderClockHeard: ClockMilliseconds = 0
    var clockCheck: ClockCheck
    /// As a leader: as last judged.
    var hasAgreedClock = false
    /// When that was, and how far the wall clock was ahead of the monotonic one. Nil: it has to be
    /// judged again.
    var judgedClock: (offset: Int64, at: UInt64)?
    /// Of the wall clock over the monotonic one when most members last agreed with it.
    var agreedOffset: Int64 = 0
    /// Until when this member, whose clock was found wrong, does not lead; monotonic milliseconds.
    var clockSuspectUntil: UInt64?
    /// When the applied state was last known to be the newest, monotonic milliseconds.
    var freshSince: UInt64?
    var waits: [DurabilityWait] = []
    var remoteWaits: RequestTable<DurabilityWait>

    // What other members reported (Replica+Jobs).
    var director: JobDirector
    var reports: [MemberID: MemberState] = [:]
    var connected: Set<MemberID> = []
    var floors = ClusterFloors()
    /// What the leader last told of all members.
    var toldMatches: [MemberID: LogIndex] = [:]
    var lastProgress: UInt64 = 0
    /// Something happened that flushes, jobs or reports may follow from.
    var hasJobNews = true
    /// When they are looked at without news.
    var nextDirection: UInt64 = 0
    /// As of the last look at jobs: no member's place is news that somebody waits for.
    var memberStatuses: [MemberStatus] = []
    var lastReport = SentReport()
    var lostEntry: LostEntry?
    var nextMend: UInt64 = 0
    /// While members are asked who of them holds a wrong state (Replica+Disputes).
    var dispute: OpenDispute?
    var nextDispute: UInt64 = 0
    /// Entries that peers gave back since the log last had no hole.
    var mendedEntries: MendedEntries?
    var trimmedThrough = LogIndex.zero
    /// The S at which the log was last told to end a segment.
    var splitThrough = LogIndex.zero
    var nextRetentionCheck: UInt64 = 0
    /// On the store's disk, as of the last check of what to keep.
    var freeBytes: UInt64
    /// Cuts that the log writer has not performed: what it reports meanwhile may be above them.
    var openTruncations: [LogIndex] = []
    var holes: [LogHole]
    /// Why the log takes no entries at the moment, and when it is asked again.
    var logRefusal: String?
    var retryLogAt: UInt64?

    let forwardService = Mutex<ForwardService?>(nil)
    let published = PublishedState()

    package typealias ForwardHandler =
        @Sendable (_ request: [UInt8], _ reply: @escaping @Sendable ([UInt8]) -> Void) -> Void
    /// A closure by itself would come out of the mutex wrapped once more each time, since generic
    /// code hands closures on in a form of its own: each call would be deeper than the one before.
    struct ForwardService: Sendable {
        let handle: ForwardHandler
    }
    package typealias ReadCompletion = @Sendable (Result<ReadPermit, ServiceRefusal>) -> Void

    /// Takes over an opened log and store.
    package init(
        options: ReplicaOptions, environment: any ReplicaEnvironment, opened: OpenedReplica
    ) {
        self.options = options
        self.environment = environment
        self.store = opened.store
        self.log = opened.log
        self.hardState = opened.hardState
        self.holes = opened.recovery.holes
        let membership =
            opened.store.membership.members.isEmpty
            ? options.seedMembers : opened.store.membership
        let state = opened.hardState.current
        var configuration = RaftConfiguration(
            id: options.node, members: RaftMembers(membership), seed: options.seed)
        configuration.electionTimeout =
            options.electionTimeoutMilliseconds...(2 * options.electionTimeoutMilliseconds)
        configuration.heartbeatInterval = options.heartbeatMilliseconds
        configuration.leaseMilliseconds = options.leaseMilliseconds
        configuration.leaseDriftMilliseconds = options.leaseDriftMilliseconds
        configuration.preferredLeader = options.preferredLeader
        core = RaftCore(
            configuration, term: state.term, vote: state.vote,
            isVoteTrusted: opened.hardState.isVoteTrusted || membership.voters == [options.node],
            log: opened.raftLog,
            commit: Replica.knownCommit(opened, voters: membership.voters, own: options.node),
            applied: opened.store.applied)
        tail = opened.tail
        durable = opened.log.durable.index
        cache = EntryCache(capacityBytes: options.cacheBytes)
        // Answers to an earlier process match nothing of this one.
        let firstRequest = state.nonce | 1
        nextRequest = firstRequest
        forwards = RequestTable(firstID: firstRequest)
        remoteWaits = RequestTable(firstID: firstRequest)
        clockCheck = ClockCheck(maxOffsetMilliseconds: options.maxClockOffsetMilliseconds)
        freeBytes = opened.store.freeBytes
        director = JobDirector(own: options.node, options: options.store.compaction)
        logWriter = LogWriter(
            log: opened.log, wake: { [weak environment] in environment?.wakeLogWriter() },
            report: { [inbox, weak environment] report in
                inbox.append(.log(report))
                environment?.wakeReplica()
            })
        opened.store.setEventHandler { [weak self] in self?.post(.store($0)) }
        updateFitness()
        noteHoles()
        store.noteDurable(durable)
        store.holdDeparted()
        memberStatuses = makeMemberStatuses()
        publish()
    }

    /// What the log's last entry says was committed when it was made: whoever campaigns has to have
    /// applied every change of the membership that others may have applied. A quorum of one has
    /// committed what its log holds; with a damaged log it leads no more, and serves what lies
    /// before the damage.
    private static func knownCommit(
        _ opened: OpenedReplica, voters: [MemberID], own: MemberID
    ) -> LogIndex {
        let flushed = opened.store.flushedPosition.index
        guard voters == [own],
            let hole = opened.recovery.holes.first(where: { $0.upper > flushed })
        else { return max(opened.store.applied, opened.commit) }
        return max(opened.store.applied, hole.lower - 1)
    }

    /// Queues an event for the next turn. Any thread.
    package func post(_ event: ReplicaEvent) {
        inbox.append(event)
        environment.wakeReplica()
    }

    /// One turn. Never blocks on the network; touches the disk only for entries that have left the
    /// cache and for a new term or vote.
    package func turn() {
        guard !hasFailed else { return failEverything() }
        var events = inbox.drain(reusing: spareEvents)
        spareEvents = []
        // First of all: what comes below is decided by a clock that somebody may just have set.
        checkClock()
        for event in events { handle(event) }
        events.removeAll(keepingCapacity: true)
        spareEvents = events
        step(.tick)
        checkClock()
        beginReads()
        propose()
        applyCommitted()
        directJobs()
        mendHoles()
        expire()
        retryLog()
        publish()
    }

    /// Whether `turn` would do more than let time pass.
    package var hasInput: Bool { !inbox.isEmpty }

    func handle(_ event: ReplicaEvent) {
        if !event.isTraffic { hasJobNews = true }
        switch event {
        case .messages(let messages, let from):
            for message in messages { handle(message, from: from) }
        case .connected(let member):
            connected.insert(member)
            step(.reachable(member))
            store.healer.noteReplica()
            lastReport = SentReport()
        case .disconnected(let member):
            connected.remove(member)
            reports[member]?.lastSeen = environment.monotonicMilliseconds
            step(.unreachable(member))
            failForwards(to: member)
        case .answersLost(let member):
            step(.unreachable(member))
            failForwards(to: member)
        case .log(let report): handle(report)
        case .store(let event): store.handle(event)
        case .propose(let batch, let term, let completion):
            waitingProposals.append(
                WaitingProposal(batch: batch, term: term, completion: completion))
        case .read(let completion):
            newReads.append(PendingRead(completion: completion, deadline: readDeadline))
        case .forward(let bytes, let completion): forward(bytes, completion)
        case .forwardNotSent(let request):
            forwards.cancel(request)?(.notSent(reason: "the leader cannot be reached"))
        case .forwardAnswered(let request, let member, let bytes):
            environment.send(.forwardReply(request, .answered(bytes)), to: member)
        case .wait(let index, let count, let timeout, let cancellation, let completion):
            waits.append(
                DurabilityWait(
                    index: index, count: count, deadline: waitDeadline(timeout),
                    isAnothers: false, cancellation: cancellation
                ) { completion($0 ?? 0) })
        case .transfer(let member): step(.transfer(to: member))
        case .entryFetched(let reply): entryFetched(reply)
        case .manifestFetched(let member, let reply): manifestFetched(reply, of: member)
        }
    }

    private func handle(_ report: LogWriterReport) {
        if report.isProgress { logRefusal = nil }
        switch report {
        case .durable(let position):
            durable = min(position.index, openTruncations.min() ?? position.index)
            store.noteDurable(durable)
            step(.appendDurable(index: position.index, term: position.term))
        case .truncated:
            openTruncations.removeFirst()
        case .trimmed(let error):
            if let error {
                environment.note(.warning("old log segments cannot be removed: \(error)"))
            }
            if log.first > core.log.first { step(.trimmed(first: log.first)) }
        case .mended(let entry, let refusal): mended(entry, refusal)
        case .shortage(let error): waitForLog(error)
        case .failed(let error):
            fail("the log cannot be written: \(error)")
        }
    }

    /// The log is as it was before; what this node could not append it does not acknowledge.
    private func waitForLog(_ error: EngineError) {
        if logRefusal == nil {
            environment.note(
                .warning("the log cannot grow now: \(error); nothing is lost"))
        }
        logRefusal = "the log cannot grow now: \(error)"
        retryLogAt = environment.monotonicMilliseconds + Replica.spaceRetryMilliseconds
    }

    private static let spaceRetryMilliseconds: UInt64 = 200

    private func retryLog() {
        guard let at = retryLogAt, environment.monotonicMilliseconds >= at else { return }
        retryLogAt = nil
        environment.wakeLogWriter()
    }

    /// An orderly stop, after the last turn: everybody who waits gets an answer.
    package func stop() {
        hasFailed = true
        published.setEvaluatingTerm(nil)
        store.prepareToClose()
        store.noteOrderlyStop()
        failEverything()
    }

    /// Stops acknowledging for good.
    func fail(_ reason: String) {
        guard !hasFailed else { return }
        hasFailed = true
        published.setEvaluatingTerm(nil)
        environment.halt(reason: reason)
        failEverything()
    }

    private func failEverything() {
        let events = inbox.drain(reusing: [])
        for event in events {
            switch event {
            case .propose(_, _, let completion):
                completion(.notApplied(reason: "the node is stopping"))
            case .read(let completion): completion(.failure(.stopped))
            case .forward(_, let completion):
                completion(.notSent(reason: "the node is stopping"))
            case .wait(_, _, _, _, let completion): completion(0)
            default: break
            }
        }
        failProposals()
        reads.failAll(.stopped)
        for completion in forwards.failAll() { completion(.unknown) }
        for wait in waits + remoteWaits.failAll() { wait.completion(nil) }
        waits.removeAll()
    }

    /// What other threads may read without asking.
    func publish() {
        updateFreshness()
        published.update(status: makeStatus(), freshSince: freshSince)
        let term = hasFailed ? nil : evaluableTerm
        published.setEvaluatingTerm(term)
        published.setRefusal(writeRefusal, growth: store.spaceRefusal(grows: true)?.description)
        if core.role == .leader { leaderClockHeard = leaderClock() }
        published.advanceClock(to: leaderClockHeard)
    }

    /// Why writes are not welcome, with what is behind it.
    private var writeRefusal: String? {
        guard let refusal = store.writeRefusal else {
            return logRefusal ?? store.spaceRefusal(grows: false)?.description
        }
        guard let trouble = store.refusalTrouble else { return refusal }
        return "\(refusal): \(trouble)"
    }

    /// The term in which this member may evaluate commands and serve reads as the leader: it leads,
    /// sees all that was committed before, and knows that its clock agrees with the others'.
    var evaluableTerm: Term? {
        guard hasAgreedClock else { return nil }
        return core.evaluableTerm(applied: store.applied)
    }

}
