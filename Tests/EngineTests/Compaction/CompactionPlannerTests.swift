// What the planner picks, in readable text. A table is written `<index><kind><ordinal>`, an input
// with its level before it.
import Engine
import Testing

private func describe(_ spec: CompactionSpec?) -> String {
    guard let spec else { return "nothing" }
    let inputs = spec.inputs.map { input in
        let kind = input.id.kind == .flush ? "f" : "c"
        return "\(input.level):\(input.id.index)\(kind)\(input.id.ordinal)"
    }
    let bottommost = spec.isBottommost ? " bottommost" : ""
    return "\(inputs.joined(separator: " ")) -> \(spec.outputLevel)\(bottommost)"
}

/// Small numbers: level 1 holds 1,000 bytes, level 2 10,000; level 0 is due at 4 tables.
private var smallOptions: CompactionOptions {
    var options = CompactionOptions()
    options.baseLevelBytes = 1000
    options.targetBytes = 1024
    options.jobBytesMax = 100_000
    return options
}

private func facts(now: UInt64 = 0, unfinishedBytesMax: UInt64 = .max) -> CompactionPlanner.Facts {
    CompactionPlanner.Facts(
        settings: LoggedSettings(), horizon: SequenceNumber(5), clock: 77, now: now,
        unfinishedBytesMax: unfinishedBytesMax)
}

/// Tables of one level, from `index`'s job, with these spans.
private func level(
    _ level: UInt8, _ index: UInt64, _ spans: [(String, String)], bytes: UInt64 = 100
)
    -> [TableRecord]
{
    spans.enumerated().map { ordinal, span in
        Sample.table(
            .compaction, index, UInt32(ordinal), level: level, span.0, span.1, sequences: 1...1,
            bytes: bytes)
    }
}

private func flushes(_ spans: [(String, String)], bytes: UInt64 = 100) -> [TableRecord] {
    spans.enumerated().map { number, span in
        let first = UInt64(number) * 10 + 10
        return Sample.flush(first...(first + 5), span.0, span.1, bytes: bytes)
    }
}

@Suite struct CompactionPlannerTests {
    private func plan(
        _ tables: [TableRecord], _ options: CompactionOptions = smallOptions,
        _ facts: CompactionPlanner.Facts = facts()
    ) -> String {
        var planner = CompactionPlanner(options: options)
        return describe(planner.plan(LogicalManifest(placing: tables), facts))
    }

    // MARK: - Level 0

    @Test func levelZeroIsDueAtItsTrigger() {
        let three = flushes([("a", "m"), ("b", "n"), ("c", "o")])
        #expect(plan(three) == "nothing")
        let four = flushes([("a", "m"), ("b", "n"), ("c", "o"), ("d", "p")])
        #expect(plan(four) == "0:15f0 0:25f0 0:35f0 0:45f0 -> 1 bottommost")
    }

