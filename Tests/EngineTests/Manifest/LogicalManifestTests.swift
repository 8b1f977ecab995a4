// The rules of the logical manifest, one by one.
import Engine
import Testing

@Suite struct LogicalManifestTests {
    private let older = Sample.flush(1...4, "a", "m")
    private let younger = Sample.flush(5...8, "g", "z")

    private func twoFlushes() -> LogicalManifest {
        var manifest = LogicalManifest()
        manifest.land(1...4, [older], at: 5)
        manifest.land(5...8, [younger], at: 10)
        return manifest
    }

    @Test func sealsLandInTheOrderOfSegments() {
        var manifest = LogicalManifest()
        let first = SegmentBounds(first: LogIndex(1), last: LogIndex(4))
        let second = SegmentBounds(first: LogIndex(5), last: LogIndex(8))
        manifest.segmentEnded(first)
        manifest.segmentEnded(second)
        let early = Sample.entry(.seal, Sample.seal(5...8, [younger]).encoded(), index: 9)
        #expect(manifest.apply(early) == .void(.sealOutOfOrder(second)))
        let inTime = Sample.seal(1...4, [older])
        #expect(manifest.apply(Sample.entry(.seal, inTime.encoded(), index: 10)) == .sealed(inTime))
        #expect(
            manifest.apply(Sample.entry(.seal, inTime.encoded(), index: 11))
                == .void(.sealOutOfOrder(first)), "a second seal")
        #expect(
            manifest.apply(Sample.entry(.seal, Sample.seal(5...8, [younger]).encoded(), index: 12))
                == .sealed(Sample.seal(5...8, [younger])))
        #expect(manifest.tables.tables(at: 0).map(\.id) == [older.id, younger.id])
        #expect(manifest.unsealed.isEmpty)
    }

    @Test func aSegmentWithoutWritesNeedsNoSeal() {
        var manifest = twoFlushes()
        let later = Sample.flush(20...30, "a", "b")
        #expect(manifest.land(20...30, [later], at: 31) == .sealed(Sample.seal(20...30, [later])))
    }

    @Test func jobsReplaceTheirInputs() {
        var manifest = twoFlushes()
        guard
            case .jobStarted(let job) = manifest.start(
                Sample.spec([older, younger], to: 1), at: 11)
        else {
            Issue.record("the job did not start")
            return
        }
        #expect(job.hull == KeySpan(smallest: Sample.key("a"), largest: Sample.key("z")))
        #expect(manifest.tables.count == 2, "compact changes no table")
        #expect(manifest.reservedTables == [older.id, younger.id])
        let output = Sample.table(.compaction, 11, level: 1, "a", "z", sequences: 1...8)
        #expect(
            manifest.finish(11, [output], at: 12)
                == .jobDone(job, removed: [older, younger], added: [output]))
        #expect(manifest.tables.sortedByID == [output])
        #expect(manifest.finish(11, [output], at: 13) == .void(.unknownJob(LogIndex(11))))
        #expect(manifest.cancel(11, at: 14) == .void(.unknownJob(LogIndex(11))))
    }

    @Test func cancellingFreesTheInputs() {
        var manifest = twoFlushes()
        manifest.start(Sample.spec([older, younger], to: 1), at: 11)
        let before = manifest.stateRoot()
        #expect(
            manifest.start(Sample.spec([older, younger], to: 1), at: 12)
                == .jobVoid(.inputReserved(older.id, by: LogIndex(11))))
        manifest.cancel(11, at: 13)
        #expect(manifest.jobs.isEmpty)
        #expect(manifest.stateRoot() == before)
        #expect(manifest.refusal(of: Sample.spec([older, younger], to: 1)) == nil)
    }

    // MARK: - Void rules

    @Test func inputsMustBeLiveAndAsNamed() {
        var manifest = twoFlushes()
        let stranger = Sample.flush(1...3, "a", "b")
        #expect(
            manifest.start(Sample.spec([stranger], to: 1), at: 11)
                == .jobVoid(.inputNotLive(stranger.id)))
        var other = older
        other.digest = .zero
        #expect(
            manifest.start(Sample.spec([other], to: 1), at: 12) == .jobVoid(.inputDiffers(older.id))
        )
        other = older
        other.level = 1
        #expect(
            manifest.start(Sample.spec([other], to: 2), at: 13) == .jobVoid(.inputDiffers(older.id))
        )
    }

    @Test func hullsOfJobsMustNotMeet() {
        let left = Sample.table(.compaction, 1, 0, level: 1, "a", "c", sequences: 1...4)
        let middle = Sample.table(.compaction, 1, 1, level: 1, "d", "f", sequences: 1...4)
        let right = Sample.table(.compaction, 1, 2, level: 1, "g", "i", sequences: 1...4)
        var manifest = LogicalManifest(placing: [left, middle, right])
        manifest.start(Sample.spec([left, right], to: 2), at: 11)
        #expect(
            manifest.start(Sample.spec([middle], to: 2), at: 12)
                == .jobVoid(.hullReserved(by: LogIndex(11))),
            "a hull is reserved whole, not only its tables")
        let above = Sample.flush(20...24, "d", "e")
        manifest.land(20...24, [above], at: 25)
        #expect(
            manifest.start(Sample.spec([above, middle], to: 1), at: 26)
                == .jobVoid(.hullReserved(by: LogIndex(11))))
        manifest.cancel(11, at: 27)
        #expect(manifest.refusal(of: Sample.spec([above, middle], to: 1)) == nil)
    }

    @Test func levelZeroReservesOnlyInputs() {
        var manifest = twoFlushes()
        manifest.start(Sample.spec([older], to: 1), at: 11)
        let later = Sample.flush(12...14, "b", "c")
        #expect(manifest.land(12...14, [later], at: 15) == .sealed(Sample.seal(12...14, [later])))
        #expect(
            manifest.start(Sample.spec([later], to: 1), at: 16)
                == .jobVoid(.hullReserved(by: LogIndex(11))))
        let apart = Sample.flush(17...18, "x", "y")
        manifest.land(17...18, [apart], at: 19)
        #expect(
            manifest.start(Sample.spec([apart], to: 1), at: 20)
                == .jobVoid(.olderTableLeftBehind(younger.id)))
    }

    @Test func aTableInTheHullMustBeAnInput() {
        let below = Sample.table(.compaction, 1, 0, level: 1, "c", "d", sequences: 1...1)
        var manifest = LogicalManifest(placing: [below])
        manifest.land(2...4, [Sample.flush(2...4, "a", "m")], at: 5)
        #expect(
            manifest.start(Sample.spec([Sample.flush(2...4, "a", "m")], to: 1), at: 6)
                == .jobVoid(.tableInHull(below.id)))
        #expect(
            manifest.refusal(of: Sample.spec([Sample.flush(2...4, "a", "m"), below], to: 1)) == nil)
    }

    @Test func youngerDataNeverGoesBelowOlder() {
        var manifest = twoFlushes()
        #expect(
            manifest.start(Sample.spec([younger], to: 1), at: 11)
                == .jobVoid(.olderTableLeftBehind(older.id)))
    }

    @Test func mergesInsideLevelZeroKeepTheirAge() {
        var manifest = twoFlushes()
        let third = Sample.flush(11...12, "b", "c")
        manifest.land(11...12, [third], at: 13)
        #expect(
            manifest.start(Sample.spec([older, third], to: 0), at: 14)
                == .jobVoid(.notContiguous(younger.id)))
        manifest.start(Sample.spec([older, younger], to: 0), at: 15)
        let merged = Sample.table(.compaction, 15, level: 0, "a", "z", sequences: 1...8)
        manifest.finish(15, [merged], at: 16)
        #expect(manifest.tables.tables(at: 0).map(\.id) == [merged.id, third.id])
    }

    /// Pieces of one range tombstone give two outputs the same largest sequence. One of them,
    /// merged with an older table, would stand above the other with data that is older.
    @Test func mergesInsideLevelZeroTakeAllOfOneAge() {
        let old = Sample.flush(1...4, "a", "z")
        let left = Sample.table(.compaction, 9, 0, level: 0, "a", "c", sequences: 5...8)
        let right = Sample.table(.compaction, 9, 1, level: 0, "d", "f", sequences: 6...8)
        let manifest = LogicalManifest(placing: [old, left, right])
        #expect(
            manifest.refusal(of: Sample.spec([old, left], to: 0)) == .notContiguous(right.id))
        #expect(manifest.refusal(of: Sample.spec([right], to: 0)) == .notContiguous(left.id))
        #expect(manifest.refusal(of: Sample.spec([left, right], to: 0)) == nil)
        #expect(manifest.refusal(of: Sample.spec([old, left, right], to: 0)) == nil)
        #expect(manifest.refusal(of: Sample.spec([old, left], to: 1)) == nil)
    }

    @Test func outputsMustLieInTheirJob() {
        var manifest = twoFlushes()
        manifest.start(Sample.spec([older], to: 1), at: 11)
        let wide = Sample.table(.compaction, 11, level: 1, "a", "n", sequences: 1...4)
        #expect(manifest.finish(11, [wide], at: 12) == .void(.outputOutsideJob(wide.id)))
        let deep = Sample.table(.compaction, 11, level: 2, "a", "b", sequences: 1...4)
        #expect(manifest.finish(11, [deep], at: 13) == .void(.outputOutsideJob(deep.id)))
        #expect(manifest.jobs.count == 1)
    }

    /// The reason for installing in the order of the log: the outcome does not depend on which job
    /// a replica computes first, only on the entries.
    @Test func jobsFinishInAnyOrder() {
        let left = Sample.table(.compaction, 1, 0, level: 1, "a", "c", sequences: 1...4)
        let right = Sample.table(.compaction, 1, 1, level: 1, "d", "f", sequences: 1...4)
        let start = LogicalManifest(placing: [left, right])
        let slow = Sample.table(.compaction, 11, level: 2, "a", "c", sequences: 1...4)
        let fast = Sample.table(.compaction, 12, level: 2, "d", "f", sequences: 1...4)
        var one = start
        one.start(Sample.spec([left], to: 2), at: 11)
        one.start(Sample.spec([right], to: 2), at: 12)
        var other = one
        one.finish(12, [fast], at: 13)
        one.finish(11, [slow], at: 14)
        other.finish(11, [slow], at: 13)
        other.finish(12, [fast], at: 14)
        #expect(one.tables == other.tables)
        #expect(one.stateRoot() == other.stateRoot())
        #expect(one.tables.tables(at: 2).map(\.id) == [slow.id, fast.id])
    }

    // MARK: - Whole

    @Test func bottommostLooksAtDeeperLevelsOnly() {
        let level1 = Sample.table(.compaction, 1, 0, level: 1, "a", "c", sequences: 1...4)
        let level3 = Sample.table(.compaction, 2, 0, level: 3, "c", "f", sequences: 1...4)
        let manifest = LogicalManifest(placing: [level1, level3])
        func bottommost(_ first: String, _ last: String, below level: UInt8) -> Bool {
            manifest.isBottommost(
                KeySpan(smallest: Sample.key(first), largest: Sample.key(last)), below: level)
        }
        #expect(!bottommost("a", "c", below: 1))
        #expect(bottommost("a", "b", below: 1))
        #expect(bottommost("c", "f", below: 3))
        #expect(!bottommost("c", "f", below: 2))
        #expect(bottommost("a", "z", below: 6))
    }

    @Test func rootFollowsTheTablesAlone() {
        var manifest = twoFlushes()
        let root = manifest.stateRoot()
        #expect(root.description == "3a5c1705eb89ec26b4fcb2b45d063d07")
        var same = LogicalManifest(placing: [younger, older])
        #expect(same.stateRoot() == root)
        same.place([Sample.table(.compaction, 1, 0, level: 3, "c", "f", sequences: 1...4)])
        #expect(same.stateRoot() != root)
        manifest.start(Sample.spec([older, younger], to: 1), at: 11)
        #expect(manifest.stateRoot() == root)
    }

    @Test func encodingKeepsTablesAndJobs() throws {
        var manifest = twoFlushes()
        manifest.start(Sample.spec([older], to: 1), at: 11)
        var writer = ByteWriter()
        manifest.encode(into: &writer)
        let decoded = try writer.bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            return try LogicalManifest(&reader)
        }
        #expect(decoded == manifest)
        for count in writer.bytes.indices {
            #expect(isRefused(Array(writer.bytes[..<count])))
        }
    }

    private func isRefused(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer)
            return (try? LogicalManifest(&reader)) == nil
        }
    }

    @Test func tablesOfALevelMayNotOverlap() {
        let left = Sample.table(.compaction, 1, 0, level: 1, "a", "c", sequences: 1...4)
        let right = Sample.table(.compaction, 2, 0, level: 1, "c", "f", sequences: 1...4)
        #expect(ManifestTables([left, right]) == nil)
        #expect(ManifestTables([left, left]) == nil)
        var open = left
        open.span.end = nil
        let after = Sample.table(.compaction, 2, 0, level: 1, "x", "y", sequences: 1...4)
        #expect(ManifestTables([open, after]) == nil)
        #expect(ManifestTables([after, left])?.tables(at: 1) == [left, after])
    }
}
