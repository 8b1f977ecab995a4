// The smallest driver of a consensus machine that keeps its contract, and traps where the machine
// breaks its own: a term falls, a vote is given twice, something is said before it is durable, what
// is committed is removed, the log gets a gap.

import Engine
import Replication

struct MachineDriver {
    private struct Stored {
        var entry: Entry
        var append: Int
        var isDurable: Bool
    }

    private(set) var core: RaftCore
    private let configuration: RaftConfiguration
    private var now: UInt64 = 1
    private var saved: (term: Term, vote: MemberID) = (.zero, .none)

    private var base = LogIndex.zero
    private var baseTerm: Term? = .zero
    private var stored: [Stored] = []
    private var pending: [(append: Int, index: LogIndex, term: Term)] = []
    private var appends = 0
    private var committed = LogIndex.zero
    private var applied = LogIndex.zero

    /// The first of three voters; `variant` chooses among settings.
    init(_ variant: UInt8) {
        var configuration = RaftConfiguration(
            id: MemberID(1), members: RaftMembers(voters: (1...3).map { MemberID($0) }), seed: 7)
        configuration.maxInflightMessages = 4
        configuration.maxMessageBytes = 300
        configuration.maxUncommittedBytes = 4_000
        if variant & 1 == 1 { configuration.leaseMilliseconds = 150 }
        if variant & 2 == 2 { configuration.preferredLeader = MemberID(2) }
        if variant & 4 == 4 { configuration.members = RaftMembers(voters: [MemberID(1)]) }
        self.configuration = configuration
        core = RaftCore(
            configuration, term: .zero, vote: .none, isVoteTrusted: variant & 8 == 0,
            log: RaftLog(), commit: .zero, applied: .zero)
    }

    private var last: LogIndex { base + UInt64(stored.count) }

    private var durable: LogIndex {
        base + UInt64(stored.firstIndex { !$0.isDurable } ?? stored.count)
    }

    func term(at index: LogIndex) -> Term? {
        if index == base { return baseTerm }
        guard index > base, index <= last else { return nil }
        return stored[Int(index - base) - 1].entry.term
    }

    // MARK: Inputs

    mutating func input(_ input: RaftInput) {
        var actions: [RaftAction] = []
        core.step(input, now: now, into: &actions)
        for action in actions { perform(action) }
        precondition(
            saved.term == core.term && saved.vote == core.vote, "the hard state is not saved")
        precondition(core.durableIndex <= durable, "claims more than is durable")
        precondition(core.lastIndex == last, "lost track of the log")
        precondition(core.commitIndex == committed, "lost track of what is committed")
    }

    mutating func pass(milliseconds: UInt64) {
        now += milliseconds
        input(.tick)
    }

    /// As the replica does, an entry that does not hold is refused before it reaches the machine.
    mutating func receive(_ message: RaftMessage, from member: MemberID) {
        if case .append(let request) = message {
            for entry in request.entries {
                guard (try? EntryValidation.validate(entry)) != nil else { return }
            }
        }
        input(.message(from: member, message))
    }

    mutating func finishAppend() {
        guard !pending.isEmpty else { return }
        let done = pending.removeFirst()
        for place in stored.indices where stored[place].append == done.append {
            stored[place].isDurable = true
        }
        input(.appendDurable(index: done.index, term: done.term))
    }

    mutating func propose(count: Int, bytes: Int) {
        guard let term = core.leadTerm else { return }
        var entries: [Entry] = []
        for place in 0..<count {
            entries.append(
                Entry(
                    kind: .write, payload: [UInt8](repeating: 1, count: bytes), previous: .zero,
                    group: 0, term: term, index: last + UInt64(place) + 1,
                    firstSequence: SequenceNumber(1), clock: 1, commit: committed))
        }
        input(.propose(entries))
    }

    mutating func applyCommitted() {
        while applied < committed {
            applied += 1
            guard applied > base else { continue }
            let entry = stored[Int(applied - base) - 1].entry
            guard entry.header.kind == .membership,
                let membership = try? entry.withPayload({ try Membership(decoding: $0) })
            else { continue }
            input(.membership(RaftMembers(membership)))
        }
        input(.applied(applied))
    }

