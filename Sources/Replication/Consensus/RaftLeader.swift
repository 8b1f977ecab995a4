// The leader: its beginning, its clock, and what makes it step down. Appends are in
// LeaderReplication, reads in ReadIndex, handing over in Transfer.
import Engine

extension RaftCore {
    mutating func becomeLeader(_ out: inout [RaftAction]) {
        role = .leader
        termStart = log.last + 1
        pending.barrier = log.last
        sizes = EntrySizes(after: log.last)
        reads = ReadIndex()
        transfer = nil
        hasOrderedCampaign = false
        preferencePause.until = now + configuration.electionTimeout.upperBound
        orderPause = HandoverPause()
        // A quorum spoke to this member since it asked for votes.
        for place in members.indices {
            members[place].reset(next: termStart, now: now, confirmedAt: campaignedAt)
        }
        setLeader(id, &out)
        out.append(.becameLeader(term))
        broadcastHeartbeat(&out)
    }

    mutating func tickLeader(_ out: inout [RaftAction]) {
        if let transfer, now >= transfer.deadline { self.transfer = nil }
        if now >= nextHeartbeat { broadcastHeartbeat(&out) }
        leaveJointIfReady(&out)
        handOverIfPreferred(&out)
        abdicateIfStuck(&out)
    }

    /// Check-quorum: a leader that a majority no longer answers is one no longer. When an answer
    /// arrives says nothing: it may have been under way for long, or have waited here.
    var hasRecentQuorum: Bool {
        now - quorumConfirmedAt(now) < configuration.electionTimeout.upperBound
    }

    /// When the latest heartbeat left that a quorum acknowledged.
    @inline(__always)
    func quorumConfirmedAt(_ now: UInt64) -> UInt64 {
        Quorum.reached(members) { $0.id == id ? now : $0.confirmedAt }
    }

    /// A new round to everybody. Every round carries a number, so that reads may join any, and a
    /// lost one is made good by the next.
    mutating func broadcastHeartbeat(_ out: inout [RaftAction]) {
        nextHeartbeat = now + configuration.heartbeatInterval
        round += 1
        if hasCommittedInTerm { reads.join(round: round, index: commitIndex) }
        // What leaders before committed precedes this term, at whatever index.
        let goal = max(commitIndex, termStart)
        for place in members.indices where members[place].id != id {
            members[place].heartbeatSent(round: round, commit: goal, now: now)
            // The driver writes its clock into it.
            let heartbeat = Heartbeat(
                term: term, commit: min(commitIndex, members[place].match), round: round, clock: 0,
                quorumAge: quorumAge(for: members[place]), acked: members[place].ackedRound,
                lease: askedLease)
            send(.heartbeat(heartbeat), to: members[place].id, &out)
        }
        confirmReads(&out)
    }

    /// How old the commit index is that a heartbeat tells the member.
    private func quorumAge(for member: Progress) -> UInt64 {
        guard hasCommittedInTerm, let caughtUpAt = member.caughtUpAt else {
            return RaftConfiguration.counterLimit
        }
        return now - min(quorumConfirmedAt(now), caughtUpAt)
    }

    mutating func receive(
        _ reply: HeartbeatReply, from: MemberID, _ out: inout [RaftAction]
    ) {
        guard let place = hear(from, term: reply.term, &out) else { return }
        guard reply.round <= round else {
            let lie = Contradiction.answers(round: reply.round, latest: round)
            return out.append(.contradicted(by: from, lie))
        }
        members[place].heartbeatAcked(round: reply.round, isPromised: reply.isPromised)
        confirmReads(&out)
        guard role == .leader else { return }
        retryAppends(place, &out)
    }

    /// A reply came. Its member's place, if it concerns this leadership.
    mutating func hear(
        _ from: MemberID, term replyTerm: Term, _ out: inout [RaftAction]
    ) -> Int? {
        if replyTerm > term {
            becomeFollower(replyTerm, leader: .none, &out)
            return nil
        }
        guard role == .leader, replyTerm == term, let place = place(of: from) else { return nil }
        members[place].lastHeard = now
        return place
    }

    /// Only entries of the own term commit by counting: an older one on a majority may still be
    /// overwritten by a leader that never saw it (Figure 8 of the Raft paper).
    mutating func commitByCounting(_ out: inout [RaftAction]) {
        let index = LogIndex(
            Quorum.reached(members) { ($0.id == id ? durableIndex : $0.match).rawValue })
        guard index > commitIndex, log.term(at: index) == term else { return }
        let isFirst = !hasCommittedInTerm
        advanceCommit(to: index, &out)
        sizes.forget(through: index, keeping: RaftConfiguration.maxUncommittedEntries)
        if isFirst { startReadRound(&out) }
    }

    var hasCommittedInTerm: Bool { commitIndex >= termStart }

    mutating func ownAppendDurable(_ out: inout [RaftAction]) { commitByCounting(&out) }
}
