// One message of every kind and shape: golden vectors, fuzzing and round trips start from these.
import Engine
import Replication

enum SampleMessages {
    static let genesis = logGenesis(cluster: "alpha", group: 7)

    static let entries: [Entry] = {
        let first = entry(.noop, [], previous: genesis, index: 5)
        var batch = WriteBatch()
        batch.put(Array("key".utf8), Array("value".utf8))
        let second = entry(
            .write, batch.payload(horizonDistance: 1), previous: first.header.checksum, index: 6)
        return [first, second]
    }()

    private static func entry(
        _ kind: EntryKind, _ payload: [UInt8], previous: Digest128, index: UInt64
    ) -> Entry {
        Entry(
            kind: kind, payload: payload, previous: previous, group: 7, term: Term(3),
            index: LogIndex(index), firstSequence: SequenceNumber(9), clock: 1_700_000_000_000,
            commit: LogIndex(4))
    }

    static let table = TableID(index: LogIndex(40), kind: .compaction, ordinal: 2)
    static let digest = Digest128(low: 0x0102_0304_0506_0708, high: 0x1112_1314_1516_1718)

    static let record = TableRecord(
        id: table, level: 2, canonicalBytes: 8192,
        points: TableRecord.PointRange(smallest: [0x61], largest: [0x7a]),
        span: KeySpan(start: [0x61], end: [0x7a, 0]), smallestSequence: SequenceNumber(1),
        largestSequence: SequenceNumber(20), entryCount: 20, deleteCount: 3,
        rangeTombstoneCount: 0, entrySum: 77, digest: digest)

    /// Named, since each has a golden frame under that name.
    static let all: [(name: String, message: PeerMessage)] = [
        (
            "vote",
            raft(
                .vote(
                    VoteRequest(
                        term: Term(4), isPreVote: true, lastIndex: LogIndex(6), lastTerm: Term(3),
                        isTransfer: false)))
        ),
        (
            "voteReply",
            raft(
                .voteReply(
                    VoteReply(
                        term: Term(4), isPreVote: false, isGranted: true, clock: 1_700_000_000_004))
            )
        ),
        ("append", raft(.append(append(entries)))),
        ("appendEmpty", raft(.append(append([])))),
        (
            "appendReply",
            raft(
                .appendReply(
                    AppendReply(
                        term: Term(4), isAccepted: false, index: LogIndex(9),
                        hintIndex: LogIndex(6), hintTerm: Term(3))))
        ),
        (
            "heartbeat",
            raft(
                .heartbeat(
                    Heartbeat(
                        term: Term(4), commit: LogIndex(6), round: 11, clock: 1_700_000_000_001,
                        quorumAge: 20, acked: 10)))
        ),
        (
            "heartbeatReply",
            raft(
                .heartbeatReply(HeartbeatReply(term: Term(4), round: 11, clock: 1_700_000_000_002)))
        ),
        ("timeoutNow", raft(.timeoutNow(term: Term(4)))),
        ("transfer", raft(.transfer(term: Term(4), to: MemberID(3)))),
        (
            "leaseHeartbeat",
            raft(
                .heartbeat(
                    Heartbeat(
                        term: Term(4), commit: LogIndex(6), round: 11, clock: 1_700_000_000_001,
                        quorumAge: 20, acked: 10, lease: 150)))
        ),
        (
            "promise",
            raft(
                .heartbeatReply(
                    HeartbeatReply(
                        term: Term(4), round: 11, clock: 1_700_000_000_002, isPromised: true)))
        ),
        (
            "report",
            .report(
                group: 7,
                MemberReport(
                    applied: LogIndex(6), durable: LogIndex(7), flushed: LogIndex(3),
                    frontier: LogIndex(5), stateRoot: digest,
                    outcomes: [
                        JobOutcome(
                            job: JobID(index: LogIndex(40), kind: .compaction), attempt: 1,
                            result: .tables([record], balanced: true)),
                        JobOutcome(
                            job: JobID(index: LogIndex(41), kind: .flush), attempt: 3,
                            result: .failed("no space")),
                    ]))
        ),
        (
            "progress",
            .progress(
                group: 7,
                ClusterProgress(
                    minimumFrontier: LogIndex(5), logFloor: LogIndex(3),
                    matches: [
                        ClusterProgress.Match(member: MemberID(1), index: LogIndex(9)),
                        ClusterProgress.Match(member: MemberID(2), index: LogIndex(8)),
                    ]))
        ),
        (
            "recompute",
            .recompute(
                group: 7, JobID(index: LogIndex(40), kind: .compaction), attempt: 2)
        ),
        ("readIndex", .readIndex(21)),
        (
            "readIndexReady",
            .readIndexReply(21, .ready(index: LogIndex(6), clock: 1_700_000_000_003))
        ),
        ("readIndexNotLeader", .readIndexReply(21, .notLeader(leader: MemberID(2)))),
        ("forward", .forward(22, Array("SET a 1".utf8))),
        ("forwardAnswered", .forwardReply(22, .answered(Array("+OK".utf8)))),
        ("forwardNotLeader", .forwardReply(22, .notLeader(leader: .none))),
        (
            "wait",
            .wait(24, DurabilityQuestion(index: LogIndex(8), count: 2, timeout: 100))
        ),
        ("waited", .waitReply(24, 2)),
        ("waitNotLeader", .waitReply(24, nil)),
        (
            "fetchBlock",
            .fetch(23, .block(table: table, digest: digest, ordinal: BlockOrdinal(9)))
        ),
        ("fetchLeaves", .fetch(23, .leaves(table: table, digest: digest))),
        ("fetchEntry", .fetch(23, .entry(index: LogIndex(6), checksum: digest))),
        ("fetchManifest", .fetch(23, .manifest)),
        (
            "fetchRead",
            .fetch(23, .read(key: Array("key".utf8), index: LogIndex(6), now: 1_700_000_000_004))
        ),
        ("fetchedBytes", .fetchReply(23, .bytes([1, 2, 3]))),
        ("fetchedNothing", .fetchReply(23, .value(nil))),
        ("fetchedValue", .fetchReply(23, .value(LiveValue(value: [4, 5])))),
        ("fetchedExpiring", .fetchReply(23, .value(LiveValue(value: [4, 5], expiry: 99)))),
        ("fetchUnavailable", .fetchReply(23, .unavailable("block 9 is damaged here too"))),
    ]

    private static func raft(_ message: RaftMessage) -> PeerMessage { .raft(group: 7, message) }

    private static func append(_ entries: [Entry]) -> AppendRequest {
        AppendRequest(
            term: Term(4), previousIndex: LogIndex(4), previousTerm: Term(2), entries: entries,
            commit: LogIndex(4))
    }

    static let hello = Hello(
        cluster: "alpha", group: 7, sender: MemberID(1), receiver: MemberID(2), lane: .control,
        bootCounter: 5, nonce: 0xfeed)
}

func frame(_ message: PeerMessage, limits: FrameLimits = FrameLimits()) throws -> [UInt8] {
    var writer = ByteWriter()
    try MessageCodec.encode(message, limits: limits, into: &writer)
    return writer.bytes
}

func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

/// A small generator with a seed, so that every failure can be seen again.
struct TestGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
