// What the administrative surfaces (HTTP, `MT.STATUS`, `MT.TABLES`, `MT.LEDGER`, metrics) may ask
// of a node. Calls come from any thread and may take a lock, but never wait for a disk or a peer.
import Engine
import Replication

package protocol AdminSource: AnyObject, Sendable {
    func status() -> ReplicaStatus
    /// The tables of the installed manifest, by level, then by age or key.
    func tables() -> [TableRow]
    /// At most `limit` rows, newest first.
    func ledger(limit: Int) -> [LedgerRow]
    /// What ends this node; nil while nothing does.
    func failure() -> NodeFailure?
    func readiness() -> Readiness
    func metrics() -> [MetricFamily]
}

package enum Readiness: Sendable, Equatable {
    case ready
    /// For people and for load balancers: why no client should be sent here now.
    case notReady(reason: String)
}

package struct TableRow: Sendable, Equatable {
    package var id: TableID
    package var level: UInt8
    package var generation: UInt64
    package var digest: Digest128
    /// Length of the file.
    package var bytes: UInt64
    /// Relative to the node's data directory.
    package var file: String
    package var smallest: [UInt8]
    package var largest: [UInt8]

    package init(
        id: TableID, level: UInt8, generation: UInt64, digest: Digest128, bytes: UInt64,
        file: String, smallest: [UInt8], largest: [UInt8]
    ) {
        self.id = id
        self.level = level
        self.generation = generation
        self.digest = digest
        self.bytes = bytes
        self.file = file
        self.smallest = smallest
        self.largest = largest
    }
}
