// The consensus machine's outbox turned into deeds, and committed entries into state.
import Engine

extension Replica {
    /// Steps the machine and performs what it asks for, in order, until it asks for nothing more.
    func step(_ input: RaftInput) {
        var actions = outbox
        outbox = []
        core.step(input, now: environment.monotonicMilliseconds, into: &actions)
        // Performing may step again (a new leader's no-op); that uses the spare outbox.
        for action in actions { perform(action) }
        actions.removeAll(keepingCapacity: true)
        outbox = actions
    }

    private func perform(_ action: RaftAction) {
        guard !hasFailed else { return }
        switch action {
        case .save(let term, let vote): save(term: term, vote: vote)
        case .send(let member, let message): send(message, to: member)
        case .sendEntries(
            let member, let term, let from, let previousTerm, let maxBytes, let last, let commit):
            ship(
                to: member, term: term, from: from, previousTerm: previousTerm,
                maxBytes: maxBytes, last: last, commit: commit)
        case .truncate(let index): truncate(after: index)
        case .append(let entries): append(entries)
        case .commit: break  // `applyCommitted` reads the machine's commit index once per turn.
        case .readReady(let context, let index): reads.confirmed(context, index: index)
        case .readRefused(let context):
            reads.refused(context, now: environment.monotonicMilliseconds)
        case .becameLeader(let term): becomeLeader(term)
        case .leaderChanged(let term, let leader): leaderChanged(term, leader: leader)
        case .leaveJoint:
            step(.propose([make(.membership, store.membership.left().encoded())]))
        case .dropped(let entries): dropped(entries)
        case .needsTables(let member):
            environment.note(.memberPastRetention(member, first: log.first))
        case .distrusted: distrustVote()
        case .readmitted: restoreVote()
        case .contradicted(let member, let what): noteContradiction(what, by: member)
        }
    }

    private func save(term: Term, vote: MemberID) {
        do throws(EngineError) {
            try hardState.saveVote(term: term, vote: vote)
        } catch {
            fail("term and vote cannot be saved: \(error)")
        }
    }

    private func send(_ message: RaftMessage, to member: MemberID) {
        var message = message
        switch message {
        case .heartbeat(var heartbeat):
            heartbeat.clock = leaderClock()
            clockCheck.sent(
                round: heartbeat.round, to: member, now: environment.monotonicMilliseconds)
            message = .heartbeat(heartbeat)
        case .heartbeatReply(var reply):
            reply.clock = environment.wallMilliseconds
            message = .heartbeatReply(reply)
        case .voteReply(var reply):
            reply.clock = leaderClockHeard
            message = .voteReply(reply)
        default: break
        }
        environment.send(.raft(group: options.group, message), to: member)
    }

    private func distrustVote() {
        do throws(EngineError) { try hardState.distrustVote() } catch {
            return fail("the loss of the vote cannot be saved: \(error)")
        }
        environment.note(
            .warning(
                "the leader's entries take the place of lost ones that may have been others: "
                    + "until it has caught up this node does not vote"))
    }

    private func restoreVote() {
        do throws(EngineError) { try hardState.restoreVoteTrust() } catch {
            return fail("the vote cannot be restored: \(error)")
        }
        environment.note(
            .warning("this node has caught up and heard of all others: it votes again"))
    }

    private func ship(
        to member: MemberID, term: Term, from: LogIndex, previousTerm: Term, maxBytes: Int,
        last: LogIndex, commit: LogIndex
    ) {
        guard let entries = entries(from: from, through: last, maxBytes: maxBytes) else { return }
        send(
            .append(
                AppendRequest(
                    term: term, previousIndex: from - 1, previousTerm: previousTerm,
                    entries: entries, commit: commit)),
            to: member)
    }

    /// Entries from memory, else from the log; nil if they are gone or damaged here.
    private func entries(from: LogIndex, through last: LogIndex, maxBytes: Int) -> [Entry]? {
        if let cached = cache.slice(from: from, through: last, maxBytes: maxBytes) { return cached }
        // Above a cut that the log writer has not performed yet stand entries that are no more.
        let end = min(last, openTruncations.min() ?? last)
        do throws(EngineError) {
            let stored = try log.entries(from: from, maxBytes: maxBytes)
            let wanted = stored.prefix { $0.index <= end }
            return wanted.isEmpty ? nil : Array(wanted)
        } catch {
            switch error {
            case .logTrimmed(let first): step(.trimmed(first: first))
            case .logHole: noteHole()
            default: environment.note(.warning("log entries from \(from): \(error)"))
            }
            return nil
        }
    }

    /// The machine did not take entries that were made for it: leadership ended in between, or
    /// there was no room.
    private func dropped(_ entries: [Entry]) {
        guard let first = entries.first else { return }
        openProposals.withdraw(after: first.index - 1)
        // The director believes that they are on their way: it begins anew, with repeated reports.
        if core.role == .leader, entries.contains(where: { $0.header.kind != .write }) {
            director.reset(now: environment.monotonicMilliseconds)
        }
    }

    private func truncate(after index: LogIndex) {
        invariant(index >= store.applied, "an applied entry would be truncated")
        cache.truncate(after: index)
        openTruncations.append(index)
        logWriter.truncate(after: index)
        durable = min(durable, index)
        store.noteDurable(durable)
        resetTail(to: index)
        openProposals.displace(
            after: index,
            deadline: environment.monotonicMilliseconds
                + ReplicaOptions.unknownAfterMilliseconds)
    }

