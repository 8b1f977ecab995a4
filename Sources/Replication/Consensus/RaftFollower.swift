// The follower: takes the leader's entries, and acknowledges them when they are durable here.
//
// An accepted reply names min(durable, matched): durable alone may be an old leader's suffix,
// matched alone may still be in flight to the disk. So the reply to an append with new entries
// leaves when `.appendDurable` comes, not before.
import Engine

extension RaftCore {
    mutating func receive(
        _ request: AppendRequest, from: MemberID, _ out: inout [RaftAction]
    ) {
        guard request.term >= term else {
            // Tells a leader of the past that its term is over, or it would never step down.
            let reply = AppendReply(term: term, isAccepted: false, index: request.previousIndex)
            return send(.appendReply(reply), to: from, &out)
        }
        guard request.isWellFormed else {
            let lie = Contradiction.entries(after: request.previousIndex)
            return out.append(.contradicted(by: from, lie))
        }
        guard hearLeader(from, term: request.term, &out) else { return }
        let previous = request.previousIndex
        guard previous <= commitIndex || log.term(at: previous) == request.previousTerm else {
            return refuse(request, from: from, &out)
        }
        if let lie = take(request.entries, &out) {
            return out.append(.contradicted(by: from, lie))
        }
        let end = previous + UInt64(request.entries.count)
        matchedIndex = max(matchedIndex, end)
        advanceCommit(to: min(request.commit, matchedIndex), &out)
        if end <= durableIndex { acknowledge(&out) }
    }

    /// Appends what is new of `entries`, after removing what contradicts them. If they contradict
    /// what is committed, which no leader's entries do, nothing is touched.
    /// Lost entries of unknown terms contradict them, too, unless their content tells better.
    private mutating func take(_ entries: [Entry], _ out: inout [RaftAction]) -> Contradiction? {
        log.learn(from: entries)
        let known = entries.firstIndex {
            $0.index > commitIndex && ($0.index > log.last || log.term(at: $0.index) != $0.term)
        }
        for entry in entries[..<(known ?? entries.count)] where entry.index <= commitIndex {
            if let here = log.term(at: entry.index), here != entry.term {
                return .committed(entry.index)
            }
        }
        guard let start = known else { return nil }
        // The term of `previousIndex` is not compared where all is committed.
        let before = entries[start].index - 1
        if let here = log.leastTerm(at: before), entries[start].term < here {
            return .entries(after: before)
        }
        if entries[start].index <= log.last { truncate(after: entries[start].index - 1, &out) }
        append(start == 0 ? entries : Array(entries[start...]), &out)
        return nil
    }

    private mutating func truncate(after index: LogIndex, _ out: inout [RaftAction]) {
        invariant(index >= commitIndex, "truncation after \(index) would remove committed entries")
        flushHardState(&out)
        // Until the leader's entries have taken their place, this member could help to elect one
        // that lacks what it had acknowledged: of entries that go, or behind which nothing stays,
        // since the term of the last one is a guess.
        let isEndLost = log.lastKnown(atOrBelow: index) != index
        if isVoteTrusted, isEndLost || log.isUndecided(behind: index) {
            isVoteTrusted = false
            readmission = Readmission()
            out.append(.distrusted)
        }
        log.truncate(after: index)
        unsynced.rewind(after: index)
        pending.truncated(after: index)
        durableIndex = min(durableIndex, index)
        matchedIndex = min(matchedIndex, index)
        out.append(.truncate(after: index))
    }

    /// Adds entries to the log, on a follower and on a leader.
    mutating func append(_ entries: [Entry], _ out: inout [RaftAction]) {
        guard let last = entries.last else { return }
        flushHardState(&out)
        for entry in entries {
            log.append(term: entry.term)
            if entry.header.kind == .membership { pending.appended(entry.index) }
        }
        if unsynced.isEmpty { diskMovedAt = now }
        unsynced.add(last: last.index, term: last.term)
        out.append(.append(entries))
    }

    /// Tells the leader what is durable here and equal to its log.
    mutating func acknowledge(_ out: inout [RaftAction]) {
        guard leader != .none else { return }
        let index = min(durableIndex, matchedIndex)
        send(
            .appendReply(AppendReply(term: term, isAccepted: true, index: index)), to: leader, &out)
    }

    /// The entry before the new ones is missing or of another term. The hint is the highest place
    /// that could match: the leader's entry at `previous` has `previousTerm`, so those of higher
    /// terms here are out.
    private mutating func refuse(
        _ request: AppendRequest, from: MemberID, _ out: inout [RaftAction]
    ) {
        let candidate = log.lastIndex(
            atOrBelow: request.previousIndex, termAtMost: request.previousTerm)
        let hint = max(log.lastKnown(atOrBelow: candidate), commitIndex)
        let reply = AppendReply(
            term: term, isAccepted: false, index: request.previousIndex, hintIndex: hint,
            hintTerm: log.term(at: hint) ?? .zero)
        send(.appendReply(reply), to: from, &out)
    }

    mutating func receive(
        _ heartbeat: Heartbeat, from: MemberID, _ out: inout [RaftAction]
    ) {
        let isCurrent = heartbeat.term >= term
        var isPromised = false
        if isCurrent {
            guard hearLeader(from, term: heartbeat.term, &out) else { return }
            // The leader names only what this member acknowledged to it.
            let commit = min(heartbeat.commit, log.last)
            matchedIndex = max(matchedIndex, commit)
            advanceCommit(to: commit, &out)
            noteFreshness(heartbeat)
            isPromised = promise(heartbeat, to: from)
        }
        // The driver writes its clock into it.
        let reply = HeartbeatReply(
            term: term, round: isCurrent ? heartbeat.round : 0, clock: 0, isPromised: isPromised)
        send(.heartbeatReply(reply), to: from, &out)
    }

    /// One that was overtaken says nothing: it would make old state look young. Nor does it count
    /// from its arrival: it may have been under way for long, or this process may have stood still.
    private mutating func noteFreshness(_ heartbeat: Heartbeat) {
        guard heartbeat.round > leaderRound else { return }
        leaderRound = heartbeat.round
        leaderCommit = heartbeat.commit
        leaderQuorumAge = min(heartbeat.quorumAge, RaftConfiguration.counterLimit)
        if let answered = unechoedRound {
            guard heartbeat.acked >= answered.round else { return }
            freshAt = answered.answeredAt
        }
        unechoedRound = (heartbeat.round, now)
    }

    /// The connection to `member` broke. If it was the leader's, its process is most likely gone,
    /// and the rest of the timeout is not waited for.
    mutating func linkBroke(_ member: MemberID) {
        switch role {
        case .leader:
            guard member != id, let place = place(of: member) else { return }
            if members[place].mode != .tables {
                members[place].becomeProbe(next: placeToAsk(members[place]))
            }
        case .follower:
            guard member == leader, !isLeaderLinkBroken else { return }
            isLeaderLinkBroken = true
            timer.hurry(now)
        case .preCandidate, .candidate: break
        }
    }
}

extension AppendRequest {
    /// Entries follow one another and `previousIndex`, and no term runs backwards or ahead.
    var isWellFormed: Bool {
        let limit = RaftConfiguration.counterLimit
        guard previousIndex.rawValue < limit, commit.rawValue < limit else { return false }
        var index = previousIndex
        var last = previousTerm
        for entry in entries {
            guard entry.index == index + 1, entry.term >= last, entry.term <= term else {
                return false
            }
            index = entry.index
            last = entry.term
        }
        return true
    }
}
