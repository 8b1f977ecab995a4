// Leadership is handed over on order, or stays.
import Engine
import Replication
import Testing

@Suite("Raft: leadership transfer")
struct TransferTests {
    static let start = "nodes 3\ncampaign 1\ndeliver\nrun 100\n"

    @Test("to an up-to-date member, at once, though everybody hears the leader")
    func upToDate() {
        RaftScript(
            Self.start + """
                transfer 1 2
                expect 1->2 timeout-now
                deliver
                expect 2 leader term=2
                expect 1 follower lead=2 term=2
                expect 3 follower lead=2
                run 60
                expect 1 commit=2
                """)
    }

    @Test("via a follower, which passes the order on")
    func viaFollower() {
        RaftScript(
            Self.start + """
                transfer 2 3
                expect 2->1 transfer
                deliver
                expect 3 leader term=2
                expect 1 follower lead=3
                expect 2 follower lead=3
                """)
    }

    @Test("via the follower that is to lead")
    func viaTheTarget() {
        RaftScript(
            Self.start + """
                transfer 2 2
                deliver
                expect 2 leader term=2
                """)
    }

    @Test("an order that a follower passes on ends with the leadership it was for")
    func viaFollowerTooLate() {
        RaftScript(
            Self.start + """
                transfer 2 3
                drop 2->1
                transfer 1 2
                deliver
                run 100
                expect 2 leader term=2
                forge 3 2 transfer term=1 to=3
                expect 2 leader transfer=0
                forge 1 3 transfer term=2 to=1
                expect 3 follower lead=2
                isolate 3
                tick 700 3
                transfer 3 1
                expect quiet
                """)
    }

    @Test("an order of another member is taken only for a target that is heard")
    func anothersOrderForADeadTarget() {
        RaftScript(
            Self.start + """
                isolate 3
                run 400
                forge 2 1 transfer term=1 to=3
                expect 1 leader transfer=0
                propose 1
                expect 1 dropped=0
                """)
    }

    @Test("after an order of another member that failed, none is taken for a while")
    func anothersOrdersThatFail() {
        RaftScript(
            Self.start + """
                damage 3
                forge 2 1 transfer term=1 to=3
                expect 1 leader transfer=3
                run 400
                expect 1 leader transfer=0
                forge 2 1 transfer term=1 to=3
                expect 1 leader transfer=0
                run 5000
                mend 3
                forge 2 1 transfer term=1 to=3
                deliver
                expect 3 leader term=2
                """)
    }

    @Test("orders of others neither replace nor take back one that is under way")
    func anothersOrderChangesNothing() {
        RaftScript(
            Self.start + """
                slow 3
                propose 1
                deliver
                transfer 1 3
                forge 2 1 transfer term=1 to=2
                expect 1 transfer=3
                forge 2 1 transfer term=1 to=1
                expect 1 transfer=3
                """)
    }

    @Test("to a slow member: it is brought up to date first")
    func slowTarget() {
        RaftScript(
            Self.start + """
                cut 1-3
                propose 1 x5
                deliver
                heal
                transfer 1 3
                expect 1 leader transfer=3
                expect 1->3 -
                run 200
                expect 3 leader term=2 commit=7
                expect 1 follower lead=3
                """)
    }

    @Test("to a member whose disk is slow: only when it is durable there")
    func slowDisk() {
        RaftScript(
            Self.start + """
                slow 3
                propose 1
                deliver
                transfer 1 3
                deliver
                expect 1 leader transfer=3
                sync 3
                deliver
                fast 3
                deliver
                expect 3 leader term=2
                """)
    }

    @Test("to a member that was taken up from tables")
    func afterTables() {
        let script = RaftScript(
            Self.start + """
                isolate 3
                propose 1 x9
                deliver
                trim 1 6
                heal
                run 900
                expect 1 mode.3=tables
                transfer 1 3
                run 100
                expect 1 leader transfer=3
                """)
        let node = script.node(3)
        node.disk = TestDisk()
        node.disk.base = .init(8)
        node.disk.baseTerm = .init(1)
        node.restart()
        script.run("made 1 3\nrun 50\nexpect 3 leader term=2")
    }

    @Test("to itself, to nobody known, to a learner: nothing happens")
    func impossibleTargets() {
        RaftScript(
            """
            nodes 3 learners 4
            campaign 1
            deliver
            run 100
            transfer 1 1
            expect 1 transfer=0
            transfer 1 9
            expect 1 transfer=0
            transfer 1 4
            expect 1 transfer=0
            expect quiet
            propose 1
            deliver
            expect 1 leader commit=2 dropped=0
            """)
    }

    @Test("given up after an election timeout, with proposals refused meanwhile")
    func timeout() {
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                propose 1
                expect 1 transfer=3 dropped=1 last=1
                run 200
                expect 1 transfer=3
                run 110
                expect 1 leader transfer=0
                propose 1
                deliver
                expect 1 commit=2 dropped=1
                """)
    }

    @Test("a vote of a higher term ends it")
    func higherTermVote() {
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                expect 1 transfer=3
                broke 2 1
                elapse 300 1
                log 2 1,2 term 4
                heal
                tick 50 1
                deliver
                expect 1 follower transfer=0
                """)
    }

    @Test("the target is removed or demoted")
    func targetGone() {
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                members 1,2
                expect 1 leader transfer=0
                propose 1
                expect 1 dropped=0
                """)
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                members 1,2 learners 3
                expect 1 leader transfer=0
                """)
    }

    @Test("taken back by an order for the leader itself")
    func takenBack() {
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                expect 1 transfer=3
                transfer 1 1
                expect 1 leader transfer=0
                propose 1
                deliver
                expect 1 commit=2
                """)
    }

    @Test("a second target replaces the first; the same one does not renew the deadline")
    func secondTarget() {
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                transfer 1 2
                deliver
                expect 2 leader term=2
                """)
        RaftScript(
            Self.start + """
                isolate 3
                transfer 1 3
                run 200
                transfer 1 3
                run 110
                expect 1 leader transfer=0
                """)
    }

    @Test("there and back again")
    func thereAndBack() {
        RaftScript(
            Self.start + """
                transfer 1 2
                run 100
                expect 2 leader term=2
                transfer 2 1
                run 100
                expect 1 leader term=3 led=1,3 commit=3
                """)
    }

    @Test("a damaged target does not follow the order")
    func damagedTarget() {
        RaftScript(
            Self.start + """
                damage 2
                transfer 1 2
                run 350
                expect 1 leader term=1 transfer=0
                """)
    }

    @Test("a removed member that is ordered to lead does not")
    func nonMember() {
        RaftScript(
            Self.start + """
                transfer 1 2
                members 1,3
                deliver
                expect 2 follower term=1
                expect 1 leader term=1
                """)
    }

    @Test("an order of an old term is ignored")
    func oldOrder() {
        RaftScript(
            Self.start + """
                transfer 1 2
                repeat 1->2
                deliver
                expect 2 leader term=2 led=2
                """)
    }
}
