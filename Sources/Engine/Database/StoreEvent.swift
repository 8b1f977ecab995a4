// What a store's long work reports back to its owner. The owner hands each to `Store.handle` on
// its own thread.

package enum StoreEvent: Sendable {
    case flushed(segment: LogIndex, Result<FlushResult, EngineError>)
    case computed(job: LogIndex, attempt: UInt32, Result<JobResult, JobFailure>)
    case installed(Installation, EngineError?)
    case fetched(TableID, Result<BuiltTable, EngineError>)
    case healEnded(HealResult?)
    /// Whether the reserve file was made.
    case reserved(Bool)
    /// Range tombstones that plans wait for.
    case tombstonesRead
}

/// Tables of a flush or a job, with the verdict of the self-check.
package struct JobResult: Sendable {
    package var tables: [BuiltTable]
    package var isBalanced: Bool

    package init(tables: [BuiltTable], isBalanced: Bool) {
        self.tables = tables
        self.isBalanced = isBalanced
    }
}

package typealias FlushResult = JobResult

package enum JobFailure: Error, Sendable {
    /// Reported to the leader.
    case failed(String)
    /// May pass (a lost block that no replica had yet, a full disk): tried again later.
    case transient(EngineError)
    case cancelled
}
