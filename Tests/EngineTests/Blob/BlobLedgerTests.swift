// What of blob files lives, by the counters of tables; which of them are due; and how they leave a
// manifest.
import Engine
import Testing

@Suite struct BlobLedgerTests {
    private func file(_ index: UInt64, _ kind: TableKind = .flushBlob) -> TableID {
        TableID(index: LogIndex(index), kind: kind, ordinal: 0)
    }

    private func blob(_ index: UInt64, _ bytes: UInt64, _ kind: TableKind = .flushBlob)
        -> TableRecord
    {
        var record = Sample.table(
            kind, index, level: 0, "a", "z", sequences: 1...9, bytes: bytes)
        record.deleteCount = 0
        record.blobs = [BlobUse(file: record.id, count: 10, bytes: bytes)]
        return record
    }

    private func table(
        _ kind: TableKind, _ index: UInt64, level: UInt8, _ first: String, _ last: String,
        _ uses: [(UInt64, UInt64)]
    ) -> TableRecord {
        var record = Sample.table(kind, index, level: level, first, last, sequences: 1...9)
        record.blobs = uses.map { BlobUse(file: file($0.0), count: 1, bytes: $0.1) }
        return record
    }

    private func tables(_ records: [TableRecord]) throws -> ManifestTables {
        try #require(ManifestTables(records))
    }

    @Test func liveBytesAreTheSumOfTheTables() throws {
        let manifest = try tables([
            blob(1, 100), blob(2, 100), blob(5, 100),
            table(.compaction, 6, level: 1, "a", "f", [(1, 30), (2, 10)]),
            table(.compaction, 7, level: 2, "a", "z", [(1, 20)]),
            // Of a file that is not there.
            table(.flush, 8, level: 0, "a", "z", [(2, 90), (3, 5)]),
        ])
        let ledger = manifest.ledger
        #expect(ledger.rows.map(\.file) == [file(1), file(2), file(5)])
        #expect(ledger.rows.map(\.liveBytes) == [50, 100, 0])
        #expect(ledger.rows.map(\.liveCount) == [2, 2, 0])
        #expect(ledger.rows.map(\.deadBytes) == [50, 0, 100])
        #expect(ledger[file(3)] == nil)
        #expect(manifest.blobs.count == 3 && manifest.count == 6)
        #expect(manifest.record(file(5)) == blob(5, 100))
        #expect(manifest.levelBytes.reduce(0, +) == 300, "levels hold no blob file")
    }

    @Test func theOldestOfThoseThatAreDeadEnoughAreDue() throws {
        let live: [UInt64] = [75, 76, 0, 10, 20, 30, 100]
        let blobs = live.indices.map { blob(UInt64($0 + 1), 100) }
        let uses = live.enumerated().filter { $0.element > 0 }.map {
            (UInt64($0.offset + 1), $0.element)
        }
        let ledger = try tables(blobs + [table(.compaction, 20, level: 1, "a", "z", uses)]).ledger
        func due(_ dead: Int, _ age: Int) -> [UInt64] {
            ledger.due(deadPercent: dead, agePercent: age).map(\.index.rawValue)
        }
        #expect(due(25, 100) == [1, 3, 4, 5, 6])
        #expect(due(25, 25) == [1, 3], "a quarter of five, upwards")
        #expect(due(25, 0) == [1])
        #expect(due(80, 100) == [3, 4, 5])
        #expect(due(1, 100) == [1, 2, 3, 4, 5, 6])
        #expect(due(100, 100) == [3])
        #expect(due(0, 100).isEmpty)
    }

