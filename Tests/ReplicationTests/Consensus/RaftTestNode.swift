// A member for tests: the machine with the smallest driver that keeps its contract. The disk tells
// appended entries from durable ones by itself, so that it can convict the machine of claiming
// more.
import Engine
import Replication

/// Entries, in memory, with what a crash would leave of them.
struct TestDisk {
    struct Stored {
        var entry: Entry
        /// The append that wrote it; its completion makes it durable.
        var append: Int
        var isDurable: Bool
    }
    struct PendingAppend {
        var number: Int
        var index: LogIndex
        var term: Term
    }

    var base = LogIndex.zero
    var baseTerm: Term? = .zero
    var stored: [Stored] = []
    var pending: [PendingAppend] = []
    private var appends = 0

    var last: LogIndex { base + UInt64(stored.count) }
    var lastChecksum: Digest128 { stored.last?.entry.header.checksum ?? .zero }
    var durable: LogIndex {
        base + UInt64(stored.firstIndex { !$0.isDurable } ?? stored.count)
    }

    func entry(at index: LogIndex) -> Entry? {
        guard index > base, index <= last else { return nil }
        return stored[Int(index - base) - 1].entry
    }

    func isDurable(_ index: LogIndex, term: Term) -> Bool {
        index <= base || (index <= durable && entry(at: index)?.term == term)
    }

    mutating func append(_ entries: [Entry]) {
        precondition(entries[0].index == last + 1, "a gap in the log")
        precondition(
            entries[0].header.previous == lastChecksum || stored.isEmpty, "the chain is broken")
        appends += 1
        for entry in entries {
            stored.append(Stored(entry: entry, append: appends, isDurable: false))
        }
        let end = entries[entries.count - 1]
        pending.append(PendingAppend(number: appends, index: end.index, term: end.term))
    }

    mutating func truncate(after index: LogIndex) {
        precondition(index >= base)
        stored.removeLast(Int(last - index))
    }

    /// The oldest append reaches the medium. What a rewind removed meanwhile is gone all the same.
    mutating func completeOldest() -> PendingAppend {
        let done = pending.removeFirst()
        for place in stored.indices where stored[place].append == done.number {
            stored[place].isDurable = true
        }
        return done
    }

    /// Keeps the durable entries and `extra` more.
    mutating func crash(keeping extra: Int) {
        let keep = min(stored.count, Int(durable - base) + extra)
        stored.removeLast(stored.count - keep)
        for place in stored.indices { stored[place].isDurable = true }
        pending.removeAll()
    }

    mutating func trim(before first: LogIndex) {
        guard first > base + 1, first <= last + 1 else { return }
        baseTerm = entry(at: first - 1)?.term
        stored.removeFirst(Int(first - base) - 1)
        base = first - 1
    }

    var log: RaftLog {
        var runs: [TermRun] = []
        for item in stored where item.entry.term != runs.last?.term {
            runs.append(TermRun(term: item.entry.term, first: item.entry.index))
        }
        return RaftLog(first: base + 1, last: last, runs: runs, baseTerm: baseTerm)
    }
}

final class TestNode {
    struct Read: Equatable {
        var context: UInt64
        var index: LogIndex
    }

    let id: MemberID
    var configuration: RaftConfiguration
    var core: RaftCore
    var disk: TestDisk
    /// The hard state on the medium.
    var saved: (term: Term, vote: MemberID)
    var isVoteTrusted = true
    /// Highest committed index that the driver was told of.
    var committed = LogIndex.zero
    var now: UInt64 = 0
    /// Whether an append is durable at once.
    var isDiskFast = true
    var proposesNoop = true
    /// What is committed acts when it is applied.
    var isApplying = true
    private(set) var applied = LogIndex.zero
    private(set) var membership = Membership()

    // What the driver saw.
    var outbox: [(to: MemberID, message: RaftMessage)] = []
    var ready: [Read] = []
    var refused: [UInt64] = []
    var dropped = 0
    var ledTerms: [Term] = []
    var leaders: [MemberID] = []
    var needTables: [MemberID] = []
    var contradictions: [(by: MemberID, what: Contradiction)] = []
    var commits: [LogIndex] = []
    var sent: [(from: LogIndex, last: LogIndex, bytes: Int)] = []
    /// Promises that the machine broke.
    var violations: [String] = []

