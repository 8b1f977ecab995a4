// Linearizable reads of a leader. A read is answered once a quorum acknowledged a heartbeat round
// that was *sent after the read arrived*: an acknowledgement of an earlier round proves nothing
// about the time of the read. At most one round is started for reads at a time; what arrives
// meanwhile waits for the next one, so that their number is bounded by round trips, not by reads.
// Before the term's first commit a leader does not know what is committed, so reads wait for that.
import Engine

struct ReadIndex: Sendable {
    struct Read: Equatable {
        var context: UInt64
        /// Commit index when its round was sent.
        var index: LogIndex
        var round: UInt64
    }

    /// Came after the latest round was sent.
    private(set) var waiting: [UInt64] = []
    /// Joined a round; rounds ascend.
    private(set) var joined: [Read] = []

    var isRoundInFlight: Bool { !joined.isEmpty }
    var isEmpty: Bool { waiting.isEmpty && joined.isEmpty }

    mutating func add(_ context: UInt64) { waiting.append(context) }

    /// A round goes out now: everything that waits joins it.
    mutating func join(round: UInt64, index: LogIndex) {
        for context in waiting {
            joined.append(Read(context: context, index: index, round: round))
        }
        waiting.removeAll(keepingCapacity: true)
    }

    /// A quorum acknowledged `round` or a later one: takes out the reads that this confirms.
    mutating func confirm(round: UInt64) -> ArraySlice<Read> {
        let count = joined.firstIndex { $0.round > round } ?? joined.count
        let confirmed = joined[..<count]
        joined = Array(joined[count...])
        return confirmed
    }

    /// Leadership ended: every context that was not answered.
    mutating func removeAll() -> [UInt64] {
        let contexts = joined.map(\.context) + waiting
        self = ReadIndex()
        return contexts
    }
}

extension RaftCore {
    mutating func read(_ context: UInt64, _ out: inout [RaftAction]) {
        guard role == .leader else { return out.append(.readRefused(context: context)) }
        if hasLease { return out.append(.readReady(context: context, index: commitIndex)) }
        reads.add(context)
        startReadRound(&out)
    }

    /// Starts a round for what waits, unless one is in flight: the next takes all that came
    /// meanwhile.
    mutating func startReadRound(_ out: inout [RaftAction]) {
        guard hasCommittedInTerm, !reads.isRoundInFlight, !reads.waiting.isEmpty else { return }
        if isOnlyVoter {
            // Nobody else could lead: the round is empty.
            reads.join(round: round, index: commitIndex)
            confirmReads(&out)
        } else {
            broadcastHeartbeat(&out)
        }
    }

    /// Answers the reads whose round a quorum has acknowledged.
    mutating func confirmReads(_ out: inout [RaftAction]) {
        guard reads.isRoundInFlight else { return }
        let confirmed = Quorum.reached(members) { $0.id == id ? .max : $0.ackedRound }
        for read in reads.confirm(round: confirmed) {
            out.append(.readReady(context: read.context, index: read.index))
        }
        startReadRound(&out)
    }
}
