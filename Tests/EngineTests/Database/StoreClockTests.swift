// The clock that a store reads at when nobody brings a later one. A manifest may be ahead of S: then
// its tables know of expiries that the last applied entry does not.
import Engine
import Testing

@Suite struct StoreClockTests {
    private let log = SharedLog()

    /// Appends, applies, and lets all work that follows come to its end.
    private func append(
        _ kind: EntryKind, _ payload: [UInt8], clock: UInt64, to replica: StoreReplica,
        _ changes: [KeyValueModel.Change] = []
    ) throws {
        try log.append(kind, payload, clock: clock, changes)
        #expect(try replica.applyNext())
        replica.noteDurable(lag: 0)
        try replica.settle()
        while replica.jobs.waiting > 0 { try replica.runJob() }
    }

    private func computed(_ replica: StoreReplica) throws -> [TableRecord] {
        let outcome = try #require(replica.store.outcomes.first)
        guard case .tables(let tables, balanced: true) = outcome.result else {
            throw EngineError.invalid(reason: "\(outcome.result)")
        }
        return tables
    }

    private var leader: FrontierRoot { FrontierRoot(frontier: .zero, root: .zero) }

    /// One segment, clocks up to 1,200, and a job that lets go what has expired at 1,600.
    private func compactedBeyondItsSegment() throws -> StoreReplica {
        let replica = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 1)
        let changes: [KeyValueModel.Change] = [
            .put(7, [1], expiry: nil), .put(14, [2], expiry: 1_500), .put(21, [3], expiry: 1_700),
            .put(28, [4], expiry: 1_550), .put(35, [5], expiry: 1_300),
        ]
        try append(.noop, [], clock: 1_000, to: replica)
        let payload = changes.batch.payload(horizonDistance: 1)
        try append(.write, payload, clock: 1_100, to: replica, changes)
        try append(.rotate, [], clock: 1_200, to: replica)
        let flushed = try computed(replica)
        let seal = SealRecord(
            first: LogIndex(1), last: LogIndex(3), tables: flushed, leader: leader)
        try append(.seal, seal.encoded(), clock: 1_650, to: replica)
        let spec = Sample.spec(
            flushed, to: 1, bottommost: true, horizon: replica.store.appliedSequence.rawValue,
            clock: 1_600)
        try append(.compact, spec.encoded(), clock: 1_650, to: replica)
        let compacted = Sample.compacted(5, try computed(replica))
        #expect(compacted.tables.reduce(0) { $0 + $1.entryCount } == 2)
        try append(.compacted, compacted.encoded(), clock: 1_660, to: replica)
        #expect(replica.store.frontier == LogIndex(6))
        return replica
    }

    @Test func `Reads after a restart are not older than what jobs let expire`() throws {
        let replica = try compactedBeyondItsSegment()
        #expect(replica.store.clock == 1_660)
        try replica.check()
        try replica.restart(powerCut: false)
        #expect(replica.store.applied == LogIndex(3) && replica.store.frontier == LogIndex(6))
        // At 1,200, where S is, keys 14, 28 and 35 would have to be there.
        try replica.check()
        while try replica.applyNext() { try replica.check() }
        #expect(replica.store.clock == 1_660)
    }
}
