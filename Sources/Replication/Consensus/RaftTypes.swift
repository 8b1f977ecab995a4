// What goes into the Raft state machine, what comes out, and the messages between members. The
// machine sees terms and indexes; payloads pass through it untouched, and checksums of the chain
// are the log's business (it refuses an entry whose `previous` does not match).
import Engine

/// A message between two members' consensus machines.
package enum RaftMessage: Sendable, Equatable {
    case vote(VoteRequest)
    case voteReply(VoteReply)
    case append(AppendRequest)
    case appendReply(AppendReply)
    case heartbeat(Heartbeat)
    case heartbeatReply(HeartbeatReply)
    /// Campaign at once (leadership transfer).
    case timeoutNow(term: Term)
    /// A member that was told to transfer leadership tells the leader of this term.
    case transfer(term: Term, to: MemberID)
}

package struct VoteRequest: Sendable, Equatable {
    /// The term campaigned for; for a pre-vote, the one that would be.
    package var term: Term
    package var isPreVote: Bool
    package var lastIndex: LogIndex
    package var lastTerm: Term
    /// Sent by the order of the leader: voters do not refuse for having heard from it.
    package var isTransfer: Bool
    package init(term: Term, isPreVote: Bool, lastIndex: LogIndex, lastTerm: Term, isTransfer: Bool)
    {
        self.term = term
        self.isPreVote = isPreVote
        self.lastIndex = lastIndex
        self.lastTerm = lastTerm
        self.isTransfer = isTransfer
    }
}

package struct VoteReply: Sendable, Equatable {
    package var term: Term
    package var isPreVote: Bool
    package var isGranted: Bool
    /// The highest clock that the voter heard of a leader, or told as one; its driver fills it in.
    /// A new leader's clock starts there, so that nothing that expired comes back.
    package var clock: ClockMilliseconds
    package init(term: Term, isPreVote: Bool, isGranted: Bool, clock: ClockMilliseconds = 0) {
        self.term = term
        self.isPreVote = isPreVote
        self.isGranted = isGranted
        self.clock = clock
    }
}

package struct AppendRequest: Sendable {
    package var term: Term
    package var previousIndex: LogIndex
    package var previousTerm: Term
    package var entries: [Entry]
    package var commit: LogIndex
    package init(
        term: Term, previousIndex: LogIndex, previousTerm: Term, entries: [Entry], commit: LogIndex
    ) {
        self.term = term
        self.previousIndex = previousIndex
        self.previousTerm = previousTerm
        self.entries = entries
        self.commit = commit
    }
}

extension AppendRequest: Equatable {
    package static func == (left: Self, right: Self) -> Bool {
        left.term == right.term && left.previousIndex == right.previousIndex
            && left.previousTerm == right.previousTerm && left.commit == right.commit
            && left.entries.map(\.header) == right.entries.map(\.header)
    }
}

package struct AppendReply: Sendable, Equatable {
    package var term: Term
    package var isAccepted: Bool
    /// Accepted: the last index durable here that matches the leader's log. Refused: the
    /// `previousIndex` that did not match.
    package var index: LogIndex
    /// Refused: where to try next, and the term there, so that whole terms are skipped.
    package var hintIndex: LogIndex
    package var hintTerm: Term
    package init(
        term: Term, isAccepted: Bool, index: LogIndex, hintIndex: LogIndex = .zero,
        hintTerm: Term = .zero
    ) {
        self.term = term
        self.isAccepted = isAccepted
        self.index = index
        self.hintIndex = hintIndex
        self.hintTerm = hintTerm
    }
}

package struct Heartbeat: Sendable, Equatable {
    package var term: Term
    /// Never above what the receiver is known to match.
    package var commit: LogIndex
    /// Rises with every round of heartbeats in a term; replies echo it. A read is confirmed by a
    /// round that was sent after it arrived.
    package var round: UInt64
    /// The leader's wall clock; its driver fills it in.
    package var clock: ClockMilliseconds
    /// Milliseconds: everything that was committed that long ago is at or below `commit` (so it
    /// counts from the leader's last quorum contact, or longer if the receiver lags). Bounded
    /// reads go by it.
    package var quorumAge: UInt64
    /// The latest round that the receiver answered, as far as the sender knew: all of this was said
    /// after that answer was given, however long it was under way.
    package var acked: UInt64
    /// Milliseconds for which the voter is asked to grant nothing to another; 0: it is not.
    package var lease: UInt64
    package init(
        term: Term, commit: LogIndex, round: UInt64, clock: ClockMilliseconds, quorumAge: UInt64,
        acked: UInt64 = 0, lease: UInt64 = 0
    ) {
        self.acked = acked
        self.lease = lease
        self.term = term
        self.commit = commit
        self.round = round
        self.clock = clock
        self.quorumAge = quorumAge
    }
}

