// Tables that range deletes have hidden whole: they leave by a job that reads and writes nothing,
// so that a range delete over everything does not cost a compaction of everything. The planner
// proposes such a job from the range tombstones that are in memory; what it proposes is proved by
// each member from the tables that hold them (`CompactionJob`).

/// A range tombstone of a live table.
package struct LiveTombstone: Hashable, Sendable {
    package var table: TableID
    package var tombstone: RangeTombstone

    package init(table: TableID, tombstone: RangeTombstone) {
        self.table = table
        self.tombstone = tombstone
    }

    /// Tables with more of them are not looked at: wide range deletes are few.
    package static let tableMax = 64
}

extension Picker {
    /// The first run of neighbours in a level that nobody can see; from the deepest level up, where
    /// most of the data is.
    func pickCovered() -> CompactionSpec? {
        let witnesses = usableTombstones
        guard !witnesses.isEmpty else { return nil }
        let cover = RangeTombstoneList(witnesses.map(\.tombstone))
        for level in (0..<TableRecord.levelCount).reversed() {
            var run: [TableRecord] = []
            for table in manifest.tables.tables(at: level) + [nil] {
                if let table, run.count < Limits.jobTables, isFree(table),
                    cover.hides(table, at: facts.horizon)
                {
                    run.append(table)
                } else if !run.isEmpty {
                    let spec = drop(run, at: level, witnesses)
                    if manifest.refusal(of: spec) == nil { return spec }
                    run.removeAll()
                }
            }
        }
        return nil
    }

    /// Those that every reader sees, of tables that no job takes away.
    private var usableTombstones: [LiveTombstone] {
        guard !facts.rangeTombstones.isEmpty else { return [] }
        var taken = Set<TableID>()
        for job in manifest.jobs { for input in job.spec.inputs { taken.insert(input.id) } }
        return facts.rangeTombstones.filter {
            $0.tombstone.sequence <= facts.horizon && !taken.contains($0.table)
                && manifest.tables.contains($0.table)
        }
    }

    private func drop(_ run: [TableRecord], at level: UInt8, _ tombstones: [LiveTombstone])
        -> CompactionSpec
    {
        let gone = Set(run.map(\.id))
        let oldest = run.map(\.largestSequence).min() ?? .zero
        let hull = CompactionSpec.hull(of: run) ?? .everything
        var witnesses = Set<TableID>()
        for witness in tombstones
        where witness.tombstone.sequence > oldest && witness.tombstone.span.overlaps(hull)
            && !gone.contains(witness.table)
        {
            witnesses.insert(witness.table)
        }
        return CompactionSpec(
            inputs: run.map { CompactionSpec.Input($0) }, outputLevel: level,
            targetBytes: options.targetBytes, horizon: facts.horizon, clock: facts.clock,
            blockBytes: facts.settings.blockBytes,
            filter: .none, isBottommost: false,
            witnesses: witnesses.compactMap { id in
                manifest.tables.record(id).map { CompactionSpec.Input($0) }
            })
    }
}
