// Linearizable and bounded reads. A read joins the confirmation that is asked after it arrived:
// all that came in one turn share one request, and it is never one that was already on its way.
import Engine

/// A read that waits, until `deadline` whatever is asked for it meanwhile.
package struct PendingRead {
    package var completion: Replica.ReadCompletion
    package var deadline: UInt64

    package init(completion: @escaping Replica.ReadCompletion, deadline: UInt64) {
        self.completion = completion
        self.deadline = deadline
    }
}

/// Reads between their arrival and their permit.
package struct ReadTable {
    private struct Group {
        var context: UInt64
        var reads: [PendingRead]
        /// Of the first of them to end.
        var deadline: UInt64
        /// The applied index that makes it servable; nil until a leader confirmed.
        var index: LogIndex?
        var clock: ClockMilliseconds
        var isRemote: Bool
        /// Who asked; none for this member's own.
        var member: MemberID

        mutating func fail(through now: UInt64) {
            for read in reads where read.deadline <= now { read.completion(.failure(.timedOut)) }
            reads.removeAll { $0.deadline <= now }
            deadline = reads.map(\.deadline).min() ?? .max
        }
    }

    /// Milliseconds before a refused read is asked again: whoever refuses at once would be asked
    /// as fast as messages travel.
    package static let pause: UInt64 = 10

    private var groups: [Group] = []
    private var retries: [PendingRead] = []
    private var retryAt: UInt64 = 0

    package init() {}

    /// Confirmations that `member` asked for.
    package func count(of member: MemberID) -> Int { groups.count { $0.member == member } }

    /// `clock` is the leader's, when it began to ask for a confirmation: the quorum that gives it
    /// has heard of that time then, so no later leader's clock starts before it.
    package mutating func add(
        _ context: UInt64, _ reads: [PendingRead], clock: ClockMilliseconds, isRemote: Bool,
        member: MemberID = .none
    ) {
        groups.append(
            Group(
                context: context, reads: reads, deadline: reads.map(\.deadline).min() ?? .max,
                clock: clock, isRemote: isRemote, member: member))
    }

    /// The leader answered: servable once `index` is applied.
    package mutating func confirmed(
        _ context: UInt64, index: LogIndex, clock: ClockMilliseconds = 0
    ) {
        guard let at = groups.firstIndex(where: { $0.context == context }) else { return }
        groups[at].index = index
        groups[at].clock = max(groups[at].clock, clock)
    }

    /// Nobody confirmed it: asked again in a while, of whoever leads then.
    package mutating func refused(_ context: UInt64, now: UInt64) {
        guard let at = groups.firstIndex(where: { $0.context == context }) else { return }
        if retries.isEmpty { retryAt = now + ReadTable.pause }
        retries += groups.remove(at: at).reads
    }

    /// What the leader before was asked is asked of the new one at once.
    package mutating func leaderChanged() {
        for group in groups where group.isRemote && group.index == nil { retries += group.reads }
        groups.removeAll { $0.isRemote && $0.index == nil }
        retryAt = 0
    }

    /// Those that are due to be asked again.
    package mutating func takeRetries(now: UInt64) -> [PendingRead] {
        guard now >= retryAt else { return [] }
        defer { retries.removeAll() }
        return retries
    }

    /// Permits what `index` makes servable. `clock` is that of the entry at `index`.
    package mutating func applied(_ index: LogIndex, clock: ClockMilliseconds) {
        guard !groups.isEmpty else { return }
        groups.removeAll { group in
            guard let wanted = group.index, wanted <= index else { return false }
            let permit = ReadPermit(clock: max(clock, group.clock))
            for read in group.reads { read.completion(.success(permit)) }
            return true
        }
    }

    package mutating func expire(now: UInt64) {
        for place in groups.indices where groups[place].deadline <= now {
            groups[place].fail(through: now)
        }
        groups.removeAll { $0.reads.isEmpty }
        for read in retries where read.deadline <= now { read.completion(.failure(.timedOut)) }
        retries.removeAll { $0.deadline <= now }
    }

    package mutating func failAll(_ refusal: ServiceRefusal) {
        for read in groups.flatMap(\.reads) + retries { read.completion(.failure(refusal)) }
        groups.removeAll()
        retries.removeAll()
    }
}

extension Replica {
    /// Asks for one confirmation for all reads that came since the last turn.
    func beginReads() {
        var due = newReads
        newReads.removeAll(keepingCapacity: true)
        due += reads.takeRetries(now: environment.monotonicMilliseconds)
        guard !due.isEmpty else { return }
        guard !hasFailed else {
            for read in due { read.completion(.failure(.stopped)) }
            return
        }
        let context = nextRequest
        nextRequest += 1
        if core.role == .leader {
            guard hasAgreedClock else {
                for read in due { read.completion(.failure(.noLeader)) }
                return
            }
            reads.add(context, due, clock: leaderClock(), isRemote: false)
            step(.read(context: context))
            return
        }
        if isReadOnlyAlone {
            let permit = ReadPermit(clock: max(store.clock, environment.wallMilliseconds))
            for read in due { read.completion(.success(permit)) }
            return
        }
        let leader = core.leader
        guard leader != .none, environment.send(.readIndex(context), to: leader) else {
            for read in due { read.completion(.failure(.noLeader)) }
            return
        }
        reads.add(context, due, clock: 0, isRemote: true)
    }

    /// The only member, and its log is damaged: there is nobody to ask and nothing newer to see
    /// than what lies before the damage.
    var isReadOnlyAlone: Bool {
        voters == [options.node] && core.isDamaged && store.applied >= core.commitIndex
    }

    /// A follower asks for an index: the answer goes back when the round it starts has a quorum.
    func serveReadIndex(_ request: RequestID, from member: MemberID) {
        guard core.role == .leader, hasAgreedClock,
            reads.count(of: member) < Replica.memberReadsMax
        else {
            environment.send(
                .readIndexReply(request, .notLeader(leader: core.leader)), to: member)
            return
        }
        let context = nextRequest
        nextRequest += 1
        let environment = self.environment
        let index = core.commitIndex
        let read = PendingRead(
            completion: { [weak self] result in
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
            }, deadline: readDeadline)
        reads.add(context, [read], clock: leaderClock(), isRemote: false, member: member)
        step(.read(context: context))
    }

    /// Confirmations under way for one member, which asks for one in a turn. With more it asks
    /// again later; others are served meanwhile.
    private static let memberReadsMax = 1_024

    /// When a read that comes now ends at the latest.
    var readDeadline: UInt64 {
        environment.monotonicMilliseconds + ReplicaOptions.readTimeoutMilliseconds
    }

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
        guard let age = core.quorumAge(now: now), age <= now, store.applied >= core.freshIndex
        else { return }
        freshSince = max(freshSince ?? 0, now - age)
    }
}
