// Who takes part, as consensus sees it. In a joint membership a majority is one of the new voters
// *and* one of the old.
//
// A membership acts when it is applied, so members count by different ones for a while. That is
// safe because two that follow one another share a member in any two of their majorities, and
// because nobody is two behind: a leader proposes a change only after it applied the one before,
// and nobody campaigns while a committed change waits to be applied here.
import Engine

package struct RaftMembers: Sendable, Hashable {
    package var voters: [MemberID]
    /// The old voters of a joint membership; else empty.
    package var oldVoters: [MemberID]
    package var learners: [MemberID]
    /// The leader ends the joint membership by itself.
    package var leavesByItself: Bool

    package init(
        voters: [MemberID], oldVoters: [MemberID] = [], learners: [MemberID] = [],
        leavesByItself: Bool = false
    ) {
        self.voters = voters
        self.oldVoters = oldVoters
        self.learners = learners
        self.leavesByItself = leavesByItself
    }

    package init(_ membership: Membership) {
        self.init(
            voters: membership.members.filter(\.isVoter).map(\.id),
            oldVoters: membership.members.filter(\.wasVoter).map(\.id),
            learners: membership.learners, leavesByItself: membership.leave == .automatic)
    }

    /// Everybody by id, as a term or a life begins.
    var progress: [Progress] {
        Set(voters + oldVoters + learners).sorted().map { id in
            var member = Progress(id: id, isVoter: voters.contains(id))
            member.wasVoter = oldVoters.contains(id)
            return member
        }
    }
}

/// Entries of kind `membership` that are not applied here yet.
struct PendingMembership: Sendable {
    /// The kinds of the entries that the log held at the start are not known: through here each is
    /// taken for a change.
    private let unknownThrough: LogIndex
    private(set) var applied: LogIndex
    private var indexes: [LogIndex] = []
    /// No change is proposed before everything through it is applied: the last one proposed, or
    /// what was in the log when the term began.
    var barrier = LogIndex.zero

    init(applied: LogIndex, last: LogIndex) {
        self.applied = applied
        unknownThrough = last
    }

    mutating func appended(_ index: LogIndex) {
        indexes.append(index)
        barrier = index
    }

    mutating func truncated(after index: LogIndex) { indexes.removeAll { $0 > index } }

    mutating func noteApplied(_ index: LogIndex) {
        applied = max(applied, index)
        indexes.removeAll { $0 <= applied }
    }

    /// Whether a committed entry that may be a change is not applied.
    func isBehind(commit: LogIndex) -> Bool {
        applied < min(commit, unknownThrough) || (indexes.first.map { $0 <= commit } ?? false)
    }
}

extension RaftCore {
    /// Whether a membership entry would be taken: the one before is applied, and an entry of this
    /// term is committed, so that no leader of an earlier term can still bring another change to
    /// life. The founding entries of an empty log need not wait.
    package var mayChangeMembership: Bool {
        role == .leader && transfer == nil && pending.applied >= pending.barrier
            && (hasCommittedInTerm || termStart == LogIndex(1))
    }

    /// Both majorities count.
    package var isJoint: Bool { members.contains(where: \.wasVoter) }

    mutating func appliedThrough(_ index: LogIndex, _ out: inout [RaftAction]) {
        pending.noteApplied(index)
        leaveJointIfReady(&out)
    }

    /// Asks for the entry that ends a joint membership. Asked again with each tick until it is in
    /// the log: a proposal may find no room.
    mutating func leaveJointIfReady(_ out: inout [RaftAction]) {
        guard isJoint, leavesByItself, mayChangeMembership else { return }
        out.append(.leaveJoint)
    }

    mutating func setMembers(_ new: RaftMembers, _ out: inout [RaftAction]) {
        // Whoever is new has answered nothing yet: it makes the quorum neither older nor younger.
        let confirmedAt = quorumConfirmedAt(now)
        var fresh = new.progress
        for place in fresh.indices {
            if var known = members.first(where: { $0.id == fresh[place].id }) {
                known.isVoter = fresh[place].isVoter
                known.wasVoter = fresh[place].wasVoter
                fresh[place] = known
            } else {
                fresh[place].reset(next: log.last + 1, now: now, confirmedAt: confirmedAt)
            }
        }
        members = fresh
        leavesByItself = new.leavesByItself
        if role == .leader {
            membersChangedOnLeader(&out)
        } else if role != .follower, !isPromotable {
            becomeFollower(term, leader: .none, &out)
        }
    }

    private mutating func membersChangedOnLeader(_ out: inout [RaftAction]) {
        if let transfer, place(of: transfer.target).map({ members[$0].isVoter }) != true {
            self.transfer = nil
        }
        if votes { commitByCounting(&out) }
        // The others hear of the commit that this follows from.
        broadcastHeartbeat(&out)
        guard !votes else { return }
        // Its removal is committed, or it would not be applied: its work is done.
        orderSuccessor(&out)
        becomeFollower(term, leader: .none, &out)
    }
}
