// A `compact` entry that is the last of its segment: the flush of that segment and the job then bear
// one index, and only their kinds tell their tables apart.
import Engine
import Testing

@Suite struct SegmentEndingJobTests {
    private static let segmentBytes: UInt64 = 4096
    private let log = SharedLog()
    private var leader: FrontierRoot { FrontierRoot(frontier: .zero, root: .zero) }

    @discardableResult
    private func append(
        _ kind: EntryKind, _ payload: [UInt8], to replica: StoreReplica,
        _ changes: [KeyValueModel.Change] = []
    ) throws -> Entry {
        let entry = try log.append(kind, payload, clock: 1_000, changes)
        #expect(try replica.applyNext())
        return entry
    }

    private func append(_ changes: [KeyValueModel.Change], to replica: StoreReplica) throws
        -> Entry
    {
        try append(.write, changes.batch.payload(horizonDistance: 1), to: replica, changes)
    }

    private func work(_ replica: StoreReplica) throws {
        replica.noteDurable(lag: 0)
        try replica.settle()
        while replica.jobs.waiting > 0 { try replica.runJob() }
    }

    private func computed(_ job: JobID, _ replica: StoreReplica) throws -> [TableRecord] {
        let outcome = try #require(replica.store.outcomes.first { $0.job == job })
        guard case .tables(let tables, balanced: true) = outcome.result else {
            throw EngineError.invalid(reason: "\(outcome.result)")
        }
        return tables
    }

    private func seal(_ first: UInt64, _ last: UInt64, _ replica: StoreReplica) throws -> [UInt8] {
        let flush = JobID(index: LogIndex(last), kind: .flush)
        return SealRecord(
            first: LogIndex(first), last: LogIndex(last), tables: try computed(flush, replica),
            leader: leader
        ).encoded()
    }

    @Test(arguments: [false, true])
    func `Its tables and those of its segment's flush do not take each other's place`(
        isCompactedFirst: Bool
    ) throws {
        let replica = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 2)
        var settings = LoggedSettings()
        settings.segmentBytes = SegmentEndingJobTests.segmentBytes
        try append(.noop, [], to: replica)
        try append(.settings, settings.encoded(), to: replica)
        _ = try append([.put(7, [1], expiry: nil), .put(14, [2], expiry: nil)], to: replica)
        try append(.rotate, [], to: replica)
        try work(replica)
        let inputs = try computed(JobID(index: LogIndex(4), kind: .flush), replica)
        var rule = SegmentRule(segmentBytes: SegmentEndingJobTests.segmentBytes)
        let first = try append(.seal, try seal(1, 4, replica), to: replica)
        var isLast = rule.endsSegment(first.header)

        // All but a few bytes of the second segment, so that the job's entry ends it.
        let filler = Int(SegmentEndingJobTests.segmentBytes - rule.payloadBytes) - 40
        let value = [UInt8](repeating: 3, count: filler)
        isLast = rule.endsSegment(try append([.put(21, value, expiry: nil)], to: replica).header)
        #expect(!isLast)
        let spec = Sample.spec(
            inputs, to: 1, bottommost: true, horizon: replica.store.appliedSequence.rawValue)
        isLast = rule.endsSegment(try append(.compact, spec.encoded(), to: replica).header)
        #expect(isLast)
        try work(replica)

        let index = log.last
        let flushed = try computed(JobID(index: index, kind: .flush), replica)
        let merged = try computed(JobID(index: index, kind: .compaction), replica)
        #expect(flushed.map(\.digest) != merged.map(\.digest))
        let compacted = Sample.compacted(index.rawValue, merged).encoded()
        let sealed = try seal(5, index.rawValue, replica)
        for isCompacted in [isCompactedFirst, !isCompactedFirst] {
            let payload = isCompacted ? compacted : sealed
            try append(isCompacted ? .compacted : .seal, payload, to: replica)
            try work(replica)
            try replica.check()
        }
        #expect(replica.store.frontier == log.last)
        for powerCut in [false, true] {
            try replica.restart(powerCut: powerCut)
            while try replica.applyNext() {}
            try work(replica)
            try replica.check()
            let tables = replica.store.manifest.manifest.tables.sortedByID
            #expect(Set(tables.map(\.id)) == Set((flushed + merged).map(\.id)))
        }
    }
}
