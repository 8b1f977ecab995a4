// A linearizable read never returns less than what was committed anywhere when it was asked.
import Engine
import Replication
import Testing

@Suite("Raft: reads")
struct ReadIndexTests {
    static let start = "nodes 3\ncampaign 1\ndeliver\nrun 100\n"

    @Test("a read is answered by the round that was sent after it arrived")
    func oneRound() {
        RaftScript(
            Self.start + """
                read 1 a
                expect 1->2 heartbeat
                expect 1 reads=-
                deliver
                expect 1 reads=a@1
                expect quiet
                """)
    }

    @Test("a read that arrives while a round is in flight waits for the next one")
    func nextRoundTakesAll() {
        RaftScript(
            Self.start + """
                read 1 a
                read 1 b
                read 1 c
                expect 1->2 heartbeat
                once
                once
                expect 1 reads=a@1
                # One round for both.
                expect 1->2 heartbeat
                once
                once
                expect 1 reads=a@1,b@1,c@1
                """)
    }

    @Test("an acknowledgement of an earlier round confirms no later read")
    func earlierRoundProvesNothing() {
        RaftScript(
            Self.start + """
                tick 50 1
                # The acknowledgements of this plain round are under way when the read arrives.
                once
                read 1 a
                deliver 2->1
                deliver 3->1
                expect 1 reads=-
                deliver
                expect 1 reads=a@1
                """)
    }

    @Test("reads wait for the term's first commit")
    func firstCommit() {
        RaftScript(
            """
            nodes 3
            log 1 1,1 term 1
            log 2 1,1 term 1
            log 3 1,1 term 1
            silent 1
            campaign 1
            deliver
            expect 1 leader term=2
            read 1 a
            run 200
            expect 1 reads=- commit=0
            propose 1
            deliver
            expect 1 reads=a@3 commit=3
            """)
    }

    @Test("a single member answers at once, after its first commit")
    func singleMember() {
        RaftScript(
            """
            nodes 1
            slow 1
            tick 10
            read 1 a
            expect 1 reads=-
            sync 1
            expect 1 reads=a@1
            read 1 b
            expect 1 reads=a@1,b@1
            """)
    }

    @Test("learners do not confirm")
    func learners() {
        RaftScript(
            """
            nodes 2 learners 3,4
            campaign 1
            deliver
            run 100
            isolate 2
            read 1 a
            deliver
            expect 1 reads=-
            heal
            tick 50 1
            deliver
            expect 1 reads=a@1
            """)
    }

    @Test("a lost round is made good by the next heartbeat")
    func lostRound() {
        RaftScript(
            Self.start + """
                read 1 a
                drop
                read 1 b
                tick 50 1
                deliver
                expect 1 reads=a@1,b@1
                """)
    }

    @Test("equal contexts are answered each")
    func duplicateContexts() {
        RaftScript(
            Self.start + """
                read 1 a
                read 1 a
                deliver
                expect 1 reads=a@1,a@1
                """)
    }

    @Test("an old leader never answers: its reads are refused when it learns the truth")
    func oldLeader() {
        RaftScript(
            Self.start + """
                isolate 1
                elapse 400 2 3
                campaign 2
                deliver
                expect 2 leader term=2 commit=2
                read 1 a
                expect 1 leader reads=-
                heal
                read 1 b
                tick 50 1
                deliver
                expect 1 follower reads=- refused=a,b
                """)
    }

    @Test("a leader cut off refuses its reads when check-quorum ends it")
    func cutOff() {
        RaftScript(
            Self.start + """
                isolate 1
                read 1 a
                tick 700 1
                expect 1 follower reads=- refused=a
                read 1 b
                expect 1 refused=a,b
                """)
    }

    @Test("a follower refuses: the leader is to be asked")
    func follower() {
        RaftScript(Self.start + "read 2 a\nexpect 2 refused=a reads=-")
    }

    @Test("retries never return an older index")
    func retries() {
        let script = RaftScript(Self.start)
        for _ in 0..<20 {
            script.run("read 1 a\npropose 1\ndrop 1->3\nread 1 a\nonce\nonce")
        }
        script.run("run 200")
        let indexes = script.node(1).ready.map(\.index)
        #expect(indexes.count == 40)
        #expect(indexes == indexes.sorted())
    }

