// How a leader's entries reach the others: proposals, pipelined appends, and the answers.
//
// New entries are sent from memory before they are appended here (the disks work side by side);
// what a member misses is read from the log by the driver. A leader counts itself only when its own
// append is durable.
import Engine

extension RaftCore {
    mutating func propose(_ entries: [Entry], _ out: inout [RaftAction]) {
        guard let first = entries.first, mayTake(entries) else {
            if !entries.isEmpty { out.append(.dropped(entries)) }
            return
        }
        let previousTerm = log.lastTerm
        var bytes = 0
        for entry in entries {
            sizes.append(entry.encoded.count)
            bytes += entry.encoded.count
        }
        for place in members.indices where members[place].id != id {
            guard
                canShip(to: place, first: first.index, count: entries.count, bytes: bytes)
            else { continue }
            let request = AppendRequest(
                term: term, previousIndex: first.index - 1, previousTerm: previousTerm,
                entries: entries, commit: commitIndex)
            send(.append(request), to: members[place].id, &out)
            markShipped(place, through: entries[entries.count - 1].index, bytes: bytes)
        }
        append(entries, &out)
        for place in members.indices where members[place].id != id { sendAppend(place, &out) }
    }

    private func mayTake(_ entries: [Entry]) -> Bool {
        guard role == .leader, transfer == nil else { return false }
        var index = log.last
        var bytes = 0
        for entry in entries {
            guard entry.index == index + 1, entry.term == term else { return false }
            if entry.header.kind == .membership, !mayChangeMembership { return false }
            index = entry.index
            bytes += entry.encoded.count
        }
        return hasUncommittedRoom(entries: entries.count, bytes: bytes)
    }

    /// While a quorum is missing, a leader's log must not grow without bound. The first entry is
    /// always taken: the term's no-op, or one value larger than the bound.
    func hasUncommittedRoom(entries: Int, bytes: Int) -> Bool {
        let uncommitted = sizes.bytes(after: commitIndex)
        if uncommitted == 0 { return true }
        let count = Int(log.last - max(commitIndex, termStart - 1))
        return uncommitted + UInt64(bytes) <= UInt64(configuration.maxUncommittedBytes)
            && count + entries <= RaftConfiguration.maxUncommittedEntries
    }

    /// Whether new entries may go to the member from memory: they are exactly what it lacks.
    private func canShip(to place: Int, first: LogIndex, count: Int, bytes: Int) -> Bool {
        let member = members[place]
        guard member.next == first, count == 1 || bytes <= configuration.maxMessageBytes else {
            return false
        }
        switch member.mode {
        case .probe: return !member.isPaused
        case .replicate: return member.hasRoom(for: bytes, configuration)
        case .tables: return false
        }
    }

    private mutating func markShipped(_ place: Int, through last: LogIndex, bytes: Int) {
        switch members[place].mode {
        case .probe, .tables: members[place].probeSent(bytes: bytes, now: now)
        case .replicate: members[place].sent(through: last, bytes: bytes, now: now)
        }
    }

    // MARK: Sending from the log

    /// Sends what the member lacks, as far as its mode and caps allow.
    mutating func sendAppend(_ place: Int, _ out: inout [RaftAction]) {
        switch members[place].mode {
        case .probe: if !members[place].isPaused { sendProbe(place, &out) }
        case .replicate: fillPipeline(place, &out)
        case .tables: break
        }
    }

    /// One append whose answer is waited for. Its extent is the driver's: as many entries as fit.
    private mutating func sendProbe(_ place: Int, _ out: inout [RaftAction]) {
        if log.term(at: members[place].next - 1) == nil {
            // Trimmed here, which says nothing about the member: it is asked how far it reaches.
            members[place].becomeProbe(next: log.last + 1)
        }
        let next = members[place].next
        guard let previousTerm = log.term(at: next - 1) else {
            return askForTables(place, &out)
        }
        if next > log.last {
            members[place].probeSent(bytes: 0, now: now)
            sendEmptyAppend(place, &out)
        } else {
            let chunk = sizes.pack(from: next, limit: configuration.maxMessageBytes)
            let bytes = chunk?.bytes ?? configuration.maxMessageBytes
            members[place].probeSent(bytes: bytes, now: now)
            sendEntries(place, previousTerm: previousTerm, last: chunk?.last ?? log.last, &out)
        }
    }

    private mutating func fillPipeline(_ place: Int, _ out: inout [RaftAction]) {
        while members[place].next <= log.last {
            let next = members[place].next
            let limit = configuration.maxMessageBytes
            guard let chunk = sizes.pack(from: next, limit: limit),
                let previousTerm = log.term(at: next - 1)
            else {
                // Sizes are forgotten that far back: go on one message at a time.
                guard members[place].inflightCount == 0 else { return }
                members[place].becomeProbe(next: next)
                return sendProbe(place, &out)
            }
            guard members[place].hasRoom(for: chunk.bytes, configuration) else { return }
            sendEntries(place, previousTerm: previousTerm, last: chunk.last, &out)
            members[place].sent(through: chunk.last, bytes: chunk.bytes, now: now)
        }
    }

