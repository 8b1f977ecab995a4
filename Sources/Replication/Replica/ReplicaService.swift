// What the client edge (RESP, HTTP, CLI) may ask of a replica. The real one is `Replica`; tests of
// the edge use a fake with the same promises. All calls are safe from any thread; completions run
// on the replica's thread and must only hand over.
import Engine

/// How a proposal ended. The three are never mixed up: a client must know which retry is safe.
package enum ProposalOutcome: Sendable, Equatable {
    /// Committed and applied: every later read sees it.
    case applied(Position)
    /// Certainly not applied, now or later. Retry is safe.
    case notApplied(reason: String)
    /// May or may not be applied: leadership was lost in between.
    case unknown(term: Term, index: LogIndex)
}

/// A linearizable read may be served from the local store.
package struct ReadPermit: Sendable, Equatable {
    /// "Now" for expiry: the leader's clock.
    package var clock: ClockMilliseconds
    package init(clock: ClockMilliseconds) { self.clock = clock }
}

package enum ServiceRefusal: Error, Sendable, Equatable {
    /// No leader is known; retry is safe.
    case noLeader
    case timedOut
    case stopped
    /// A bounded read, but this member heard from no live leader for too long.
    case stale(milliseconds: UInt64)
}

package enum ForwardOutcome: Sendable {
    case answered([UInt8])
    /// Never evaluated anywhere: retry is safe.
    case notSent(reason: String)
    /// It went out and the answer did not come back.
    case unknown
}

package struct MemberStatus: Sendable, Equatable {
    package var id: MemberID
    package var role: String
    package var match: LogIndex
    package var lag: UInt64
    /// The leader heard from it within the election timeout. True elsewhere.
    package var isActive: Bool
    /// It needs log entries that are gone, and must catch up by tables. Only a leader knows.
    package var needsTables: Bool

    package init(
        id: MemberID, role: String, match: LogIndex, lag: UInt64, isActive: Bool = true,
        needsTables: Bool = false
    ) {
        self.id = id
        self.role = role
        self.match = match
        self.lag = lag
        self.isActive = isActive
        self.needsTables = needsTables
    }
}

package struct ReplicaStatus: Sendable, Equatable {
    package var node: MemberID
    /// "leader", "follower", "candidate" or "learner".
    package var role: String
    package var term: Term
    package var leader: MemberID
    package var commit: LogIndex
    package var durable: LogIndex
    package var applied: LogIndex
    package var frontier: LogIndex
    package var stateRoot: Digest128
    package var members: [MemberStatus]
    /// Why it applies nothing at the moment, or takes no writes; nil if nothing is wrong.
    package var obstacle: String?

    package init(
        node: MemberID, role: String, term: Term, leader: MemberID, commit: LogIndex,
        durable: LogIndex, applied: LogIndex, frontier: LogIndex, stateRoot: Digest128,
        members: [MemberStatus], obstacle: String? = nil
    ) {
        self.node = node
        self.role = role
        self.term = term
        self.leader = leader
        self.commit = commit
        self.durable = durable
        self.applied = applied
        self.frontier = frontier
        self.stateRoot = stateRoot
        self.members = members
        self.obstacle = obstacle
    }
}

package protocol ReplicaService: AnyObject, Sendable {
    /// The applied state, for reads.
    var reader: any KeyValueReader { get }

    /// The term in which this member may evaluate commands: it leads and has applied its own
    /// no-op. Nil otherwise. One atomic load.
    var evaluatingTerm: Term? { get }

    /// The leader's clock for evaluation, milliseconds; never goes back within a term.
    var clock: ClockMilliseconds { get }

    /// Proposes effects in `term`; in the order of calls. Refused (`notApplied`) if this member
    /// does not evaluate in that term any more, or if memory is full (`reason` then starts with
    /// "busy"). A refusal for memory is decided, and its completion called, before this returns:
    /// a later proposal of the same term may rest on the refused one's effects.
    func propose(
        _ batch: WriteBatch, term: Term, completion: @escaping @Sendable (ProposalOutcome) -> Void)

    /// Calls back once everything acknowledged anywhere before this call is applied here, and the
    /// leader was confirmed after this call.
    func linearizableRead(
        completion: @escaping @Sendable (Result<ReadPermit, ServiceRefusal>) -> Void)

    /// At once: a permit if the local state is at most `staleness` milliseconds old.
    func boundedRead(staleness: UInt64) -> Result<ReadPermit, ServiceRefusal>

    /// Sends bytes to the leader's `onForward`, at most once.
    func forward(_ request: [UInt8], completion: @escaping @Sendable (ForwardOutcome) -> Void)

    /// Called on a leader for each forwarded request; `reply` may be called from any thread, once.
    func setForwardHandler(
        _ handler:
            @escaping @Sendable (_ request: [UInt8], _ reply: @escaping @Sendable ([UInt8]) -> Void)
            -> Void)

    /// Calls back with how many members other than this one hold `position` durably, when that
    /// count reaches `count`, `timeout` milliseconds (0: none) have passed, or soon after it was
    /// cancelled.
    func wait(
        for index: LogIndex, count: Int, timeout: UInt64, cancellation: CancellationFlag,
        completion: @escaping @Sendable (Int) -> Void)

    func status() -> ReplicaStatus
}