    /// As after a rebuild of the manifest. Largest sequences go up, and spans of sequences overlap.
    @Test func `What interleaves in age leaves level 0 together, however large it is`() {
        func table(_ index: UInt64, _ first: String, _ last: String, _ ages: ClosedRange<UInt64>)
            -> TableRecord
        {
            Sample.table(.flush, index, level: 0, first, last, sequences: ages, bytes: 600)
        }
        let tables = [
            table(1, "a", "f", 1...40), table(2, "d", "m", 5...50), table(3, "k", "z", 45...60),
            table(4, "a", "z", 61...70),
        ]
        var options = smallOptions
        options.jobBytesMax = 700
        #expect(plan(tables, options) == "0:1f0 0:2f0 0:3f0 -> 1 bottommost")
        let manifest = LogicalManifest(placing: tables)
        for count in 1...2 {
            #expect(
                manifest.refusal(of: Sample.spec(Array(tables[..<count]), to: 1))
                    == .entangled(tables[count].id))
        }
        #expect(manifest.refusal(of: Sample.spec(Array(tables[..<3]), to: 1)) == nil)
        // Ages interleave, keys do not: each may go by itself.
        let apart = [
            table(1, "a", "b", 1...40), table(2, "d", "m", 5...50), table(3, "n", "z", 6...60),
            table(4, "zz", "zzz", 61...70),
        ]
        #expect(plan(apart, options) == "0:1f0 -> 1 bottommost")
    }

    @Test func levelZeroTakesWhatItOverlapsBelow() {
        let tables =
            flushes([("c", "d"), ("c", "e"), ("d", "f"), ("e", "f")])
            + level(1, 3, [("a", "b"), ("b1", "c"), ("f", "g"), ("h", "i")])
        #expect(plan(tables) == "0:15f0 0:25f0 0:35f0 0:45f0 1:3c1 1:3c2 -> 1 bottommost")
        let deeper = tables + level(2, 4, [("g", "h")])
        #expect(plan(deeper) == "0:15f0 0:25f0 0:35f0 0:45f0 1:3c1 1:3c2 -> 1")
    }

    @Test func levelZeroIsCappedFromTheOldest() {
        var options = smallOptions
        options.jobBytesMax = 250
        let tables = flushes([("a", "m"), ("b", "n"), ("c", "o"), ("d", "p")])
        #expect(plan(tables, options) == "0:15f0 0:25f0 -> 1 bottommost")
        options.jobBytesMax = 10
        #expect(plan(tables, options) == "0:15f0 -> 1 bottommost", "one table always goes")
    }

    @Test func aSpecCarriesTheFacts() throws {
        var planner = CompactionPlanner(options: smallOptions)
        let tables = flushes([("a", "m"), ("b", "n"), ("c", "o"), ("d", "p")])
        let planned = planner.plan(LogicalManifest(placing: tables), facts())
        let spec = try #require(planned)
        #expect(spec.horizon == SequenceNumber(5))
        #expect(spec.clock == 77)
        #expect(spec.targetBytes == 1024)
        #expect(spec.blockBytes == LoggedSettings().blockBytes)
        var levels = facts()
        levels.settings.blockLevels = [
            LevelBlockBytes(level: 0, bytes: 512),
            LevelBlockBytes(level: spec.outputLevel, bytes: 32 << 10),
        ]
        var other = CompactionPlanner(options: smallOptions)
        #expect(other.plan(LogicalManifest(placing: tables), levels)?.blockBytes == 32 << 10)
        #expect(TableShape(levels.settings).blockBytes == 512, "that of a flush")
        #expect(
            spec.filter
                == LoggedSettings().filter.shape(
                    level: spec.outputLevel, isBottommost: spec.isBottommost))
    }

    // MARK: - Deeper levels

    @Test func aLevelIsDueOverItsTarget() {
        let ten = (0..<10).map { ("\($0)a", "\($0)z") }
        #expect(plan(level(1, 3, ten, bytes: 99)) == "nothing")
        #expect(plan(level(1, 3, ten, bytes: 100)) == "1:3c0 -> 2 bottommost")
        #expect(plan(level(2, 3, ten, bytes: 999)) == "nothing")
        #expect(plan(level(2, 3, ten, bytes: 1000)) == "2:3c0 -> 3 bottommost")
        #expect(plan(level(6, 3, ten, bytes: 1 << 40)) == "nothing")
    }

    @Test func picksGoRoundByKey() {
        var planner = CompactionPlanner(options: smallOptions)
        let spans = (0..<3).map { ("\($0)a", "\($0)z") }
        let manifest = LogicalManifest(
            placing: level(1, 3, spans, bytes: 1000) + level(2, 4, [("1b", "1c"), ("2x", "3")]))
        let picks = (0..<4).map { _ in describe(planner.plan(manifest, facts())) }
        #expect(
            picks == [
                "1:3c0 -> 2 bottommost", "1:3c1 2:4c0 -> 2 bottommost",
                "1:3c2 2:4c1 -> 2 bottommost", "1:3c0 -> 2 bottommost",
            ])
    }

    @Test func theMostUrgentLevelGoesFirst() {
        let tables = flushes([("a", "m"), ("b", "n"), ("c", "o"), ("d", "p")])
        #expect(plan(tables + level(1, 3, [("x", "y")], bytes: 1500)) == "1:3c0 -> 2 bottommost")
        #expect(
            plan(tables + level(1, 3, [("x", "y")], bytes: 1000))
                == "0:15f0 0:25f0 0:35f0 0:45f0 -> 1 bottommost", "the upper among equals")
    }

    // MARK: - Jobs under way

    @Test func jobsRunAtOnceWhereHullsAreFree() throws {
        var planner = CompactionPlanner(options: smallOptions)
        var manifest = LogicalManifest(
            placing: level(1, 3, [("a", "b"), ("c", "d"), ("e", "f")], bytes: 1000)
                + level(2, 4, [("b", "c")]))
        var picks: [String] = []
        while let spec = planner.plan(manifest, facts()) {
            picks.append(describe(spec))
            #expect(manifest.refusal(of: spec) == nil)
            manifest.start(spec, at: 100 + UInt64(picks.count))
        }
        #expect(
            picks == ["1:3c0 2:4c0 -> 2 bottommost", "1:3c2 -> 2 bottommost"],
            "3c1 would need 4c0, and what leaves the level counts no more")
    }

    @Test func levelZeroWaitsForItsHullAndIsNotStarved() {
        var planner = CompactionPlanner(options: smallOptions)
        let upper = flushes((0..<8).map { _ in ("a", "z") })
        let lower = level(1, 3, [("a", "b"), ("e", "f"), ("x", "y")], bytes: 1000)
        var manifest = LogicalManifest(placing: upper + lower)
        manifest.start(Sample.spec([lower[0]], to: 2), at: 100)
        #expect(
            describe(planner.plan(manifest, facts())) == "nothing",
            "level 1 scores less than level 0, which waits for its jobs to end")
        manifest.cancel(100, at: 101)
        #expect(describe(planner.plan(manifest, facts())).hasPrefix("1:"), "level 1 scores more")
    }

    @Test func levelZeroIsMergedInPlaceWhileLevelOneIsBusy() throws {
        var options = smallOptions
        options.level0MergeTables = 4
        var planner = CompactionPlanner(options: options)
        let upper = flushes((0..<7).map { _ in ("a", "z") })
        let lower = level(1, 3, [("a", "b"), ("c", "d")])
        var manifest = LogicalManifest(placing: upper + lower)
        let down = Sample.spec(Array(upper[..<2]) + lower, to: 1)
        manifest.start(down, at: 100)
        let planned = planner.plan(manifest, facts())
        let spec = try #require(planned)
        #expect(describe(spec) == "0:35f0 0:45f0 0:55f0 0:65f0 0:75f0 -> 0")
        #expect(spec.targetBytes == CompactionSpec.targetBytesRange.upperBound)
        guard case .jobStarted(let job) = manifest.start(spec, at: 101) else {
            throw OracleFailure(description: "void")
        }
        #expect(planner.plan(manifest, facts()) == nil, "nothing is free")
        // It keeps its age: above what went down, below what was written meanwhile.
        manifest.land(200...205, [Sample.flush(200...205, "a", "z")], at: 206)
        let merged = Sample.table(.compaction, 101, level: 0, "a", "z", sequences: 30...75)
        #expect(job.hull == merged.span)
        manifest.finish(101, [merged], at: 207)
        #expect(
            manifest.tables.tables(at: 0).map(\.id.index.rawValue) == [15, 25, 101, 205])
        // The large result is not written again with a few small ones.
        for number in 0..<4 as Range<UInt64> {
            let first = 210 + number * 10
            manifest.land(
                first...(first + 5), [Sample.flush(first...(first + 5), "a", "z")], at: first + 6)
        }
        var large = merged
        large.canonicalBytes = 5_000
        let grown = manifest.tables.sortedByID.map { $0.id == large.id ? large : $0 }
        var other = LogicalManifest(placing: grown)
        other.start(down, at: 300)
        #expect(
            describe(planner.plan(other, facts()))
                == "0:205f0 0:215f0 0:225f0 0:235f0 0:245f0 -> 0")
    }

    @Test func levelZeroIsNotMergedInPlaceWithoutNeed() {
        var options = smallOptions
        options.level0MergeTables = 4
        let upper = flushes((0..<7).map { _ in ("a", "z") })
        let lower = level(1, 3, [("a", "b"), ("c", "d")])
        var busy = LogicalManifest(placing: upper + lower)
        busy.start(Sample.spec(Array(upper[..<2]) + lower, to: 1), at: 100)
        func plan(_ options: CompactionOptions, _ manifest: LogicalManifest) -> String {
            describe(CompactionPlanner(options: options).planned(manifest, facts()))
        }
        #expect(plan(options, busy).hasSuffix("-> 0"))
        options.level0MergeTables = 6
        #expect(plan(options, busy) == "nothing", "five are free")
        options.level0MergeTables = 0
        #expect(plan(options, busy) == "nothing", "switched off")
        options.level0MergeTables = 4
        #expect(
            plan(options, LogicalManifest(placing: upper + lower)).hasSuffix("-> 1 bottommost"),
            "level 1 is free")
        options.level0Trigger = 8
        #expect(plan(options, busy) == "nothing", "level 0 is not due")
    }

    @Test func unfinishedJobsShareTheSpace() {
        var planner = CompactionPlanner(options: smallOptions)
        var manifest = LogicalManifest(
            placing: level(1, 3, [("a", "b"), ("c", "d"), ("e", "f")], bytes: 1000))
        let tight = facts(unfinishedBytesMax: 1500)
        guard let first = planner.plan(manifest, tight) else {
            Issue.record("no first job")
            return
        }
        manifest.start(first, at: 100)
        #expect(planner.plan(manifest, tight) == nil)
        #expect(planner.plan(manifest, facts(unfinishedBytesMax: 2000)) != nil)
        #expect(
            CompactionPlanner(options: smallOptions).planned(
                LogicalManifest(placing: manifest.tables.sortedByID),
                facts(unfinishedBytesMax: 10)) != nil, "a lone job that cannot be smaller")
    }

    // MARK: - Failures

    @Test func tablesOfCancelledJobsAreLeftOutForAWhile() {
        var planner = CompactionPlanner(options: smallOptions)
        let tables = flushes([("a", "m"), ("b", "n"), ("c", "o"), ("d", "p")])
        let manifest = LogicalManifest(placing: tables)
        let minute: UInt64 = 60_000
        var running = manifest
        guard let whole = planner.plan(manifest, facts()),
            case .jobStarted(let job) = running.start(whole, at: 100)
        else {
            Issue.record("no job")
            return
        }
        planner.exclusions.cancelled(job, manifest.tables, now: 0)
        #expect(planner.plan(manifest, facts(now: 10 * minute - 1)) == nil)
        #expect(
            describe(planner.plan(manifest, facts(now: 10 * minute)))
                == "0:15f0 0:25f0 -> 1 bottommost", "half of it")
        planner.exclusions.cancelled(job, manifest.tables, now: 10 * minute)
        #expect(planner.plan(manifest, facts(now: 30 * minute - 1)) == nil, "doubled")
        #expect(planner.plan(manifest, facts(now: 30 * minute)) != nil)
        for _ in 0..<100 { planner.exclusions.cancelled(job, manifest.tables, now: 0) }
        #expect(planner.plan(manifest, facts(now: 24 * 60 * minute - 1)) == nil)
        #expect(planner.plan(manifest, facts(now: 24 * 60 * minute)) != nil, "a day at most")
        planner.exclusions.liftAll()
        #expect(planner.plan(manifest, facts()) == whole)
        planner.exclusions.cancelled(job, manifest.tables, now: 0)
        planner.exclusions.prune(ManifestTables())
        #expect(planner.exclusions.isEmpty)
    }

    /// An excluded table blocks what lies over it in level 0, and nothing else.
    @Test func excludedTablesBlockOnlyWhatOverlapsThem() throws {
        var planner = CompactionPlanner(options: smallOptions)
        let tables = flushes([("a", "c"), ("b", "d"), ("x", "y"), ("w", "z")])
        var manifest = LogicalManifest(placing: tables)
        guard case .jobStarted(let job) = manifest.start(Sample.spec([tables[0]], to: 1), at: 100)
        else {
            Issue.record("no job")
            return
        }
        manifest.cancel(100, at: 101)
        planner.exclusions.cancelled(job, manifest.tables, now: 0)
        #expect(planner.plan(manifest, facts()) == nil, "25f0 is first and lies over 15f0")
        planner.exclusions.lift(tables[0].id)
        #expect(
            describe(planner.plan(manifest, facts()))
                == "0:15f0 0:25f0 0:35f0 0:45f0 -> 1 bottommost")
    }

    // MARK: - Everything

    @Test func fullCompactionGoesDownStepByStep() {
        let planner = CompactionPlanner(options: smallOptions)
        var tables =
            flushes([("a", "m"), ("b", "n")]) + level(1, 3, [("a", "b"), ("x", "y")])
            + level(3, 4, [("a", "z")])
        tables[1].largestSequence = SequenceNumber(25)
        var manifest = LogicalManifest(placing: tables)
        let request = CompactionPlanner.FullCompaction(manifest)
        var steps: [String] = []
        var index: UInt64 = 100
        while case .job(let spec) = planner.planFull(request, manifest, facts()) {
            steps.append(describe(spec))
            manifest.start(spec, at: index)
            #expect(planner.planFull(request, manifest, facts()) == .wait || steps.count == 1)
            manifest.finish(
                index, Sample.outputs(of: spec, at: index, manifest.tables, pieces: 2),
                at: index + 1)
            index += 2
        }
        #expect(planner.planFull(request, manifest, facts()) == .done)
        #expect(
            steps == [
                "0:15f0 0:25f0 1:3c0 -> 1", "1:3c1 1:100c0 1:100c1 -> 2",
                "2:102c0 2:102c1 3:4c0 -> 3 bottommost",
            ])
        #expect(manifest.tables.deepestLevel == 3)
        let late = Sample.flush(900...905, "a", "b")
        manifest.land(900...905, [late], at: 906)
        #expect(
            planner.planFull(request, manifest, facts()) == .done, "later writes are not waited for"
        )
    }
}

extension CompactionPlanner {
    fileprivate func planned(_ manifest: LogicalManifest, _ facts: Facts) -> CompactionSpec? {
        var copy = self
        return copy.plan(manifest, facts)
    }
}