    /// The log's beginning goes, as far as it is applied.
    mutating func trim(keeping count: UInt64) {
        guard applied.rawValue > base.rawValue + count else { return }
        let cut = LogIndex(applied.rawValue - count)
        baseTerm = term(at: cut)
        stored.removeFirst(Int(cut - base))
        base = cut
        input(.trimmed(first: cut + 1))
    }

    mutating func installTables(ahead: UInt64, term: UInt8) {
        guard core.role != .leader else { return }
        let index = committed + ahead
        let baseTerm = Term(UInt64(term))
        if index > committed {
            if self.term(at: index) != baseTerm {
                base = index
                self.baseTerm = baseTerm
                stored.removeAll()
                pending.removeAll()
            }
            // What the tables hold is durable, whatever the log's disk has done.
            for place in stored.indices where base + UInt64(place) < index {
                stored[place].isDurable = true
            }
            committed = index
            applied = max(applied, index)
        }
        input(
            .installedTables(base: index, term: baseTerm, members: configuration.members))
    }

    /// The process ends; of what was not durable, `extra` entries happen to survive.
    mutating func restart(keeping extra: Int) {
        let kept = min(stored.count, Int(durable - base) + extra)
        stored.removeLast(stored.count - kept)
        for place in stored.indices { stored[place].isDurable = true }
        pending.removeAll()
        applied = min(applied, last)
        var runs: [TermRun] = []
        for item in stored where item.entry.term != runs.last?.term {
            runs.append(TermRun(term: item.entry.term, first: item.entry.index))
        }
        core = RaftCore(
            configuration, term: saved.term, vote: saved.vote, isVoteTrusted: core.isVoteTrusted,
            log: RaftLog(first: base + 1, last: last, runs: runs, baseTerm: baseTerm),
            commit: stored.last?.entry.header.commit ?? .zero, applied: applied)
        committed = core.commitIndex
        input(.tick)
    }

    // MARK: Actions

    private mutating func perform(_ action: RaftAction) {
        switch action {
        case .save(let term, let vote):
            precondition(term >= saved.term, "the term falls")
            precondition(
                term > saved.term || saved.vote == .none || saved.vote == vote,
                "a second vote in a term")
            saved = (term, vote)
        case .send(let member, let message): check(message, to: member)
        case .truncate(let after):
            precondition(after >= committed && after >= base, "what is committed is removed")
            stored.removeLast(Int(last - after))
        case .append(let entries):
            appends += 1
            for entry in entries {
                precondition(entry.index == last + 1, "a gap in the log")
                precondition(entry.term >= term(at: last) ?? .zero, "terms of the log go back")
                stored.append(Stored(entry: entry, append: appends, isDurable: false))
            }
            guard let end = entries.last else { preconditionFailure("appends nothing") }
            pending.append((appends, end.index, end.term))
        case .commit(let index):
            precondition(index > committed && index <= last, "commits what it does not have")
            committed = index
        case .becameLeader(let term):
            precondition(term == saved.term && saved.vote == configuration.id, "leads unelected")
            propose(count: 1, bytes: 0)
        case .sendEntries, .readReady, .readRefused, .leaderChanged, .leaveJoint, .dropped,
            .needsTables, .distrusted, .readmitted, .contradicted:
            break
        }
    }

    private func check(_ message: RaftMessage, to member: MemberID) {
        precondition(member != configuration.id && member != .none, "talks to itself or nobody")
        switch message {
        case .voteReply(let reply) where reply.isGranted && !reply.isPreVote:
            precondition(
                saved.term == reply.term && saved.vote == member, "a vote goes out before its save")
        case .appendReply(let reply) where reply.isAccepted:
            precondition(reply.index <= durable, "acknowledges what is not durable")
        case .vote(let request) where request.isPreVote: break
        case .voteReply(let reply) where reply.isPreVote: break
        default: precondition(message.term <= saved.term, "a term goes out before its save")
        }
    }
}
