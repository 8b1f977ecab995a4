// A member that speaks the protocol and lies, over real sockets, to replicas as a node runs them. It
// is cut off with the reason on both sides where its words cannot be true, and ignored where they
// are merely old; the others go on writing.
import Engine
import NIOCore
import Replication
import Testing

@Suite struct LyingMemberTests {
    private func withCluster(_ body: (RuntimeCluster) async throws -> Void) async throws {
        let cluster = try await RuntimeCluster.start()
        try await body(cluster)
        #expect(await cluster.put("after") != nil)
        for node in cluster.nodes {
            let halted = node.lines.elements.filter { $0.hasPrefix("halted") }
            #expect(halted.isEmpty, "\(halted)")
        }
        await cluster.stop()
    }

    /// What `lie` makes of the leader's term and last position is said to the leader, or to the
    /// other one, and refused with `reason`.
    private func expectCutOff(
        _ reason: String, toLeader: Bool, _ lie: @escaping (Term, Position) -> RaftMessage
    ) async throws {
        try await withCluster { cluster in
            let (leader, position) = try #require(await cluster.put("before"))
            let follower = try #require(cluster.nodes.first { $0.id != leader.id })
            let target = toLeader ? leader : follower
            let client = try await cluster.thirdMember(at: target)
            client.send(try frame(.raft(group: 0, lie(position.term, position))))
            #expect(
                await client.frames.wait { frames in
                    frames.contains { $0.hasPrefix("refusal") && $0.contains(reason) }
                }, "\(client.frames.elements) \(target.lines.elements)")
            #expect(await client.closed())
            #expect(await target.lines.logged("refused what node 3 sent"))
            #expect(await target.lines.logged(reason))
        }
    }

    @Test func itAcknowledgesWhatTheLeaderDoesNotHave() async throws {
        try await expectCutOff("it acknowledges entry 100000", toLeader: true) { term, _ in
            .appendReply(AppendReply(term: term, isAccepted: true, index: LogIndex(100_000)))
        }
    }

    @Test func itAnswersAHeartbeatThatWasNotSent() async throws {
        try await expectCutOff("it answers heartbeat round", toLeader: true) { term, _ in
            .heartbeatReply(HeartbeatReply(term: term, round: 1 << 40, clock: 0))
        }
    }

    @Test func itClaimsToLeadToo() async throws {
        try await expectCutOff("it claims to lead in term", toLeader: false) { term, _ in
            .heartbeat(Heartbeat(term: term, commit: .zero, round: 1, clock: 1, quorumAge: 0))
        }
    }

    @Test func itClaimsToLeadToTheLeader() async throws {
        try await expectCutOff("it claims to lead in term", toLeader: true) { term, position in
            .append(
                AppendRequest(
                    term: term, previousIndex: position.index, previousTerm: position.term,
                    entries: [], commit: position.index))
        }
    }

    @Test func itOrdersACampaignThatNobodyLeads() async throws {
        try await expectCutOff("it orders to campaign", toLeader: false) { term, _ in
            .timeoutNow(term: term)
        }
    }

    /// As the leader of a later term it would rewrite what is committed.
    @Test func itHasAnotherEntryInACommittedPlace() async throws {
        try await expectCutOff("another entry 1 is committed here", toLeader: false) { term, _ in
            Self.append(term + 1, after: Position(term: .zero, index: .zero, checksum: .zero))
        }
    }

    /// Right index and term, another content before it: the committed end is not its entry's.
    @Test func itContinuesAnotherHistory() async throws {
        try await expectCutOff("is committed here", toLeader: true) { term, position in
            Self.append(
                term + 1,
                after: Position(
                    term: position.term, index: position.index,
                    checksum: Digest128(low: 1, high: 2)))
        }
    }

    private static func append(_ term: Term, after position: Position) -> RaftMessage {
        let entry = Entry(
            kind: .noop, payload: [], previous: position.checksum, group: 0, term: term,
            index: position.index + 1, firstSequence: SequenceNumber(1), clock: 1, commit: .zero)
        return .append(
            AppendRequest(
                term: term, previousIndex: position.index, previousTerm: position.term,
                entries: [entry], commit: .zero))
    }

    /// As the leader of a later term it gives one entry, and then one behind another of the same index
    /// and term. Neither is committed, both verify: the member halts and keeps its log.
    @Test func twoEntriesOfOneIndexAndTermHaltWhoHasThem() async throws {
        let cluster = try await RuntimeCluster.start()
        let (leader, position) = try #require(await cluster.put("before"))
        let client = try await cluster.thirdMember(at: leader)
        client.send(try frame(.raft(group: 0, Self.append(position.term + 1, after: position))))
        client.send(
            try frame(
                .raft(
                    group: 0,
                    Self.append(
                        position.term + 1,
                        after: Position(
                            term: position.term + 1, index: position.index + 1,
                            checksum: Digest128(low: 1, high: 2))))))
        #expect(await leader.lines.logged("halted"), "\(leader.lines.elements)")
        #expect(await leader.lines.logged("does not continue this log's hash chain"))
        await cluster.stop()
    }

    /// Old words are no lies: a delayed message is as old. They change nothing.
    @Test func itSpeaksOfOldTerms() async throws {
        try await withCluster { cluster in
            let (leader, position) = try #require(await cluster.put("before"))
            let client = try await cluster.thirdMember(at: leader)
            let old: [RaftMessage] = [
                .appendReply(AppendReply(term: .zero, isAccepted: true, index: LogIndex(1 << 40))),
                .heartbeat(
                    Heartbeat(term: .zero, commit: position.index, round: 9, clock: 1, quorumAge: 0)
                ),
                .append(
                    AppendRequest(
                        term: .zero, previousIndex: .zero, previousTerm: .zero, entries: [],
                        commit: LogIndex(1 << 40))),
                .timeoutNow(term: .zero),
                .vote(
                    VoteRequest(
                        term: .zero, isPreVote: false, lastIndex: LogIndex(1 << 40),
                        lastTerm: Term(1 << 40), isTransfer: true)),
                .voteReply(VoteReply(term: .zero, isPreVote: false, isGranted: true)),
            ]
            for message in old { client.send(try frame(.raft(group: 0, message))) }
            // The last of them was taken when the answer to this comes, or its refusal.
            client.send(try frame(.forward(1, [])))
            #expect(await cluster.put("meanwhile")?.position.term == position.term)
            #expect(!client.frames.elements.contains { $0.hasPrefix("refusal") })
            client.channel.close(promise: nil)
        }
    }

    /// All that it said before, in connections of its own, again and again.
    @Test func itRepeatsWholeSessions() async throws {
        try await withCluster { cluster in
            let (leader, position) = try #require(await cluster.put("before"))
            var session: [UInt8] = []
            for index in 1...position.index.rawValue {
                session += try frame(
                    .raft(
                        group: 0,
                        .appendReply(
                            AppendReply(
                                term: position.term, isAccepted: true, index: LogIndex(index)))))
                session += try frame(
                    .raft(
                        group: 0,
                        .heartbeatReply(
                            HeartbeatReply(term: position.term, round: 1, clock: 0))))
            }
            for _ in 0..<20 {
                let client = try await cluster.thirdMember(at: leader)
                client.send(session + session)
                #expect(await cluster.put("again") != nil)
                client.channel.close(promise: nil)
            }
        }
    }

    /// Each attempt would refuse writes for an election timeout.
    @Test func itOrdersTransfersThatFail() async throws {
        try await withCluster { cluster in
            let (leader, position) = try #require(await cluster.put("before"))
            let client = try await cluster.thirdMember(at: leader)
            let order = try frame(
                .raft(group: 0, .transfer(term: position.term, to: MemberID(3))))
            let begin = monotonicMilliseconds()
            for number in 0..<20 {
                client.send(order)
                #expect(await cluster.put("between the orders \(number)") != nil)
            }
            // Of forty seconds.
            #expect(monotonicMilliseconds() - begin < 20_000)
            client.channel.close(promise: nil)
        }
    }

    /// Faster than they can be answered; consensus, commands and fetches alike.
    @Test func itFloods() async throws {
        try await withCluster { cluster in
            let (leader, position) = try #require(await cluster.put("before"))
            let client = try await cluster.thirdMember(at: leader)
            var burst: [UInt8] = []
            for id in 0..<2_000 {
                burst += try frame(.readIndex(RequestID(id)))
                burst += try frame(.forward(RequestID(id), [1, 2, 3]))
                burst += try frame(.fetch(RequestID(id), .manifest))
                burst += try frame(
                    .raft(
                        group: 0,
                        .heartbeatReply(
                            HeartbeatReply(term: position.term, round: 0, clock: 0))))
            }
            for _ in 0..<20 { client.send(burst) }
            for number in 0..<20 { #expect(await cluster.put("under the flood \(number)") != nil) }
            client.channel.close(promise: nil)
        }
    }
}
