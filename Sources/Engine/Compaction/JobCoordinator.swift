// The leader's proof of flushes and jobs: members' outcomes go in, conclusions come out. Pure.
//
// Proved is what two members computed alike. The leader's own output alone suffices when nobody
// else can compute, when `proveAfter` has passed, or when level 0 presses; its self-check (entry
// sums) must balance. When members differ each computes once more: who then differs from itself is
// wrong; else a third decides; else the job is cancelled. The leader is not assumed right. If all
// able members fail, a job is cancelled; a flush never is.
//
// It runs on every member, so that a new leader knows the work; only a leader proposes. Outcomes
// are forgotten at each change of leadership and come again with the members' reports.

/// Who could contribute to a proof now.
struct JobMembers: Hashable, Sendable {
    var own: MemberID
    var able: Set<MemberID>
}

package enum JobInput: Sendable {
    /// A segment with writes has ended (applied); in the order of the log.
    case segmentEnded(SegmentBounds)
    /// A `compact` entry was applied and is not void.
    case jobStarted(PendingJob)
    /// A `seal` or `compacted` was applied and concludes this work.
    case concluded(JobID)
    /// A `cancelled` was applied; with the tables as they are.
    case cancelled(PendingJob, ManifestTables)
    /// What this coordinator proposed was not logged, or was void where it was applied.
    case proposalLost(JobID)
    /// Own outcomes come the same way.
    case outcome(from: MemberID, JobOutcome)
    /// Who is connected and says that it can and will compute; may include this member. To be told
    /// once each member has been heard from, or given up, since this leadership began: whoever is
    /// not named is not waited for.
    case members(able: Set<MemberID>)
    /// Level 0 with stand-ins has reached the slowdown trigger.
    case pressure(Bool)
    /// True once this member leads and has applied its own no-op.
    case leadership(Bool)
    case tick
}

package enum JobAction: Hashable, Sendable {
    /// Log a conclusion; the owner adds its latest (F, R(F)).
    case proposeSeal(SegmentBounds, [TableRecord])
    case proposeCompacted(LogIndex, [TableRecord])
    case proposeCancelled(LogIndex, CancelledRecord.Reason, String)
    /// Ask these members to compute once more, as this attempt at least.
    case recompute(JobID, attempt: UInt32, members: [MemberID])
    /// For the operator: members disagree. `wrong` names those known to be.
    case divergence(JobID, wrong: [MemberID])
    /// For the operator: no member can flush this segment. It is kept and asked for again.
    case flushFailed(SegmentBounds, String)
}

