// Members that take tables because the log of the leader does not reach back far enough.
import Engine
import Replication
import Testing

@Suite("Raft: tables")
struct TablesTests {
    /// Member 3 lacks entries that member 1 has no more.
    static let start = """
        nodes 3
        campaign 1
        deliver
        run 100
        isolate 3
        propose 1 x9
        run 100
        trim 1 6
        heal
        run 900
        expect 1 mode.3=tables tables=3 commit=10

        """

    /// Member 3 has all of a log whose first entries are gone.
    private static let trimmed = """
        nodes 3
        campaign 1
        deliver
        propose 1 x9
        run 100
        trim 1 6

        """

    private func refuse(_ index: UInt64, _ script: RaftScript) {
        let leader = script.node(1)
        let refusal = AppendReply(
            term: leader.core.term, isAccepted: false, index: LogIndex(index),
            hintIndex: LogIndex(1), hintTerm: leader.core.term)
        leader.step(.message(from: MemberID(3), .appendReply(refusal)))
    }

    /// It was under way for long, or came twice.
    @Test("a refusal from before an acknowledgement sends nobody for tables", arguments: 1...2)
    func staleRefusal(copies: Int) {
        let script = RaftScript(Self.trimmed + "made 1 3")
        for _ in 0..<copies { refuse(10, script) }
        script.run(
            """
            tick 100 1
            run 300
            expect 1 mode.3=replicate match.3=10 tables=-
            """)
    }

