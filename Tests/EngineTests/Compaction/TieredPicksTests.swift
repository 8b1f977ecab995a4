// Size-tiered merges and FIFO drops: what is picked, what the manifest refuses, and that data which
// was dropped takes nothing older with it into the light.

import Engine
import Testing

@Suite struct TieredPicksTests {
    /// Level-0 tables over all keys, oldest first, of these sizes.
    private func runs(_ bytes: [UInt64]) -> [TableRecord] {
        bytes.enumerated().map { number, bytes in
            let first = UInt64(number) * 10 + 10
            return Sample.flush(first...(first + 5), "a", "z", bytes: bytes)
        }
    }

    private func facts(now: UInt64 = 0, horizon: UInt64 = 1_000) -> CompactionPlanner.Facts {
        CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: SequenceNumber(horizon), clock: 0, now: now)
    }

    private var tiered: CompactionOptions {
        var options = CompactionOptions()
        options.strategy = .sizeTiered
        return options
    }

    /// Indexes of what is merged, oldest first.
    private func plan(_ bytes: [UInt64], _ options: CompactionOptions? = nil) -> [UInt64]? {
        var planner = CompactionPlanner(options: options ?? tiered)
        let manifest = LogicalManifest(placing: runs(bytes))
        return planner.plan(manifest, facts())?.inputs.map(\.id.index.rawValue)
    }

    // MARK: - Size-tiered

    @Test func `Runs of similar size become one`() {
        #expect(plan([10, 10, 10]) == nil, "three are few enough")
        #expect(plan([10_000, 10, 10, 10]) == [25, 35, 45])
        #expect(plan([10_000, 40, 10, 11, 10]) == [35, 45, 55], "40 is more than they together")
        #expect(plan([10_000, 33, 10, 10, 10]) == [25, 35, 45, 55], "within ten percent")
        var options = tiered
        options.tierSizePercent = 0
        #expect(plan([10_000, 33, 10, 10, 10], options) == [35, 45, 55])
        options.tierSizePercent = .max
        #expect(plan([100_000, 33, 10, 10, 10], options) == [15, 25, 35, 45, 55], "any joins")
    }

    @Test func `Too many runs of growing size lose their youngest`() {
        #expect(plan([10_000, 800, 60, 5]) == [35, 45])
        #expect(plan([100_000, 10_000, 800, 60, 5]) == [35, 45, 55])
    }

    @Test func `Runs that are together more than a job are merged by twos, up to one table`() {
        let gib: UInt64 = 1 << 30
        // No job holds two of them, and there may not be ever more.
        #expect(plan([5 * gib, 4 * gib, 3 * gib, 2 * gib]) == [35, 45])
        #expect(plan([5 * gib, 4 * gib, 3 * gib, 14 * gib]) == [25, 35], "17 GiB are two tables")
        #expect(plan([9 * gib, 9 * gib, 9 * gib, 9 * gib]) == nil)
        #expect(plan([1 * gib, 9 * gib, 7 * gib, 1 << 20, 1 << 20]) == [45, 55])
        var level0 = runs([9 * gib, gib, 8 * gib, 9 * gib])
        #expect(tiered.pressingCount(level0) == 2)
        level0.removeLast()
        #expect(CompactionOptions().pressingCount(level0) == 3)
    }

    @Test func `Too much beside the oldest run makes one of all`() throws {
        #expect(plan([100, 150, 40, 11]) == [15, 25, 35, 45], "201 beside 100")
        #expect(plan([100, 150, 39, 11]) == [35, 45])
        var options = tiered
        options.spaceAmplificationPercentMax = 25
        #expect(plan([1_000, 200, 40, 11], options) == [15, 25, 35, 45])
        var planner = CompactionPlanner(options: tiered)
        let all = runs([100, 150, 40, 11])
        let planned = planner.plan(LogicalManifest(placing: all), facts())
        let spec = try #require(planned)
        #expect(spec.outputLevel == 0 && spec.isBottommost)
        #expect(spec.targetBytes == CompactionSpec.targetBytesRange.upperBound)
        let deep = Sample.table(.compaction, 3, level: 4, "c", "d", sequences: 1...4)
        let above = planner.plan(LogicalManifest(placing: all + [deep]), facts())
        #expect(above?.isBottommost == false && above?.inputs.count == 4)
        let part = planner.plan(
            LogicalManifest(placing: runs([10_000, 10, 10, 10])), facts())
        #expect(part?.isBottommost == false, "an older run lies below")
    }

    @Test func `A job takes what it may hold`() {
        var options = tiered
        options.jobBytesMax = 25
        #expect(plan([10_000, 10, 10, 10], options) == [35, 45])
        options.jobBytesMax = 15
        #expect(plan([10_000, 10, 10, 10], options) == [35, 45], "two, however large")
    }

    @Test func `A full compaction leaves one run`() throws {
        var manifest = LogicalManifest(placing: runs([500, 90, 30]))
        let planner = CompactionPlanner(options: tiered)
        let request = CompactionPlanner.FullCompaction(manifest, tiered)
        guard case .job(let spec) = planner.planFull(request, manifest, facts()) else {
            throw OracleFailure(description: "nothing planned")
        }
        #expect(spec.inputs.count == 3 && spec.isBottommost && spec.outputLevel == 0)
        manifest.start(spec, at: 100)
        #expect(planner.planFull(request, manifest, facts()) == .wait)
        manifest.finish(
            100, [Sample.table(.compaction, 100, level: 0, "a", "z", sequences: 10...35)], at: 101)
        #expect(planner.planFull(request, manifest, facts()) == .done)
        // Another request writes the one run anew.
        let again = CompactionPlanner.FullCompaction(manifest, tiered)
        guard case .job(let rewrite) = planner.planFull(again, manifest, facts()) else {
            throw OracleFailure(description: "nothing planned")
        }
        #expect(rewrite.inputs.map(\.id.index.rawValue) == [100] && rewrite.isBottommost)
        manifest.start(rewrite, at: 200)
        #expect(planner.planFull(again, manifest, facts()) == .wait)
        manifest.finish(
            200, [Sample.table(.compaction, 200, level: 0, "a", "z", sequences: 10...35)], at: 201)
        #expect(planner.planFull(again, manifest, facts()) == .done)
    }

    // MARK: - FIFO

    private func fifo(bytes: UInt64 = 0, age: UInt64 = 0) -> CompactionOptions {
        var options = CompactionOptions()
        options.strategy = .fifo(bytesMax: bytes, ageMilliseconds: age)
        return options
    }

    @Test func `The oldest tables are dropped until the rest fits`() throws {
        let tables = runs([30, 30, 30, 30])
        var planner = CompactionPlanner(options: fifo(bytes: 70))
        var manifest = LogicalManifest(placing: tables)
        let planned = planner.plan(manifest, facts())
        let spec = try #require(planned)
        #expect(spec == .drop(tables[..<2].map { CompactionSpec.Input($0) }))
        manifest.start(spec, at: 100)
        #expect(planner.plan(manifest, facts()) == nil, "what goes counts as gone")
        manifest.finish(100, [], at: 101)
        #expect(manifest.tables.tables(at: 0) == Array(tables[2...]))
        #expect(planner.plan(manifest, facts()) == nil)
        var other = CompactionPlanner(options: fifo(bytes: 70))
        #expect(
            other.plan(LogicalManifest(placing: tables), facts(horizon: 24))?.inputs.count == 1,
            "a transaction may have to find a conflict in the second")
    }

    @Test func `Old tables are dropped by the time that the leader saw them`() {
        var planner = CompactionPlanner(options: fifo(age: 1_000))
        let tables = runs([30, 30])
        #expect(planner.plan(LogicalManifest(placing: [tables[0]]), facts(now: 10)) == nil)
        let both = LogicalManifest(placing: tables)
        #expect(planner.plan(both, facts(now: 500)) == nil)
        #expect(planner.plan(both, facts(now: 1_010))?.inputs.map(\.id) == [tables[0].id])
        #expect(planner.plan(both, facts(now: 1_500))?.inputs.count == 2)
        #expect(
            planner.planFull(
                CompactionPlanner.FullCompaction(both), both, facts()) == .done)
    }

    @Test func `What another strategy left deeper goes first`() {
        let deep = Sample.table(.compaction, 3, level: 4, "c", "d", sequences: 1...4, bytes: 30)
        let middle = Sample.table(.compaction, 4, level: 1, "c", "d", sequences: 5...6, bytes: 30)
        var planner = CompactionPlanner(options: fifo(bytes: 70))
        let tables = runs([30, 30]) + [deep, middle]
        #expect(
            planner.plan(LogicalManifest(placing: tables), facts())
                == .drop([CompactionSpec.Input(deep)]))
    }

    @Test func `A drop that would bring older data to light is void`() {
        let old = Sample.flush(10...15, "a", "f")
        let young = Sample.flush(20...25, "c", "d")
        let apart = Sample.flush(30...35, "x", "z")
        let deep = Sample.table(.compaction, 3, level: 4, "y", "y1", sequences: 1...4)
        let manifest = LogicalManifest(placing: [old, young, apart, deep])
        func refusal(_ tables: [TableRecord]) -> VoidReason? {
            manifest.refusal(of: .drop(tables.map { CompactionSpec.Input($0) }))
        }
        #expect(refusal([old]) == nil)
        #expect(refusal([old, young]) == nil)
        #expect(refusal([young]) == .olderTableLeftBehind(old.id))
        #expect(refusal([apart]) == .olderTableLeftBehind(deep.id))
        #expect(refusal([deep]) == nil)
    }
}
