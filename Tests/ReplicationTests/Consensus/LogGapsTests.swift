// Members that need what is gone, lost what they had, or send nonsense.
import Engine
import Replication
import Testing

@Suite("Raft: gaps and garbage")
struct LogGapsTests {
    @Test("a follower that needs trimmed entries is sent to the tables, once")
    func trimmedAway() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 3
            propose 1 x9
            deliver
            expect 1 commit=10
            trim 1 6
            heal
            run 900
            # What it still has in memory of member 3's place: entry 2, which is gone.
            expect 1 tables=3 mode.3=tables
            run 1000
            expect 1 leader tables=3
            expect 3 follower lead=1 last=1
            # It comes back, and still needs them.
            made 1 3
            deliver
            expect 1 tables=3,3
            """)
    }

    @Test("a member that got its tables is taken up again by its acknowledgement")
    func tablesArrived() {
        let script = RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            isolate 3
            propose 1 x9
            deliver
            trim 1 6
            heal
            run 900
            expect 1 mode.3=tables
            isolate 3
            """)
        // The driver of member 3 installed tables through entry 8.
        let node = script.node(3)
        node.disk = TestDisk()
        node.disk.base = LogIndex(8)
        node.disk.baseTerm = Term(1)
        node.restart()
        script.run(
            """
            heal
            made 1 3
            run 200
            expect 3 last=10 commit=10 durable=10
            expect 1 mode.3=replicate match.3=10 tables=3
            """)
    }

    @Test("a follower that lost acknowledged entries is fed again")
    func lostTail() {
        let script = RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            propose 1 x4
            deliver
            run 60
            expect 1 match.3=5
            """)
        script.node(3).disk.stored.removeLast(3)
        script.run(
            """
            restart 3
            expect 3 last=2
            broke 1 3
            run 200
            expect 3 last=5 commit=5
            expect 1 match.3=5 mode.3=replicate
            """)
    }

    @Test("garbage from the network neither traps nor changes anything")
    func garbage() {
        let script = RaftScript("nodes 3\ncampaign 1\ndeliver\nrun 60")
        let huge = UInt64.max
        let stray = makeEntry(LogIndex(9), Term(1), previous: .zero)
        let conflicting = makeEntry(LogIndex(1), Term(0), previous: .zero)
        func append(_ term: UInt64, _ previous: UInt64, _ entries: [Entry], _ commit: UInt64)
            -> RaftMessage
        {
            .append(
                .init(
                    term: Term(term), previousIndex: LogIndex(previous), previousTerm: Term(0),
                    entries: entries, commit: LogIndex(commit)))
        }
        let messages: [RaftMessage] = [
            append(huge, 0, [], 0), append(1, huge, [stray], 0), append(1, 0, [stray], huge),
            append(1, 0, [conflicting], 5), append(1, 1, [], huge),
            .appendReply(.init(term: Term(1), isAccepted: true, index: LogIndex(huge))),
            .appendReply(
                .init(
                    term: Term(1), isAccepted: false, index: LogIndex(1),
                    hintIndex: LogIndex(huge), hintTerm: Term(huge))),
            .appendReply(.init(term: Term(1), isAccepted: false, index: .zero)),
            .heartbeat(
                .init(
                    term: Term(1), commit: LogIndex(huge), round: huge, clock: huge, quorumAge: huge
                )),
            .heartbeatReply(.init(term: Term(1), round: huge, clock: huge)),
            .vote(
                .init(
                    term: Term(huge), isPreVote: false, lastIndex: LogIndex(huge),
                    lastTerm: Term(huge), isTransfer: true)),
            .voteReply(.init(term: Term(huge), isPreVote: true, isGranted: true)),
            .timeoutNow(term: Term(huge)),
        ]
        for message in messages {
            for (to, from) in [(1, 2), (2, 1), (3, 9)] as [(UInt64, UInt64)] {
                script.node(to).step(.message(from: MemberID(from), message))
                script.node(to).outbox.removeAll()
            }
            script.node(1).step(.appendDurable(index: LogIndex(huge), term: Term(huge)))
        }
        script.run(
            """
            run 500
            expect 1 leader term=1 commit=1 log=1
            expect 2 term=1 log=1 commit=1
            propose 1
            run 100
            expect 3 commit=2
            """)
    }
}
