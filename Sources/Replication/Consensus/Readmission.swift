// How a member that lost what it had voted, or acknowledged, gets its vote back: without anybody's
// order.
//
// It must not vote twice in one term. Whoever it had voted for has saved the term before it asked;
// so once every other voter has told its term after this member's start, no vote that was forgotten
// is of a later term than the highest of those. It must not help to elect a member that lacks what
// it had acknowledged. Nobody was elected by its help since; so once an entry of the current leader
// is committed and it has everything up to there durably, it has all that can count.
//
// So a follower without a vote asks all voters for their terms, with the question whether it could
// win the term that there is: it changes nothing anywhere and is always refused. It has its vote
// again when all have answered in the leader's term, for the terms to come; in this one its vote is
// the leader's. While one voter is away it waits.
import Engine

/// The answers so far, in one term.
struct Readmission: Sendable {
    var term = Term.zero
    var heard: [MemberID] = []
    var nextQuestion: UInt64 = 0
}

extension RaftCore {
    /// What it acknowledged before its state was lost is here again.
    private var hasCaughtUp: Bool {
        role == .follower && leader != .none && !isDamaged && durableIndex >= commitIndex
            && log.term(at: commitIndex) == term
    }

    mutating func seekReadmission(_ out: inout [RaftAction]) {
        guard !isVoteTrusted, votes, !isOnlyVoter, !isMute, hasCaughtUp else { return }
        if readmission.term != term { readmission = Readmission(term: term) }
        guard now >= readmission.nextQuestion else { return }
        readmission.nextQuestion = now + configuration.electionTimeout.lowerBound
        ask(for: term, isPreVote: true, isTransfer: false, &out)
    }

    /// Who answers has no term above this one, or this member would be in it by now.
    mutating func noteTerm(_ reply: VoteReply, of member: MemberID, _ out: inout [RaftAction]) {
        guard reply.isPreVote, readmission.term == term, !readmission.heard.contains(member) else {
            return
        }
        readmission.heard.append(member)
        let others = members.filter { $0.votes && $0.id != id }
        guard hasCaughtUp, others.allSatisfy({ readmission.heard.contains($0.id) }) else { return }
        if vote == .none {
            vote = leader
            isHardStateDirty = true
        }
        isVoteTrusted = true
        flushHardState(&out)
        out.append(.readmitted)
    }
}
