// The leader's side of flushes and jobs: what to write into the log next. Pure: it is told what was
// applied and what the situation is, and answers with proposals. It runs on every member, so that a
// new leader knows the work; only a leader's proposals count. One compaction is planned at a time:
// the next plan must see the reservations of the one before it applied.

/// What the store knows that decisions need.
package struct JobFacts: Sendable {
    /// M(applied).
    package var manifest: LogicalManifest
    package var settings: LoggedSettings
    package var horizon: SequenceNumber
    /// The leader's latest (F, R(F)), which conclusions carry.
    package var frontier: FrontierRoot
    /// Level-0 tables, stand-ins included.
    package var level0Count: Int
    /// How the leader stores blocks.
    package var compression = CompressionPolicy.lz4
    /// Of live tables, as far as they are in memory.
    package var rangeTombstones: [LiveTombstone] = []
    /// The others are being read: a plan without them might read tables that nobody can see.
    package var isReadingTombstones = false
    /// The most first, if the options count them.
    package var fruitlessReads: [FruitlessReads] = []
    /// Blob files with damage that waits for a heal.
    package var damagedBlobs: Set<TableID> = []
}

package struct JobSituation: Sendable {
    package var store: JobFacts
    /// Members that are connected and compute, this one included.
    package var able: Set<MemberID>
    /// Monotonic milliseconds.
    package var now: UInt64
    /// The leader's wall clock.
    package var clock: ClockMilliseconds
    /// Input bytes of all unfinished jobs together.
    package var unfinishedBytesMax: UInt64

    package init(
        store: JobFacts, able: Set<MemberID>, now: UInt64, clock: ClockMilliseconds,
        unfinishedBytesMax: UInt64 = .max
    ) {
        self.store = store
        self.able = able
        self.now = now
        self.clock = clock
        self.unfinishedBytesMax = unfinishedBytesMax
    }
}

package enum JobProposal: Sendable {
    case entry(EntryKind, [UInt8])
    /// Ask these members to compute once more.
    case recompute(JobID, attempt: UInt32, [MemberID])
    /// For the operator.
    case alarm(String)
}

package struct JobDirector: Sendable {
    private let options: CompactionOptions
    private var coordinator: JobCoordinator
    private var planner: CompactionPlanner
    private var actions: [JobAction] = []
    private var isLeading = false
    /// A `compact` was proposed and not applied yet.
    private var isPlanOpen = false
    private var full: CompactionPlanner.FullCompaction?

    package init(own: MemberID, options: CompactionOptions) {
        self.options = options
        coordinator = JobCoordinator(own: own)
        planner = CompactionPlanner(options: options)
    }

    /// What applied entries did, in their order.
    package mutating func absorb(_ inputs: [JobInput], now: UInt64) {
        for input in inputs {
            if case .jobStarted = input { isPlanOpen = false }
            if case .cancelled(let job, let tables) = input {
                planner.exclusions.prune(tables)
                planner.exclusions.cancelled(job, tables, now: now)
            }
            coordinator.step(input, now: now, into: &actions)
        }
    }

    /// A `compact` entry was applied, void or not.
    package mutating func compactApplied() { isPlanOpen = false }

    /// Members' results; the leader's own come the same way.
    package mutating func note(_ outcomes: [JobOutcome], from member: MemberID, now: UInt64) {
        guard isLeading else { return }
        for outcome in outcomes {
            coordinator.step(.outcome(from: member, outcome), now: now, into: &actions)
        }
    }

    /// This member begins or ceases to lead: earlier proposals and outcomes count no more.
    package mutating func setLeading(_ leads: Bool, now: UInt64) {
        guard leads != isLeading else { return }
        isLeading = leads
        isPlanOpen = false
        actions.removeAll()
        coordinator.step(.leadership(leads), now: now, into: &actions)
    }

    /// Whatever leadership lasted till now has ended, even if the same member leads again.
    package mutating func reset(now: UInt64) {
        isLeading = true
        setLeading(false, now: now)
    }

    /// Brings everything of `span` that exists now to the deepest level in use there, and writes
    /// anew what is there already.
    package mutating func requestFullCompaction(
        _ manifest: LogicalManifest, span: KeySpan = .everything,
        functions: JobFunctionNames = JobFunctionNames()
    ) {
        full = CompactionPlanner.FullCompaction(
            manifest, options, span: span, functions: functions)
    }

    package var isFullCompactionPending: Bool { full != nil }

    /// Nobody waits for it any more.
    package mutating func cancelFullCompaction() { full = nil }

    /// What to propose now, as a leader.
    package mutating func decide(_ situation: JobSituation) -> [JobProposal] {
        guard isLeading else { return [] }
        let now = situation.now
        coordinator.step(.members(able: situation.able), now: now, into: &actions)
        coordinator.step(
            .pressure(
                options.boundsLevel0
                    && situation.store.level0Count >= options.level0SlowdownTrigger),
            now: now, into: &actions)
        coordinator.step(.tick, now: now, into: &actions)
        var proposals = actions.map { proposal(for: $0, situation.store.frontier) }
        actions.removeAll(keepingCapacity: true)
        if let spec = plan(situation) {
            isPlanOpen = true
            proposals.append(.entry(.compact, spec.encoded()))
        }
        return proposals
    }

    private func proposal(for action: JobAction, _ leader: FrontierRoot) -> JobProposal {
        switch action {
        case .proposeSeal(let segment, let tables):
            let record = SealRecord(
                first: segment.first, last: segment.last, tables: tables, leader: leader)
            return .entry(.seal, record.encoded())
        case .proposeCompacted(let job, let tables):
            return .entry(
                .compacted, CompactedRecord(job: job, tables: tables, leader: leader).encoded())
        case .proposeCancelled(let job, let reason, let detail):
            return .entry(
                .cancelled,
                CancelledRecord(job: job, reason: reason, detail: detail).encoded())
        case .recompute(let job, let attempt, let members):
            return .recompute(job, attempt: attempt, members)
        case .divergence(let job, let wrong):
            let who = wrong.map(\.description).joined(separator: ", ")
            return .alarm(
                wrong.isEmpty
                    ? "members disagree on \(job.kind) \(job.index)"
                    : "member \(who) computed \(job.kind) \(job.index) wrong")
        case .flushFailed(let segment, let reason):
            return .alarm(
                "no member can flush the segment \(segment.first)-\(segment.last): \(reason)")
        }
    }

    private mutating func plan(_ situation: JobSituation) -> CompactionSpec? {
        guard !isPlanOpen, !situation.store.isReadingTombstones else { return nil }
        var facts = CompactionPlanner.Facts(
            settings: situation.store.settings, horizon: situation.store.horizon,
            clock: situation.clock
                - min(situation.clock, options.clockMaxOffsetMilliseconds),
            now: situation.now, unfinishedBytesMax: situation.unfinishedBytesMax,
            rangeTombstones: situation.store.rangeTombstones,
            compression: situation.store.compression)
        facts.fruitlessReads = situation.store.fruitlessReads
        facts.damagedBlobs = situation.store.damagedBlobs
        if let full {
            switch planner.planFull(full, situation.store.manifest, facts) {
            case .job(let spec): return spec
            case .wait: return nil
            case .done: self.full = nil
            }
        }
        guard options.isEnabled else { return nil }
        return planner.plan(situation.store.manifest, facts)
    }
}