    @Test func aFileGoesWithTheLastTableThatUsesIt() throws {
        var manifest = LogicalManifest()
        manifest.segmentEnded(SegmentBounds(first: LogIndex(1), last: LogIndex(4)))
        let flushed = table(.flush, 4, level: 0, "a", "m", [(4, 100)])
        let values = blob(4, 100)
        let seal = Sample.seal(1...4, [flushed, values])
        guard case .sealed = manifest.install(seal) else {
            Issue.record("the seal is void")
            return
        }
        #expect(manifest.tables.blobs == [values])
        let root = manifest.stateRoot()

        // Moving its table keeps it.
        let move = CompactionSpec.move([CompactionSpec.Input(flushed)], to: 1)
        _ = manifest.start(move, at: LogIndex(6))
        _ = manifest.install(Sample.compacted(6, []))
        #expect(manifest.tables.blobs == [values])

        // A job that collects it needs it.
        var moved = flushed
        moved.level = 1
        var spec = Sample.spec([moved], to: 1)
        spec.collected = [file(3)]
        #expect(manifest.refusal(of: spec) == .blobNotLive(file(3)))
        spec.collected = [file(4)]
        #expect(manifest.refusal(of: spec) == nil)
        _ = manifest.start(spec, at: LogIndex(8))
        var output = table(.compaction, 8, level: 1, "a", "m", [])
        output.blobs = [BlobUse(file: file(8, .compactionBlob), count: 10, bytes: 60)]
        var fresh = blob(8, 60, .compactionBlob)
        (fresh.points, fresh.span) = (output.points, output.span)
        let outcome = manifest.install(Sample.compacted(8, [output, fresh]))
        guard case .jobDone(_, let removed, let added) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(Set(removed.map(\.id)) == [flushed.id, values.id])
        #expect(added == [output, fresh])
        #expect(manifest.tables.blobs == [fresh])
        #expect(manifest.tables.record(values.id) == nil)
        #expect(manifest.stateRoot() != root)

        var writer = ByteWriter()
        manifest.encode(into: &writer)
        let again = try writer.bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            return try LogicalManifest(&reader)
        }
        #expect(again.tables == manifest.tables && again.stateRoot() == manifest.stateRoot())
    }

    @Test func blobFilesOfAnEntryAreUsedByItsTables() throws {
        let flushed = table(.flush, 4, level: 0, "a", "m", [(4, 100)])
        func isRefused(_ tables: [TableRecord]) -> Bool {
            let bytes = Sample.seal(1...4, tables).encoded()
            return (try? bytes.withUnsafeBytes { try SealRecord(decoding: $0) }) == nil
        }
        #expect(!isRefused([flushed, blob(4, 100)]))
        #expect(isRefused([blob(4, 100), flushed]), "tables come first")
        #expect(isRefused([blob(4, 100)]), "without a table")
        #expect(isRefused([table(.flush, 4, level: 0, "a", "m", []), blob(4, 100)]))
        #expect(isRefused([flushed, blob(4, 100), blob(4, 100)]), "ordinals")
        #expect(isRefused([flushed, blob(4, 100, .compactionBlob)]))
        var counted = blob(4, 100)
        counted.blobs[0].count = 11
        #expect(isRefused([flushed, counted]))
        var many = flushed
        many.blobs[0].count = 11
        #expect(isRefused([many, blob(4, 100)]), "more references than entries")
        let long = table(.flush, 4, level: 0, "a", "m", [(4, 101)])
        #expect(isRefused([long, blob(4, 100)]), "more bytes than the file has")
        var second = table(.flush, 4, level: 0, "p", "z", [(4, .max)])
        second.id = TableID(index: LogIndex(4), kind: .flush, ordinal: 1)
        #expect(isRefused([flushed, second, blob(4, 100)]), "a sum that overflows")
        second.blobs = []
        #expect(!isRefused([flushed, second, blob(4, 100)]))
        #expect(isRefused([table(.flush, 4, level: 0, "a", "m", [(3, 10)])]), "of another flush")
        #expect(isRefused([flushed]), "a file that is not in the list")
    }

    @Test func outputsCountWhatTheirInputsDidAndTheJobKeeps() {
        let blobs = [blob(1, 100), blob(2, 100), blob(3, 100)]
        let input = table(.compaction, 5, level: 1, "a", "f", [(1, 40), (2, 90)])
        let other = table(.compaction, 6, level: 1, "p", "z", [(3, 10)])
        var manifest = LogicalManifest(placing: blobs + [input, other])
        var spec = Sample.spec([input], to: 1)
        spec.collected = [file(1)]
        guard case .jobStarted = manifest.start(spec, at: LogIndex(9)) else {
            Issue.record("the job is void")
            return
        }
        func conclude(_ uses: [(UInt64, UInt64)]) -> ManifestOutcome {
            manifest.install(
                Sample.compacted(9, [table(.compaction, 9, level: 1, "a", "f", uses)]))
        }
        let before = manifest
        for (index, what) in [(1, "collected"), (3, "of no input"), (7, "not there")] {
            let named = UInt64(index)
            #expect(conclude([(named, 10)]) == .void(.foreignBlob(file(named))), "\(what)")
            #expect(manifest == before)
        }
        guard case .jobDone = conclude([(2, 90)]) else {
            Issue.record("an honest record is void")
            return
        }
        #expect(manifest.tables.blobs == Array(blobs[1...]))
    }

    @Test func everyJobThatReadsTheTableCollects() throws {
        let dead = blob(1, 100)
        let living = blob(2, 100)
        let upper = table(.compaction, 5, level: 1, "a", "f", [(1, 40), (2, 90)])
        let other = table(.compaction, 6, level: 1, "p", "z", [(2, 10)])
        var options = CompactionOptions()
        let manifest = LogicalManifest(placing: [dead, living, upper, other])
        var facts = CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: .zero, clock: 0, now: 0)
        facts.settings.blobFileBytes = 4096
        var planner = CompactionPlanner(options: options)
        let planned = planner.plan(manifest, facts)
        let spec = try #require(planned)
        #expect(spec.inputs.map(\.id) == [upper.id])
        #expect(spec.outputLevel == 1 && spec.collected == [dead.id])
        #expect(spec.blobFileBytes == 4096)

        // Due for its size: another job is made, and it collects, too.
        options.baseLevelBytes = 50
        planner = CompactionPlanner(options: options)
        let plannedBySize = planner.plan(manifest, facts)
        let sized = try #require(plannedBySize)
        #expect(sized.outputLevel == 2 && sized.collected == [dead.id], "\(sized)")

        // One that cannot be read keeps no job waiting.
        facts.damagedBlobs = [dead.id]
        planner = CompactionPlanner(options: options)
        let plannedWithout = planner.plan(manifest, facts)
        #expect(try #require(plannedWithout).collected.isEmpty)
        facts.damagedBlobs = []

        options.blobDeadPercent = 61
        options.baseLevelBytes = 1 << 20
        planner = CompactionPlanner(options: options)
        #expect(planner.plan(manifest, facts) == nil)
    }

    /// The first job that is planned over these records.
    private func planned(
        _ records: [TableRecord], _ options: CompactionOptions = CompactionOptions(),
        bytesMax: UInt64 = .max
    ) -> CompactionSpec? {
        let facts = CompactionPlanner.Facts(
            settings: LoggedSettings(), horizon: .zero, clock: 0, now: 0,
            unfinishedBytesMax: bytesMax)
        var planner = CompactionPlanner(options: options)
        return planner.plan(LogicalManifest(placing: records), facts)
    }

    @Test func oneDeadFileAmongManyIsWorthNoJobOfItsOwn() {
        func collected(ofFiles count: UInt64) -> [TableID]? {
            let blobs = (1...count).map { blob($0, 100) }
            let uses = (1...count).map { ($0, UInt64($0 == 1 ? 10 : 100)) }
            return planned(blobs + [table(.compaction, 9, level: 1, "a", "f", uses)])?.collected
        }
        #expect(collected(ofFiles: 4) == nil)
        #expect(collected(ofFiles: 3) == [file(1)])
    }

    @Test func neighboursAreCollectedTogether() {
        let records = [
            blob(1, 100), blob(2, 100),
            table(.compaction, 5, level: 1, "a", "f", [(1, 10)]),
            table(.compaction, 6, level: 1, "g", "h", [(1, 10), (2, 10)]),
            table(.compaction, 7, level: 1, "k", "m", [(2, 10)]),
            table(.compaction, 8, level: 1, "p", "z", []),
        ]
        var options = CompactionOptions()
        options.blobAgePercent = 100
        let spec = planned(records, options)
        #expect(spec?.inputs.map(\.id.index) == [LogIndex(5), LogIndex(6), LogIndex(7)])
        #expect(spec?.collected == [file(1), file(2)])
        #expect(spec?.outputLevel == 1)
        // Tables of 50 bytes each, and what they refer to: one table and its file fit.
        let small = planned(records, options, bytesMax: 130)
        #expect(small?.collected == [file(1)], "\(String(describing: small))")
        #expect(planned(records, options, bytesMax: 55) == nil, "nothing would come of it")
    }

    @Test func theLedgerFollowsTheTables() throws {
        var random = SeededRandom(seed: 12)
        var manifest = ManifestTables()
        var present: [TableRecord] = []
        for index in 1...200 as ClosedRange<UInt64> {
            let uses = Set((0..<random.below(5)).map { _ in UInt64(1 + random.below(Int(index))) })
            let fresh = table(
                .flush, index, level: 0, "a", "z",
                uses.sorted().map { ($0, UInt64(1 + random.below(100))) })
            let gone = random.oneIn(3) ? present.randomElement(using: &random) : nil
            manifest.replace(gone.map { [$0] } ?? [], with: [fresh, blob(index, 500)])
            if let gone {
                present.removeAll { $0.id == gone.id }
                let unused = manifest.unusedBlobs(after: [gone])
                let counted = Set(present.flatMap(\.blobs).map(\.file)).union(
                    fresh.blobs.map(\.file))
                #expect(unused.allSatisfy { !counted.contains($0.id) })
                #expect(
                    Set(unused.map(\.id))
                        == Set(gone.blobs.map(\.file)).subtracting(counted).filter {
                            manifest.contains($0)
                        })
                manifest.replace(unused, with: [])
            }
            present.append(fresh)
            #expect(ManifestTables(manifest.sortedByID)?.ledger == manifest.ledger)
        }
    }
}
