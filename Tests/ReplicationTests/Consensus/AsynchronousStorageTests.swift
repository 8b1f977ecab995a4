// Nothing is promised before it is durable, and late reports never vouch for what came after.
import Engine
import Replication
import Testing

@Suite("Raft: asynchronous storage")
struct AsynchronousStorageTests {
    @Test("appends go two deep, and are acknowledged as each becomes durable")
    func twoDeep() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            slow 2
            propose 1
            propose 1
            deliver 1->2
            expect 2 last=3 durable=1
            expect 2->1 -
            sync 2 once
            expect 2 durable=2
            expect 2->1 ack
            deliver
            expect 1 commit=2
            sync 2 once
            deliver
            expect 1 commit=3
            """)
    }

    @Test("a leader ships before its own disk is done, and counts itself only after")
    func leaderCountsItselfWhenDurable() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            slow 1
            cut 1-3
            propose 1
            expect 1->2 append
            deliver
            expect 1 commit=1 match.2=2 durable=1
            sync 1
            expect 1 commit=2
            # Without its own disk, two others are a quorum.
            heal
            propose 1
            run 100
            expect 1 commit=3 durable=2
            """)
    }

    @Test("an append that repeats what is not durable yet is answered when it is")
    func repeatedBeforeDurable() {
        RaftScript(
            """
            nodes 2
            campaign 1
            deliver
            slow 2
            propose 1
            repeat 1->2
            deliver 1->2
            expect 2->1 -
            sync 2
            expect 2->1 ack
            """)
    }

    @Test("a slow disk is asked about with growing patience, and its entries are not sent again")
    func slowDiskIsNotBuried() {
        let script = RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            slow 3
            propose 1 bytes 500
            run 5000
            expect 1 commit=2 match.3=1 inflight.3=1
            """)
        #expect(script.node(1).sent.isEmpty)
        script.run("sync 3\nrun 60\nexpect 1 match.3=2")
    }

    @Test("the same index under three terms: a late report never vouches for newer entries")
    func sameIndexThreeTimes() {
        // Member 3 takes (2, term 1), (2, term 2) and then (2, term 1) again.
        let script = RaftScript("nodes 3\nlog 3 1")
        let node = script.node(3)
        node.isDiskFast = false
        let first = node.disk.entry(at: LogIndex(1))!
        let one = makeEntry(LogIndex(2), Term(1), previous: first.header.checksum)
        let two = makeEntry(LogIndex(2), Term(2), previous: first.header.checksum)
        func send(_ entry: Entry, term: UInt64, from: UInt64) {
            node.step(
                .message(
                    from: MemberID(from),
                    .append(
                        .init(
                            term: Term(term), previousIndex: LogIndex(1), previousTerm: Term(1),
                            entries: [entry], commit: .zero))))
        }
        send(one, term: 1, from: 1)
        send(two, term: 2, from: 2)
        send(one, term: 3, from: 1)
        #expect(node.disk.pending.count == 3)
        for expected in [1, 1, 2] as [UInt64] {
            node.completeAppend()
            #expect(node.core.durableIndex == LogIndex(expected))
            #expect(node.core.durableIndex <= node.disk.durable)
        }
        let acks = node.outbox.filter { $0.message.name == "ack" }
        #expect(acks.count == 1)
        #expect(
            acks.last?.message
                == .appendReply(.init(term: Term(3), isAccepted: true, index: LogIndex(2))))
    }

    @Test("a leader's own report after a change of term counts for nothing")
    func ownReportAfterTermChange() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 60
            slow 1
            isolate 1
            propose 1
            # The others go on without it and overwrite its entry.
            elapse 400 2 3
            campaign 2
            deliver
            expect 2 leader term=2
            tick 700 1
            heal
            tick 50 2
            once
            once
            once
            expect 1 follower log=1,2 durable=1
            # The first report is for the entry that is gone.
            sync 1 once
            expect 1 durable=1
            sync 1 once
            expect 1 durable=2
            run 60
            expect 1 commit=2
            """)
    }

    @Test("a rewind keeps what a pending append proves below it")
    func rewindBelowPending() {
        var appends = UnsyncedAppends()
        appends.add(last: LogIndex(10), term: Term(1))
        appends.rewind(after: LogIndex(7))
        appends.add(last: LogIndex(9), term: Term(2))
        #expect(appends.reported(index: LogIndex(10), term: Term(1)) == LogIndex(7))
        #expect(appends.reported(index: LogIndex(10), term: Term(1)) == nil)
        #expect(appends.reported(index: LogIndex(9), term: Term(2)) == LogIndex(9))
    }

    @Test("one report may cover several appends")
    func coalescedReports() {
        var appends = UnsyncedAppends()
        for index in 1...4 as ClosedRange<UInt64> {
            appends.add(last: LogIndex(index), term: Term(1))
        }
        #expect(appends.reported(index: LogIndex(3), term: Term(1)) == LogIndex(3))
        #expect(appends.reported(index: LogIndex(2), term: Term(1)) == nil)
        #expect(appends.reported(index: LogIndex(4), term: Term(1)) == LogIndex(4))
    }

    @Test("what was acknowledged survives a crash; what was not may be gone")
    func crashBeforeDurable() {
        RaftScript(
            """
            nodes 3
            campaign 1
            deliver
            run 60
            slow 2
            slow 3
            propose 1
            deliver
            expect 1 commit=1
            restart 2
            restart 3
            expect 2 log=1
            sync 1
            broke 1 2
            broke 1 3
            fast 2
            fast 3
            run 1000
            expect 1 leader term=1 commit=2
            expect 2 commit=2
            """)
    }
}
