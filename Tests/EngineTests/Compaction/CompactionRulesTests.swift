// Which versions survive: each rule by example, and all of them against the definition (no reader
// at or above the horizon may see a difference).

import Engine
import Testing

@Suite struct CompactionRulesTests {
    private func survivors(
        _ versions: [ModelEntry], _ rules: CompactionRules, covering: UInt64 = 0
    ) throws -> [UInt64] {
        var state = CompactionRules.KeyState(covering: SequenceNumber(covering))
        var kept: [UInt64] = []
        for version in versions.sorted(by: ModelEntry.isBefore) {
            let kind = try #require(version.trailer.kind)
            let expiry =
                kind == .expiringPut
                ? try version.value.withUnsafeBytes { try VersionContent.expiry($0) } : nil
            if rules.judge(version.trailer.sequence, kind, expiry: expiry, &state) == nil {
                kept.append(version.trailer.sequence.rawValue)
            }
        }
        return kept
    }

    private func compaction(_ horizon: UInt64, clock: UInt64 = 0, bottommost: Bool = false)
        -> CompactionRules
    {
        .compaction(horizon: SequenceNumber(horizon), clock: clock, isBottommost: bottommost)
    }

    @Test func `Trap 1: the newest version at or below the horizon stays`() throws {
        let versions = [ModelEntry("k", 3), ModelEntry("k", 5), ModelEntry("k", 9)]
        #expect(try survivors(versions, compaction(7)) == [9, 5])
        #expect(try survivors(versions, compaction(5)) == [9, 5])
        #expect(try survivors(versions, compaction(4)) == [9, 5, 3])
        #expect(try survivors(versions, compaction(9)) == [9])
        #expect(try survivors(versions, compaction(0)) == [9, 5, 3])
    }

    @Test func `A tombstone goes only at the bottom and at or below the horizon`() throws {
        let versions = [ModelEntry("k", 3), ModelEntry("k", 5, .delete)]
        #expect(try survivors(versions, compaction(7)) == [5])
        #expect(try survivors(versions, compaction(7, bottommost: true)) == [])
        #expect(try survivors(versions, compaction(4, bottommost: true)) == [5, 3])
    }

    @Test func `Trap 29: an expired version is a tombstone`() throws {
        let versions = [ModelEntry("k", 3), ModelEntry.expiring("k", 5, at: 100, "v")]
        // Above the bottom it stays and hides; at the bottom it goes with what it hides.
        #expect(try survivors(versions, compaction(7, clock: 200)) == [5])
        #expect(try survivors(versions, compaction(7, clock: 200, bottommost: true)) == [])
        #expect(try survivors(versions, compaction(7, clock: 100, bottommost: true)) == [])
        #expect(try survivors(versions, compaction(7, clock: 99, bottommost: true)) == [5])
        #expect(try survivors(versions, compaction(4, clock: 200, bottommost: true)) == [5, 3])
    }

    @Test func `A range tombstone hides older versions only`() throws {
        let versions = [ModelEntry("k", 3), ModelEntry("k", 5), ModelEntry("k", 9)]
        #expect(try survivors(versions, compaction(7), covering: 4) == [9, 5])
        #expect(try survivors(versions, compaction(7), covering: 6) == [9])
    }

    @Test func `A flush drops what is shadowed, never tombstones, never by expiry`() throws {
        let versions = [
            ModelEntry("k", 2), ModelEntry.expiring("k", 3, at: 1, "v"),
            ModelEntry("k", 5, .delete),
        ]
        #expect(try survivors(versions, .flush(horizon: SequenceNumber(9))) == [5])
        #expect(try survivors(versions, .flush(horizon: SequenceNumber(3))) == [5, 3])
        #expect(try survivors(versions, .flush(horizon: nil)) == [5, 3, 2])
    }

    @Test func `No reader at or above the horizon sees a difference`() throws {
        var random = SeededRandom(seed: 5)
        for _ in 0..<2000 {
            let horizon = UInt64(random.below(12))
            let isBottommost = random.oneIn(2)
            let clock = UInt64(random.below(30))
            var versions: [ModelEntry] = []
            for sequence in 1...UInt64(random.below(9) + 1) {
                switch random.below(4) {
                case 0: versions.append(ModelEntry("k", sequence, .delete))
                case 1:
                    let expiry = UInt64(random.below(30))
                    versions.append(ModelEntry.expiring("k", sequence, at: expiry, "e\(sequence)"))
                default: versions.append(ModelEntry("k", sequence, .put, "v\(sequence)"))
                }
            }
            let rules =
                random.oneIn(4)
                ? CompactionRules.flush(horizon: SequenceNumber(horizon))
                : compaction(horizon, clock: clock, bottommost: isBottommost)
            let kept = try survivors(versions, rules)
            let before = ModelStore(entries: versions)
            let after = ModelStore(
                entries: versions.filter { kept.contains($0.trailer.sequence.rawValue) })
            for sequence in horizon...12 {
                for now in [clock, clock + 5, 40] {
                    let at = SequenceNumber(sequence)
                    #expect(
                        before.get(bytes("k"), at: at, now: now)
                            == after.get(bytes("k"), at: at, now: now))
                }
            }
        }
    }
}
