// How logs become equal, and what may be called committed.
import Engine
import Replication
import Testing

@Suite("Raft: replication")
struct LogReplicationTests {
    @Test("the Raft paper's Figure 7: six divergent logs converge, whole terms are skipped")
    func figure7() {
        let script = RaftScript(
            """
            nodes 7
            log 1 1,1,1,4,4,5,5,6,6,6 term 7
            log 2 1,1,1,4,4,5,5,6,6 term 7
            log 3 1,1,1,4 term 7
            log 4 1,1,1,4,4,5,5,6,6,6,6 term 7
            log 5 1,1,1,4,4,5,5,6,6,6,7,7 term 7
            log 6 1,1,1,4,4,4,4 term 7
            log 7 1,1,1,2,2,2,3,3,3,3,3 term 7
            campaign 1
            deliver
            expect 1 leader term=8 log=1,1,1,4,4,5,5,6,6,6,8 commit=11
            run 100
            """)
        for number in 2...7 {
            script.run("expect \(number) follower log=1,1,1,4,4,5,5,6,6,6,8 commit=11")
        }
    }

    @Test(
        "a refusal skips whole terms",
        arguments: [
            ("1,3,3,3,3,3,3,3,3,3,3", "1,2,2,2,2,2,2,2,2,2,2", 2),
            ("1,1,1,1,1,5,5,5,5,5,5", "1,1,1,1,1,4,4,4,4,4,4", 2),
            ("1,1,1,1,5", "1,1,1,1,2,2,2,2,3,3,3,3", 2),
            ("1,2,2,2,2,2,6", "1,1,1,1,1,1,1,1", 2),
        ])
    func hintsSkipTerms(leader: String, follower: String, refusals: Int) {
        let script = RaftScript(
            """
            nodes 3
            log 1 \(leader) term 8
            log 2 \(follower) term 8
            log 3 \(leader) term 8
            cut 1-2
            campaign 1
            deliver
            heal
            """)
        var seen = 0
        for _ in 0..<20 {
            script.run("tick 50 1\ndeliver 1->2")
            seen += script.names(from: 2, to: 1).count { $0 == "refusal" }
            script.run("deliver 2->1\ndeliver 1->3\ndeliver 3->1")
        }
        #expect(seen <= refusals)
        script.run("expect 2 log=\(leader),9")
    }

