import Engine
import Node
import Replication
import Synchronization

/// A node as the administrative surfaces see it.
final class FakeAdminSource: AdminSource {
    let readinessBox = Mutex(Readiness.ready)
    let failureBox = Mutex<NodeFailure?>(nil)

    static let status = ReplicaStatus(
        node: MemberID(2), role: "follower", term: Term(7), leader: MemberID(1),
        commit: LogIndex(100), durable: LogIndex(101), applied: LogIndex(99),
        frontier: LogIndex(64), stateRoot: Digest128(low: 10, high: 2),
        members: [
            MemberStatus(id: MemberID(1), role: "leader", match: LogIndex(101), lag: 0),
            MemberStatus(id: MemberID(2), role: "follower", match: LogIndex(100), lag: 1),
        ])

    static let table = TableRow(
        id: TableID(index: LogIndex(64), kind: .flush, ordinal: 0), level: 0, generation: 3,
        digest: Digest128(low: 5, high: 1), bytes: 4096,
        file: "group-0/sst/0000000000000040-f0.3.sst", smallest: [0x61], largest: [0, 0xff])

    static func row(_ time: UInt64) -> LedgerRow {
        LedgerRow(
            time: time, file: "group-0/sst/x.sst", blocks: [3, 4], reason: "lost",
            source: "replica", peer: 3, bytesFetched: 8192, durationMilliseconds: 12,
            state: .healedReplica)
    }

    func status() -> ReplicaStatus { Self.status }
    func tables() -> [TableRow] { [Self.table] }
    func ledger(limit: Int) -> [LedgerRow] {
        (0..<UInt64(min(limit, 2000))).reversed().map { Self.row($0) }
    }
    func failure() -> NodeFailure? { failureBox.withLock { $0 } }
    func readiness() -> Readiness { readinessBox.withLock { $0 } }
    func metrics() -> [MetricFamily] { PrometheusText.families(of: status()) }
}
