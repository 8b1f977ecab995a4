// What the client edge asks, from any thread.
import Engine
import Synchronization

extension Replica: ReplicaService {
    package var reader: any KeyValueReader { store }

    package var evaluatingTerm: Term? { published.evaluatingTerm }

    package var clock: ClockMilliseconds {
        published.clock(now: environment.monotonicMilliseconds)
    }

    package func propose(
        _ batch: WriteBatch, term: Term, completion: @escaping @Sendable (ProposalOutcome) -> Void
    ) {
        // Decided here and now: whatever is proposed behind it was evaluated without its effects.
        if let reason = published.refusal(of: batch) {
            return completion(.notApplied(reason: "busy: \(reason)"))
        }
        post(.propose(batch, term, completion))
    }

    package func linearizableRead(
        completion: @escaping @Sendable (Result<ReadPermit, ServiceRefusal>) -> Void
    ) {
        post(.read(completion))
    }

    package func boundedRead(staleness: UInt64) -> Result<ReadPermit, ServiceRefusal> {
        guard let freshSince = published.freshSince else { return .failure(.noLeader) }
        let now = environment.monotonicMilliseconds
        let age = now > freshSince ? now - freshSince : 0
        guard age <= staleness else { return .failure(.stale(milliseconds: age)) }
        return .success(ReadPermit(clock: max(published.leaderClock, store.clock)))
    }

    package func forward(
        _ request: [UInt8], completion: @escaping @Sendable (ForwardOutcome) -> Void
    ) {
        post(.forward(request, completion))
    }

    package func setForwardHandler(_ handler: @escaping ForwardHandler) {
        forwardService.withLock { $0 = ForwardService(handle: handler) }
    }

    package func wait(
        for index: LogIndex, count: Int, timeout: UInt64, cancellation: CancellationFlag,
        completion: @escaping @Sendable (Int) -> Void
    ) {
        post(
            .wait(
                index, count: count, timeout: timeout, cancellation: cancellation, completion))
    }

    package func status() -> ReplicaStatus {
        guard let status = published.status else {
            brokenInvariant("a replica publishes its status when it is made")
        }
        return status
    }

    func makeStatus() -> ReplicaStatus {
        ReplicaStatus(
            node: options.node, role: core.role.name, term: core.term, leader: core.leader,
            commit: core.commitIndex, durable: durable, applied: store.applied,
            frontier: store.frontier, stateRoot: store.stateRoot, members: memberStatuses,
            obstacle: obstacle)
    }

    /// Why this node applies nothing, or takes no writes; nil if nothing is wrong.
    var obstacle: String? {
        if let hole = holes.first(where: { $0.upper > store.flushedPosition.index }) {
            return "log entries \(hole.lower) to \(hole.upper) are unreadable here"
        }
        return logRefusal
    }

    func makeMemberStatuses() -> [MemberStatus] {
        let membership =
            store.membership.members.isEmpty ? options.seedMembers : store.membership
        let progress = core.progress(now: environment.monotonicMilliseconds)
        return membership.members.map { member in
            let known = progress.first { $0.id == member.id }
            let match =
                member.id == options.node ? durable : known?.match ?? knownMatch(member.id)
            let lag = tail.position.index > match ? tail.position.index - match : 0
            return MemberStatus(
                id: member.id, role: roleName(of: member), match: match, lag: lag,
                isActive: known?.isRecentlyActive ?? true,
                needsTables: known?.needsTables ?? false)
        }
    }

    /// What a follower knows of another member: the leader's word, and of the leader at least its
    /// commit index.
    private func knownMatch(_ member: MemberID) -> LogIndex {
        let told = toldMatches[member] ?? .zero
        return member == core.leader ? max(told, core.freshIndex) : told
    }

    private func roleName(of member: Member) -> String {
        if member.id == options.node { return core.role.name }
        if member.id == core.leader { return "leader" }
        return member.isVoter ? "follower" : "learner"
    }
}

extension RaftRole {
    /// As status pages show it.
    package var name: String {
        switch self {
        case .follower: return "follower"
        case .preCandidate, .candidate: return "candidate"
        case .leader: return "leader"
        }
    }
}