    /// Each retry goes to whoever leads then: what one of them has shown, no later one undercuts.
    @Test("retries never return an older index, whoever leads")
    func retriesAcrossChangesOfLeader() {
        let script = RaftScript(Self.start)
        var shown: [LogIndex] = []
        func retry(at leader: UInt64) {
            let before = script.node(leader).ready.count
            // What this leader commits last, one of the others has yet to learn.
            script.run("propose \(leader)\nread \(leader) a\nonce\nonce\nrun 150")
            shown += script.node(leader).ready.dropFirst(before).map(\.index)
        }
        var leader: UInt64 = 1
        for _ in 0..<12 {
            retry(at: leader)
            // Cut off it goes on with its clients, and answers none of them.
            let deposed = leader
            script.run("isolate \(deposed)\npropose \(deposed)\nread \(deposed) b")
            let before = script.node(deposed).ready.count
            script.run("run 3000")
            leader = [1, 2, 3].first { $0 != deposed && script.node($0).core.leadTerm != nil } ?? 0
            #expect(leader > 0)
            guard leader > 0 else { return }
            retry(at: leader)
            script.run("heal\nrun 300")
            #expect(script.node(deposed).ready.count == before)
        }
        #expect(shown.count == 24)
        #expect(shown == shown.sorted())
    }

    @Test("the round's heartbeat brings the commit that the asking follower waits for")
    func roundCarriesCommit() {
        RaftScript(
            Self.start + """
                propose 1
                deliver
                expect 2 commit=1 last=2
                read 1 a
                deliver
                expect 1 reads=a@2
                expect 2 commit=2
                """)
    }

    @Test("the age of the last quorum contact: small on a leader at work, growing when cut off")
    func quorumAge() {
        let script = RaftScript(Self.start)
        let leader = script.node(1)
        let follower = script.node(2)
        #expect((leader.core.quorumAge(now: leader.now) ?? .max) <= 50)
        #expect((follower.core.quorumAge(now: follower.now) ?? .max) <= 110)
        script.run("isolate 1\ntick 400 1 2\ndrop")
        #expect((leader.core.quorumAge(now: leader.now) ?? 0) >= 400)
        #expect((leader.core.quorumAge(now: leader.now) ?? 0) <= 460)
    }

    @Test("a member that lags is told an age that covers its lag")
    func lagShowsInAge() {
        let script = RaftScript(
            Self.start + """
                slow 3
                propose 1
                run 1000
                expect 3 durable=1
                expect 2 commit=2
                """)
        let lagging = script.node(3)
        let fresh = script.node(2)
        #expect((lagging.core.quorumAge(now: lagging.now) ?? 0) >= 900)
        #expect((fresh.core.quorumAge(now: fresh.now) ?? .max) <= 110)
        script.run("sync 3\nrun 200\nexpect 3 commit=2")
        #expect((lagging.core.quorumAge(now: lagging.now) ?? .max) <= 110)
    }

    @Test("a heartbeat that was under way for long makes nothing fresh")
    func lateHeartbeats() {
        // Member 3 stands still; what the leader says meanwhile waits in its socket.
        let script = RaftScript(Self.start + "run 200\ntick 500 1 2\n")
        let member = script.node(3)
        #expect((member.core.quorumAge(now: member.now) ?? .max) <= 110)
        script.run("elapse 60000 3\ndeliver 1->3\n")
        #expect((member.core.quorumAge(now: member.now) ?? .max) >= 60_000)
        script.run("run 300\n")
        #expect((member.core.quorumAge(now: member.now) ?? .max) <= 210)
    }

    @Test("a new leader's word is not taken for fresh by a member that is far behind")
    func lagBeforeANewLeader() {
        let script = RaftScript(
            Self.start + """
                isolate 3
                propose 1
                run 60000
                transfer 1 2
                deliver
                run 100
                expect 2 leader term=2 commit=3
                heal
                tick 50 2
                deliver 2->3
                expect 3 follower lead=2 commit=1
                """)
        let lagging = script.node(3)
        #expect((lagging.core.quorumAge(now: lagging.now) ?? .max) >= 60_000)
        script.run("run 300\nexpect 3 commit=3")
        #expect((lagging.core.quorumAge(now: lagging.now) ?? .max) <= 110)
    }

