// A member that lost entries across a change of the term, before a peer has supplied them: what it
// guesses of them must never pass for a match.
import Engine
import Replication
import Testing

@Suite("Raft: lost terms")
struct LostTermsTests {
    /// Entries of the given terms, from index 1.
    private func entries(_ terms: [UInt64]) -> [Entry] {
        var tail = LogPoint.beginning(genesis: logGenesis(cluster: "test", group: 0))
        return terms.enumerated().map { place, term in
            let entry = Entry(
                kind: .noop, payload: [UInt8(term)], previous: tail.position.checksum, group: 0,
                term: Term(term), index: LogIndex(UInt64(place + 1)),
                firstSequence: tail.nextSequence, clock: 0, commit: .zero)
            tail = LogPoint(after: entry)
            return entry
        }
    }

    /// Member 3, whose log is of terms 1 1 1 1 2 4 and has lost the entries up to 5.
    private func member(_ own: [Entry], lostFrom first: UInt64 = 3) -> RaftCore {
        let one = MemberID(1)
        let log = RaftLog(
            first: LogIndex(1), last: LogIndex(6),
            runs: [
                TermRun(term: Term(1), first: LogIndex(1)),
                TermRun(term: Term(4), first: LogIndex(6)),
            ],
            holes: [
                LogHole(
                    lower: LogIndex(first), upper: LogIndex(5), checksum: own[4].header.checksum)
            ])
        return RaftCore(
            RaftConfiguration(
                id: MemberID(3), members: RaftMembers(voters: [one, MemberID(2), MemberID(3)]),
                seed: 1),
            term: Term(4), vote: .none, isVoteTrusted: true, log: log, commit: .zero,
            applied: .zero)
    }

    private func receive(_ core: inout RaftCore, _ all: [Entry], from first: Int) -> [RaftAction] {
        var actions: [RaftAction] = []
        let request = AppendRequest(
            term: Term(9), previousIndex: all[first - 2].index, previousTerm: all[first - 2].term,
            entries: Array(all[(first - 1)...]), commit: .zero)
        core.step(.message(from: MemberID(1), .append(request)), now: 1, into: &actions)
        return actions
    }

    private func reply(_ actions: [RaftAction]) -> AppendReply? {
        for case .send(_, .appendReply(let reply)) in actions { return reply }
        return nil
    }

    /// The leader's entry 5 is of term 1, as this member's would be if nothing but the entries
    /// before were known; in truth its own was of term 2.
    @Test("a guessed term matches nothing")
    func guess() throws {
        let own = entries([1, 1, 1, 1, 2, 4])
        let leader = entries([1, 1, 1, 1, 1, 1, 9])
        var core = member(own)
        let refused = try #require(reply(receive(&core, leader, from: 6)))
        #expect(!refused.isAccepted)
        #expect(refused.hintIndex == LogIndex(2))
        #expect(refused.hintTerm == Term(1))
        #expect(core.lastIndex == LogIndex(6))

        // From there on the leader's entries take the place of what contradicts them.
        let actions = receive(&core, leader, from: 3)
        #expect(actions.contains { if case .truncate(LogIndex(2)) = $0 { true } else { false } })
        // What it acknowledged of them may have been committed.
        #expect(isDistrusted(actions))
        #expect(!core.isVoteTrusted)
        let appended = actions.compactMap {
            if case .append(let entries) = $0 { entries } else { nil }
        }
        #expect(appended.flatMap { $0 }.map(\.index.rawValue) == [3, 4, 5, 6, 7])
    }

    private func isDistrusted(_ actions: [RaftAction]) -> Bool {
        actions.contains { if case .distrusted = $0 { true } else { false } }
    }

    /// The leader's entry 5 tells that this member's, which is known by its content, was never
    /// committed.
    @Test("a lost entry that the leader contradicts costs no vote")
    func contradicted() {
        let own = entries([1, 1, 1, 1, 2, 4])
        let leader = entries([1, 1, 1, 1, 3, 3, 9])
        var core = member(own, lostFrom: 5)
        let actions = receive(&core, leader, from: 4)
        #expect(actions.contains { if case .truncate(LogIndex(4)) = $0 { true } else { false } })
        #expect(!isDistrusted(actions))
    }

