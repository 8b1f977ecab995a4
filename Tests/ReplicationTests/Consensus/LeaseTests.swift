// Leases, and what must not happen while one lasts.
import Engine
import Replication
import Testing

@Suite("Raft: leases")
struct LeaseTests {
    static let start = "option lease 150\nnodes 3\ntick 200\ncampaign 1\ndeliver\nrun 100\n"

    @Test("reads are answered at once under a lease, without a message")
    func readUnderLease() {
        RaftScript(
            Self.start + """
                expect 1 leader lease=yes commit=1
                read 1 a
                expect 1 reads=a@1
                expect quiet
                """)
    }

    @Test("without the option there is no lease, and voters promise nothing")
    func offByDefault() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            expect 1 leader lease=no
            read 1 a
            expect 1 reads=-
            """)
    }

    @Test("a lease counts from when its heartbeat was sent, less the drift, and needs a quorum")
    func countsFromSending() {
        RaftScript(
            Self.start + """
                elapse 200 1
                tick 10 1
                # The answers come 100 ms later: 35 are left.
                elapse 100 1
                deliver
                read 1 a
                expect 1 lease=yes reads=a@1
                elapse 30 1
                read 1 b
                expect 1 reads=a@1,b@1
                elapse 10 1
                read 1 c
                expect 1 lease=no reads=a@1,b@1
                deliver
                expect 1 reads=a@1,b@1,c@1
                """)
        RaftScript(
            """
            option lease 150
            nodes 5
            tick 200
            campaign 1
            deliver
            run 100
            elapse 200 1
            isolate 3
            isolate 4
            isolate 5
            tick 10 1
            deliver
            expect 1 leader lease=no
            """)
    }

    @Test("no lease before the term's first commit")
    func notBeforeFirstCommit() {
        RaftScript(
            """
            option lease 150
            nodes 3
            tick 200
            silent 1
            campaign 1
            deliver
            run 100
            expect 1 leader lease=no
            propose 1
            deliver
            expect 1 lease=yes
            """)
    }

    @Test("a voter that promised grants nothing to another, even if its connection breaks")
    func promiseHolds() {
        RaftScript(
            Self.start + """
                isolate 1
                broke 2 1
                broke 3 1
                tick 100 2 3
                expect 2 follower
                expect 3 follower
                expect quiet
                # Three of four parts of the promise are over; somebody else asks.
                elapse 400 3
                campaign 3
                deliver 3->2
                expect 2->3 prevote-no
                """)
    }

    @Test("once the lease has run out, a broken connection is acted upon at once")
    func hurryAfterPromise() {
        let script = RaftScript(
            Self.start + """
                isolate 1
                broke 2 1
                broke 3 1
                run 140
                expect 2 follower
                expect 3 follower
                run 160
                """)
        script.expectNewLeader(within: [2, 3])
    }

    @Test("the old leader's lease is over before anybody else can lead")
    func leaseEndsFirst() {
        for wait in stride(from: 0, through: 300, by: 10) {
            let script = RaftScript(
                Self.start + """
                    isolate 1
                    broke 2 1
                    broke 3 1
                    run \(wait)
                    read 1 a
                    """)
            let leads = [2, 3].contains { script.node($0).core.leadTerm != nil }
            let isServing = !script.node(1).ready.isEmpty
            #expect(!(leads && isServing), "after \(wait) ms")
            if wait == 0 { #expect(isServing) }
            if wait == 300 { #expect(leads) }
        }
    }

    @Test("a voter restarted inside a lease grants nothing for as long as its promise could last")
    func restartedVoter() {
        RaftScript(
            Self.start + """
                isolate 1
                restart 2
                tick 10 2
                elapse 400 3
                campaign 3
                deliver 3->2
                expect 2->3 prevote-no
                drop
                tick 150 2
                elapse 700 3
                campaign 3
                deliver 3->2
                expect 2->3 prevote-yes
                """)
    }

    @Test("a vote in earnest, too, is refused inside a lease, and its term is not taken over")
    func earnestVoteInsideLease() {
        let script = RaftScript(Self.start + "broke 2 1")
        let request = VoteRequest(
            term: Term(7), isPreVote: false, lastIndex: LogIndex(1), lastTerm: Term(1),
            isTransfer: false)
        script.node(2).step(.message(from: MemberID(3), .vote(request)))
        #expect(script.node(2).outbox.isEmpty)
        script.run("expect 2 term=1\ntick 200 2")
        script.node(2).outbox.removeAll()
        script.node(2).step(.message(from: MemberID(3), .vote(request)))
        #expect(script.node(2).outbox.map(\.message.name) == ["vote-yes"])
    }

    @Test("a term that a reply brought frees no vote while a promise lasts")
    func voteOfATermFromAReplyInsideLease() {
        let script = RaftScript(Self.start + "broke 2 1")
        let refusal = VoteReply(term: Term(2), isPreVote: true, isGranted: false)
        script.node(2).step(.message(from: MemberID(3), .voteReply(refusal)))
        script.run("expect 2 term=2 follower")
        script.node(2).outbox.removeAll()
        let request = VoteRequest(
            term: Term(2), isPreVote: false, lastIndex: LogIndex(1), lastTerm: Term(1),
            isTransfer: false)
        script.node(2).step(.message(from: MemberID(3), .vote(request)))
        #expect(script.node(2).outbox.map(\.message.name) == ["vote-no"])
        script.run("tick 200 2")
        script.node(2).outbox.removeAll()
        script.node(2).step(.message(from: MemberID(3), .vote(request)))
        #expect(script.node(2).outbox.map(\.message.name) == ["vote-yes"])
    }

    @Test("a transfer drops the lease before it orders the campaign, for the rest of the term")
    func transferDropsLease() {
        RaftScript(
            Self.start + """
                transfer 1 2
                expect 1->2 timeout-now
                expect 1 leader lease=no
                deliver
                expect 2 leader term=2
                expect 1 follower lease=no
                run 100
                expect 2 lease=yes
                """)
        RaftScript(
            Self.start + """
                transfer 1 2
                cut 1->2
                run 100
                # The order may still be on its way when the transfer is given up.
                run 400
                expect 1 leader term=1 transfer=0 lease=no
                read 1 a
                expect 1 reads=-
                deliver
                expect 1 reads=a@1
                """)
    }

    @Test("a transfer that waits for its target keeps the lease")
    func transferUnderWay() {
        RaftScript(
            Self.start + """
                isolate 3
                propose 1
                deliver
                transfer 1 3
                run 50
                expect 1 transfer=3 lease=yes
                """)
    }

    @Test("a leader without a quorum holds no lease, and refuses reads once it steps down")
    func refusedAfterCheckQuorum() {
        RaftScript(
            Self.start + """
                isolate 1
                tick 200 1
                read 1 a
                expect 1 leader lease=no reads=-
                tick 500 1
                expect 1 follower reads=- refused=a
                """)
    }

    @Test("a clock that jumps ahead ends the lease; the promise of a voter whose clock jumps, too")
    func clockJump() {
        RaftScript(
            Self.start + """
                elapse 400 1
                read 1 a
                expect 1 leader reads=- lease=no
                deliver
                expect 1 reads=a@1 lease=yes
                """)
        RaftScript(
            Self.start + """
                # One voter's clock is wrong; the other keeps its promise, so nobody is elected.
                elapse 5000 3
                campaign 3
                deliver
                expect 1 leader term=1 lease=yes
                """)
    }

    @Test("a lease longer than a voter would keep is not promised")
    func foreignLease() {
        let script = RaftScript(Self.start)
        for (lease, isPromised) in [(0, false), (150, true), (151, false)] as [(UInt64, Bool)] {
            script.node(2).outbox.removeAll()
            let heartbeat = Heartbeat(
                term: Term(1), commit: LogIndex(1), round: 99, clock: 0, quorumAge: 0,
                lease: lease)
            script.node(2).step(.message(from: MemberID(1), .heartbeat(heartbeat)))
            #expect(
                script.node(2).outbox.map(\.message) == [
                    .heartbeatReply(
                        HeartbeatReply(
                            term: Term(1), round: 99, clock: 0, isPromised: isPromised))
                ])
        }
    }

    @Test("while joint, a lease needs the promises of both majorities")
    func jointLease() {
        RaftScript(
            """
            option lease 150
            nodes 3
            join 4,5
            tick 200
            campaign 1
            deliver
            run 100
            change 1 1,4,5 explicit
            run 200
            expect 1 lease=yes
            isolate 4
            isolate 5
            run 150
            expect 1 leader lease=no old=1,2,3
            """)
    }

    @Test("a voter that is left alone keeps the promise that it gave")
    func lastVoterHasPromised() {
        RaftScript(
            """
            option lease 150
            nodes 2
            tick 200
            campaign 1
            deliver
            run 100
            expect 1 lease=yes
            lag 1
            change 1 2
            deliver
            tick 50 1
            deliver 1->2
            deliver 2->1
            expect 1 lease=yes
            expect 2 voters=2
            tick 10 2
            expect 2 follower
            tick 200 2
            expect 2 leader
            """)
    }

    @Test("an only voter needs no promise")
    func alone() {
        RaftScript(
            """
            option lease 150
            nodes 1
            tick 160
            expect 1 leader
            read 1 a
            expect 1 reads=a@1
            """)
    }
}
