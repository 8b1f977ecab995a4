// Linearizable and bounded reads. A read joins the confirmation that is asked after it arrived:
// all that came in one turn share one request, and it is never one that was already on its way.
import Engine

/// Reads between their arrival and their permit.
struct ReadTable {
    private struct Group {
        var deadline: UInt64
        /// The applied index that makes it servable; nil until a leader confirmed.
        var index: LogIndex?
        var clock: ClockMilliseconds
        var isRemote: Bool
        var completions: [Replica.ReadCompletion]
    }

    private var groups: [(context: UInt64, group: Group)] = []
    private var ready: [(Replica.ReadCompletion, Result<ReadPermit, ServiceRefusal>)] = []
    private var retry: [Replica.ReadCompletion] = []

    var count: Int { groups.count }

    /// `clock` is the leader's, when it began to ask for a confirmation: the quorum that gives it
    /// has heard of that time then, so no later leader's clock starts before it.
    mutating func add(
        _ context: UInt64, _ completions: [Replica.ReadCompletion], deadline: UInt64,
        clock: ClockMilliseconds, isRemote: Bool
    ) {
        groups.append(
            (
                context,
                Group(
                    deadline: deadline, clock: clock, isRemote: isRemote,
                    completions: completions)
            ))
    }

    /// The leader answered: servable once `index` is applied.
    mutating func confirmed(_ context: UInt64, index: LogIndex, clock: ClockMilliseconds = 0) {
        guard let at = groups.firstIndex(where: { $0.context == context }) else { return }
        groups[at].group.index = index
        groups[at].group.clock = max(groups[at].group.clock, clock)
    }

    /// Nobody confirmed it: asked again, of whoever leads then.
    mutating func refused(_ context: UInt64) {
        guard let at = groups.firstIndex(where: { $0.context == context }) else { return }
        retry += groups.remove(at: at).group.completions
    }

    mutating func leaderChanged() {
        for entry in groups where entry.group.isRemote && entry.group.index == nil {
            retry += entry.group.completions
        }
        groups.removeAll { $0.group.isRemote && $0.group.index == nil }
    }

    mutating func takeRetries() -> [Replica.ReadCompletion] {
        defer { retry.removeAll() }
        return retry
    }

    /// Permits what `index` makes servable. `clock` is that of the entry at `index`.
    mutating func applied(_ index: LogIndex, clock: ClockMilliseconds) {
        guard !groups.isEmpty else { return }
        groups.removeAll { entry in
            guard let wanted = entry.group.index, wanted <= index else { return false }
            let permit = ReadPermit(clock: max(clock, entry.group.clock))
            for completion in entry.group.completions { completion(.success(permit)) }
            return true
        }
    }

    mutating func expire(now: UInt64) {
        groups.removeAll { entry in
            guard entry.group.deadline <= now else { return false }
            for completion in entry.group.completions { completion(.failure(.timedOut)) }
            return true
        }
    }

    mutating func failAll(_ refusal: ServiceRefusal) {
        for entry in groups {
            for completion in entry.group.completions { completion(.failure(refusal)) }
        }
        for completion in retry { completion(.failure(refusal)) }
        groups.removeAll()
        retry.removeAll()
    }
}

extension Replica {
    /// Asks for one confirmation for all reads that came since the last turn.
    func beginReads() {
        var completions = newReads
        newReads.removeAll(keepingCapacity: true)
        completions += reads.takeRetries()
        guard !completions.isEmpty, !hasFailed else { return }
        let context = nextRequest
        nextRequest += 1
        let now = environment.monotonicMilliseconds
        let deadline = now + ReplicaOptions.readTimeoutMilliseconds
        if core.role == .leader {
            guard hasAgreedClock else {
                for completion in completions { completion(.failure(.noLeader)) }
                return
            }
            reads.add(
                context, completions, deadline: deadline, clock: leaderClock(), isRemote: false)
            step(.read(context: context))
            return
        }
        if isReadOnlyAlone {
            let permit = ReadPermit(clock: max(store.clock, environment.wallMilliseconds))
            for completion in completions { completion(.success(permit)) }
            return
        }
        let leader = core.leader
        guard leader != .none, environment.send(.readIndex(context), to: leader) else {
            for completion in completions { completion(.failure(.noLeader)) }
            return
        }
        reads.add(context, completions, deadline: deadline, clock: 0, isRemote: true)
    }

    /// The only member, and its log is damaged: there is nobody to ask and nothing newer to see
    /// than what lies before the damage.
    var isReadOnlyAlone: Bool {
        voters == [options.node] && core.isDamaged && store.applied >= core.commitIndex
    }

    /// A follower asks for an index: the answer goes back when the round it starts has a quorum.
    func serveReadIndex(_ request: RequestID, from member: MemberID) {
        guard core.role == .leader, hasAgreedClock, reads.count < Replica.readsMax else {
            environment.send(
                .readIndexReply(request, .notLeader(leader: core.leader)), to: member)
            return
        }
        let context = nextRequest
        nextRequest += 1
        let environment = self.environment
        let index = core.commitIndex
        let deadline = environment.monotonicMilliseconds + ReplicaOptions.readTimeoutMilliseconds
        reads.add(
            context,
            [
                { [weak self] result in
                    guard let self else { return }
                    switch result {
                    case .success(let permit):
                        environment.send(
                            .readIndexReply(
                                request,
                                .ready(index: max(index, self.store.applied), clock: permit.clock)),
                            to: member)
                    case .failure:
                        environment.send(
                            .readIndexReply(request, .notLeader(leader: .none)), to: member)
                    }
                }
            ], deadline: deadline, clock: leaderClock(), isRemote: false)
        step(.read(context: context))
    }

    /// Confirmations under way; a member asks for one in a turn. With more it asks again.
    private static let readsMax = 4_096

    /// What ends by time alone.
    func expire() {
        let now = environment.monotonicMilliseconds
        openProposals.expire(now: now)
        reads.expire(now: now)
        for completion in forwards.expire(now: now) { completion(.unknown) }
        answerWaits(now: now)
    }

    /// Remembers when the applied state was last known to be the newest there is.
    func updateFreshness() {
        let now = environment.monotonicMilliseconds
        guard let age = core.quorumAge(now: now), store.applied >= core.freshIndex else { return }
        let since = now > age ? now - age : 0
        freshSince = max(freshSince ?? 0, since)
    }
}
