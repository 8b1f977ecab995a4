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
}
