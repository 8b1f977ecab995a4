// Members come, go and change their part, one at a time or several through a joint membership.
import Engine
import Replication
import Testing

@Suite("Raft: membership")
struct MembershipTests {
    static let start = "nodes 3\njoin 4,5\ncampaign 1\ndeliver\nrun 100\n"

    @Test("one is added, and counts from when the change is applied")
    func addOne() {
        RaftScript(
            Self.start + """
                change 1 1,2,3,4
                expect 1 changes=1 voters=1,2,3
                deliver
                expect 1 voters=1,2,3,4 old=- commit=2
                run 200
                expect 4 voters=1,2,3,4 commit=2 lead=1
                expect 1 match.4=2 mode.4=replicate
                # Two of four are no majority.
                isolate 3
                isolate 4
                propose 1
                run 50
                expect 1 commit=2
                heal
                run 300
                expect 4 commit=3
                """)
    }

    @Test("one is removed: it counts no more, and disturbs nobody")
    func removeOne() {
        RaftScript(
            Self.start + """
                change 1 1,2
                deliver
                expect 1 voters=1,2 commit=2
                isolate 2
                propose 1
                run 50
                expect 1 commit=2
                heal
                run 3000
                expect 1 leader term=1 commit=3
                expect 2 follower lead=1 term=1
                """)
    }

    @Test("a removed member that comes back is taken up again")
    func removedAndAddedAgain() {
        RaftScript(
            Self.start + """
                change 1 1,2
                run 200
                propose 1 x3
                run 100
                change 1 1,2,3
                run 300
                expect 3 voters=1,2,3 commit=6 lead=1
                """)
    }

    @Test("a removed leader steps down, and another takes over at once")
    func removeLeader() {
        RaftScript(
            Self.start + """
                change 1 2,3
                deliver
                expect 1 follower voters=2,3
                expect 2 leader term=2
                run 3000
                expect 1 follower term=1
                expect 2 leader term=2 voters=2,3
                """)
    }

    @Test("two at once go through a joint membership, which the leader leaves by itself, once")
    func jointLeftByItself() {
        RaftScript(
            Self.start + """
                change 1 1,4,5
                deliver 1->2
                deliver 2->1
                expect 1 voters=1,4,5 old=1,2,3 changes=2
                run 500
                expect 1 leader voters=1,4,5 old=- changes=2
                expect 5 voters=1,4,5 old=- lead=1
                run 3000
                expect 1 leader term=1 changes=2 dropped=0
                """)
    }

    @Test("while joint, both majorities are needed, and a leader that goes counts in the old one")
    func bothMajorities() {
        RaftScript(
            Self.start + """
                change 1 2,3,4 explicit
                run 200
                expect 1 leader voters=2,3,4 old=1,2,3 commit=2
                # A majority of the old: 1 and 2. Of the new: 2 alone.
                isolate 3
                isolate 4
                propose 1
                run 50
                expect 1 commit=2
                heal
                run 100
                expect 1 commit=3
                # 3 and 4 are one of the new, but with 1 only two of the old.
                isolate 2
                propose 1
                run 100
                expect 1 commit=4
                # Without 2 and 3, one of the old is left.
                isolate 3
                propose 1
                run 50
                expect 1 commit=4
                """)
    }

    @Test("while joint, a candidate needs both majorities")
    func electionWhileJoint() {
        RaftScript(
            Self.start + """
                change 1 1,4,5 explicit
                run 200
                expect 5 voters=1,4,5 old=1,2,3
                isolate 1
                isolate 2
                # 4 has a majority of the new behind it, and one of three of the old.
                run 3000
                expect 4 term=1
                expect 5 term=1
                heal
                isolate 1
                run 3000
                """
        ).expectNewLeader(within: [2, 3, 4, 5])
    }

    @Test("a joint membership is left when somebody says so; twice is once")
    func explicitLeave() {
        RaftScript(
            Self.start + """
                change 1 1,4,5 explicit
                run 2000
                expect 1 leader voters=1,4,5 old=1,2,3 changes=1
                leave 1
                leave 1
                expect 1 dropped=1 changes=2
                run 200
                expect 1 voters=1,4,5 old=-
                leave 1
                run 200
                expect 1 leader voters=1,4,5 old=- changes=3
                """)
    }

    @Test("a new leader ends a joint membership that the old one could not")
    func leaderChangeWhileJoint() {
        let script = RaftScript(
            Self.start + """
                isolate 4
                isolate 5
                change 1 1,4,5
                run 100
                expect 1 voters=1,4,5 old=1,2,3
                heal
                isolate 1
                run 4000
                expect 4 voters=1,4,5 old=- changes=2
                expect 5 voters=1,4,5 old=- changes=2
                """)
        script.expectNewLeader(within: [4, 5])
        script.run(
            """
            heal
            run 1000
            expect 1 voters=1,4,5 old=-
            """)
    }

    @Test("the leader is replaced: a transfer inside the joint membership")
    func replaceLeader() {
        RaftScript(
            Self.start + """
                change 1 2,3,4 explicit
                run 200
                transfer 1 4
                run 100
                expect 4 leader term=2 voters=2,3,4 old=1,2,3
                leave 4
                run 200
                expect 4 leader voters=2,3,4 old=-
                expect 2 voters=2,3,4 lead=4
                run 3000
                expect 4 leader term=2
                """)
    }

    @Test("an old voter that goes is no target of a transfer")
    func noTransferToWhoGoes() {
        RaftScript(
            Self.start + """
                change 1 1,2,4 explicit
                run 200
                transfer 1 3
                expect 1 transfer=0
                """)
    }