package struct JobCoordinator: Sendable {
    /// Milliseconds after which the leader's own output suffices, and after which a flush that
    /// could not be decided is computed again.
    package static let proveAfter: UInt64 = 60_000

    /// Segments in the order of the log, then jobs by index.
    private var segments: [Work] = []
    private var jobs: [Work] = []
    private let own: MemberID
    /// Nil until told in this leadership.
    private var members: JobMembers?
    private var isLeading = false
    private var isPressed = false
    /// Proved by the leader alone: two members that differ from it raise an alarm.
    private var lone: [LoneProof] = []
    private static let loneCount = 64

    fileprivate struct Work: Sendable {
        var subject: Subject
        var ballot: JobBallot
        var decision: JobBallot.Decision?
        var isProposed = false
        /// When a flush that nobody could decide is tried again.
        var retryAt: UInt64?
    }

    fileprivate enum Subject: Sendable {
        case segment(SegmentBounds)
        case job(PendingJob)

        var id: JobID {
            switch self {
            case .segment(let segment): return JobID(index: segment.last, kind: .flush)
            case .job(let job): return JobID(index: job.index, kind: .compaction)
            }
        }
    }

    private struct LoneProof: Sendable {
        var id: JobID
        var tables: [TableRecord]
        var differing = Set<MemberID>()
    }

    package init(own: MemberID) {
        self.own = own
    }

    /// Work that waits for a conclusion, segments first.
    package var waiting: [JobID] { segments.map(\.subject.id) + jobs.map(\.subject.id) }

    // MARK: - Steps

    package mutating func step(_ input: JobInput, now: UInt64, into out: inout [JobAction]) {
        switch input {
        case .segmentEnded(let segment):
            segments.append(Work(subject: .segment(segment), ballot: JobBallot()))
        case .jobStarted(let job):
            jobs.append(Work(subject: .job(job), ballot: JobBallot()))
        case .concluded(let id): conclude(id)
        case .cancelled(let job, _): conclude(JobID(index: job.index, kind: .compaction))
        case .proposalLost(let id): loseProposal(id)
        case .outcome(let member, let outcome):
            if isLeading { take(outcome, from: member, now: now, into: &out) }
        case .members(let able): members = JobMembers(own: own, able: able)
        case .pressure(let isPressed): self.isPressed = isPressed
        case .leadership(let isLeading):
            self.isLeading = isLeading
            forgetOutcomes()
        case .tick: break
        }
        guard isLeading, let members else { return }
        for index in segments.indices { decide(&segments[index], members, now: now, into: &out) }
        for index in jobs.indices { decide(&jobs[index], members, now: now, into: &out) }
        propose(now: now, into: &out)
    }

    private mutating func conclude(_ id: JobID) {
        segments.removeAll { $0.subject.id == id }
        jobs.removeAll { $0.subject.id == id }
    }

    private mutating func forgetOutcomes() {
        members = nil
        lone.removeAll()
        for index in segments.indices { segments[index].reset() }
        for index in jobs.indices { jobs[index].reset() }
    }

    /// A lost seal takes those behind it along: they are void until it is logged.
    private mutating func loseProposal(_ id: JobID) {
        if let first = segments.firstIndex(where: { $0.subject.id == id }) {
            for index in first..<segments.count { segments[index].isProposed = false }
        }
        if let index = jobs.firstIndex(where: { $0.subject.id == id }) {
            jobs[index].isProposed = false
        }
    }

    private mutating func take(
        _ outcome: JobOutcome, from member: MemberID, now: UInt64, into out: inout [JobAction]
    ) {
        noteAgainstLone(outcome, from: member, into: &out)
        if let index = segments.firstIndex(where: { $0.subject.id == outcome.job }) {
            segments[index].take(outcome, from: member, now: now)
        } else if let index = jobs.firstIndex(where: { $0.subject.id == outcome.job }) {
            jobs[index].take(outcome, from: member, now: now)
        }
    }

    private mutating func noteAgainstLone(
        _ outcome: JobOutcome, from member: MemberID, into out: inout [JobAction]
    ) {
        guard let index = lone.firstIndex(where: { $0.id == outcome.job }),
            case .tables(let tables, _) = outcome.result, tables != lone[index].tables,
            lone[index].differing.insert(member).inserted, lone[index].differing.count == 2
        else { return }
        out.append(.divergence(outcome.job, wrong: []))
    }

    // MARK: - Deciding

    private func decide(
        _ work: inout Work, _ members: JobMembers, now: UInt64, into out: inout [JobAction]
    ) {
        guard work.decision == nil else { return }
        let id = work.subject.id
        if let retryAt = work.retryAt {
            guard now >= retryAt else { return }
            work.retryAt = nil
            work.ballot.beginRound()
        }
        let patience = isPressed ? 0 : JobCoordinator.proveAfter
        switch work.ballot.count(members, now: now, patience: patience) {
        case .wait: break
        case .recompute(let attempt, let who):
            out.append(.recompute(id, attempt: attempt, members: who))
        case .decided(let decision): settle(&work, decision, now: now, into: &out)
        }
    }

    private func settle(
        _ work: inout Work, _ decision: JobBallot.Decision, now: UInt64,
        into out: inout [JobAction]
    ) {
        let id = work.subject.id
        switch decision {
        case .proved(_, let wrong, _):
            if !wrong.isEmpty { out.append(.divergence(id, wrong: wrong)) }
        case .undecided: out.append(.divergence(id, wrong: []))
        case .failed: break
        }
        if case .segment(let segment) = work.subject {
            switch decision {
            case .proved: break
            case .undecided: work.retryAt = now &+ JobCoordinator.proveAfter
            case .failed(let why):
                out.append(.flushFailed(segment, why))
                work.retryAt = now &+ JobCoordinator.proveAfter
            }
            guard work.retryAt == nil else { return }
        }
        work.decision = decision
    }

    // MARK: - Proposing

    private mutating func propose(now: UInt64, into out: inout [JobAction]) {
        for index in segments.indices where !segments[index].isProposed {
            // Strictly in the order of segments.
            guard case .segment(let segment) = segments[index].subject,
                case .proved(let tables, _, let isLone)? = segments[index].decision
            else { break }
            segments[index].isProposed = true
            if isLone { noteLone(segments[index].subject.id, tables) }
            out.append(.proposeSeal(segment, tables))
        }
        for index in jobs.indices where !jobs[index].isProposed {
            guard case .job(let job) = jobs[index].subject,
                let decision = jobs[index].decision
            else { continue }
            jobs[index].isProposed = true
            switch decision {
            case .proved(let tables, _, let isLone):
                if isLone { noteLone(jobs[index].subject.id, tables) }
                out.append(.proposeCompacted(job.index, tables))
            case .undecided:
                out.append(
                    .proposeCancelled(job.index, .divergence, "members computed different tables"))
            case .failed(let why): out.append(.proposeCancelled(job.index, .failed, why))
            }
        }
    }

    private mutating func noteLone(_ id: JobID, _ tables: [TableRecord]) {
        lone.append(LoneProof(id: id, tables: tables))
        if lone.count > JobCoordinator.loneCount { lone.removeFirst() }
    }
}

extension JobCoordinator.Work {
    fileprivate mutating func reset() {
        ballot = JobBallot()
        decision = nil
        isProposed = false
        retryAt = nil
    }

    /// An outcome that could not be logged counts as a failure of that member.
    fileprivate mutating func take(_ outcome: JobOutcome, from member: MemberID, now: UInt64) {
        var result = outcome.result
        if case .tables(let tables, let isBalanced) = outcome.result {
            if !isBalanced {
                result = .failed("its entry sums do not balance")
            } else if let why = refusal(of: tables) {
                result = .failed(why)
            }
        }
        ballot.take(result, attempt: outcome.attempt, from: member, now: now)
    }

    private func refusal(of tables: [TableRecord]) -> String? {
        let level: UInt8?
        switch subject {
        case .segment:
            if tables.isEmpty { return "a flush without tables" }
            level = 0
        case .job(let job):
            if let reason = job.refusal(of: tables) { return reason.description }
            level = job.spec.outputLevel
        }
        do throws(DecodingError) {
            try TableRecord.check(outputs: tables, of: subject.id, level: level)
            return nil
        } catch { return error.what }
    }
}