package struct HeartbeatReply: Sendable, Equatable {
    package var term: Term
    package var round: UInt64
    package var clock: ClockMilliseconds
    /// The voter grants nothing to another for as long as it was asked.
    package var isPromised: Bool
    package init(
        term: Term, round: UInt64, clock: ClockMilliseconds, isPromised: Bool = false
    ) {
        self.isPromised = isPromised
        self.term = term
        self.round = round
        self.clock = clock
    }
}

/// What the driver tells the machine. `now` (monotonic milliseconds) comes with each step.
package enum RaftInput: Sendable {
    /// Time has passed; expected every 10 ms or so.
    case tick
    case message(from: MemberID, RaftMessage)
    /// Entries that the driver made for the current term, index by index behind the last one.
    /// Ignored (with `.dropped`) unless this member leads in that term.
    case propose([Entry])
    /// The log is durable through this entry.
    case appendDurable(index: LogIndex, term: Term)
    /// The driver has a linearizable read waiting; `context` comes back in `.readReady`.
    case read(context: UInt64)
    case transfer(to: MemberID)
    /// A connection to a member broke, or one was made.
    case unreachable(MemberID)
    case reachable(MemberID)
    /// A `membership` entry was applied. It is told before `.applied` of its index.
    case membership(RaftMembers)
    /// Everything through this entry is applied.
    case applied(LogIndex)
    /// Tables for the member, asked for by `.needsTables`, will not come from that attempt.
    case tablesFailed(MemberID)
    /// This member's state is that of tables as of `base` now, with the members of that time.
    case installedTables(base: LogIndex, term: Term, members: RaftMembers)
    /// This member's log starts behind `first` now.
    case trimmed(first: LogIndex)
    /// The local log has a rotten hole: this member votes but neither leads nor campaigns.
    case setDamaged(Bool)
    /// An entry of the hole was mended; it names the one before it, and what was committed when it
    /// was made.
    case mended(index: LogIndex, term: Term, previous: Digest128, commit: LogIndex)
}

package enum RaftAction: Sendable {
    /// Persist durably before any later action of this step is performed.
    case save(term: Term, vote: MemberID)
    case send(to: MemberID, RaftMessage)
    /// Read entries from `from` through at most `last` (at most `maxBytes`, counted as
    /// `encoded.count`, but at least one) and send them as one `.append` with these fields. If they
    /// are trimmed away, report `.trimmed`.
    case sendEntries(
        to: MemberID, term: Term, from: LogIndex, previousTerm: Term, maxBytes: Int, last: LogIndex,
        commit: LogIndex)
    /// Remove every entry above `after` (uncommitted ones).
    case truncate(after: LogIndex)
    /// Append; answer later with `.appendDurable` for the last of them. Answers come in the order
    /// of the appends. One may cover several, but not across a `.truncate` between them.
    case append([Entry])
    /// Entries through this index are committed: apply them.
    case commit(LogIndex)
    /// The read is linearizable once `index` is applied.
    case readReady(context: UInt64, index: LogIndex)
    /// Leadership was lost or never was: ask the leader.
    case readRefused(context: UInt64)
    /// The driver makes the term's no-op (and, on an empty log, the founding entries) now.
    case becameLeader(Term)
    /// Includes losing leadership; `leader` is `.none` while nobody is known.
    case leaderChanged(Term, leader: MemberID)
    /// The driver proposes the membership that follows a joint one now.
    case leaveJoint
    /// A proposal came when this member did not lead in its term.
    case dropped([Entry])
    /// A follower needs entries that this log no longer has.
    case needsTables(MemberID)
    /// This member's vote counts no more: remember it durably before any later action.
    case distrusted
    /// It counts again: remember it durably, after what was saved before.
    case readmitted
    /// What the member said cannot be true, and was ignored.
    case contradicted(by: MemberID, Contradiction)
}
