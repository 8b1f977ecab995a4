// One member's consensus machine: Raft with pre-vote, check-quorum, leadership transfer, learners,
// pipelined appends and ReadIndex. Pure: inputs and a clock value go in, actions come out; it owns
// no socket, file, thread or timer, and its only randomness is a seeded generator. The same inputs
// give the same actions, in the simulation as in a node.
//
// Contract with the driver: the actions of one step are performed in order, `.save` durably before
// any later one. `.append` may be durable later, and is answered by `.appendDurable`. A driver that
// cannot perform an action stops the member: the machine has already moved on.
//
// What must hold: a vote and a term are durable before anybody hears of them · an acknowledgement
// covers only what is durable here and equal to the leader's log · only entries of the leader's own
// term commit by counting · what is committed is never truncated, and `commitIndex` never falls.
//
// The roles are in RaftFollower, RaftCandidate, RaftLeader (with LeaderReplication, ReadIndex and
// Transfer); this file holds the state, the dispatch and what all roles share.
import Engine

package enum RaftRole: Sendable { case follower, preCandidate, candidate, leader }

package struct RaftCore: Sendable {
    package let configuration: RaftConfiguration
    var id: MemberID { configuration.id }

    // Durable by `.save`.
    package internal(set) var term: Term
    package internal(set) var vote: MemberID
    var isHardStateDirty = false
    /// False after the hard state was lost: a vote given earlier could be given again.
    package internal(set) var isVoteTrusted: Bool
    package internal(set) var isDamaged = false

    package internal(set) var role = RaftRole.follower
    package internal(set) var leader = MemberID.none
    var announced = (term: Term.zero, leader: MemberID.none)

    package internal(set) var log: RaftLog
    package internal(set) var commitIndex: LogIndex
    /// Everything through it is durable here.
    package internal(set) var durableIndex: LogIndex
    var unsynced = UnsyncedAppends()

    /// Voters and learners by id, this member among them. Progress in it counts on a leader only.
    package internal(set) var members: [Progress]
    var leavesByItself: Bool
    var pending: PendingMembership

    var now: UInt64 = 0
    var isStarted = false
    var startedAt: UInt64 = 0
    var timer: ElectionTimer

    // As a follower.
    /// Through here this log equals the log of this term's leader.
    var matchedIndex: LogIndex
    var heardLeaderAt: UInt64 = 0
    var isLeaderLinkBroken = false
    /// The leader's word on how old its last quorum contact was. It was given after `freshAt`; nil:
    /// nobody knows when.
    var freshAt: UInt64?
    var leaderQuorumAge: UInt64 = 0
    /// A round that was answered then, of which the leader is not known to have the answer.
    var unechoedRound: (round: UInt64, answeredAt: UInt64)?
    var leaderCommit = LogIndex.zero
    var leaderRound: UInt64 = 0

    // As a candidate or leader.
    var campaignedAt: UInt64 = 0
    var termStart = LogIndex.zero
    var sizes = EntrySizes(after: .zero)
    var round: UInt64 = 0
    var nextHeartbeat: UInt64 = 0
    var reads = ReadIndex()
    var transfer: (target: MemberID, deadline: UInt64)?
    /// Somebody was ordered to campaign in this term: see Lease.
    var hasOrderedCampaign = false
    /// Between attempts to hand over to the preferred leader, and by the orders of others.
    var preferencePause = HandoverPause()
    var orderPause = HandoverPause()

    var promised = LeasePromise()
    /// While the vote is not trusted.
    var readmission = Readmission()
    /// When an append became durable, or the first of those that wait was begun.
    var diskMovedAt: UInt64 = 0

    /// `log`, `term` and `vote` as they are durable; `commit` and `applied` as far as is known.
    package init(
        _ configuration: RaftConfiguration, term: Term, vote: MemberID, isVoteTrusted: Bool,
        log: RaftLog, commit: LogIndex, applied: LogIndex
    ) {
        self.configuration = configuration
        let isBehind = term < log.lastTerm
        self.term = isBehind ? log.lastTerm : term
        self.vote = isBehind ? .none : vote
        isHardStateDirty = isBehind
        // Entries are appended only after their term is durable, so a state older than they are was
        // rolled back. (A base alone proves nothing: tables bring one.)
        self.isVoteTrusted = isVoteTrusted && term >= (log.runs.last?.term ?? .zero)
        self.log = log
        commitIndex = max(log.base, min(max(commit, applied), log.last))
        durableIndex = log.last
        matchedIndex = commitIndex
        members = configuration.members.progress
        leavesByItself = configuration.members.leavesByItself
        pending = PendingMembership(applied: max(log.base, applied), last: log.last)
        timer = ElectionTimer(
            range: configuration.electionTimeout,
            heartbeatInterval: configuration.heartbeatInterval,
            seed: configuration.seed ^ (configuration.id.rawValue &* 0xff51_afd7_ed55_8ccd))
    }

    /// Takes one input at `now` (monotonic milliseconds) and appends what is to be done to `out`.
    package mutating func step(_ input: RaftInput, now: UInt64, into out: inout [RaftAction]) {
        self.now = max(self.now, now)
        if !isStarted {
            isStarted = true
            startedAt = now
            timer.restart(now)
        }
        // Before anything that may have waited while this member was stopped.
        if role == .leader, !hasRecentQuorum { becomeFollower(term, leader: .none, &out) }
        switch input {
        case .tick: tick(&out)
        case .message(let from, let message): receive(message, from: from, &out)
        case .propose(let entries): propose(entries, &out)
        case .appendDurable(let index, let term): appendDurable(index, term, &out)
        case .read(let context): read(context, &out)
        case .transfer(let target): orderTransfer(to: target, &out)
        case .unreachable(let member): linkBroke(member)
        case .reachable(let member): linkMade(member, &out)
        case .membership(let members): setMembers(members, &out)
        case .tablesFailed(let member): tablesFailed(member, &out)
        case .installedTables(let base, let term, let members):
            installedTables(base, term, members, &out)
        case .applied(let index): appliedThrough(index, &out)
        case .trimmed(let first): trim(before: first, &out)
        case .setDamaged(let isDamaged): setDamaged(isDamaged, &out)
        case .mended(let index, let term, let previous, let commit):
            log.place(term: term, at: index, previous: previous)
            // All of it is of the chain that this entry ends, as when a log is opened.
            if index <= log.last { advanceCommit(to: min(commit, index), &out) }
        }
        flushHardState(&out)
    }

    /// Of what it promised before its hard state was lost this member knows nothing: it may have
    /// helped to elect a leader of a later term than the one that now speaks to it. Until a leader
    /// who heard of it only before its start must have stepped down, it answers nobody.
    var isMute: Bool {
        !isVoteTrusted && now < startedAt + configuration.electionTimeout.upperBound
    }

    private mutating func tick(_ out: inout [RaftAction]) {
        switch role {
        case .leader: tickLeader(&out)
        case .follower, .preCandidate, .candidate:
            tickElection(&out)
            seekReadmission(&out)
        }
    }

    private mutating func receive(
        _ message: RaftMessage, from: MemberID, _ out: inout [RaftAction]
    ) {
        guard from != id, from != .none else { return }
        let highest = min(
            RaftConfiguration.counterLimit - 1, term.rawValue + RaftConfiguration.termJumpMax)
        guard message.term.rawValue <= highest else {
            return out.append(.contradicted(by: from, .jumps(to: message.term)))
        }
        if isMute { return }
        switch message {
        case .vote(let request): receive(request, from: from, &out)
        case .voteReply(let reply): receive(reply, from: from, &out)
        case .append(let request): receive(request, from: from, &out)
        case .heartbeat(let heartbeat): receive(heartbeat, from: from, &out)
        case .appendReply(let reply): receive(reply, from: from, &out)
        case .heartbeatReply(let reply): receive(reply, from: from, &out)
        case .timeoutNow(let term): receiveTimeoutNow(term, from: from, &out)
        case .transfer(let term, let target): receiveTransfer(to: target, in: term, &out)
        }
    }

    // MARK: Shared by the roles

    /// Sends, after what the message promises is durable.
    mutating func send(
        _ message: RaftMessage, to member: MemberID, _ out: inout [RaftAction]
    ) {
        flushHardState(&out)
        out.append(.send(to: member, message))
    }

    mutating func flushHardState(_ out: inout [RaftAction]) {
        guard isHardStateDirty else { return }
        isHardStateDirty = false
        out.append(.save(term: term, vote: vote))
    }

    /// A new term: what was learnt from the last one's leader is void.
    mutating func enter(_ newTerm: Term, vote newVote: MemberID) {
        invariant(newTerm > term, "term \(newTerm) entered from term \(term)")
        term = newTerm
        vote = newVote
        isHardStateDirty = true
        matchedIndex = commitIndex
        leaderRound = 0
        freshAt = nil
        unechoedRound = nil
    }

    /// Enters `newTerm` (or stays) as a follower of `newLeader`, who may be unknown.
    mutating func becomeFollower(
        _ newTerm: Term, leader newLeader: MemberID, _ out: inout [RaftAction]
    ) {
        let wasLeader = role == .leader
        if newTerm > term { enter(newTerm, vote: .none) }
        if wasLeader {
            transfer = nil
            for context in reads.removeAll() { out.append(.readRefused(context: context)) }
        }
        role = .follower
        setLeader(newLeader, &out)
        timer.restart(now)
    }

    mutating func setLeader(_ newLeader: MemberID, _ out: inout [RaftAction]) {
        if leader != newLeader {
            leader = newLeader
            isLeaderLinkBroken = false
        }
        guard announced.leader != leader || (leader != .none && announced.term != term) else {
            return
        }
        announced = (term, leader)
        out.append(.leaderChanged(term, leader: leader))
    }

    /// Another member leads in a term at or above this one's. False if the message is void.
    mutating func hearLeader(
        _ leader: MemberID, term newTerm: Term, _ out: inout [RaftAction]
    ) -> Bool {
        if newTerm > term || role == .preCandidate || role == .candidate || self.leader == .none {
            becomeFollower(newTerm, leader: leader, &out)
        }
        // Two leaders of one term cannot be; whatever this is, it is not followed.
        guard role == .follower, self.leader == leader else {
            out.append(.contradicted(by: leader, .leads(newTerm, leader: self.leader)))
            return false
        }
        heardLeaderAt = now
        isLeaderLinkBroken = false
        timer.heardLeader(now)
        return true
    }

    mutating func advanceCommit(to index: LogIndex, _ out: inout [RaftAction]) {
        guard index > commitIndex else { return }
        invariant(index <= log.last, "commit \(index) is beyond the log's end \(log.last)")
        commitIndex = index
        out.append(.commit(index))
    }

    private mutating func appendDurable(
        _ index: LogIndex, _ term: Term, _ out: inout [RaftAction]
    ) {
        guard let through = unsynced.reported(index: index, term: term) else { return }
        diskMovedAt = now
        guard through > durableIndex else { return }
        let acknowledged = min(durableIndex, matchedIndex)
        durableIndex = through
        switch role {
        case .leader: ownAppendDurable(&out)
        case .follower:
            if min(durableIndex, matchedIndex) > acknowledged { acknowledge(&out) }
        case .preCandidate, .candidate: break
        }
    }

    private mutating func trim(before first: LogIndex, _ out: inout [RaftAction]) {
        log.trim(before: min(first, commitIndex + 1))
        if role == .leader { findMembersWithoutLog(&out) }
    }

    private mutating func setDamaged(_ isDamaged: Bool, _ out: inout [RaftAction]) {
        self.isDamaged = isDamaged
        if isDamaged, role != .follower { becomeFollower(term, leader: .none, &out) }
    }

    func place(of member: MemberID) -> Int? { members.firstIndex { $0.id == member } }

    var isOnlyVoter: Bool { votes && !members.contains { $0.votes && $0.id != id } }
    package var votes: Bool { members.contains { $0.id == id && $0.votes } }

    /// May ask for votes, by a membership that is at most one change behind. Without a trusted vote
    /// only a cluster of one may: nobody else votes there.
    var isPromotable: Bool {
        votes && !isDamaged && (isVoteTrusted || isOnlyVoter)
            && !pending.isBehind(commit: commitIndex) && (!isDiskStuck || isOnlyVoter)
    }
}

extension RaftMessage {
    /// The term that the message speaks of; a pre-vote's is not entered by anybody.
    package var term: Term {
        switch self {
        case .vote(let request): request.term
        case .voteReply(let reply): reply.term
        case .append(let request): request.term
        case .appendReply(let reply): reply.term
        case .heartbeat(let heartbeat): heartbeat.term
        case .heartbeatReply(let reply): reply.term
        case .timeoutNow(let term), .transfer(let term, _): term
        }
    }
}