    init(_ configuration: RaftConfiguration, disk: TestDisk = TestDisk(), term: Term = .zero) {
        id = configuration.id
        self.configuration = configuration
        self.disk = disk
        saved = (term, .none)
        core = RaftCore(
            configuration, term: term, vote: .none, isVoteTrusted: true, log: disk.log,
            commit: .zero, applied: .zero)
        membership = makeMembership(configuration.members)
    }

    func step(_ input: RaftInput) {
        var actions: [RaftAction] = []
        core.step(input, now: now, into: &actions)
        for action in actions { perform(action) }
        if isDiskFast { while !disk.pending.isEmpty { completeAppend() } }
        if isApplying { applyCommitted() }
        check(saved.term == core.term && saved.vote == core.vote, "the hard state is not saved")
        check(core.durableIndex <= disk.durable, "claims more than is durable")
        check(core.lastIndex == disk.last && committed == core.commitIndex, "lost track of the log")
    }

    func check(_ condition: Bool, _ message: String) {
        if !condition { violations.append("member \(id): \(message)") }
    }

    func applyCommitted() {
        guard applied < committed else { return }
        while applied < committed {
            applied += 1
            guard let entry = disk.entry(at: applied), entry.header.kind == .membership else {
                continue
            }
            let decoded = try? entry.withPayload { try Membership(decoding: $0) }
            guard let decoded else { return check(false, "a membership that does not decode") }
            membership = decoded
            step(.membership(RaftMembers(decoded)))
        }
        step(.applied(applied))
    }

    /// What a driver does with tables of another: state and members as of `base`, and the log from
    /// there on.
    func installTables(from donor: TestNode, _ base: LogIndex) {
        let term = donor.disk.entry(at: base)?.term ?? .zero
        let isNew = base > committed
        if isNew, disk.entry(at: base)?.term != term {
            disk = TestDisk()
            disk.base = base
            disk.baseTerm = term
        }
        if isNew {
            membership = donor.membership
            applied = base
            committed = base
        }
        step(
            .installedTables(base: base, term: term, members: RaftMembers(donor.membership)))
    }

    func completeAppend() {
        let done = disk.completeOldest()
        step(.appendDurable(index: done.index, term: done.term))
    }

    /// The process dies. Of what was not durable, `extra` entries happen to survive.
    func restart(keeping extra: Int = 0) {
        disk.crash(keeping: extra)
        outbox.removeAll()
        applied = disk.base
        membership = makeMembership(configuration.members)
        core = RaftCore(
            configuration, term: saved.term, vote: saved.vote, isVoteTrusted: isVoteTrusted,
            log: disk.log, commit: disk.stored.last?.entry.header.commit ?? .zero, applied: applied)
        committed = core.commitIndex
    }

    func propose(_ count: Int, bytes: Int = 8) {
        guard let term = core.leadTerm else { return step(.propose([strayEntry()])) }
        var entries: [Entry] = []
        for _ in 0..<count {
            let previous = entries.last?.header.checksum ?? disk.lastChecksum
            entries.append(
                makeEntry(
                    disk.last + UInt64(entries.count) + 1, term, previous: previous, bytes: bytes,
                    commit: core.commitIndex))
        }
        step(.propose(entries))
    }

    func propose(_ membership: Membership) {
        let entry = makeEntry(
            disk.last + 1, core.term, previous: disk.lastChecksum, kind: .membership,
            payload: membership.encoded(), commit: core.commitIndex)
        step(.propose([entry]))
    }

    private func strayEntry() -> Entry {
        makeEntry(disk.last + 1, core.term, previous: disk.lastChecksum, bytes: 8)
    }