    /// Others told that it has what was trimmed; its acknowledgement was lost.
    @Test("a late refusal sends nobody for tables whose acknowledgement is overdue")
    func refusalAndTrim() {
        let script = RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            propose 1
            run 100
            propose 1 x8
            deliver 1->3
            deliver 1->2
            deliver 2->1
            drop
            trim 1 6
            expect 1 mode.3=replicate match.3=2
            """)
        refuse(9, script)
        script.run(
            """
            expect 1 tables=-
            run 300
            expect 1 mode.3=replicate match.3=10 tables=-
            """)
    }

    /// The leader probed with what is the log's base now, and was refused.
    @Test("a late refusal of the base sends nobody for tables", arguments: 1...2)
    func staleRefusalOfBase(copies: Int) {
        let script = RaftScript(Self.trimmed + "made 1 3")
        refuse(10, script)
        for _ in 0..<copies { refuse(5, script) }
        script.run(
            """
            expect 1 mode.3=probe tables=-
            run 300
            expect 1 mode.3=replicate match.3=10 tables=-
            """)
        // The next one, long after that, starts anew.
        script.run("run 1000\nmade 1 3")
        refuse(10, script)
        refuse(5, script)
        script.run("expect 1 mode.3=probe tables=-")
    }

    @Test("a member that goes on refusing the first entry there is needs tables")
    func refusedBase() {
        let script = RaftScript(Self.trimmed + "isolate 3\nmade 1 3\ndrop")
        refuse(10, script)
        refuse(5, script)
        script.run("expect 1 mode.3=probe tables=-\nrun 500")
        refuse(5, script)
        script.run("expect 1 leader mode.3=probe tables=-\nrun 100")
        refuse(5, script)
        script.run("expect 1 mode.3=tables tables=3")
    }

    @Test("success is learnt through an acknowledgement")
    func success() {
        RaftScript(
            Self.start + """
                tables 3 from 1 8
                expect 3->1 ack
                expect 3 commit=8 last=8 applied=8
                run 200
                expect 1 mode.3=replicate match.3=10 tables=3
                expect 3 commit=10 last=10
                """)
    }

    @Test("nothing is sent to the member while it takes tables, but heartbeats")
    func paused() {
        RaftScript(
            Self.start + """
                drop
                propose 1
                propose 1
                tick 200 1
                expect 1->3 heartbeat,heartbeat,heartbeat,heartbeat
                expect 1 mode.3=tables
                """)
    }

    @Test("older tables are accepted if they let the logs connect")
    func olderTables() {
        RaftScript(
            Self.start + """
                tables 3 from 2 5
                run 200
                expect 1 mode.3=replicate match.3=10
                expect 3 commit=10
                """)
    }

    @Test("tables that are too old leave the member where it is, and it is sent for others")
    func tooOldTables() {
        RaftScript(
            Self.start + """
                tables 3 from 2 3
                run 200
                expect 1 mode.3=tables
                lost 1 3
                run 200
                expect 1 tables=3,3 mode.3=tables
                tables 3 from 1 9
                run 200
                expect 1 mode.3=replicate match.3=10
                """)
    }

    @Test("failed or aborted: the member is asked how far it reaches, and sent for tables again")
    func failed() {
        RaftScript(
            Self.start + """
                lost 1 3
                expect 1->3 probe
                run 200
                expect 1 tables=3,3 mode.3=tables
                # Of one that needs none, nothing is believed.
                lost 1 2
                expect 1 mode.2=replicate tables=3,3
                """)
    }

    @Test("repeated and stale tables change nothing")
    func repeatedAndStale() {
        RaftScript(
            Self.start + """
                tables 3 from 1 8
                run 200
                expect 3 commit=10 last=10
                drop
                tables 3 from 1 8
                tables 3 from 1 10
                tables 3 from 1 6
                expect 3 commit=10 last=10 log=1,1
                expect quiet
                """)
    }

    @Test("a log that already holds the place of the tables is kept")
    func keepsLog() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            propose 1 x4
            deliver 1->3
            expect 3 last=5 commit=1
            drop
            tables 3 from 1 4
            expect 3 last=5 commit=4 applied=4 log=1,1,1,1,1
            run 200
            expect 3 commit=5
            """)
    }

    @Test("a suffix that contradicts the tables goes")
    func replacesLog() {
        RaftScript(
            """
            nodes 3
            log 1 1,2,2,2 term 2
            log 2 1,2,2,2 term 2
            log 3 1,1,1,1,1,1 term 1
            isolate 3
            campaign 1
            deliver
            run 100
            trim 1 5
            expect 1 commit=5
            tables 3 from 2 4
            expect 3 last=4 commit=4
            heal
            run 200
            expect 3 last=5 commit=5
            expect 1 match.3=5 mode.3=replicate
            """)
    }

    @Test("a member that restarts half-way begins again")
    func restartHalfWay() {
        RaftScript(
            Self.start + """
                restart 3
                made 1 3
                run 200
                expect 1 mode.3=tables tables=3,3
                tables 3 from 1 10
                restart 3
                made 1 3
                run 200
                expect 1 match.3=10 mode.3=replicate
                expect 3 last=10 commit=10
                """)
    }

    @Test("a leader takes no tables")
    func leader() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            propose 1 x4
            deliver 1->2
            expect 2 last=5
            tables 2 from 1 3
            expect 2 commit=3
            deliver
            expect 1 leader commit=5
            """)
        let script = RaftScript("nodes 3\ncampaign 1\ndeliver\nrun 100")
        script.node(1).step(
            .installedTables(
                base: LogIndex(9), term: Term(1), members: RaftMembers(voters: [MemberID(2)])))
        script.run("expect 1 leader commit=1 last=1 voters=1,2,3")
    }

    @Test("restored with learners, and with a joint membership")
    func restoredMembers() {
        RaftScript(
            Self.start + """
                change 1 1,2,3 learners 4
                run 100
                tables 3 from 1 11
                expect 3 voters=1,2,3 learners=4 commit=11
                run 200
                expect 1 match.3=11
                """)
        RaftScript(
            "join 4,5\n" + Self.start + """
                change 1 1,4,3 explicit
                run 200
                tables 3 from 1 11
                expect 3 voters=1,3,4 old=1,2,3
                """)
    }

    @Test("restored as another: a voter is a learner now, a learner a voter")
    func restoredAsAnother() {
        RaftScript(
            Self.start + """
                change 1 1,2 learners 3
                run 100
                tables 3 from 1 11
                expect 3 voters=1,2 learners=3
                isolate 3
                tick 2000 3
                expect 3 follower term=1
                """)
        RaftScript(
            """
            nodes 2 learners 3
            campaign 1
            deliver
            run 100
            isolate 3
            propose 1 x9
            run 100
            change 1 1,2,3
            run 100
            tables 3 from 1 11
            expect 3 voters=1,2,3 learners=-
            campaign 3
            expect 3 precandidate
            """)
    }

    @Test("tables of a later term bring the term with them: nobody leads before what it holds")
    func laterTerm() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 100
            isolate 3
            elapse 700 1 2
            tick 10 1
            expect 1 follower
            campaign 2
            deliver
            expect 2 leader term=2
            propose 2 x9
            deliver
            run 100
            expect 3 term=1
            tables 3 from 2 8
            expect 3 term=2 saved=2 commit=8 last=8
            """)
    }
}
