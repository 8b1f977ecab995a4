// Sizes of levels and the base level, fixed and dynamic; and the rules that let level 0 go to a base
// level deeper than 1.

import Engine
import Testing

@Suite struct LevelTargetsTests {
    private var dynamic: CompactionOptions {
        var options = CompactionOptions()
        options.level0Trigger = 2
        options.baseLevelBytes = 1_000
        options.targetBytes = 1_024
        options.sizesLevelsDynamically = true
        return options
    }

    /// One table a level, apart by key, with these bytes.
    private func tables(_ bytes: [UInt8: UInt64]) -> [TableRecord] {
        bytes.sorted { $0.key < $1.key }.map { level, bytes in
            Sample.table(
                .compaction, UInt64(level), level: level, "\(level)", "\(level)z",
                sequences: 1...1, bytes: bytes)
        }
    }

    private func targets(_ bytes: [UInt8: UInt64], _ options: CompactionOptions? = nil)
        -> LevelTargets
    {
        LevelTargets(ManifestTables(tables(bytes)) ?? ManifestTables(), options ?? dynamic)
    }

    @Test func `Fixed targets do not look at the tables`() {
        var options = dynamic
        options.sizesLevelsDynamically = false
        let fixed = targets([6: 1 << 40], options)
        #expect(fixed.base == 1 && fixed.output(of: 0) == 1 && fixed.output(of: 3) == 4)
        #expect((1...5).map { fixed.bytes($0) } == [1_000, 10_000, 100_000, 1_000_000, 10_000_000])
        #expect(fixed.bytes(6) == .max)
    }

    @Test func `The base climbs as the deepest level grows`() {
        let empty = targets([:])
        #expect(empty.base == 6 && empty.bytes(6) == .max && empty.output(of: 0) == 6)
        #expect(targets([6: 900]).base == 6)
        #expect(targets([6: 1_000]).base == 6)
        let grown = targets([6: 5_000])
        #expect(grown.base == 5 && grown.bytes(5) == 1_000)
        let large = targets([6: 500_000])
        #expect(large.base == 3)
        #expect((3...5).map { large.bytes($0) } == [1_000, 5_000, 50_000])
        #expect(targets([6: 1 << 60]).base == 1)
    }

    @Test func `The base is never below what is there`() {
        // Shrunk, or made with fixed sizes: what lies above stays where it is.
        let shrunk = targets([3: 10, 6: 2_000])
        #expect(shrunk.base == 3 && shrunk.bytes(3) == 1_000)
        let old = targets([1: 900, 2: 9_000])
        #expect(old.base == 1 && old.bytes(1) == 1_000)
        #expect(targets([1: .max / 2]).bytes(5) == 10_000_000)
    }

    @Test func `Level 0 goes to the base level`() throws {
        var planner = CompactionPlanner(options: dynamic)
        let facts = CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: .zero, clock: 0, now: 0)
        let upper = [
            Sample.flush(10...15, "a", "m"), Sample.flush(20...25, "b", "n"),
        ]
        let planned = planner.plan(LogicalManifest(placing: upper), facts)
        let first = try #require(planned)
        #expect(first.outputLevel == 6 && first.isBottommost)
        let deep = Sample.table(
            .compaction, 3, level: 6, "c", "z", sequences: 1...1, bytes: 5_000)
        let manifest = LogicalManifest(placing: upper + [deep])
        let next = planner.plan(manifest, facts)
        let second = try #require(next)
        #expect(second.outputLevel == 5 && !second.isBottommost && second.inputs.count == 2)
        #expect(try second.encoded().withUnsafeBytes { try CompactionSpec(decoding: $0) } == second)
        let request = CompactionPlanner.FullCompaction(LogicalManifest(placing: upper), dynamic)
        #expect(request.bottom == 6)
    }

    @Test func `Levels that a job passes are reserved, and must be empty in its hull`() throws {
        let upper = Sample.flush(10...15, "d", "m")
        let between = Sample.table(.compaction, 3, level: 2, "a", "e", sequences: 1...4)
        let beside = Sample.table(.compaction, 4, level: 3, "n", "z", sequences: 1...4)
        let spec = Sample.spec([upper], to: 4)
        #expect(
            LogicalManifest(placing: [upper, between]).refusal(of: spec)
                == .tableInHull(between.id))
        let lower = Sample.table(.compaction, 5, level: 1, "a", "e", sequences: 1...4)
        var manifest = LogicalManifest(placing: [upper, beside])
        #expect(manifest.refusal(of: spec) == nil)
        guard case .jobStarted(let job) = manifest.start(spec, at: 70) else {
            throw OracleFailure(description: "void")
        }
        #expect((0...6).filter { job.reserves(level: $0) } == [1, 2, 3, 4])
        // A job through one of these levels would put older data above, or newer below.
        let later = Sample.flush(80...85, "e", "f")
        manifest.land(80...85, [later], at: 86)
        for level in 1...5 as ClosedRange<UInt8> {
            #expect(
                manifest.refusal(of: Sample.spec([later], to: level))
                    == .hullReserved(by: LogIndex(70)))
        }
        #expect(manifest.refusal(of: Sample.spec([beside], to: 4)) == nil)
        var other = LogicalManifest(placing: [upper, lower])
        guard case .jobStarted = other.start(Sample.spec([lower], to: 2), at: 71) else {
            throw OracleFailure(description: "void")
        }
        #expect(other.refusal(of: spec) == .hullReserved(by: LogIndex(71)))
        #expect(
            LogicalManifest(placing: [beside]).refusal(of: Sample.spec([beside], to: 3)) == nil,
            "a level may be written in place")
        #expect(
            Sample.throwsDecodingError { () throws(DecodingError) in
                try EntryValidation.validate(
                    Sample.entry(.compact, Sample.spec([beside], to: 5).encoded(), index: 20))
            }, "only level 0 may pass a level")
    }
}
