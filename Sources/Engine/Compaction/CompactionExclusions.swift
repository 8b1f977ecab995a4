// Tables of cancelled jobs, left out of picks for a while: 10 minutes, doubling with each failure
// up to a day. When they come back, it is in smaller jobs. Every member keeps this from the
// `cancelled` entries it applies, so a new leader knows; it is lost with the process, which is a
// reason to try again anyway.

package struct CompactionExclusions: Hashable, Sendable {
    package static let firstBackOff: UInt64 = 10 * 60 * 1000
    package static let backOffMax: UInt64 = 24 * 60 * 60 * 1000

    private struct Row: Hashable {
        var failures: UInt32
        /// Half of what the job read that failed last.
        var jobBytesMax: UInt64
        /// Monotonic milliseconds.
        var until: UInt64
    }

    private var rows: [TableID: Row] = [:]

    package init() {}

    package var isEmpty: Bool { rows.isEmpty }

    /// A job over these tables was cancelled.
    package mutating func cancelled(
        _ job: PendingJob, _ tables: ManifestTables, now: UInt64
    ) {
        let bytes = job.spec.inputs.reduce(UInt64(0)) {
            $0 &+ (tables.record($1.id)?.canonicalBytes ?? 0)
        }
        for input in job.spec.inputs {
            let failures = (rows[input.id]?.failures ?? 0) &+ 1
            let doublings = UInt64(min(failures - 1, 16))
            let backOff = min(
                CompactionExclusions.firstBackOff << doublings, CompactionExclusions.backOffMax)
            rows[input.id] = Row(
                failures: failures, jobBytesMax: bytes / 2, until: now &+ backOff)
        }
    }

    package func excludes(_ table: TableID, now: UInt64) -> Bool {
        rows[table].map { now < $0.until } ?? false
    }

    /// What a job that reads `table` may read in all.
    package func jobBytesMax(_ table: TableID) -> UInt64 { rows[table]?.jobBytesMax ?? .max }

    /// A heal, or an operator: the table may be picked at once, as if nothing had failed.
    package mutating func lift(_ table: TableID) { rows[table] = nil }

    /// An upgrade or an operator.
    package mutating func liftAll() { rows.removeAll() }

    /// Forgets tables that are live no more.
    package mutating func prune(_ tables: ManifestTables) {
        rows = rows.filter { tables.contains($0.key) }
    }
}
