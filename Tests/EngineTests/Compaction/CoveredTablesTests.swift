// Jobs that drop hidden tables unread: what the planner finds, what each member demands before it
// believes it, and what the manifest reserves meanwhile.

import Engine
import Testing

@Suite struct CoveredTablesTests {
    private func record(
        _ index: UInt64, level: UInt8, _ first: String, _ last: String,
        _ sequences: ClosedRange<UInt64>
    ) -> TableRecord {
        Sample.table(.compaction, index, level: level, first, last, sequences: sequences)
    }

    /// A live table over all keys that holds `tombstones`.
    private func facts(_ tombstones: [LiveTombstone], horizon: UInt64 = 100)
        -> CompactionPlanner.Facts
    {
        CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: SequenceNumber(horizon), clock: 0, now: 0,
            rangeTombstones: tombstones)
    }

    private func live(_ table: TableRecord, _ start: String, _ end: String?, _ sequence: UInt64)
        -> LiveTombstone
    {
        LiveTombstone(table: table.id, tombstone: tombstone(start, end, sequence))
    }

    private func plan(_ manifest: LogicalManifest, _ facts: CompactionPlanner.Facts)
        -> CompactionSpec?
    {
        var planner = CompactionPlanner()
        return planner.plan(manifest, facts)
    }

    private var deep: [TableRecord] {
        [
            record(1, level: 3, "a", "c", 1...5), record(2, level: 3, "d", "f", 6...9),
            record(3, level: 3, "g", "i", 2...60), record(4, level: 3, "j", "l", 1...4),
        ]
    }

    @Test func `Runs of hidden tables are found, newer and uncovered ones left`() throws {
        let above = record(9, level: 1, "a", "z", 50...50)
        let manifest = LogicalManifest(placing: deep + [above])
        let spec = try #require(plan(manifest, facts([live(above, "a", nil, 50)])))
        // The third is newer in part; the fourth comes next time.
        #expect(spec.inputs.map(\.id) == deep[0...1].map(\.id))
        #expect(spec.outputLevel == 3)
        #expect(spec.witnesses == [CompactionSpec.Input(above)])
        #expect(manifest.refusal(of: spec) == nil)
        #expect(
            plan(manifest, facts([live(above, "b", nil, 50)]))?.inputs.map(\.id) == [deep[1].id])
        #expect(plan(manifest, facts([live(above, "d", "f", 50)])) == nil, "f is its last key")
        #expect(plan(manifest, facts([live(above, "a", nil, 50)], horizon: 49)) == nil)
        #expect(plan(manifest, facts([])) == nil)
    }

    @Test func `Pieces of one range delete hide together, however they were cut`() throws {
        let left = record(8, level: 2, "a", "d", 50...50)
        let right = record(9, level: 2, "e", "z", 50...50)
        let manifest = LogicalManifest(placing: [deep[1], left, right])
        let pieces = [live(left, "a", "e", 50), live(right, "e", nil, 50)]
        let spec = try #require(plan(manifest, facts(pieces)))
        #expect(spec.witnesses.map(\.id) == [left.id, right.id])
        #expect(plan(manifest, facts([pieces[0]])) == nil)
    }

    @Test func `Witnesses are kept while the job is under way, and inputs are reserved`() throws {
        let above = record(9, level: 1, "a", "z", 50...50)
        var manifest = LogicalManifest(placing: deep + [above])
        let wide = facts([live(above, "a", nil, 50)])
        let first = try #require(plan(manifest, wide))
        let start = manifest.start(first, at: LogIndex(70))
        guard case .jobStarted = start else { throw OracleFailure(description: "\(start)") }
        #expect(manifest.reservedTables.contains(above.id))
        let taking = Sample.spec([above], to: 2)
        #expect(manifest.refusal(of: taking) == .inputReserved(above.id, by: LogIndex(70)))
        // The same witness serves another job.
        let second = try #require(plan(manifest, wide))
        #expect(second.inputs.map(\.id) == [deep[3].id])
        // Kept in the manifest's bytes, too.
        var writer = ByteWriter()
        manifest.encode(into: &writer)
        let decoded = try writer.bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            return try LogicalManifest(&reader)
        }
        #expect(decoded == manifest)
        // A job that takes the witness away comes first: then this one is void.
        var other = LogicalManifest(placing: deep + [above])
        guard case .jobStarted = other.start(taking, at: LogIndex(71)) else { return }
        #expect(other.refusal(of: first) == .inputReserved(above.id, by: LogIndex(71)))
        // Gone for good, or another than was named.
        #expect(
            LogicalManifest(placing: deep).refusal(of: first) == .inputNotLive(above.id))
        var changed = above
        changed.digest = .zero
        #expect(
            LogicalManifest(placing: deep + [changed]).refusal(of: first)
                == .inputDiffers(above.id))
    }

    private func drop(
        _ tombstones: [RangeTombstone], horizon: UInt64 = 9, in bed: TableBed? = nil
    ) throws -> MergeResult {
        let bed = try bed ?? TableBed()
        let inputs = try bed.flush(
            TableBed.memtable([ModelEntry("b", 1), ModelEntry("f", 3)]), at: 1)
        let witness = try bed.flush(TableBed.memtable([], tombstones), at: 2)
        var spec = bed.spec(inputs, to: 0, horizon: horizon, functions: JobFunctionNames())
        spec.witnesses = witness.map { CompactionSpec.Input($0.record) }
        return try bed.compact(inputs, spec, at: 7, witnesses: witness)
    }

    @Test func `Every member looks for itself whether the inputs are hidden`() throws {
        let result = try drop([tombstone("a", "z", 5)])
        #expect(result.outputs.isEmpty && result.isBalanced)
        #expect(result.dropped(.rangeDeleted).count == 2)
        _ = try drop([tombstone("a", "d", 5), tombstone("c", nil, 6)])
        for wrong in [
            [tombstone("a", "z", 3)], [tombstone("a", "f", 5)], [tombstone("c", "z", 5)],
            [tombstone("a", "c", 5), tombstone("d", "z", 5)],
        ] {
            #expect(throws: EngineError.self) { try drop(wrong) }
        }
        #expect(throws: EngineError.self) { try drop([tombstone("a", "z", 5)], horizon: 4) }
    }
}