    private mutating func sendEntries(
        _ place: Int, previousTerm: Term, last: LogIndex, _ out: inout [RaftAction]
    ) {
        flushHardState(&out)
        out.append(
            .sendEntries(
                to: members[place].id, term: term, from: members[place].next,
                previousTerm: previousTerm, maxBytes: configuration.maxMessageBytes, last: last,
                commit: commitIndex))
    }

    /// Asks whether everything before `next` arrived, without sending it again.
    private mutating func sendEmptyAppend(_ place: Int, _ out: inout [RaftAction]) {
        let previous = members[place].next - 1
        guard let previousTerm = log.term(at: previous) else { return }
        let request = AppendRequest(
            term: term, previousIndex: previous, previousTerm: previousTerm, entries: [],
            commit: commitIndex)
        send(.append(request), to: members[place].id, &out)
    }

    /// This log was trimmed: whoever was about to be sent what is gone is asked how far it reaches.
    mutating func findMembersWithoutLog(_ out: inout [RaftAction]) {
        for place in members.indices where members[place].id != id {
            let member = members[place]
            guard member.mode != .tables, member.next <= log.last || member.mode == .probe,
                log.term(at: member.next - 1) == nil
            else { continue }
            members[place].becomeProbe(next: log.last + 1)
            sendProbe(place, &out)
        }
    }

    /// A heartbeat was answered, so the member lives. What it did not answer may be lost.
    mutating func retryAppends(_ place: Int, _ out: inout [RaftAction]) {
        switch members[place].mode {
        case .probe:
            if members[place].isPaused {
                guard members[place].shouldRetry(now: now, configuration) else { return }
                members[place].resumeProbe()
            }
            sendProbe(place, &out)
        case .replicate:
            if members[place].inflightCount == 0 {
                fillPipeline(place, &out)
            } else if members[place].shouldRetry(now: now, configuration) {
                sendEmptyAppend(place, &out)
            }
        case .tables: break
        }
    }

    /// A connection was made: nothing sent before it will be answered any more.
    mutating func linkMade(_ member: MemberID, _ out: inout [RaftAction]) {
        guard role == .leader, member != id, let place = place(of: member) else { return }
        members[place].becomeProbe(next: placeToAsk(members[place]))
        sendProbe(place, &out)
    }

    /// Where to ask a member whose log may have changed: behind what it acknowledged. While that is
    /// nothing, at this log's end; its refusal then says how far it reaches.
    func placeToAsk(_ member: Progress) -> LogIndex {
        member.mode == .tables || member.match == .zero ? log.last + 1 : member.match + 1
    }

    // MARK: Answers

    mutating func receive(_ reply: AppendReply, from: MemberID, _ out: inout [RaftAction]) {
        guard let place = hear(from, term: reply.term, &out) else { return }
        guard reply.index <= log.last else {
            // A refusal may be of what this member sent before it lost the end of its log.
            guard reply.isAccepted else { return }
            let lie = Contradiction.acknowledges(reply.index, last: log.last)
            return out.append(.contradicted(by: from, lie))
        }
        if reply.isAccepted {
            accepted(reply, place, &out)
        } else {
            refused(reply, place, &out)
        }
    }

    private mutating func accepted(
        _ reply: AppendReply, _ place: Int, _ out: inout [RaftAction]
    ) {
        members[place].accepted(through: reply.index, now: now)
        if reply.index >= log.base { members[place].acceptedBase() }
        if members[place].mode == .tables, reply.index >= log.base {
            // The tables arrived, and the logs connect again.
            members[place].becomeProbe(next: members[place].match + 1)
        }
        let member = members[place]
        if member.mode == .probe, !member.isPaused, sizes.knows(from: member.next) {
            members[place].becomeReplicate()
        }
        commitByCounting(&out)
        sendAppend(place, &out)
        orderTransferIfReady(&out)
    }

    private mutating func refused(
        _ reply: AppendReply, _ place: Int, _ out: inout [RaftAction]
    ) {
        let member = members[place]
        let floor: LogIndex
        switch member.mode {
        case .tables: return
        case .probe:
            // Of an earlier probe.
            guard reply.index + 1 == member.next else { return }
            floor = LogIndex(1)
        case .replicate:
            guard reply.index > member.match else { return }
            floor = member.match + 1
        }
        var candidate = min(reply.hintIndex, reply.index)
        if reply.hintTerm > .zero {
            candidate = log.lastIndex(atOrBelow: candidate, termAtMost: reply.hintTerm)
        }
        let next = max(floor, min(candidate + 1, max(reply.index, LogIndex(1))))
        if log.term(at: next - 1) != nil {
            members[place].becomeProbe(next: next)
            sendProbe(place, &out)
        } else if member.mode == .replicate || reply.index != log.base {
            // The refusal may be older than the acknowledgements that let this log be trimmed.
            members[place].becomeProbe(next: log.base + 1)
            sendProbe(place, &out)
        } else if members[place].refusedBase(
            now: now, patience: configuration.electionTimeout.upperBound)
        {
            members[place].becomeProbe(next: next)
            askForTables(place, &out)
        } else {
            // So may this one, if an entry at the base was probed before. Asked again with the
            // heartbeats: who still refuses the base in a while does need tables.
            members[place].becomeProbe(next: log.base + 1)
            members[place].probeSent(bytes: 0, now: now)
        }
    }
}
