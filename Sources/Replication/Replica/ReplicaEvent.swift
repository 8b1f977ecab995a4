// What reaches a replica's thread from others: from peers, clients, the log writer, finished jobs.
import Engine
import Synchronization

package enum ReplicaEvent: Sendable {
    case messages([PeerMessage], from: MemberID)
    case connected(MemberID)
    case disconnected(MemberID)
    /// What the member had to say may be lost; this node can still reach it.
    case answersLost(MemberID)
    case log(LogWriterReport)
    case store(StoreEvent)
    case propose(WriteBatch, Term, @Sendable (ProposalOutcome) -> Void)
    case read(@Sendable (Result<ReadPermit, ServiceRefusal>) -> Void)
    case forward([UInt8], @Sendable (ForwardOutcome) -> Void)
    /// No byte of it left this node.
    case forwardNotSent(RequestID)
    case forwardAnswered(RequestID, MemberID, [UInt8])
    case wait(
        LogIndex, count: Int, timeout: UInt64, cancellation: CancellationFlag,
        @Sendable (Int) -> Void)
    case transfer(MemberID)
    /// What a peer answered that was asked for a lost entry; nil if it did not.
    case entryFetched(FetchReply?)
    /// What a member answered that was asked for its manifest; nil if it did not.
    case manifestFetched(MemberID, FetchReply?)
}

extension ReplicaEvent {
    /// Belongs to writes and reads alone: no flush and no job follows from it.
    var isTraffic: Bool {
        switch self {
        case .messages(let messages, _): messages.allSatisfy(\.isTraffic)
        case .log(.durable), .propose, .read, .forward, .forwardNotSent, .forwardAnswered, .wait:
            true
        case .log, .connected, .disconnected, .answersLost, .store, .transfer, .entryFetched,
            .manifestFetched:
            false
        }
    }
}

extension PeerMessage {
    fileprivate var isTraffic: Bool {
        switch self {
        case .report, .progress, .recompute: false
        case .raft, .readIndex, .readIndexReply, .forward, .forwardReply, .wait, .waitReply,
            .fetch, .fetchReply:
            true
        }
    }
}

/// A queue with one reader, handed over whole once per turn.
package final class ReplicaInbox: Sendable {
    private let events = Mutex<[ReplicaEvent]>([])

    package init() {}

    package func append(_ event: ReplicaEvent) {
        events.withLock { $0.append(event) }
    }

    /// Everything that came since the last call, in order; `spare` is reused for what comes next.
    package func drain(reusing spare: consuming [ReplicaEvent]) -> [ReplicaEvent] {
        spare.removeAll(keepingCapacity: true)
        let empty = spare
        return events.withLock { queue in
            let all = queue
            queue = empty
            return all
        }
    }

    package var isEmpty: Bool { events.withLock { $0.isEmpty } }
}