    @Test("nothing counts as fresh before the term's first commit")
    func nothingIsFreshBeforeTheFirstCommit() {
        let script = RaftScript(
            """
            nodes 3
            log 1 1,1 term 1
            log 2 1,1 term 1
            log 3 1,1 term 1
            silent 1
            campaign 1
            deliver
            run 200
            expect 1 leader term=2 commit=0
            """)
        let leader = script.node(1)
        let follower = script.node(2)
        #expect(leader.core.quorumAge(now: leader.now) == nil)
        #expect((follower.core.quorumAge(now: follower.now) ?? .max) >= 60_000)
        script.run("propose 1\nrun 200\nexpect 2 commit=3")
        #expect((leader.core.quorumAge(now: leader.now) ?? .max) <= 50)
        #expect((follower.core.quorumAge(now: follower.now) ?? .max) <= 110)
    }

    @Test("commands may be evaluated once the own first entry is applied")
    func evaluation() {
        let script = RaftScript("nodes 3\ncampaign 1\nslow 1\nslow 2\nslow 3\ndeliver")
        let leader = script.node(1)
        #expect(leader.core.leadTerm == Term(1))
        #expect(leader.core.evaluableTerm(applied: .zero) == nil)
        script.run("sync 1\nsync 2\ndeliver\nexpect 1 commit=1")
        #expect(leader.core.evaluableTerm(applied: .zero) == nil)
        #expect(leader.core.evaluableTerm(applied: LogIndex(1)) == Term(1))
        script.run("isolate 3\ntransfer 1 3")
        #expect(leader.core.evaluableTerm(applied: LogIndex(1)) == nil)
    }

    // MARK: Found on paper

    @Test("sockets of both followers reset while the leader serves reads")
    func socketsReset() {
        RaftScript(
            Self.start + """
                propose 1
                deliver
                # Followers forget the leader at once; it has noticed nothing and still serves.
                broke 2 1
                broke 3 1
                cut 1-2
                cut 1-3
                run 300
                read 1 a
                expect 1 leader term=1
                """
        ).readAfterFailover()
    }

    @Test("sockets reset and made again: the leader stays, and reads stay right")
    func socketsResetBriefly() {
        RaftScript(
            Self.start + """
                read 1 a
                drop
                broke 1 2
                broke 1 3
                made 1 2
                made 1 3
                deliver
                expect 1 reads=-
                tick 50 1
                deliver
                expect 1 leader term=1 reads=a@1 mode.2=replicate mode.3=replicate
                """)
    }

    @Test("both followers pre-vote over fresh sockets while the old leader's round is under way")
    func resetDuringRound() {
        RaftScript(
            Self.start + """
                read 1 a
                # Member 2 acknowledges the round, its answer is still under way...
                deliver 1->2
                cut 1-3
                broke 2 1
                broke 3 1
                campaign 3
                deliver 3->2
                deliver 2->3
                deliver 3->2
                deliver 2->3
                expect 3 leader term=2
                # ...and may confirm the read: it was sent before any other leader was elected.
                read 1 b
                deliver 2->1
                expect 1 reads=a@1
                heal
                deliver
                run 100
                expect 1 follower reads=a@1 refused=b
                """)
    }

    @Test("memory freed: nothing is kept of a read that was answered, or refused with leadership")
    func memoryFreed() {
        RaftScript(
            Self.start + """
                read 1 a
                read 1 b
                read 1 c
                expect 1 waiting=3
                deliver
                expect 1 waiting=0 reads=a@1,b@1,c@1
                isolate 1
                read 1 d
                read 1 e
                expect 1 waiting=2
                tick 700 1
                expect 1 follower waiting=0 refused=d,e
                read 1 f
                expect 1 waiting=0 refused=d,e,f
                heal
                run 2000
                expect 1 waiting=0
                """)
    }
}

extension RaftScript {
    /// A new leader among 2 and 3 commits something; the old one's read is never answered.
    func readAfterFailover() {
        expectNewLeader(within: [2, 3])
        let leader: UInt64 = node(2).core.leadTerm == nil ? 3 : 2
        run(
            """
            propose \(leader)
            run 100
            expect 1 leader reads=-
            heal
            run 100
            expect 1 follower reads=- refused=a
            """)
    }
}