    @Test("a new leader is told only what it has verified, not what its predecessor had")
    func acknowledgesOnlyVerified() {
        let script = RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            cut 1-3
            cut 2->1
            propose 1 x4
            deliver 1->2
            expect 2 last=5 durable=5
            """)
        let probe = AppendRequest(
            term: Term(2), previousIndex: LogIndex(1), previousTerm: Term(1), entries: [],
            commit: .zero)
        script.node(2).step(.message(from: MemberID(3), .append(probe)))
        #expect(
            script.node(2).outbox.last?.message
                == .appendReply(.init(term: Term(2), isAccepted: true, index: LogIndex(1))))
    }

    @Test("only entries of the current term commit by counting (Figure 8)")
    func commitOnlyOwnTerm() {
        RaftScript(
            """
            nodes 3
            log 1 1,2 term 3
            log 2 1 term 3
            log 3 1 term 3
            silent 1
            campaign 1
            deliver
            expect 1 leader term=4
            run 200
            # Entry 2 is on a majority now, and still not committed.
            expect 2 log=1,2 durable=2
            expect 1 commit=0 match.2=2 match.3=2
            propose 1
            deliver
            expect 1 commit=3
            """)
    }

    @Test("in-flight messages are capped, and the cap recovers")
    func inflightCap() {
        RaftScript(
            """
            option inflight 3
            nodes 2
            campaign 1
            deliver
            expect 1 mode.2=replicate inflight.2=0
            propose 1
            propose 1
            propose 1
            propose 1
            propose 1
            expect 1->2 append,append,append
            expect 1 inflight.2=3 last=6 next.2=5
            deliver 1->2
            deliver 2->1
            expect 1 commit=4 match.2=4
            # What waited goes as one message.
            expect 1->2 append
            deliver
            expect 1 commit=6 inflight.2=0
            # Everything lost: asked about after a heartbeat, then sent again.
            propose 1
            propose 1
            propose 1
            drop
            run 300
            expect 1 commit=9 inflight.2=0
            """)
    }

    @Test("in-flight bytes are capped; one message is always allowed")
    func inflightBytes() {
        RaftScript(
            """
            option inflight-bytes 1000
            option message-bytes 500
            nodes 2
            campaign 1
            deliver
            propose 1 bytes 300
            propose 1 bytes 300
            propose 1 bytes 300
            propose 1 bytes 300
            expect 1->2 append,append
            deliver
            expect 1 commit=5
            propose 1 bytes 5000
            expect 1->2 append
            propose 1
            expect 1->2 append
            deliver
            expect 1 commit=7
            """)
    }

    @Test("an append above a bound travels alone, and is not asked about too early")
    func alone() {
        RaftScript(
            """
            option message-bytes 500
            option alone-bytes 100000
            nodes 2
            campaign 1
            deliver
            propose 1
            # Not while anything is on its way,
            propose 1 bytes 900000
            expect 1->2 append
            expect 1 inflight.2=1
            deliver 1->2
            deliver 2->1
            expect 1->2 append
            # and nothing behind it.
            propose 1
            expect 1->2 append
            expect 1 inflight.2=1 last=4
            # 900,000 bytes may take 109 ms: heartbeats are answered meanwhile.
            drop 1->2
            tick 100 1
            deliver
            expect 1 commit=2 mode.2=replicate inflight.2=1
            run 600
            expect 1 commit=4
            """)
    }

    @Test("messages are packed to their limit")
    func messageLimit() {
        let script = RaftScript(
            """
            option message-bytes 1000
            nodes 2
            campaign 1
            deliver
            cut 1-2
            propose 1 x20 bytes 16
            heal
            broke 1 2
            run 300
            expect 1 commit=21
            expect 2 last=21 commit=21
            """)
        #expect(script.node(1).sent.allSatisfy { $0.bytes <= 1000 })
        #expect(script.node(1).sent.contains { $0.bytes == 1000 })
    }

    @Test("a member far behind, in entries of earlier leaders, is brought up one message at a time")
    func catchUpFromTheLog() {
        let terms = (1...50).map { "\($0 / 10 + 1)" }.joined(separator: ",")
        let script = RaftScript(
            """
            option message-bytes 500
            nodes 3
            log 1 \(terms) term 7
            log 3 \(terms) term 7
            campaign 1
            deliver
            run 400
            expect 2 commit=51 last=51
            expect 1 mode.2=replicate
            """)
        #expect(script.node(1).sent.allSatisfy { $0.bytes <= 500 })
    }
    @Test("a caught-up follower marked unreachable recovers without new writes")
    func unreachableRecovers() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            run 100
            broke 1 2
            expect 1 mode.2=probe
            tick 50 1
            expect 1->2 heartbeat
            deliver
            expect 1 mode.2=replicate
            """)
    }

    /// 300 kB take 146 ms on the slowest way that is reckoned with; heartbeats overtake them.
    @Test("what a probe brings is not sent again before it can have arrived")
    func probesArePaced() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            broke 1 2
            propose 1 bytes 300000
            expect 1->2 append
            drop 1->2 append
            tick 50 1
            deliver
            tick 50 1
            deliver
            tick 50 1
            deliver
            expect 1 mode.2=probe commit=2
            expect 2 last=1
            tick 50 1
            deliver
            expect 2 last=2
            expect 1 mode.2=replicate
            """)
    }

    @Test("commit is learnt within a heartbeat and one and a half round trips after a blip")
    func commitAfterBlip() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            propose 1
            # The entry reaches everybody, the news of its commit is lost.
            deliver 1->*
            deliver *->1
            drop
            expect 1 commit=2
            expect 2 commit=1 last=2
            tick 50 1
            once
            expect 2 commit=2
            expect 3 commit=2
            """)
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            # Even the entry is lost.
            propose 1
            drop
            tick 50 1
            once
            once
            once
            once
            once
            once
            expect 1 commit=2
            """)
    }

    @Test("messages of an old term are ignored, and tell an old leader that its time is over")
    func oldTerm() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 1
            tick 50 1
            elapse 400 2 3
            campaign 2
            deliver
            expect 2 leader term=2 commit=2
            propose 1 x2
            expect 1 leader term=1 last=3
            heal
            broke 1 2
            # Its append and heartbeats change nothing.
            tick 50 1
            deliver 1->2
            deliver 1->3
            expect 3 log=1,2
            deliver 2->1
            expect 1 follower term=2
            run 300
            expect 1 log=1,2 commit=2 lead=2
            """)
    }

    @Test("reordered and repeated appends do no harm")
    func reorderedAppends() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            propose 1
            propose 1
            propose 1
            repeat 1->2
            reverse 1->2
            deliver
            run 300
            expect 1 commit=4
            expect 2 log=1,1,1,1 commit=4
            """)
    }

    @Test("an old append does not take away what came after it")
    func shortOldAppend() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            propose 1
            repeat 1->2
            reverse 1->2
            propose 1
            reverse 1->2
            deliver
            run 200
            expect 2 log=1,1,1 commit=3
            """)
    }

    @Test("a leader without a quorum stops taking proposals at its bound")
    func uncommittedBound() {
        RaftScript(
            """
            option uncommitted-bytes 1000
            nodes 3
            campaign 1
            deliver
            isolate 1
            propose 1 bytes 300
            propose 1 bytes 300
            expect 1 last=3 dropped=0
            propose 1 bytes 300
            expect 1 last=3 dropped=1
            heal
            run 300
            expect 1 commit=3
            # One that is larger than the bound is taken when nothing else waits.
            propose 1 bytes 3000
            deliver
            expect 1 commit=4 dropped=1
            """)
    }

    @Test("proposals are dropped, entry by entry, by whoever does not lead")
    func droppedProposals() {
        RaftScript(
            """
            nodes 3
            propose 2
            expect 2 dropped=1 last=0
            campaign 1
            deliver
            propose 2
            expect 2 dropped=2
            """)
    }

    @Test("a restarted member takes up where its log ends, and commits page by page again")
    func commitAcrossRestart() {
        RaftScript(
            """
            option message-bytes 400
            nodes 3
            campaign 1
            deliver
            propose 1 x8
            deliver
            run 100
            restart 3
            # What its last entry says was committed when it was made.
            expect 3 commit=1 last=9
            run 100
            expect 3 commit=9
            restart 1
            restart 2
            restart 3
            run 2000
            """
        ).expectNewLeader(within: [1, 2, 3])
    }

    @Test("learners receive everything and count for nothing")
    func learners() {
        RaftScript(
            """
            nodes 2 learners 3
            campaign 1
            deliver
            run 100
            expect 3 commit=1 log=1
            isolate 2
            propose 1
            deliver
            expect 3 log=1,1
            expect 1 commit=1 match.3=2
            tick 1000 3
            expect 3 follower term=1
            heal
            run 100
            expect 3 commit=2
            """)
    }

    @Test("a new membership counts from when it is applied")
    func membershipIsApplied() {
        RaftScript(
            """
            nodes 2 learners 3
            campaign 1
            deliver
            run 60
            isolate 2
            propose 1
            deliver
            expect 1 commit=1
            members 1,3
            deliver
            expect 1 commit=2
            members 2,3
            expect 1 follower
            """)
    }
}
