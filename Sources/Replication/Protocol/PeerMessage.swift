// Everything that members say to each other. The codec (`MessageCodec`) gives each a version and a
// checksum; the transport picks the connection by `lane`.
import Engine

package enum PeerLane: UInt8, Sendable {
    /// Small and urgent: consensus, reads, forwarded commands.
    case control = 1
    /// Large and patient: blocks, tables, old entries.
    case bulk = 2
}

/// Matches an answer to its question; unique per asking process and connection.
package typealias RequestID = UInt64

package enum PeerMessage: Sendable {
    case raft(group: UInt32, RaftMessage)
    /// Follower to leader: what this member holds and computed. Repeated after leader changes.
    case report(group: UInt32, MemberReport)
    /// Leader to all: what every member has reached. Bounds the deletion of inputs (by the lowest
    /// frontier) and of log entries (by the lowest index that is flushed and durable).
    case progress(group: UInt32, minimumFrontier: LogIndex, logFloor: LogIndex)
    /// Leader to a member whose result differs from another's: compute once more.
    case recompute(group: UInt32, JobID, attempt: UInt32)
    /// Linearizable read at a follower: asks the leader for an index.
    case readIndex(RequestID)
    case readIndexReply(RequestID, ReadIndexReply)
    /// A client's write, sent on to the leader. Bytes are the node layer's.
    case forward(RequestID, [UInt8])
    case forwardReply(RequestID, ForwardReply)
    case fetch(RequestID, FetchRequest)
    case fetchReply(RequestID, FetchReply)

    package var lane: PeerLane {
        switch self {
        case .raft, .report, .progress, .recompute, .readIndex, .readIndexReply, .forward,
            .forwardReply:
            return .control
        case .fetch, .fetchReply: return .bulk
        }
    }
}

package struct MemberReport: Sendable, Equatable {
    package var applied: LogIndex
    package var durable: LogIndex
    /// S: entries above it are still needed in its log.
    package var flushed: LogIndex
    package var frontier: LogIndex
    package var stateRoot: Digest128
    /// Outcomes of flushes and jobs that the log has not concluded yet.
    package var outcomes: [JobOutcome]
    package init(
        applied: LogIndex, durable: LogIndex, flushed: LogIndex, frontier: LogIndex,
        stateRoot: Digest128, outcomes: [JobOutcome]
    ) {
        self.applied = applied
        self.durable = durable
        self.flushed = flushed
        self.frontier = frontier
        self.stateRoot = stateRoot
        self.outcomes = outcomes
    }
}

package enum ReadIndexReply: Sendable, Equatable {
    case ready(index: LogIndex, clock: ClockMilliseconds)
    /// The asked member does not lead (any more).
    case notLeader(leader: MemberID)
}

package enum ForwardReply: Sendable, Equatable {
    /// The node layer's answer.
    case answered([UInt8])
    /// Not evaluated, so safe to retry.
    case notLeader(leader: MemberID)
}

package enum FetchRequest: Sendable, Equatable {
    /// One canonical block of the table with this digest.
    case block(table: TableID, digest: Digest128, ordinal: BlockOrdinal)
    /// How many blocks the table has, and the digests of all (its leaf list).
    case leaves(table: TableID, digest: Digest128)
    /// A log entry by content.
    case entry(index: LogIndex, checksum: Digest128)
    /// The manifest record of a donor: M(F), S, settings, members, pending jobs.
    case manifest
    /// A read that this member cannot answer since a block is lost everywhere it looked.
    case read(key: [UInt8], index: LogIndex, now: ClockMilliseconds)
}

package enum FetchReply: Sendable, Equatable {
    /// Canonical bytes, a leaf list, an encoded entry or a manifest record.
    case bytes([UInt8])
    case value(LiveValue?)
    /// The donor cannot: it lacks the thing, or holds it damaged too.
    case unavailable(String)
}
