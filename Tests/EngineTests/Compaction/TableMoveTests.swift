// Tables that move to a deeper level unread: when the planner moves instead of merging, what the
// manifest makes of it, and that the file outlives every handle of it.

import Engine
import Synchronization
import Testing

@Suite struct TableMoveTests {
    private static func table(
        _ index: UInt64, level: UInt8, _ first: String, _ last: String, bytes: UInt64 = 600,
        deletes: UInt64 = 0
    ) -> TableRecord {
        var table = Sample.table(
            .compaction, index, level: level, first, last, sequences: index...index, bytes: bytes)
        table.deleteCount = deletes
        return table
    }

    private var options: CompactionOptions {
        var options = CompactionOptions()
        options.level0Trigger = 2
        options.baseLevelBytes = 1_000
        options.targetBytes = 1_024
        return options
    }

    private func plan(
        _ tables: [TableRecord], _ options: CompactionOptions? = nil,
        _ change: (inout CompactionPlanner.Facts) -> Void = { _ in }
    ) -> CompactionSpec? {
        var facts = CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: SequenceNumber(5), clock: 77, now: 0)
        change(&facts)
        var planner = CompactionPlanner(options: options ?? self.options)
        return planner.plan(LogicalManifest(placing: tables), facts)
    }

    private let row = [
        table(1, level: 0, "a", "c"), table(2, level: 0, "k", "m"), table(3, level: 0, "d", "f"),
    ]

    @Test func `A run that meets nothing moves whole`() throws {
        let spec = try #require(plan(row))
        #expect(spec == .move(row.map { CompactionSpec.Input($0) }, to: 1))
        let beside = row + [Self.table(9, level: 1, "x", "z"), Self.table(8, level: 2, "a", "z")]
        #expect(plan(beside)?.action == .move)
    }

    @Test func `What would gain from a merge is merged`() throws {
        let inputs = row.map { CompactionSpec.Input($0) }
        func merges(
            _ tables: [TableRecord], _ options: CompactionOptions? = nil,
            _ change: (inout CompactionPlanner.Facts) -> Void = { _ in }
        ) -> Bool {
            let spec = plan(tables, options, change)
            return spec?.action == .merge && spec?.inputs.isEmpty == false
        }
        #expect(merges([row[0], Self.table(2, level: 0, "b", "d"), row[2]]), "they overlap")
        #expect(merges(row + [Self.table(9, level: 1, "b", "b1")]), "one lies below")
        let deleting = Self.table(2, level: 0, "k", "m", deletes: 1)
        #expect(merges([row[0], deleting, row[2]]), "its tombstones can go")
        let above = [row[0], deleting, row[2], Self.table(9, level: 2, "l", "z")]
        #expect(plan(above)?.action == .move, "they cannot go yet")
        #expect(merges(row.map { Self.table($0.id.index.rawValue, level: 0, "a", "c", bytes: 9) }))
        let small = row.map { record in
            var small = record
            small.canonicalBytes = 200
            return small
        }
        #expect(merges(small), "three small ones make one")
        #expect(
            merges(row) {
                $0.settings.functions.compactionFilter = CompactionFilterID(id: 1, version: 1)
            })
        #expect(
            merges(row) {
                $0.settings.blockLevels = [LevelBlockBytes(level: 1, bytes: 32 << 10)]
            })
        #expect(merges(row) { $0.settings.filter.expectsHits = true }, "the bottom has no filter")
        #expect(
            merges(row) {
                $0.compression = CompressionPolicy(
                    .lz4, levels: [LevelCompression(level: 1, compression: .none)])
            })
        var without = options
        without.movesTables = false
        #expect(merges(row, without))
        #expect(plan(row, without)?.inputs == inputs)
    }

    @Test func `A single table of a deeper level moves`() throws {
        let tables = [
            Self.table(1, level: 1, "a", "c"), Self.table(2, level: 1, "d", "f"),
            Self.table(3, level: 2, "e", "z"),
        ]
        #expect(plan(tables) == .move([CompactionSpec.Input(tables[0])], to: 2))
    }

    @Test func `A full compaction moves down to the bottom and merges there`() throws {
        let tables = [Self.table(1, level: 0, "a", "c"), Self.table(2, level: 2, "x", "z")]
        let manifest = LogicalManifest(placing: tables)
        let planner = CompactionPlanner(options: options)
        let facts = CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: .zero, clock: 0, now: 0)
        let request = CompactionPlanner.FullCompaction(manifest)
        let first = planner.planFull(request, manifest, facts)
        #expect(first == .job(.move([CompactionSpec.Input(tables[0])], to: 1)))
        let lower = LogicalManifest(placing: [Self.table(1, level: 1, "a", "c"), tables[1]])
        guard case .job(let last) = planner.planFull(request, lower, facts) else {
            throw OracleFailure(description: "no second step")
        }
        #expect(last.action == .merge && last.outputLevel == 2)
    }

    // MARK: - The manifest

    @Test func `A conclusion without tables puts the inputs a level down`() throws {
        var manifest = LogicalManifest(placing: row + [Self.table(9, level: 1, "x", "z")])
        let root = manifest.stateRoot()
        let spec = CompactionSpec.move(row.map { CompactionSpec.Input($0) }, to: 1)
        guard case .jobStarted(let job) = manifest.start(spec, at: 70) else {
            throw OracleFailure(description: "void")
        }
        #expect(manifest.stateRoot() == root)
        var writer = ByteWriter()
        manifest.encode(into: &writer)
        let decoded = try writer.bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            return try LogicalManifest(&reader)
        }
        #expect(decoded == manifest)
        let output = Sample.table(.compaction, 70, level: 1, "a", "b", sequences: 1...1)
        #expect(manifest.finish(70, [output], at: 71) == .void(.outputOutsideJob(output.id)))

        let moved = row.map { record in
            var moved = record
            moved.level = 1
            return moved
        }
        let done = manifest.finish(70, [], at: 72)
        #expect(
            done == .jobDone(job, removed: row, added: [moved[0], moved[2], moved[1]]))
        #expect(manifest.tables.tables(at: 0) == [])
        #expect(manifest.tables.tables(at: 1).map(\.id.index.rawValue) == [1, 3, 2, 9])
        #expect(manifest.tables == ManifestTables(moved + [Self.table(9, level: 1, "x", "z")]))
        #expect(manifest.stateRoot() != root)
        for record in moved { #expect(manifest.tables.record(record.id) == record) }
    }

    @Test func `Moves that would break a level are void`() throws {
        let over = [row[0], Self.table(2, level: 0, "c", "m")]
        let inputs = over.map { CompactionSpec.Input($0) }
        let manifest = LogicalManifest(placing: over)
        #expect(manifest.refusal(of: .move(inputs, to: 1)) == .inputOverlaps(over[1].id))
        #expect(
            manifest.refusal(of: .move([inputs[1]], to: 1)) == .olderTableLeftBehind(over[0].id))
        #expect(manifest.refusal(of: .move([inputs[0]], to: 1)) == nil)
        let below = Self.table(9, level: 1, "a", "b")
        let occupied = LogicalManifest(placing: [over[0], below])
        #expect(occupied.refusal(of: .move([inputs[0]], to: 1)) == .tableInHull(below.id))
    }

    @Test func `The row of a file stays when its table moves`() throws {
        var state = Sample.emptyState
        try state.apply(Sample.sealing(0))
        let table = try #require(state.manifest.tables.sortedByID.first)
        let spec = CompactionSpec.move([CompactionSpec.Input(table)], to: 1)
        try state.apply([.jobStarted(at: LogIndex(20), spec)])
        let conclusion = Sample.compacted(20, [])
        #expect(throws: DecodingError.self) {
            var copy = state
            try copy.apply(
                [.jobInstalled(at: LogIndex(21), conclusion, local: [Sample.local()])])
        }
        let row = state.local[table.id]
        try state.apply([.jobInstalled(at: LogIndex(21), conclusion, local: [])])
        #expect(state.local == [table.id: try #require(row)])
        #expect(state.manifest.tables.tables(at: 1).map(\.id) == [table.id])
        #expect(try ManifestState(decoding: state.encoded()) == state)
    }

    // MARK: - The file

    @Test func `A file goes with the last handle of any level`() throws {
        let removed = Mutex<[String]>([])
        var old: TableHandle? = TableHandle(
            record: row[0], generation: 2, fileBytes: 9, codec: .lz4,
            source: try TableBed().source
        ) { name in removed.withLock { $0.append(name) } }
        var new = old?.placed(at: 1)
        #expect(new?.record.level == 1 && new?.fileName == old?.fileName)
        #expect(new?.local == old?.local && new?.placed(at: 1) === new)
        new?.markObsolete()
        #expect(old?.isObsolete == true)
        let name = old?.fileName
        new = nil
        #expect(removed.withLock { $0 }.isEmpty, "a snapshot may have to open it")
        old = nil
        #expect(removed.withLock { $0 } == [name])
    }
}
