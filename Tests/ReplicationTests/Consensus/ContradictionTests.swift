// What cannot be true is ignored and named, whoever says it; the group goes on.
import Engine
import Replication
import Testing

@Suite("Raft: members that lie")
struct ContradictionTests {
    static let start = "nodes 3\ncampaign 1\ndeliver\nrun 100\npropose 1 x2\ndeliver\nrun 100\n"

    @Test("an acknowledgement of entries that the leader does not have commits nothing")
    func acknowledgesBeyondTheLog() {
        RaftScript(
            Self.start + """
                isolate 1
                propose 1
                forge 3 1 ack term=1 index=9
                expect 1 leader commit=3 last=4 match.3=3 lies=3:acknowledges
                heal
                run 100
                expect 1 commit=4 match.3=4
                """)
    }

    @Test("an acknowledgement in an earlier term's name is no lie and no news")
    func acknowledgesInAnOldTerm() {
        RaftScript(
            Self.start + """
                forge 3 1 ack term=0 index=9
                expect 1 leader commit=3 lies=-
                """)
    }

    @Test("a refusal of what was acknowledged is followed by the entries again, never by less")
    func refusesWhatItAcknowledged() {
        RaftScript(
            Self.start + """
                forge 3 1 refusal term=1 index=3 hint=0
                deliver
                run 200
                expect 1 leader commit=3 match.3=3 lies=-
                propose 1
                deliver
                expect 1 commit=4 match.3=4
                """)
    }

    /// One frame of it would leave no terms to campaign in.
    @Test("a term that elections cannot have led to is not taken over")
    func jumpsToTheEndOfTerms() {
        let script = RaftScript(Self.start)
        for term in [2 + (UInt64(1) << 32), (1 << 62) - 1, .max] {
            let refusal = VoteReply(term: Term(term), isPreVote: false, isGranted: false)
            let heartbeat = Heartbeat(
                term: Term(term), commit: .zero, round: 1, clock: 0, quorumAge: 0, lease: 0)
            for message in [RaftMessage.voteReply(refusal), .heartbeat(heartbeat)] {
                script.node(1).step(.message(from: MemberID(3), message))
                script.node(2).step(.message(from: MemberID(3), message))
            }
            script.run("expect 1 leader term=1")
            script.run("expect 2 term=1 saved=1")
            #expect(script.node(2).contradictions.last?.what == .jumps(to: Term(term)))
        }
    }

    @Test("hints of any index and term are within the log when they are followed")
    func hintsAnywhere() {
        let script = RaftScript(Self.start)
        for hint in ["0", "1", "99", "4611686018427387903"] {
            script.run(
                """
                forge 3 1 refusal term=1 index=3 hint=\(hint) hint-term=\(hint)
                deliver
                run 200
                expect 1 leader match.3=3
                """)
        }
    }

    @Test("an answer to a round that was not sent confirms no read and no leadership")
    func answersUnsentRound() {
        RaftScript(
            Self.start + """
                isolate 1
                read 1 a
                forge 2 1 heartbeat-ack term=1 round=9999
                forge 3 1 heartbeat-ack term=1 round=9999
                expect 1 reads=- lies=2:answers,3:answers
                tick 700 1
                expect 1 follower refused=a
                """)
    }

    @Test("a second leader of a term is followed by nobody")
    func secondLeader() {
        RaftScript(
            Self.start + """
                forge 3 2 append term=1 after=3@1 terms=1 commit=3
                expect 2 follower lead=1 last=3 lies=3:leads
                forge 3 2 heartbeat term=1 commit=3 round=99
                expect 2 lead=1 lies=3:leads,3:leads
                forge 3 1 heartbeat term=1 commit=3 round=99
                expect 1 leader term=1 lies=3:leads
                propose 1
                deliver
                expect 1 commit=4
                """)
    }

    @Test("whoever does not lead cannot order to campaign")
    func orderOfAFollower() {
        RaftScript(
            Self.start + """
                forge 3 2 timeout-now term=1
                expect 2 follower lead=1 term=1 lies=3:orders
                forge 3 2 timeout-now term=0
                expect 2 follower lead=1 term=1
                expect quiet
                """)
    }

    @Test("another entry in the place of a committed one is not taken")
    func contradictsCommitted() {
        RaftScript(
            Self.start + """
                forge 3 2 append term=2 after=1@1 terms=2,2 commit=3
                expect 2 log=1,1,1 commit=3 lies=3:committed
                run 2000
                propose 1
                propose 2
                propose 3
                run 100
                """
        ).expectNewLeader(within: [1, 2, 3])
    }

    @Test("entries of a lower term behind committed ones are not taken")
    func termsGoBack() {
        RaftScript(
            """
            nodes 3
            log 2 1,1,5 term 5
            log 1 1,1,5 term 5
            log 3 1,1,5 term 5
            campaign 1
            deliver
            run 100
            expect 2 commit=4 log=1,1,5,6
            forge 3 2 append term=7 after=4@2 terms=3 commit=4
            expect 2 log=1,1,5,6 commit=4 lies=3:entries
            """)
    }

    @Test("entries with a gap, or of a later term than their leader's, are not taken")
    func malformedEntries() {
        RaftScript(
            Self.start + """
                forge 1 2 append term=1 after=3@1 terms=2 commit=3
                expect 2 last=3 lies=1:entries
                forge 1 2 append term=1 after=4611686018427387904@1 commit=3
                expect 2 last=3 lies=1:entries,1:entries
                """)
    }

    @Test("a commit index beyond the log commits what is there and equal, no more")
    func commitBeyondTheLog() {
        RaftScript(
            Self.start + """
                forge 1 2 append term=1 after=3@1 terms=1 commit=99
                expect 2 commit=4 last=4
                """)
    }

    @Test("a vote for a log that nobody has costs a term, and no entry")
    func voteForAnInventedLog() {
        RaftScript(
            Self.start + """
                forge 3 2 vote term=2 last=99@9
                expect 2 follower term=1 lead=1
                elapse 400 2
                forge 3 2 vote term=2 last=99@9
                expect 2 term=2 vote=3 log=1,1,1
                run 3000
                """
        ).expectNewLeader(within: [1, 2, 3])
    }

    @Test("the messages of a whole session, said again in a later term, change nothing")
    func replayedSession() {
        let script = RaftScript("nodes 3\n")
        var heard: [(from: MemberID, to: UInt64, message: RaftMessage)] = []
        script.onDelivery = { from, to, message in heard.append((from, to.rawValue, message)) }
        script.run(
            """
            campaign 1
            deliver
            run 100
            propose 1 x3
            deliver
            run 100
            isolate 1
            elapse 700 2 3
            campaign 2
            deliver
            heal
            run 300
            propose 2 x2
            run 200
            expect 2 leader term=2 commit=7
            expect 1 commit=7 log=1,1,1,1,2,2,2
            expect 3 commit=7
            """)
        script.onDelivery = nil
        for (from, to, message) in heard {
            script.step(script.node(to), .message(from: from, message))
        }
        script.run(
            """
            run 2000
            expect 1 log=1,1,1,1,2,2,2 commit=7 lies=-
            expect 2 leader term=2 log=1,1,1,1,2,2,2 commit=7 lies=-
            expect 3 log=1,1,1,1,2,2,2 commit=7 lies=-
            """)
    }
}