    private func perform(_ action: RaftAction) {
        switch action {
        case .save(let term, let vote):
            check(term >= saved.term, "its term falls")
            check(
                term > saved.term || saved.vote == .none || saved.vote == vote,
                "votes twice in a term")
            saved = (term, vote)
        case .send(let to, let message):
            check(
                message.term <= saved.term || message.isPreVote, "a term goes out before its save")
            outbox.append((to, message))
        case .sendEntries(
            let to, let term, let from, let previousTerm, let maxBytes, let last, let commit):
            guard from > disk.base else { return step(.trimmed(first: disk.base + 1)) }
            var entries: [Entry] = []
            var bytes = 0
            while let entry = disk.entry(at: from + UInt64(entries.count)), entry.index <= last,
                entries.isEmpty || bytes + entry.encoded.count <= maxBytes
            {
                entries.append(entry)
                bytes += entry.encoded.count
            }
            check(!entries.isEmpty, "sends nothing")
            guard !entries.isEmpty else { return }
            sent.append((from, entries[entries.count - 1].index, bytes))
            let request = AppendRequest(
                term: term, previousIndex: from - 1, previousTerm: previousTerm, entries: entries,
                commit: commit)
            outbox.append((to, .append(request)))
        case .truncate(let after):
            check(after >= committed, "truncates a committed entry")
            disk.truncate(after: after)
        case .append(let entries): disk.append(entries)
        case .commit(let index):
            check(index > committed && index <= disk.last, "commits \(index) after \(committed)")
            committed = index
            commits.append(index)
        case .readReady(let context, let index): ready.append(Read(context: context, index: index))
        case .readRefused(let context): refused.append(context)
        case .becameLeader(let term):
            ledTerms.append(term)
            if proposesNoop { propose(1) }
        case .leaderChanged(_, let leader): leaders.append(leader)
        case .leaveJoint: propose(membership.left())
        case .dropped(let entries): dropped += entries.count
        case .needsTables(let member): needTables.append(member)
        case .distrusted: isVoteTrusted = false
        case .readmitted:
            check(saved.vote != .none, "forgets whom it follows in this term")
            isVoteTrusted = true
        case .contradicted(let member, let what):
            contradictions.append((member, what))
        }
    }
}

extension RaftMessage {
    var isPreVote: Bool {
        switch self {
        case .vote(let request): request.isPreVote
        case .voteReply(let reply): reply.isPreVote
        default: false
        }
    }

    /// As scripts call it.
    var name: String {
        switch self {
        case .vote(let request): request.isPreVote ? "prevote" : "vote"
        case .voteReply(let reply):
            (reply.isPreVote ? "prevote" : "vote") + (reply.isGranted ? "-yes" : "-no")
        case .append(let request): request.entries.isEmpty ? "probe" : "append"
        case .appendReply(let reply): reply.isAccepted ? "ack" : "refusal"
        case .heartbeat: "heartbeat"
        case .heartbeatReply: "heartbeat-ack"
        case .timeoutNow: "timeout-now"
        case .transfer: "transfer"
        }
    }
}

func makeEntry(
    _ index: LogIndex, _ term: Term, previous: Digest128, bytes: Int = 8, kind: EntryKind = .write,
    payload: [UInt8]? = nil, commit: LogIndex = .zero
) -> Entry {
    let filler = UInt8(truncatingIfNeeded: index.rawValue)
    return Entry(
        kind: kind, payload: payload ?? [UInt8](repeating: filler, count: bytes),
        previous: previous, group: 0, term: term, index: index, firstSequence: .zero, clock: 0,
        commit: commit)
}

func makeMember(_ id: UInt64, isVoter: Bool) -> Member {
    Member(
        id: MemberID(id), peerAddress: "peer-\(id)", clientAddress: "client-\(id)",
        isVoter: isVoter)
}

/// As the state that a member starts from would hold it.
private func makeMembership(_ members: RaftMembers) -> Membership {
    Membership(
        members.voters.map { makeMember($0.rawValue, isVoter: true) }
            + members.learners.map { makeMember($0.rawValue, isVoter: false) })
}

/// A durable log whose entries have these terms. Equal prefixes of terms give equal entries.
func makeDisk(_ terms: [UInt64]) -> TestDisk {
    var disk = TestDisk()
    for (place, term) in terms.enumerated() {
        let index = LogIndex(UInt64(place) + 1)
        disk.append([makeEntry(index, Term(term), previous: disk.lastChecksum)])
    }
    while !disk.pending.isEmpty { _ = disk.completeOldest() }
    return disk
}
