// Who ought to lead: the preferred member, and nobody whose disk is stuck.
import Engine
import Replication
import Testing

@Suite("Raft: who ought to lead")
struct LeaderFitnessTests {
    @Test("a leader hands over to the preferred one once it is heard and up to date")
    func preferredLeader() {
        RaftScript(
            """
            option prefer 3
            nodes 3
            campaign 1
            deliver
            expect 1 leader
            isolate 3
            run 1000
            expect 1 leader term=1 transfer=0
            heal
            run 1000
            expect 3 leader term=2
            run 20000
            expect 3 leader term=2
            """)
    }

    @Test("a preferred leader that does not take over is asked again ever more rarely")
    func preferredLeaderUnfit() {
        let script = RaftScript(
            """
            option prefer 3
            nodes 3
            campaign 1
            deliver
            damage 3
            """)
        var attempts = 0
        var isTrying = false
        for _ in 0..<1000 {
            script.run("run 100")
            let target = script.node(1).core.transferTarget
            if target != nil, !isTrying { attempts += 1 }
            isTrying = target != nil
        }
        script.run("expect 1 leader term=1")
        // In 100 s: after 0.6, 5.6, 15.6, 35.6 and 75.6.
        #expect(attempts == 5)
        script.run("mend 3\nrun 90000\nexpect 3 leader term=2")
    }

    @Test("a learner or a stranger that is preferred changes nothing")
    func preferredNobody() {
        RaftScript(
            """
            option prefer 4
            nodes 3 learners 4
            campaign 1
            deliver
            run 8000
            expect 1 leader term=1 transfer=0
            """)
    }

    @Test("a leader with a stuck disk that still heartbeats abdicates")
    func stuckDisk() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            slow 1
            propose 1
            run 2900
            # The others have it, so it is committed; this disk does not move.
            expect 1 leader commit=2 durable=1
            run 300
            expect 1 follower term=2
            expect 2 leader term=2
            # It does not ask to lead, though it hears nobody.
            isolate 1
            run 3000
            expect 1 follower
            fast 1
            run 1000
            expect 1 precandidate
            """)
    }

    @Test("a slow disk that moves is not stuck")
    func slowDisk() {
        let script = RaftScript(
            "nodes 3\ncampaign 1\ndeliver\nrun 100\nslow 1\npropose 1\npropose 1")
        for _ in 0..<5 { script.run("run 2000\nsync 1 once\npropose 1") }
        script.run("expect 1 leader term=1")
    }

    @Test("a leader with a stuck disk and nobody to take over goes on")
    func stuckAndAlone() {
        RaftScript(
            """
            nodes 1
            tick 10
            slow 1
            propose 1
            run 10000
            expect 1 leader term=1
            fast 1
            expect 1 commit=2
            """)
    }
}