    /// The tail after a truncation: from the cache, else from the log.
    private func resetTail(to index: LogIndex) {
        if let entry = cache[index] {
            tail = LogPoint(after: entry)
            return
        }
        do throws(EngineError) {
            guard index > LogIndex.zero, index > store.flushedPosition.index,
                let entry = try log.entries(from: index, maxBytes: 1).first
            else {
                tail = store.flushedTail
                return
            }
            tail = LogPoint(after: entry)
        } catch {
            guard case .logHole = error else {
                return fail("the entry before a truncation cannot be read: \(error)")
            }
            tail = lostTail(at: index)
        }
    }

    /// The tail behind an entry that is lost here: as at a start, its sequences stay unknown until
    /// a peer has supplied it, and this member does not lead until then.
    private func lostTail(at index: LogIndex) -> LogPoint {
        let hole = log.holes.first { $0.upper == index }
        return LogPoint(
            position: Position(
                term: core.log.term(at: index) ?? .zero, index: index,
                checksum: hole?.checksum ?? .zero),
            nextSequence: store.flushedTail.nextSequence, clock: store.flushedTail.clock)
    }

    /// Takes entries into the log. They come from a leader (this one, or by message) and must
    /// continue the hash chain: equal index and term with another content is never accepted.
    private func append(_ entries: [Entry]) {
        for entry in entries {
            // The checksum of a lost tail is unknown until a peer supplied the entry.
            let isKnown = tail.position.checksum != .zero
            guard !isKnown || entry.header.previous == tail.position.checksum else {
                environment.note(.logDiverged(index: entry.index))
                return fail("entry \(entry.index) does not continue this log's hash chain")
            }
            tail = LogPoint(after: entry)
            cache.append(entry)
        }
        logWriter.append(entries)
    }

    /// Applies what is committed, as far as the store has room.
    func applyCommitted() {
        guard !hasFailed else { return }
        let commit = core.commitIndex
        while store.applied < commit, store.canApply {
            let from = store.applied + 1
            guard let batch = entries(from: from, through: commit, maxBytes: 4 << 20) else {
                return
            }
            for entry in batch {
                guard store.canApply else { break }
                let frozen = store.frozenCount
                store.apply(entry)
                if store.frozenCount != frozen { hasJobNews = true }
                applied(entry)
            }
        }
        if core.pending.applied < store.applied { step(.applied(store.applied)) }
        // What waits to be applied is read from the log again, should it be too much for the cache.
        cache.shrink(through: durable)
        reads.applied(store.applied, clock: store.clock)
    }

    private func applied(_ entry: Entry) {
        openProposals.applied(entry.position)
        if entry.header.kind != .write { hasJobNews = true }
        if entry.header.kind == .membership {
            step(.membership(RaftMembers(store.membership)))
        }
        if entry.header.kind == .compact { director.compactApplied() }
    }

    private func becomeLeader(_ term: Term) {
        hasJobNews = true
        environment.note(.becameLeader(term))
        // With a lease the last leader may have answered by a clock that nobody heard of.
        leaderClockHeard += options.leaseMilliseconds
        tail.clock = max(tail.clock, leaderClockHeard)
        director.reset(now: environment.monotonicMilliseconds)
        clockCheck.reset()
        hasAgreedClock = false
        judgedClock = nil
        // Nobody counts as long gone before this leader has waited for them.
        let now = environment.monotonicMilliseconds
        reports.removeAll()
        for voter in voters { reports[voter] = MemberState(lastSeen: now) }
        var founding = [make(.noop, [])]
        if core.lastIndex == .zero {
            founding += foundingEntries(after: founding[0])
        }
        step(.propose(founding))
    }

    /// The log's first entries: who the members are, and the settings if they differ from what
    /// holds without an entry. The rotation makes them act from the next entry on.
    private func foundingEntries(after noop: Entry) -> [Entry] {
        var builder = EntryBuilder(tail: LogPoint(after: noop), replica: self)
        var entries = [builder.make(.membership, options.seedMembers.encoded())]
        if options.seedSettings != LoggedSettings() {
            entries.append(builder.make(.settings, options.seedSettings.encoded()))
            entries.append(builder.make(.rotate, []))
        }
        return entries
    }

    private func leaderChanged(_ term: Term, leader: MemberID) {
        hasJobNews = true
        environment.note(.leaderIs(leader, term))
        if leader != options.node {
            director.reset(now: environment.monotonicMilliseconds)
            openProposals.leadershipLost(
                deadline: environment.monotonicMilliseconds
                    + ReplicaOptions.unknownAfterMilliseconds)
            refuseWaitingProposals("leadership moved to member \(leader)")
        }
        lastReport = SentReport()
        reads.leaderChanged()
        if leader != .none {
            // The old leader, if it lives, has answered what it could by then.
            forwards.hasten(
                exceptOf: leader,
                deadline: environment.monotonicMilliseconds
                    + ReplicaOptions.lateAnswerMilliseconds)
        }
    }

    /// One entry behind the tail, in the current term.
    func make(_ kind: EntryKind, _ payload: [UInt8]) -> Entry {
        var builder = EntryBuilder(tail: tail, replica: self)
        return builder.make(kind, payload)
    }
}

/// Makes consecutive entries behind a tail.
struct EntryBuilder {
    private(set) var tail: LogPoint
    private let group: UInt32
    private let term: Term
    private let commit: LogIndex
    private let clock: ClockMilliseconds

    init(tail: LogPoint, replica: Replica) {
        self.tail = tail
        group = replica.options.group
        term = replica.core.term
        commit = replica.core.commitIndex
        clock = replica.leaderClock()
    }

    mutating func make(_ kind: EntryKind, _ payload: [UInt8]) -> Entry {
        let entry = Entry(
            kind: kind, payload: payload, previous: tail.position.checksum, group: group,
            term: term, index: tail.position.index + 1, firstSequence: tail.nextSequence,
            clock: max(clock, tail.clock), commit: commit)
        tail = LogPoint(after: entry)
        return entry
    }
}
