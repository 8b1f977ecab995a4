// How leaders come to be, and how nobody disturbs a working one.
import Engine
import Replication
import Testing

@Suite("Raft: election")
struct ElectionTests {
    @Test("a campaign is won, and the term's no-op commits first")
    func campaignAndNoop() {
        RaftScript(
            """
            nodes 3
            campaign 1
            expect 1 precandidate term=0
            expect 1->2 prevote
            deliver
            expect 1 leader term=1 commit=1 log=1 lead=1 vote=1 saved=1 led=1
            run 60
            expect 2 follower term=1 commit=1 log=1 lead=1 vote=1 saved=1
            expect 3 follower term=1 commit=1 log=1 lead=1 vote=1
            """)
    }

    @Test("a single member elects itself at once and commits on its own durable append")
    func singleMember() {
        RaftScript(
            """
            nodes 1
            slow 1
            tick 10
            expect 1 leader term=1 saved=1 vote=1 last=1 commit=0
            sync 1
            expect 1 commit=1
            propose 1 x2
            expect 1 last=3 commit=1
            sync 1
            expect 1 commit=3
            expect quiet
            restart 1
            # First it applies what its log says was committed.
            tick 20
            expect 1 leader term=2 log=1,1,1,2
            """)
    }

    @Test("pre-vote keeps terms from inflating")
    func preVoteKeepsTerms() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 3
            run 5000
            expect 3 term=1
            expect 1 leader term=1
            heal
            run 700
            expect 1 leader term=1 led=1
            expect 3 follower term=1 lead=1
            """)
    }

    @Test("a member whose log is behind cannot win")
    func behindCannotWin() {
        RaftScript(
            """
            nodes 3
            log 1 1
            log 2 1,1
            log 3 1,1
            campaign 1
            deliver
            expect 1 follower term=1
            campaign 2
            deliver
            expect 2 leader term=2
            """)
    }

    @Test(
        "a vote, too, is given only to a log at least as good, even by the leader's order",
        arguments: [
            (1, 9, "vote-no"), (2, 1, "vote-no"), (2, 2, "vote-yes"), (2, 3, "vote-yes"),
            (3, 1, "vote-yes"),
        ] as [(UInt64, UInt64, String)])
    func voteChecksLog(lastTerm: UInt64, lastIndex: UInt64, answer: String) {
        let script = RaftScript("nodes 3\nlog 2 1,2 term 4")
        let request = VoteRequest(
            term: Term(5), isPreVote: false, lastIndex: LogIndex(lastIndex),
            lastTerm: Term(lastTerm), isTransfer: true)
        script.node(2).step(.message(from: MemberID(1), .vote(request)))
        #expect(script.node(2).outbox.map(\.message.name) == [answer])
    }

    @Test("check-quorum: a leader without a quorum steps down")
    func checkQuorum() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 1
            tick 500 1
            expect 1 leader
            tick 200 1
            expect 1 follower term=1 lead=0
            """)
    }

    @Test("a leader that was stopped for long steps down before it takes anything")
    func stoppedLeader() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            tick 50 1
            elapse 700 1
            deliver
            expect 1 follower term=1 lead=0
            propose 1
            expect 1 last=1 dropped=1
            """)
    }

    @Test("each answer counts from when what it answers was sent, however long it took")
    func slowAnswers() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            tick 400 1
            deliver
            tick 400 1
            deliver
            tick 400 1
            expect 1 leader term=1
            """)
    }

    @Test("a candidate whose time is up counts no more votes")
    func lateVotes() {
        RaftScript(
            """
            nodes 3
            campaign 1
            once
            once
            expect 1 candidate
            once
            expect 2->1 vote-yes
            elapse 700 1
            once
            expect 1 candidate led=-
            run 2000
            """
        ).expectNewLeader(within: [1, 2, 3])
    }

    @Test("a leader steps down in a cluster of five when two still answer, but not three")
    func checkQuorumOfFive() {
        RaftScript(
            """
            nodes 5
            campaign 1
            deliver
            cut 1-4
            cut 1-5
            run 1500
            expect 1 leader term=1
            cut 1-3
            tick 700 1
            deliver
            expect 1 follower
            """)
    }

    @Test("votes are refused while a live leader is known, before the timeout and not after")
    func leaderIsProtected() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            campaign 3
            deliver
            expect 1 leader term=1
            expect 3 term=1
            # Without the leader's heartbeats for long enough, the same request is granted.
            isolate 1
            elapse 300 2
            campaign 3
            deliver
            expect 3 leader term=2
            """)
    }

    @Test("a member that does not know yet that it is a voter votes all the same")
    func unawareVoter() {
        RaftScript(
            """
            nodes 2 learners 3
            campaign 1
            deliver
            run 60
            cut 1->3
            members 1,2,3
            # Member 3 goes back to what it knew.
            restart 3
            heal
            isolate 2
            broke 3 1
            run 1000
            expect 3 follower
            expect 1 leader
            """)
        let script = RaftScript("nodes 2 learners 3")
        script.run(
            """
            isolate 2
            campaign 1
            """)
        // Both voters are asked only; a learner asked by a member that knows more answers.
        script.node(3).step(
            .message(
                from: .init(1),
                .vote(
                    .init(
                        term: .init(1), isPreVote: false, lastIndex: .zero, lastTerm: .zero,
                        isTransfer: false))))
        #expect(script.node(3).outbox.map(\.message.name) == ["vote-yes"])
    }

    @Test("a leader is forgotten when the connection to it breaks: follower, learner, leader")
    func forgettingTheLeader() {
        RaftScript(
            """
            nodes 3 learners 4
            campaign 1
            deliver
            run 100
            # A follower that lost its leader promises its vote; one that did not refuses.
            broke 2 1
            campaign 2
            expect 2 precandidate lead=0
            deliver
            expect 2 follower lead=0
            broke 3 1
            campaign 2
            deliver 2->3
            expect 3->2 prevote-yes
            drop
            # A leader has nobody to forget, a learner does not campaign.
            broke 1 1
            expect 1 leader
            broke 4 1
            tick 1000 4
            expect 4 follower lead=0 term=1
            expect 4->1 -
            """)
    }

    @Test("duelling candidates: the one with the older log loses")
    func duellingCandidates() {
        RaftScript(
            """
            nodes 3
            log 1 1
            log 2 1
            log 3 - term 1
            cut 1-3
            campaign 1
            campaign 3
            deliver
            expect 1 leader term=2
            expect 3 precandidate term=1
            heal
            run 200
            expect 3 follower lead=1 log=1,2
            """)
    }

    @Test("duelling pre-candidates: all may ask, one wins, no term is wasted")
    func duellingPreCandidates() {
        RaftScript(
            """
            nodes 3
            campaign 1
            campaign 2
            campaign 3
            deliver
            expect 2 leader term=1
            expect 1 follower lead=2 term=1
            expect 3 follower lead=2 term=1
            """)
    }

    @Test("two survivors that ask at the same moment do not split their votes")
    func simultaneousPreVotes() {
        RaftScript(
            """
            nodes 3
            isolate 3
            campaign 1
            campaign 2
            deliver
            expect 2 leader term=1
            expect 1 follower lead=2 vote=2
            """)
    }

    @Test("a split vote is resolved by the next round")
    func splitVote() {
        RaftScript(
            """
            nodes 3
            isolate 3
            campaign 1
            campaign 2
            # Member 2 asks long after member 1 did, so it grants; both win before either asks in
            # earnest.
            elapse 150 2
            once
            once
            expect 1 candidate term=1
            expect 2 candidate term=1
            expect 1->2 vote
            deliver
            expect 1 candidate vote=1
            expect 2 candidate vote=2
            run 2000
            """
        ).expectNewLeader(within: [1, 2])
    }

    @Test("a follower that was away does not disturb when it returns")
    func rejoiningFollower() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 3
            propose 1 x3
            deliver
            run 3000
            heal
            # Its requests arrive before anything from the leader does.
            cut 1->3
            cut 2->3
            tick 1000 3
            deliver
            expect 1 leader term=1
            heal
            run 300
            expect 1 leader term=1 led=1
            expect 3 follower lead=1 commit=4
            """)
    }

    @Test("nobody is asked before the own vote is durable")
    func ownVoteFirst() {
        // The driver of the tests refuses to send a term that it did not save.
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver 1->2
            deliver 2->1
            expect 1 candidate saved=1 vote=1
            expect 1->3 prevote,vote
            """)
    }

    @Test("a candidate stuck in a higher term is freed by the leader's own messages")
    func stuckCandidate() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            # Member 3 asked in earnest once, in term 5, and nobody heard it.
            log 3 - term 5
            expect 3 term=5
            run 2000
            expect 3 follower log=1,6 term=6
            """)
    }

    @Test("a voter that must not lead votes: damaged")
    func damagedVoter() {
        RaftScript(
            """
            nodes 3
            log 1 1,1
            log 2 1,1
            log 3 1
            damage 1
            tick 3000 1
            expect 1 follower term=1
            # It votes with its tail: not for less, but for as much.
            isolate 2
            run 2000
            expect 3 term=1
            heal
            isolate 3
            campaign 2
            deliver
            expect 2 leader term=2
            expect 1 vote=2
            """)
    }

    @Test("a leader that finds itself damaged steps down, and leads again once mended")
    func damagedLeader() {
        RaftScript(
            """
            nodes 1
            tick 10
            damage 1
            expect 1 follower
            tick 1000
            expect 1 follower
            mend 1
            tick 10
            expect 1 leader term=2
            """)
    }

    @Test("a cluster of one leads with a lost vote: there is nobody else to vote for")
    func lostVoteAlone() {
        RaftScript(
            """
            nodes 1
            tick 10
            distrust 1
            tick 10
            expect 1 leader term=2 log=1,2
            """)
    }

    @Test("a state older than the log was rolled back: no vote, though the driver trusts it")
    func rolledBackState() {
        RaftScript(
            """
            nodes 3
            log 1 1,3 term 2
            expect 1 term=3 vote=0
            tick 2000 1
            expect 1 follower term=3 saved=3
            expect 1->2 -
            """)
    }

    @Test("a member with a smaller term completes an election")
    func smallerTerm() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 3
            run 100
            # Terms rise without member 3.
            elapse 400 2
            transfer 1 2
            deliver
            expect 2 leader term=2
            elapse 400 1
            transfer 2 1
            deliver
            expect 1 leader term=3
            # Now 2 is cut off, and 1 steps down; 3 comes back with term 1.
            heal
            isolate 2
            tick 700 1
            drop
            expect 1 follower term=3
            expect 3 term=1
            run 3000
            expect 1 leader
            expect 3 follower lead=1
            """)
    }

    @Test("election timeouts differ between members and between rounds")
    func randomisedTimeouts() {
        var firsts: Set<UInt64> = []
        for number in 1...5 as ClosedRange<UInt64> {
            let script = RaftScript("nodes 5")
            script.run("campaign \(number)")
            firsts.insert(script.node(number).now)
            #expect((300...610).contains(script.node(number).now))
        }
        #expect(firsts.count >= 3)
        let script = RaftScript("nodes 3")
        var rounds: Set<UInt64> = []
        for _ in 0..<5 {
            let before = script.node(1).now
            script.run("drop\ncampaign 1")
            rounds.insert(script.node(1).now - before)
        }
        #expect(rounds.count >= 3)
    }
}
