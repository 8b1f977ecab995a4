// A member that lost what it had voted: without a vote until it cannot vote twice any more.
import Engine
import Replication
import Testing

@Suite("Raft: readmission")
struct ReadmissionTests {
    static let start = """
        nodes 3
        campaign 1
        deliver
        run 60
        distrust 3

        """

    @Test("a member with a lost vote neither asks nor grants")
    func lostVote() {
        RaftScript(
            Self.start + """
                expect 3 log=1 term=1 saved=0
                isolate 1
                tick 3000 3
                expect 3 term=1 follower
                run 3000
                expect 2 term=1
                """)
    }

    @Test("it votes again once it has what the leader committed and all voters told their terms")
    func votesAgain() {
        let script = RaftScript(Self.start + "run 3000\nexpect 3 term=1 follower saved=1\n")
        #expect(script.node(3).isVoteTrusted)
        #expect(script.node(3).saved.vote == MemberID(1), "its vote of this term is the leader's")
        script.run(
            """
            isolate 1
            run 3000
            expect 2 term=2
            """)
    }

    /// What the leader committed by its help is not here yet, while all have answered and its first
    /// entries are of the leader's term.
    @Test("it does not vote before it has again what it had acknowledged")
    func catchesUpFirst() {
        let script = RaftScript(Self.start + "isolate 3\n")
        let member = script.node(3)
        var round: UInt64 = 1_000
        func hear(commit: UInt64, quorumAge: UInt64, for milliseconds: UInt64) {
            for _ in 0..<(milliseconds / 50) {
                round += 1
                let heartbeat = Heartbeat(
                    term: Term(1), commit: LogIndex(commit), round: round, clock: 0,
                    quorumAge: quorumAge, acked: round - 1)
                let answer = VoteReply(term: Term(1), isPreVote: true, isGranted: false)
                member.step(.message(from: MemberID(1), .heartbeat(heartbeat)))
                for other in [MemberID(1), MemberID(2)] {
                    member.step(.message(from: other, .voteReply(answer)))
                }
                script.run("tick 50 3\n")
            }
        }
        // The leader says so by how old its word is, or by what this member had acknowledged.
        hear(commit: 1, quorumAge: 60_000, for: 4_000)
        #expect(!member.isVoteTrusted)
        hear(commit: 9, quorumAge: 0, for: 4_000)
        #expect(!member.isVoteTrusted)
        hear(commit: 1, quorumAge: 0, for: 4_000)
        #expect(member.isVoteTrusted)
    }

    @Test("while one voter is away it waits, and goes on when that one is back")
    func waitsForAll() {
        let script = RaftScript(Self.start + "cut 2-3\nrun 4000\nexpect 3 term=1 lead=1\n")
        #expect(!script.node(3).isVoteTrusted)
        script.run("heal\nrun 2000\n")
        #expect(script.node(3).isVoteTrusted)
        // The question unseats nobody.
        script.run("expect 1 leader term=1\nexpect 2 term=1 lead=1\n")
    }

    /// Member 2 campaigns in term 2 and may have had member 3's vote before that was lost.
    @Test("it gets no vote in a term that somebody campaigns in")
    func waitsForTheNewestTerm() {
        let script = RaftScript(Self.start + "cut 2-3\nrun 1500\n")
        #expect(!script.node(3).isVoteTrusted)
        let refusal = VoteReply(term: Term(2), isPreVote: true, isGranted: false)
        script.node(3).step(.message(from: MemberID(2), .voteReply(refusal)))
        script.run("expect 3 term=2 follower")
        let request = VoteRequest(
            term: Term(2), isPreVote: false, lastIndex: LogIndex(9), lastTerm: Term(1),
            isTransfer: false)
        script.node(3).outbox.removeAll()
        script.node(3).step(.message(from: MemberID(1), .vote(request)))
        #expect(script.node(3).outbox.map(\.message.name) == ["vote-no"])
    }

    /// Member 2 helped to elect member 3 before it lost that. Its answer from before reaches a leader
    /// that was stopped meanwhile: whoever comes with it does not make a quorum.
    @Test("a stopped leader takes no old answer for a quorum")
    func oldAnswerToAStoppedLeader() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            tick 50 1
            deliver 1->2
            drop 1->3
            expect 2->1 heartbeat-ack
            cut 1-3
            elapse 400 2
            campaign 3
            deliver 3->2
            deliver 2->3
            deliver 3->2
            deliver 2->3
            expect 3 leader term=2
            drop 3->2
            distrust 2
            tick 700 2
            elapse 2000 1
            deliver 2->1
            propose 1
            deliver 1->2
            deliver 2->1
            expect 1 follower term=1 commit=1
            """)
    }

    /// Its members may be those of a membership that is over.
    @Test("it does not vote before it has applied what may change who votes")
    func appliesChangesFirst() {
        let script = RaftScript(Self.start + "lag 3\nrun 4000\nexpect 3 commit=1 applied=0\n")
        #expect(!script.node(3).isVoteTrusted)
        script.run("catch 3\nrun 1000\nexpect 3 applied=1\n")
        #expect(script.node(3).isVoteTrusted)
    }
}
