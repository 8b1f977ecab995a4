// How soon a cluster has a leader again, and what half-broken networks do to it.
import Engine
import Replication
import Testing

@Suite("Raft: failover")
struct FailoverTests {
    @Test("after a killed leader's connections reset, a new one leads within 300 ms")
    func fastFailover() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 500
            isolate 1
            broke 2 1
            broke 3 1
            run 300
            expect 1 leader term=1
            """
        ).expectNewLeader(within: [2, 3])
    }

    @Test("failover is fast too when one survivor sees the reset late")
    func fastFailoverWithLateReset() {
        for late in stride(from: 10, through: 100, by: 10) {
            RaftScript(
                """
                nodes 3
                campaign 1
                deliver
                run 500
                isolate 1
                broke 2 1
                run \(late)
                broke 3 1
                run 300
                """
            ).expectNewLeader(within: [2, 3])
        }
    }

    @Test("a single follower's broken connection disturbs nobody")
    func brokenConnectionOfOne() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 500
            broke 2 1
            run 2000
            expect 1 leader term=1 led=1
            expect 2 follower lead=1
            """)
    }

    @Test("a leader that can send but not receive gives up, and the others go on without it")
    func sendOnlyLeader() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            cut 2->1
            cut 3->1
            run 550
            expect 1 leader term=1
            run 1500
            # It hears nobody, so it can only ask.
            expect 1 precandidate term=1 lead=0
            """
        ).expectNewLeader(within: [2, 3])
    }

    @Test("a leader that can receive but not send is replaced, and never answers a read")
    func receiveOnlyLeader() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            cut 1->2
            cut 1->3
            read 1 a
            run 2000
            expect 1 follower reads=- refused=a
            """
        ).expectNewLeader(within: [2, 3])
    }
}

extension RaftScript {
    /// One of these members leads, in a term above the first.
    func expectNewLeader(within members: [UInt64]) {
        let leads = members.filter { node($0).core.leadTerm.map { $0.rawValue > 1 } ?? false }
        #expect(leads.count == 1, "no single new leader")
    }
}
