// Jobs and flushes of one member against what the log and the leader say meanwhile.
import Engine
import Synchronization
import Testing

@Suite struct StoreJobTests {
    /// Writes of some segments, each ended by a rotation.
    private func makeLog(segments: Int) throws -> SharedLog {
        let log = SharedLog()
        var source = ChangeSource(seed: 3, keys: SharedLog.keys)
        try log.append(.noop, [], clock: 1_000)
        for _ in 0..<segments { try addSegment(log, &source) }
        return log
    }

    private func addSegment(_ log: SharedLog, _ source: inout ChangeSource) throws {
        for _ in 0..<10 {
            let changes = source.changes(now: 1_000, on: log.model(through: log.last))
            try log.append(
                .write, changes.batch.payload(horizonDistance: log.tail.nextSequence.rawValue),
                clock: 1_000, changes)
        }
        try log.append(.rotate, [], clock: 1_000)
    }

    private func applyAll(_ replica: StoreReplica) throws {
        while try replica.applyNext() {}
        replica.noteDurable(lag: 0)
        try replica.settle()
    }

    private func records(_ outcome: JobOutcome) throws -> [TableRecord] {
        guard case .tables(let records, _) = outcome.result else {
            throw EngineError.invalid(reason: "no tables")
        }
        return records
    }

    /// Two members differed, and this one is asked to compute once more while its table is being
    /// recorded in the manifest: that table must stay, or reads would miss the whole segment.
    @Test func `A flush that is being recorded is not computed anew`() throws {
        let log = try makeLog(segments: 1)
        let replica = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 1)
        try applyAll(replica)
        try replica.runJob()
        let outcome = try #require(replica.store.outcomes.first)
        try #require(replica.jobs.waiting == 1, "the manifest edit waits")

        replica.store.recompute(outcome.job, attempt: 2)
        while replica.jobs.waiting > 0 { try replica.runJob() }
        #expect(replica.store.outcomes.first?.attempt == 2)
        #expect(replica.store.outcomes.first?.result == outcome.result)
        try replica.check()