    /// Member 3 has acknowledged all of 1 1 1 1 3 3 3 3 and lost 5 to 7; 6 is committed.
    private func memberBehindTheGap(_ own: [Entry]) -> RaftCore {
        let log = RaftLog(
            first: LogIndex(1), last: LogIndex(8),
            runs: [
                TermRun(term: own[0].term, first: LogIndex(1)),
                TermRun(term: own[7].term, first: LogIndex(8)),
            ],
            holes: [
                LogHole(
                    lower: LogIndex(5), upper: LogIndex(7), checksum: own[6].header.checksum)
            ])
        let voters = [MemberID(1), MemberID(2), MemberID(3)]
        return RaftCore(
            RaftConfiguration(id: MemberID(3), members: RaftMembers(voters: voters), seed: 1),
            term: Term(4), vote: .none, isVoteTrusted: true, log: log, commit: LogIndex(6),
            applied: .zero)
    }

    /// The leader's entry 7 takes the place of a lost one that was never committed. Then the last
    /// entry is a lost one, of term 3, and counts as of term 1.
    @Test("a log that ends with a lost entry has no vote")
    func endWithinTheGap() {
        let own = entries([1, 1, 1, 1, 3, 3, 3, 3])
        let leader = entries([1, 1, 1, 1, 3, 3, 4])
        var core = memberBehindTheGap(own)
        let actions = receive(&core, leader, from: 7)
        #expect(actions.contains { if case .truncate(LogIndex(6)) = $0 { true } else { false } })
        #expect(isDistrusted(actions))
    }

    @Test("terms that fall behind a lost entry are a lie")
    func fallingTerms() {
        var core = memberBehindTheGap(entries([2, 2, 2, 2, 3, 3, 3, 3]))
        let actions = receive(&core, entries([1, 1, 1, 1, 1, 1, 1]), from: 7)
        #expect(actions.contains { if case .contradicted = $0 { true } else { false } })
        #expect(core.lastIndex == LogIndex(8))
    }

    @Test("lost entries that the leader has stay, by their content")
    func sameContent() throws {
        let own = entries([1, 1, 1, 1, 2, 4])
        let leader = entries([1, 1, 1, 1, 2, 4, 9])
        var core = member(own)
        let actions = receive(&core, leader, from: 3)
        #expect(!actions.contains { if case .truncate = $0 { true } else { false } })
        let appended = actions.compactMap {
            if case .append(let entries) = $0 { entries } else { nil }
        }
        #expect(appended.flatMap { $0 }.map(\.index.rawValue) == [7])
        #expect(core.log.term(at: LogIndex(5)) == Term(2))
        #expect(core.log.lost.isEmpty)
    }

    /// The commit index is known with it only: this member may be two memberships behind.
    @Test("a lost last entry tells what was committed once it is mended")
    func lastEntryMended() {
        let own = entries([1, 1, 1, 1, 1, 1])
        let log = RaftLog(
            first: LogIndex(1), last: LogIndex(6),
            runs: [TermRun(term: Term(1), first: LogIndex(1))],
            holes: [LogHole(lower: LogIndex(6), upper: LogIndex(6), checksum: nil)])
        var core = RaftCore(
            RaftConfiguration(
                id: MemberID(3),
                members: RaftMembers(voters: [MemberID(1), MemberID(2), MemberID(3)]), seed: 1),
            term: Term(1), vote: .none, isVoteTrusted: true, log: log, commit: .zero,
            applied: .zero)
        var actions: [RaftAction] = []
        core.step(.setDamaged(true), now: 0, into: &actions)
        core.step(
            .mended(
                index: LogIndex(6), term: Term(1), previous: own[4].header.checksum,
                commit: LogIndex(5)), now: 0, into: &actions)
        core.step(.setDamaged(false), now: 0, into: &actions)
        #expect(core.commitIndex == LogIndex(5))

        // The first change is applied, the second is not.
        core.step(.applied(LogIndex(4)), now: 0, into: &actions)
        for now in 1...3_000 as ClosedRange<UInt64> { core.step(.tick, now: now, into: &actions) }
        #expect(!asksForVotes(actions))
        core.step(.applied(LogIndex(5)), now: 3_000, into: &actions)
        for now in 3_001...4_000 as ClosedRange<UInt64> {
            core.step(.tick, now: now, into: &actions)
        }
        #expect(asksForVotes(actions))
    }

    private func asksForVotes(_ actions: [RaftAction]) -> Bool {
        actions.contains { if case .send(_, .vote) = $0 { true } else { false } }
    }
}
