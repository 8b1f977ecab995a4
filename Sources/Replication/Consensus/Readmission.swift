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
// win the term that there is. That changes nothing anywhere: who is in this term refuses; a voter
// of a lower term without a live leader may grant it, which says as much of its term. The member
// has its vote again when all have answered in the leader's term, for the terms to come; in this
// one its vote is the leader's. While one voter is away it waits.
//
// Nor is forgotten what the leader had not heard of its acknowledgements when it answered: the
// answer comes behind them, and what counts is what the leader had committed some time after it, by
// the word of its heartbeats (`Heartbeat.quorumAge`), not what this member was told to apply.
import Engine

/// The answers so far, in one term.
struct Readmission: Sendable {
    var term = Term.zero
    var heard: [MemberID] = []
    var leaderHeardAt: UInt64?
    var nextQuestion: UInt64 = 0
}

extension RaftCore {
    mutating func seekReadmission(_ out: inout [RaftAction]) {
        guard !isVoteTrusted, votes, !isOnlyVoter, !isMute, role == .follower, leader != .none
        else { return }
        if readmission.term != term { readmission = Readmission(term: term) }
        let others = members.filter { $0.votes && $0.id != id }
        if others.allSatisfy({ readmission.heard.contains($0.id) }), hasCaughtUp {
            return readmit(&out)
        }
        guard now >= readmission.nextQuestion else { return }
        readmission.nextQuestion = now + configuration.electionTimeout.lowerBound
        ask(for: term, isPreVote: true, isTransfer: false, &out)
    }

    /// All that the leader had committed, a while after it answered, is durable here, and applied
    /// if it may change who the voters are.
    private var hasCaughtUp: Bool {
        guard let heardAt = readmission.leaderHeardAt, let freshAt else { return false }
        let knownSince = freshAt > leaderQuorumAge ? freshAt - leaderQuorumAge : 0
        return knownSince >= heardAt + configuration.electionTimeout.lowerBound && !isDamaged
            && commitIndex >= leaderCommit && durableIndex >= commitIndex
            && !pending.isBehind(commit: commitIndex)
            && log.term(at: commitIndex) == term
    }

    /// Who answers has no term above this one, or this member would be in it by now.
    mutating func noteTerm(_ reply: VoteReply, of member: MemberID) {
        guard reply.isPreVote, readmission.term == term else { return }
        if member == leader, readmission.leaderHeardAt == nil { readmission.leaderHeardAt = now }
        if !readmission.heard.contains(member) { readmission.heard.append(member) }
    }

    private mutating func readmit(_ out: inout [RaftAction]) {
        if vote == .none {
            vote = leader
            isHardStateDirty = true
        }
        isVoteTrusted = true
        flushHardState(&out)
        out.append(.readmitted)
    }
}
