// What a replica needs from the world: clocks, a way to send, threads for long work. A node's edge
// provides real ones (`ReplicaRuntime`); the simulated cluster provides virtual ones, so that many
// replicas run on one thread from one seed.
import Engine

package protocol ReplicaEnvironment: AnyObject, Sendable {
    /// Never goes back; counts while the machine sleeps.
    var monotonicMilliseconds: UInt64 { get }
    /// The wall clock, since 1970.
    var wallMilliseconds: UInt64 { get }
    /// Queues a message; false if it was dropped.
    @discardableResult
    func send(_ message: PeerMessage, to member: MemberID) -> Bool
    /// The replica has input waiting: call `turn` soon.
    func wakeReplica()
    /// The log writer has work: call its `turn` soon.
    func wakeLogWriter()
    /// Asks a peer; calls back once, nil if it does not answer.
    func fetch(
        _ request: FetchRequest, of member: MemberID,
        completion: @escaping @Sendable (FetchReply?) -> Void)
    /// Long work (flush, compaction, healing, reads of old log entries).
    var jobs: any JobRunner { get }
    /// The node must stop now: nothing may be acknowledged any more.
    func halt(reason: String)
    /// For the operator's log.
    func note(_ event: ReplicaNote)
}

/// Something that an operator should be able to read later.
package enum ReplicaNote: Sendable, Equatable {
    case becameLeader(Term)
    case leaderIs(MemberID, Term)
    case memberPastRetention(MemberID, first: LogIndex)
    case logDiverged(index: LogIndex)
    case divergence(String)
    /// What the member said cannot be true: it is to be cut off, and told why.
    case contradiction(MemberID, String)
    case warning(String)
}
