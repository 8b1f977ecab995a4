// Random trees under random flushes, with several jobs at once that finish in random order: picks
// are never void, levels never overlap, reads stay right, and it ends when nothing is due.
import Engine
import Testing

@Suite struct CompactionPlannerPropertyTests {
    private var options: CompactionOptions {
        var options = CompactionOptions()
        options.baseLevelBytes = 40
        options.multiplier = 2
        options.targetBytes = 1024
        options.jobBytesMax = 200
        return options
    }

    private func facts(_ now: UInt64) -> CompactionPlanner.Facts {
        CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: SequenceNumber(1), clock: 0, now: now)
    }

    @Test func picksAreNeverVoidAndProgressIsMade() throws {
        let counts = try run(options, seeds: 1...40)
        #expect(counts.jobs > 400, "\(counts)")
        #expect(counts.atOnce >= 2, "\(counts)")
    }

    @Test func mergesInPlaceKeepReadsRight() throws {
        var options = self.options
        options.level0Trigger = 2
        options.level0MergeTables = 2
        let counts = try run(options, seeds: 41...60)
        #expect(counts.inPlace > 10, "\(counts)")
    }

    @Test func dynamicLevelsKeepReadsRight() throws {
        var options = self.options
        options.sizesLevelsDynamically = true
        options.level0Trigger = 2
        let counts = try run(options, seeds: 61...90)
        #expect(counts.bases == [4, 5, 6], "\(counts)")
    }

    @Test func otherReasonsComeToAnEnd() throws {
        var options = self.options
        options.tombstonePercent = 10
        options.rewriteAfterMilliseconds = 1_200_000
        options.spaceAmplificationPercentMax = 40
        let counts = try run(options, seeds: 91...120)
        #expect(counts.rewrites > 20, "\(counts)")
    }

    @Test func sizeTieredKeepsReadsRight() throws {
        var options = self.options
        options.strategy = .sizeTiered
        options.level0Trigger = 3
        let counts = try run(options, seeds: 121...150)
        #expect(counts.inPlace > 100, "\(counts)")
    }

    private struct Counts {
        var jobs = 0
        var atOnce = 0
        var inPlace = 0
        var moves = 0
        /// Of one table, in its level.
        var rewrites = 0
        /// Levels that level 0 went to.
        var bases = Set<UInt8>()
    }

    private func run(_ options: CompactionOptions, seeds: ClosedRange<UInt64>) throws -> Counts {
        var counts = Counts()
        for seed in seeds {
            var random = SeededRandom(seed: seed)
            var tables = SimulatedTables()
            var planner = CompactionPlanner(options: options)
            for step in 0..<150 {
                let now = UInt64(step) * 60_000
                switch random.below(6) {
                case 0, 4:
                    let first = random.below(12)
                    tables.endSegment(&random, keys: first..<(first + 1 + random.below(4)))
                case 1, 5:
                    if !tables.unsealed.isEmpty { _ = tables.seal() }
                case 2:
                    guard let spec = planner.plan(tables.manifest, facts(now)) else { continue }
                    guard case .jobStarted = tables.start(spec) else {
                        Issue.record("a void pick, seed \(seed) step \(step): \(spec)")
                        return counts
                    }
                    counts.jobs += 1
                    counts.atOnce = max(counts.atOnce, tables.manifest.jobs.count)
                    if spec.outputLevel == 0 { counts.inPlace += 1 }
                    if spec.action == .move { counts.moves += 1 }
                    if spec.outputLevel > 0, spec.outputLevel == spec.sourceLevel {
                        counts.rewrites += 1
                    }
                    if spec.sourceLevel == 0, spec.outputLevel > 0 {
                        counts.bases.insert(spec.outputLevel)
                    }
                default: conclude(&tables, &planner, &random, now)
                }
                #expect(tables.firstBrokenLevel() == nil, "seed \(seed) step \(step)")
                #expect(tables.firstWrongRead() == nil, "seed \(seed) step \(step)")
            }
            try settle(&tables, &planner, seed)
        }
        return counts
    }

    private func conclude(
        _ tables: inout SimulatedTables, _ planner: inout CompactionPlanner,
        _ random: inout SeededRandom, _ now: UInt64
    ) {
        guard !tables.manifest.jobs.isEmpty else { return }
        let job = tables.manifest.jobs[random.below(tables.manifest.jobs.count)]
        if random.oneIn(6) {
            let record = CancelledRecord(job: job.index, reason: .failed)
            _ = tables.apply(.cancelled, record.encoded())
            planner.exclusions.cancelled(job, tables.manifest.tables, now: now)
        } else if case .jobDone = finish(job, &tables) {
            planner.exclusions.prune(tables.manifest.tables)
        } else {
            Issue.record("job \(job.index) could not finish")
        }
    }

    /// What is merged inside level 0 becomes one table.
    private func finish(_ job: PendingJob, _ tables: inout SimulatedTables) -> ManifestOutcome {
        tables.finish(job, keysPerTable: job.spec.targetBytes > 1 << 30 ? 1_000 : 3)
    }

    /// Without new writes and after the last back-off, the planner comes to an end, and then no
    /// level is due.
    private func settle(
        _ tables: inout SimulatedTables, _ planner: inout CompactionPlanner, _ seed: UInt64
    ) throws {
        while !tables.unsealed.isEmpty { _ = tables.seal() }
        for job in tables.manifest.jobs { _ = finish(job, &tables) }
        let later = facts(1 << 40)
        var rounds = 0
        while let spec = planner.plan(tables.manifest, later) {
            guard case .jobStarted(let job) = tables.start(spec) else {
                Issue.record("a void pick, seed \(seed)")
                return
            }
            _ = finish(job, &tables)
            rounds += 1
            try #require(rounds < 500, "seed \(seed) does not come to an end")
        }
        let due = CompactionScore.scores(tables.manifest, planner.options).filter { $0.value >= 1 }
        let isLeveled = planner.options.strategy == .leveled
        #expect(due.isEmpty || !isLeveled, "seed \(seed): \(due)")
        #expect(tables.firstWrongRead() == nil)
        let request = CompactionPlanner.FullCompaction(tables.manifest, planner.options)
        while case .job(let spec) = planner.planFull(request, tables.manifest, later) {
            guard case .jobStarted(let job) = tables.start(spec) else {
                Issue.record("a void step, seed \(seed)")
                return
            }
            _ = finish(job, &tables)
            rounds += 1
            try #require(rounds < 1000, "seed \(seed): a full compaction without end")
        }
        #expect(planner.planFull(request, tables.manifest, later) == .done)
        for level in 0..<request.bottom where isLeveled {
            #expect(tables.manifest.tables.tables(at: level) == [])
        }
        #expect(tables.firstWrongRead() == nil)
    }
}