    @Test("a demoted voter votes until the joint membership is left; its progress is kept")
    func demotion() {
        RaftScript(
            Self.start + """
                change 1 1,2,4 learners 3 explicit
                run 200
                expect 1 voters=1,2,4 old=1,2,3 learners=- match.3=2
                isolate 2
                propose 1
                run 100
                # 1 and 4 of the new, 1 and 3 of the old.
                expect 1 commit=3
                heal
                run 100
                leave 1
                deliver 1->2
                deliver 1->4
                deliver 2->1
                deliver 4->1
                expect 1 voters=1,2,4 old=- learners=3 match.3=3 mode.3=replicate
                run 200
                expect 3 learners=3 commit=4
                tick 1000 3
                expect 3 follower term=1
                """)
    }

    @Test("one voter becomes a learner, and a voter again")
    func learnerAndBack() {
        RaftScript(
            Self.start + """
                change 1 1,2 learners 3
                run 100
                expect 1 voters=1,2 learners=3 match.3=2
                change 1 1,2,3
                run 100
                expect 1 voters=1,2,3 learners=- match.3=3
                expect 3 voters=1,2,3
                """)
    }

    @Test("a learner is promoted while far behind: the others go on, it catches up")
    func promotedFarBehind() {
        RaftScript(
            """
            nodes 3 learners 4
            campaign 1
            deliver
            run 100
            isolate 4
            propose 1 x30
            run 100
            change 1 1,2,3,4
            run 100
            expect 1 voters=1,2,3,4 commit=32
            propose 1
            run 100
            expect 1 commit=33
            heal
            run 300
            expect 4 commit=33 voters=1,2,3,4
            """)
    }

    @Test("one change at a time, and none before the term's first commit")
    func oneAtATime() {
        RaftScript(
            Self.start + """
                change 1 1,2,3,4
                change 1 1,2
                expect 1 dropped=1 changes=1
                run 100
                change 1 1,2,3
                expect 1 dropped=1 changes=2
                """)
        RaftScript(
            """
            nodes 3
            log 1 1
            log 2 1
            log 3 1
            silent 1
            campaign 1
            deliver
            change 1 1,2
            expect 1 leader dropped=1 changes=0
            propose 1
            run 100
            change 1 1,2
            expect 1 dropped=1 changes=1
            """)
    }

    @Test("a change that its leader has not applied holds back the next one")
    func leaderAppliesLate() {
        RaftScript(
            Self.start + """
                lag 1
                change 1 1,2,3,4
                run 100
                expect 1 commit=2 applied=1 voters=1,2,3
                change 1 1,2,3,4,5
                expect 1 dropped=1
                catch 1
                change 1 1,2,3,4,5
                run 200
                expect 1 dropped=1 voters=1,2,3,4,5
                """)
    }

    @Test("a committed change that is not applied blocks a campaign, and a transfer")
    func pendingChangeBlocksCampaign() {
        RaftScript(
            Self.start + """
                lag 2
                change 1 1,2,3,4
                run 100
                expect 2 commit=2 applied=1
                transfer 1 2
                run 400
                expect 1 leader term=1 transfer=0
                isolate 1
                isolate 3
                tick 2000 2
                expect 2 follower term=1
                catch 2
                campaign 2
                expect 2 precandidate
                """)
    }

    @Test("the membership is rebuilt from state and log: nobody campaigns two changes behind")
    func rebuiltFromState() {
        let script = RaftScript(
            Self.start + """
                change 1 1,2,3,4
                run 200
                change 1 1,2,3,4,5
                run 200
                expect 1 voters=1,2,3,4,5
                restart 1
                expect 1 commit=2 applied=0 voters=1,2,3
                tick 10 1
                expect 1 applied=2 voters=1,2,3,4
                # The first three members alone were a majority once.
                restart 2
                isolate 3
                isolate 4
                isolate 5
                run 3000
                expect 1 term=1
                expect 2 term=1
                """)
        script.run(
            """
            heal
            isolate 1
            isolate 2
            run 3000
            """)
        script.expectNewLeader(within: [3, 4, 5])
    }

    @Test("what the log held at the start may be a change: no campaign before it is applied")
    func unknownKindsBlockCampaign() {
        RaftScript(
            Self.start + """
                change 1 1,2,3,4
                run 200
                propose 1
                run 200
                lag 2
                restart 2
                expect 2 commit=2 applied=0
                isolate 1
                tick 2000 2
                expect 2 follower term=1
                catch 2
                campaign 2
                expect 2 precandidate voters=1,2,3,4
                """)
    }

    @Test("a change that is rewound never acts, and does not hold back another")
    func rewoundChange() {
        let script = RaftScript(
            Self.start + """
                isolate 1
                change 1 1,2
                expect 1 changes=1
                run 2000
                """)
        script.expectNewLeader(within: [2, 3])
        script.run(
            """
            heal
            run 1000
            expect 1 follower changes=0 voters=1,2,3
            """)
        let leader: UInt64 = script.node(2).core.leadTerm == nil ? 3 : 2
        script.run("change \(leader) 1,2,3,4\nrun 300\nexpect 1 voters=1,2,3,4 changes=1")
    }

    @Test("the last other member goes: a cluster of one goes on alone")
    func downToOne() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            run 100
            change 1 1
            run 100
            expect 1 leader voters=1
            isolate 2
            propose 1
            expect 1 commit=3
            read 1 a
            expect 1 reads=a@3
            run 2000
            expect 1 leader term=1
            """)
    }
}
