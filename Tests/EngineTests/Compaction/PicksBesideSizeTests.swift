// Picks for tombstones, age, space and fruitless reads, and compactions of a range: what is picked,
// and that it comes to an end.

import Engine
import Testing

@Suite struct PicksBesideSizeTests {
    private static func table(
        _ index: UInt64, level: UInt8, _ first: String, _ last: String, bytes: UInt64 = 100,
        deletes: UInt64 = 0, sequence: UInt64 = 1
    ) -> TableRecord {
        var table = Sample.table(
            .compaction, index, level: level, first, last, sequences: 1...sequence, bytes: bytes)
        table.deleteCount = deletes
        return table
    }

    private var options: CompactionOptions {
        var options = CompactionOptions()
        options.targetBytes = 1_024
        return options
    }

    private func facts(now: UInt64 = 0, horizon: UInt64 = 100) -> CompactionPlanner.Facts {
        CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: SequenceNumber(horizon), clock: 0, now: now)
    }

    private func plan(
        _ tables: [TableRecord], _ options: CompactionOptions,
        _ facts: CompactionPlanner.Facts? = nil
    ) -> CompactionSpec? {
        var planner = CompactionPlanner(options: options)
        return planner.plan(LogicalManifest(placing: tables), facts ?? self.facts())
    }

    private let above = table(1, level: 1, "a", "f", deletes: 5)
    private let below = table(2, level: 2, "c", "d", deletes: 1)

    @Test func `Tables full of tombstones are merged with what they hide`() throws {
        var options = options
        #expect(plan([above, below], options) == nil, "off unless asked for")
        options.tombstonePercent = 50
        let spec = try #require(plan([above, below], options))
        #expect(spec.inputs.map(\.id) == [above.id, below.id] && spec.outputLevel == 2)
        #expect(spec.isBottommost)
        options.tombstonePercent = 51
        #expect(plan([above, below], options) == nil)
    }

    @Test func `At the bottom they are written anew, if everybody sees them`() throws {
        var options = options
        options.tombstonePercent = 50
        let spec = try #require(plan([above], options))
        #expect(spec.inputs == [CompactionSpec.Input(above)] && spec.outputLevel == 1)
        #expect(spec.isBottommost && spec.action == .merge)
        let late = Self.table(3, level: 1, "a", "f", deletes: 9, sequence: 101)
        #expect(plan([late], options) == nil, "it would keep them, and come again")
        #expect(plan([late, below], options)?.outputLevel == 2)
        #expect(plan([Self.table(4, level: 6, "a", "f", deletes: 9)], options)?.outputLevel == 6)
    }

    @Test func `Old tables are merged or written anew, once`() throws {
        var options = options
        options.rewriteAfterMilliseconds = 1_000
        var planner = CompactionPlanner(options: options)
        let manifest = LogicalManifest(placing: [Self.table(1, level: 3, "a", "f")])
        #expect(planner.plan(manifest, facts(now: 500)) == nil)
        #expect(planner.plan(manifest, facts(now: 1_499)) == nil)
        let planned = planner.plan(manifest, facts(now: 1_500))
        #expect(planned?.outputLevel == 3)
        let anew = LogicalManifest(placing: [Self.table(9, level: 3, "a", "f")])
        #expect(planner.plan(anew, facts(now: 1_501)) == nil, "its age begins")
        #expect(planner.plan(anew, facts(now: 2_501)) != nil)
        var other = CompactionPlanner(options: options)
        #expect(other.plan(manifest, facts(now: 1 << 40)) == nil, "a new leader knows no ages")
    }

    @Test func `Upper levels go down when they hold too much beside the deepest`() throws {
        let tables = [
            Self.table(1, level: 1, "a", "c", bytes: 30),
            Self.table(2, level: 2, "a", "c", bytes: 40),
            Self.table(3, level: 2, "x", "z", bytes: 20),
            Self.table(4, level: 3, "a", "z", bytes: 300),
        ]
        var options = options
        options.spaceAmplificationPercentMax = 30
        #expect(plan(tables, options) == nil, "90 of 300")
        options.spaceAmplificationPercentMax = 29
        let spec = try #require(plan(tables, options))
        #expect(spec.inputs.map(\.id) == [tables[1].id, tables[3].id], "the fullest level first")
        // What is under way counts as gone.
        var manifest = LogicalManifest(placing: tables)
        manifest.start(spec, at: 70)
        var planner = CompactionPlanner(options: options)
        #expect(planner.plan(manifest, facts()) == nil)
    }

    @Test func `Tables that are read for nothing go down to what is read`() throws {
        var options = options
        options.fruitlessReadsMax = 100
        var hints = facts()
        hints.fruitlessReads = [
            FruitlessReads(table: below.id, count: 500),
            FruitlessReads(table: above.id, count: 100),
        ]
        let spec = try #require(plan([above, below], options, hints))
        #expect(spec.inputs.map(\.id) == [above.id, below.id], "nothing is below the other")
        hints.fruitlessReads = [FruitlessReads(table: above.id, count: 99)]
        #expect(plan([above, below], options, hints) == nil)
        let young = Sample.flush(10...15, "a", "m")
        hints.fruitlessReads = [FruitlessReads(table: young.id, count: 100)]
        #expect(plan([young, above, below], options, hints)?.outputLevel == 1)
    }

    // MARK: - A range

    @Test func `A range goes down to its deepest level, and nothing else does`() throws {
        let tables = [
            Sample.flush(10...15, "x", "z"), Sample.flush(20...25, "b", "c"),
            Sample.flush(30...35, "x", "y"), Self.table(1, level: 1, "a", "d"),
            Self.table(2, level: 1, "e", "h"), Self.table(3, level: 2, "a", "b"),
            Self.table(4, level: 4, "k", "z"),
        ]
        var manifest = LogicalManifest(placing: tables)
        let planner = CompactionPlanner(options: options)
        let span = KeySpan(start: Sample.key("b"), end: Sample.key("c"))
        let request = CompactionPlanner.FullCompaction(manifest, options, span: span)
        #expect(request.bottom == 2)
        var steps: [[UInt64]] = []
        var index: UInt64 = 100
        while case .job(let spec) = planner.planFull(request, manifest, facts()) {
            steps.append(spec.inputs.map(\.id.index.rawValue))
            try #require(manifest.refusal(of: spec) == nil && steps.count < 9)
            manifest.start(spec, at: index)
            let outputs = Sample.outputs(of: spec, at: index, manifest.tables, pieces: 3)
            manifest.finish(index, spec.action == .merge ? outputs : [], at: index + 1)
            index += 2
        }
        #expect(planner.planFull(request, manifest, facts()) == .done)
        // The older table of level 0 goes along, though it lies elsewhere.
        #expect(steps.first?.prefix(2) == [15, 25])
        for level in 0..<2 as Range<UInt8> {
            #expect(!manifest.tables.overlaps(span, at: level))
        }
        #expect(manifest.tables.record(tables[6].id) != nil, "not asked for")
        let elsewhere = KeySpan(start: Sample.key("i"), end: Sample.key("j"))
        let nothing = CompactionPlanner.FullCompaction(manifest, options, span: elsewhere)
        #expect(planner.planFull(nothing, manifest, facts()) == .done)
    }

    @Test func `What is at the deepest level already is written anew, once`() throws {
        let tables = [
            Self.table(1, level: 2, "a", "c"), Self.table(2, level: 2, "d", "f"),
            Self.table(3, level: 2, "x", "z"),
        ]
        var manifest = LogicalManifest(placing: tables)
        let planner = CompactionPlanner(options: options)
        let span = KeySpan(start: Sample.key("b"), end: Sample.key("e"))
        let request = CompactionPlanner.FullCompaction(manifest, options, span: span)
        guard case .job(let spec) = planner.planFull(request, manifest, facts()) else {
            throw OracleFailure(description: "nothing planned")
        }
        #expect(spec.inputs.map(\.id) == [tables[0].id, tables[1].id])
        #expect(spec.outputLevel == 2 && spec.isBottommost && spec.action == .merge)
        manifest.start(spec, at: 100)
        #expect(planner.planFull(request, manifest, facts()) == .wait)
        // Made while that job is under way: what it writes is new enough.
        let meanwhile = CompactionPlanner.FullCompaction(manifest, options, span: span)
        var functions = JobFunctionNames()
        functions.compactionFilter = TouchingFilter.wanted
        let refiltered = CompactionPlanner.FullCompaction(
            manifest, options, span: span, functions: functions)
        manifest.finish(100, [Self.table(100, level: 2, "a", "f")], at: 101)
        #expect(planner.planFull(request, manifest, facts()) == .done)
        #expect(planner.planFull(meanwhile, manifest, facts()) == .done)
        // By other functions than are asked for, it has not let go what they would.
        guard case .job = planner.planFull(refiltered, manifest, facts()) else {
            throw OracleFailure(description: "what a job without the filter wrote is left")
        }
        let later = CompactionPlanner.FullCompaction(manifest, options, span: span)
        guard case .job(let again) = planner.planFull(later, manifest, facts()) else {
            throw OracleFailure(description: "nothing planned")
        }
        #expect(again.inputs.map(\.id.index.rawValue) == [100])
    }
}
