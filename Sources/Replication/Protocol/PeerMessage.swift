// Everything that members say to each other. The codec (`MessageCodec`) gives each a version and a
// checksum; the transport picks the connection by `lane`.
import Engine

package enum PeerLane: UInt8, Sendable, CaseIterable {
    /// The log, reads, forwarded commands.
    case control = 1
    /// Large and patient: blocks, tables, and whatever is above `PeerMessage.bulkBytes`.
    case bulk = 2
    /// What a leader stays or becomes one by, a few bytes each: it waits for nothing that the other
    /// lanes carry, however slow the way is.
    case urgent = 3
}

/// Matches an answer to its question; unique per asking process and connection.
package typealias RequestID = UInt64

package enum PeerMessage: Sendable {
    case raft(group: UInt32, RaftMessage)
    /// Follower to leader: what this member holds and computed. Repeated after leader changes.
    case report(group: UInt32, MemberReport)
    /// Leader to all: what every member has reached. Bounds the deletion of inputs (by the lowest
    /// frontier) and of log entries (by the lowest index that is flushed and durable).
    case progress(group: UInt32, ClusterProgress)
    /// Leader to a member whose result differs from another's: compute once more.
    case recompute(group: UInt32, JobID, attempt: UInt32)
    /// Linearizable read at a follower: asks the leader for an index.
    case readIndex(RequestID)
    case readIndexReply(RequestID, ReadIndexReply)
    /// A client's write, sent on to the leader. Bytes are the node layer's.
    case forward(RequestID, [UInt8])
    case forwardReply(RequestID, ForwardReply)
    /// A client's wait for the durability of its writes, sent on to the leader, who counts.
    case wait(RequestID, DurabilityQuestion)
    /// Nil: the asked member does not lead (any more).
    case waitReply(RequestID, Int?)
    case fetch(RequestID, FetchRequest)
    case fetchReply(RequestID, FetchReply)

    /// A larger message leaves the control lane: what is small must not wait behind it. What its
    /// sender has in order, it keeps so by itself: one forwarded batch of a client at a time, and
    /// one append of this size at a time (`RaftConfiguration.aloneBytes`).
    package static let bulkBytes = 4 << 20

    package var lane: PeerLane {
        switch self {
        case .raft(_, .append(let request)):
            let bytes = request.entries.reduce(0) { $0 + $1.encoded.count }
            return bytes > PeerMessage.bulkBytes ? .bulk : .control
        case .raft(_, .heartbeat), .raft(_, .heartbeatReply), .raft(_, .vote),
            .raft(_, .voteReply), .raft(_, .timeoutNow):
            return .urgent
        case .forward(_, let bytes), .forwardReply(_, .answered(let bytes)):
            return bytes.count > PeerMessage.bulkBytes ? .bulk : .control
        case .raft, .report, .progress, .recompute, .readIndex, .readIndexReply, .forwardReply,
            .wait, .waitReply:
            return .control
        case .fetch, .fetchReply: return .bulk
        }
    }
}

/// What a leader knows of all members.
package struct ClusterProgress: Sendable, Equatable {
    package struct Match: Sendable, Equatable {
        package var member: MemberID
        package var index: LogIndex

        package init(member: MemberID, index: LogIndex) {
            self.member = member
            self.index = index
        }
    }

    /// Inputs of jobs at or below it are not needed by anybody.
    package var minimumFrontier: LogIndex
    /// Log entries at or below it are flushed and durable everywhere.
    package var logFloor: LogIndex
    /// Through where each member holds the log durably.
    package var matches: [Match]

    package init(minimumFrontier: LogIndex, logFloor: LogIndex, matches: [Match]) {
        self.minimumFrontier = minimumFrontier
        self.logFloor = logFloor
        self.matches = matches
    }
}

package struct DurabilityQuestion: Sendable, Equatable {
    /// How many members besides the leader hold the log durably through here?
    package var index: LogIndex
    /// Answered as soon as it is so many,
    package var count: UInt32
    /// or after so many milliseconds, of which the leader grants two thousand at most.
    package var timeout: UInt64

    package init(index: LogIndex, count: UInt32, timeout: UInt64) {
        self.index = index
        self.count = count
        self.timeout = timeout
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