        let seal = SealRecord(
            first: LogIndex(1), last: outcome.job.index, tables: try records(outcome),
            leader: FrontierRoot(frontier: .zero, root: replica.store.stateRoot))
        try log.append(.seal, seal.encoded(), clock: 1_000)
        try applyAll(replica)
        while replica.jobs.waiting > 0 { try replica.runJob() }
        #expect(replica.store.frontier == log.last)
        try replica.check()
    }

    /// The same request before the manifest is touched: the flush runs once more.
    @Test func `A flush that is not recorded yet is computed anew`() throws {
        let log = try makeLog(segments: 1)
        let replica = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 1)
        while try replica.applyNext() {}
        try replica.runJob()
        let outcome = try #require(replica.store.outcomes.first)
        replica.store.recompute(outcome.job, attempt: 2)
        #expect(replica.jobs.waiting == 1, "the second computation")
        replica.noteDurable(lag: 0)
        while replica.jobs.waiting > 0 { try replica.runJob() }
        #expect(replica.store.outcomes.first?.attempt == 2)
        #expect(replica.store.outcomes.first?.result == outcome.result)
        try replica.check()
    }

    /// A `seal` says what its leader's tables came to at an earlier frontier: the member that has
    /// others there says so, once, and names the place; with the same ones it says nothing.
    @Test(arguments: [false, true]) func `A state root that differs is named`(isWrong: Bool) throws
    {
        let log = try makeLog(segments: 2)
        let replica = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 1)
        try applyAll(replica)
        while replica.jobs.waiting > 0 { try replica.runJob() }
        let outcomes = replica.store.outcomes.sorted { $0.job.index < $1.job.index }
        try #require(outcomes.count == 2)
        var first = LogIndex(1)
        var leader = FrontierRoot(frontier: .zero, root: replica.store.stateRoot)
        for outcome in outcomes {
            let seal = SealRecord(
                first: first, last: outcome.job.index, tables: try records(outcome),
                leader: leader)
            try log.append(.seal, seal.encoded(), clock: 1_000)
            try applyAll(replica)
            while replica.jobs.waiting > 0 { try replica.runJob() }
            first = outcome.job.index + 1
            let root = isWrong ? Digest128(low: 1, high: 2) : replica.store.stateRoot
            leader = FrontierRoot(frontier: log.last, root: root)
        }
        let healer = replica.store.healer
        #expect(healer.counters.divergences == (isWrong ? 1 : 0))
        let rows = healer.ledger.rows().filter { $0.reason == "divergent" }
        #expect(rows.count == (isWrong ? 1 : 0))
        #expect(rows.allSatisfy { $0.detail.contains("state root at \(log.last - 1)") })
        try replica.check()
    }

    /// A leader with a job, and a member that has everything before the job.
    private final class Pair {
        let log: SharedLog
        let leader: StoreReplica
        let member: StoreReplica
        private var director = JobDirector(own: MemberID(1), options: SharedLog.compaction)

        init(_ log: SharedLog) throws {
            self.log = log
            leader = try StoreReplica(log, seed: 1, .first, codec: .none, concurrentJobs: 1)
            member = try StoreReplica(log, seed: 2, .first, codec: .none, concurrentJobs: 1)
            try decide(until: .compact)
            let before = log.last - 1
            while member.store.applied < before || member.jobs.waiting > 0 {
                if member.store.applied < before { try member.applyNext() }
                member.noteDurable(lag: 0)
                try member.settle()
                try member.runJob()
            }
        }

        func applyAll(_ replica: StoreReplica) throws {
            while try replica.applyNext() {}
            replica.noteDurable(lag: 0)
            try replica.settle()
        }

        func decide(until kind: EntryKind) throws {
            for _ in 0..<200 {
                try applyAll(leader)
                try leader.runJob()
                director.setLeading(true, now: leader.now)
                director.absorb(leader.store.takeJobInputs(), now: leader.now)
                director.note(leader.store.outcomes, from: MemberID(1), now: leader.now)
                let decided = director.decide(
                    JobSituation(
                        store: leader.store.jobFacts(at: leader.now), able: [MemberID(1)],
                        now: leader.now, clock: 1_000))
                for case .entry(let made, let payload) in decided {
                    try log.append(made, payload, clock: 1_000)
                    if made == .compact { director.compactApplied() }
                    if made == kind { return }
                }
            }
            Issue.record("no \(kind) was proposed")
        }

        /// The member's attempt at the job ends as it does, then the log concludes the job.
        func conclude() throws -> LogIndex {
            try applyAll(member)
            for _ in 0..<5 { try member.runJob() }
            try decide(until: .compacted)
            try applyAll(member)
            return log.last
        }

        func passSeconds(_ count: Int) throws {
            for _ in 0..<count {
                member.now += 1_000
                try member.settle()
                while member.jobs.waiting > 0 { try member.runJob() }
            }
        }
    }

    /// A member whose attempt failed, while the others' outputs are not to be had any more: it
    /// computes them itself as soon as its inputs read again.
    @Test func `A job that failed here is computed again when nobody has its outputs`() throws {
        let pair = try Pair(makeLog(segments: 3))
        let member = pair.member
        let inputs = try member.files.list("data/group-0/sst")
        for name in inputs { member.files.failReads("data/group-0/sst/" + name, [0..<(1 << 30)]) }
        let compacted = try pair.conclude()
        try pair.passSeconds(20)
        #expect(member.store.frontier < compacted, "nothing could be computed or fetched")

        for name in inputs { member.files.failReads("data/group-0/sst/" + name, []) }
        try pair.passSeconds(120)
        #expect(member.store.frontier >= compacted)
        try member.check()
    }

    /// Whoever has the outputs may be cut off for a moment only.
    @Test func `Outputs that nobody gave are asked for again before they are computed`() throws {
        let pair = try Pair(makeLog(segments: 3))
        let member = pair.member
        let replicas = SilentReplicas()
        member.store.healer.setRepairSource(replicas)
        for name in try member.files.list("data/group-0/sst") {
            member.files.failReads("data/group-0/sst/" + name, [0..<(1 << 30)])
        }
        _ = try pair.conclude()
        try pair.passSeconds(25)
        #expect(replicas.questions >= 4, "\(replicas.questions)")
    }

    /// What a full disk kept from being written cannot be fetched either: the own attempt goes on,
    /// a second after there is space.
    @Test func `A job that found the disk full is not given up`() throws {
        let pair = try Pair(makeLog(segments: 3))
        let member = pair.member
        member.files.capacity = member.files.usedBytes + 1_200
        let compacted = try pair.conclude()
        try pair.passSeconds(20)
        #expect(member.store.frontier < compacted)
        #expect(member.notes.contains("No space") && !member.notes.contains("fetching"))

        member.files.capacity = .max
        try pair.passSeconds(2)
        #expect(member.store.frontier >= compacted)
        try member.check()
    }
}

/// Counts the questions for outputs of compactions, and answers none.
private final class SilentReplicas: RepairSource {
    private let asked = Mutex(0)

    var questions: Int { asked.withLock { $0 } }

    func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64,
        isProven: (RepairedBlock) -> Bool
    ) -> RepairedBlock? {
        if table.kind == .compaction { asked.withLock { $0 += 1 } }
        return nil
    }

    func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
    { nil }
}
