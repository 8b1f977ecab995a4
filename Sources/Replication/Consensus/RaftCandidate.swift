// Elections. A member first asks whether it could win (pre-vote), which changes nothing anywhere;
// only with a quorum of such promises does it raise its term and ask in earnest. So a member that
// was cut off, or whose log is behind, never unseats a working leader by its mere return.
//
// Voters refuse while they hear a live leader, unless that leader itself ordered the campaign.
import Engine

extension RaftCore {
    mutating func tickElection(_ out: inout [RaftAction]) {
        guard now >= promiseEnd(against: id) else { return }
        if isOnlyVoter, isPromotable { return campaign(isTransfer: false, &out) }
        guard timer.isExpired(now) else { return }
        if isPromotable {
            preCampaign(&out)
        } else {
            setLeader(.none, &out)
            timer.restart(now)
        }
    }

    private mutating func preCampaign(_ out: inout [RaftAction]) {
        role = .preCandidate
        setLeader(.none, &out)
        timer.restartAfterRound(now)
        openBallot()
        ask(for: term + 1, isPreVote: true, isTransfer: false, &out)
        if Quorum.outcome(members) == .won { campaign(isTransfer: false, &out) }
    }

    /// Asks for votes in a new term, at once.
    mutating func campaign(isTransfer: Bool, _ out: inout [RaftAction]) {
        invariant(role != .leader, "a leader campaigns in its own term")
        role = .candidate
        enter(term + 1, vote: id)
        setLeader(.none, &out)
        timer.restartForVotes(now)
        openBallot()
        // Its own vote counts from here on: it is durable before anything else of this step.
        flushHardState(&out)
        ask(for: term, isPreVote: false, isTransfer: isTransfer, &out)
        if Quorum.outcome(members) == .won { becomeLeader(&out) }
    }

    private mutating func openBallot() {
        campaignedAt = now
        for place in members.indices {
            members[place].vote = members[place].id == id ? true : nil
        }
    }

    mutating func ask(
        for term: Term, isPreVote: Bool, isTransfer: Bool, _ out: inout [RaftAction]
    ) {
        let request = VoteRequest(
            term: term, isPreVote: isPreVote, lastIndex: log.last, lastTerm: log.lastTerm,
            isTransfer: isTransfer)
        for member in members where member.votes && member.id != id {
            send(.vote(request), to: member.id, &out)
        }
    }

    // MARK: As a voter

    mutating func receive(
        _ request: VoteRequest, from: MemberID, _ out: inout [RaftAction]
    ) {
        let isHeld =
            !request.isTransfer && (isLeaderLive || now < promiseEnd(against: from))
        if request.isPreVote {
            let isGranted =
                !isHeld && request.term > term && mayVote && isUpToDate(request)
                && !goesFirst(before: from, request)
            if isGranted { timer.yield(now) }
            let reply = VoteReply(
                term: isGranted ? request.term : term, isPreVote: true, isGranted: isGranted)
            return send(.voteReply(reply), to: from, &out)
        }
        // Not even its term is taken over: that would unseat the leader as surely as a vote.
        if isHeld, request.term > term { return }
        if request.term > term { becomeFollower(request.term, leader: .none, &out) }
        // A promise may be younger than the term, which a mere reply may have brought.
        let isFree = vote == from || (vote == .none && leader == .none && !isHeld)
        let isGranted = request.term == term && isFree && mayVote && isUpToDate(request)
        if isGranted {
            // It was only asking whether it could win.
            if role == .preCandidate { role = .follower }
            if vote != from {
                vote = from
                isHardStateDirty = true
            }
            timer.restart(now)
        }
        let reply = VoteReply(term: term, isPreVote: false, isGranted: isGranted)
        send(.voteReply(reply), to: from, &out)
    }

    /// A leader is at work as far as this member knows.
    private var isLeaderLive: Bool {
        if role == .leader { return true }
        return leader != .none && !isLeaderLinkBroken
            && now - heardLeaderAt < configuration.electionTimeout.lowerBound
    }

    /// Two that ask at the same moment would promise each other their votes and then split them.
    /// The one with the higher id refuses, for as long as its own question can still be answered.
    private func goesFirst(before other: MemberID, _ request: VoteRequest) -> Bool {
        role == .preCandidate && id > other
            && request.lastIndex == log.last && request.lastTerm == log.lastTerm
            && now - campaignedAt < 2 * configuration.heartbeatInterval
    }

    private var mayVote: Bool { isVoteTrusted || isOnlyVoter }

    private func isUpToDate(_ request: VoteRequest) -> Bool {
        if request.lastTerm != log.lastTerm { return request.lastTerm > log.lastTerm }
        return request.lastIndex >= log.last
    }

    // MARK: As a candidate

    mutating func receive(_ reply: VoteReply, from: MemberID, _ out: inout [RaftAction]) {
        let isPromise = reply.isPreVote && reply.isGranted
        if !isPromise, reply.term > term {
            return becomeFollower(reply.term, leader: .none, &out)
        }
        if !isVoteTrusted { return noteTerm(reply, of: from) }
        // A ballot ends with its time, whenever the next tick comes.
        guard isAnswer(reply), !timer.isExpired(now), let place = place(of: from),
            members[place].vote == nil
        else { return }
        members[place].vote = reply.isGranted
        switch Quorum.outcome(members) {
        case .open: break
        case .won:
            if role == .preCandidate {
                campaign(isTransfer: false, &out)
            } else {
                becomeLeader(&out)
            }
        case .lost:
            becomeFollower(term, leader: .none, &out)
            timer.restartAfterRound(now)
        }
    }

    /// Whether it answers what this member asks now.
    private func isAnswer(_ reply: VoteReply) -> Bool {
        switch role {
        case .candidate: !reply.isPreVote && reply.term == term
        case .preCandidate:
            // A voter behind refuses a pre-vote in its own, lower term; that counts all the same.
            reply.isPreVote && (!reply.isGranted || reply.term == term + 1)
        case .follower, .leader: false
        }
    }

    /// Whether it helps this member to lead.
    package func isHelp(_ reply: VoteReply, from voter: MemberID) -> Bool {
        reply.isGranted && isAnswer(reply) && members.contains { $0.id == voter && $0.votes }
    }

    mutating func receiveTimeoutNow(
        _ newTerm: Term, from: MemberID, _ out: inout [RaftAction]
    ) {
        let isPast = newTerm == term && (role == .leader || role == .candidate)
        guard newTerm >= term, !isPast else { return }
        guard newTerm > term || leader == .none || leader == from else {
            return out.append(.contradicted(by: from, .orders(newTerm, leader: leader)))
        }
        if newTerm > term { becomeFollower(newTerm, leader: from, &out) }
        guard isPromotable else { return }
        campaign(isTransfer: true, &out)
    }
}
