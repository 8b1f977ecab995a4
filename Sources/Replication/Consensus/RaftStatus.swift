// What others may see of the machine: for status pages, for the evaluator's gate and for bounded
// reads. Reading changes nothing.
import Engine

package struct MemberProgress: Sendable, Equatable {
    package var id: MemberID
    package var isVoter: Bool
    package var match: LogIndex
    package var next: LogIndex
    /// Something came from it within the election timeout.
    package var isRecentlyActive: Bool
    /// It needs entries that the leader no longer has.
    package var needsTables: Bool
}

extension RaftCore {
    package var lastIndex: LogIndex { log.last }
    package var lastTerm: Term { log.lastTerm }

    /// The term in which this member leads; nil if it does not.
    package var leadTerm: Term? { role == .leader ? term : nil }

    /// The term in which commands may be evaluated: this member leads, and its own first entry of
    /// the term is applied, so that everything committed before is visible. Nil otherwise, and
    /// while leadership is being handed over.
    @inline(__always)
    package func evaluableTerm(applied: LogIndex) -> Term? {
        guard role == .leader, transfer == nil, applied >= termStart, hasCommittedInTerm else {
            return nil
        }
        return term
    }

    /// Whether a proposal of `bytes` would be taken now.
    package func canPropose(bytes: Int) -> Bool {
        role == .leader && transfer == nil && hasUncommittedRoom(entries: 1, bytes: bytes)
    }

    /// Encoded bytes of this term's entries that are not committed.
    package var uncommittedBytes: UInt64 { role == .leader ? sizes.bytes(after: commitIndex) : 0 }

    /// Reads that are neither answered nor refused.
    package var waitingReads: Int { reads.waiting.count + reads.joined.count }

    /// The member that leadership is being handed to.
    package var transferTarget: MemberID? { transfer?.target }

    /// Every member's progress on a leader; empty elsewhere.
    @inline(__always)
    package func progress(now: UInt64) -> [MemberProgress] {
        guard role == .leader else { return [] }
        return members.map { member in
            let isSelf = member.id == id
            let silence = max(now, self.now) - member.lastHeard
            return MemberProgress(
                id: member.id, isVoter: member.isVoter,
                match: isSelf ? durableIndex : member.match,
                next: isSelf ? log.last + 1 : member.next,
                isRecentlyActive: isSelf || silence < configuration.electionTimeout.upperBound,
                needsTables: member.mode == .tables)
        }
    }

    /// Milliseconds: everything that was committed that long ago is at or below `freshIndex`. Nil
    /// if no leader is known, and on a leader that has committed nothing of its term. A bounded
    /// read is right if `freshIndex` is applied here and this is within its bound.
    // Inlined, as what else is asked with every turn: a call would be given a copy of everything.
    @inline(__always)
    package func quorumAge(now: UInt64) -> UInt64? {
        let now = max(now, self.now)
        switch role {
        case .leader: return hasCommittedInTerm ? now - quorumConfirmedAt(now) : nil
        case .follower:
            guard leader != .none, let freshAt else { return nil }
            return leaderQuorumAge + (now - freshAt)
        case .preCandidate, .candidate: return nil
        }
    }

    /// See `quorumAge`.
    package var freshIndex: LogIndex { role == .leader ? commitIndex : leaderCommit }
}
