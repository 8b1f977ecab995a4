// The canonical set of range tombstones against a brute-force one, key by key.

import Engine
import Testing

@Suite struct RangeTombstoneMergeTests {
    private func compaction(_ horizon: UInt64, bottommost: Bool = false) -> CompactionRules {
        .compaction(horizon: SequenceNumber(horizon), clock: 0, isBottommost: bottommost)
    }

    @Test func `Pieces that earlier jobs cut apart are joined again`() {
        let whole = RangeTombstoneMerge([tombstone("a", "z", 5)], rules: compaction(3))
        let pieces = RangeTombstoneMerge(
            [tombstone("m", "t", 5), tombstone("a", "m", 5), tombstone("t", "z", 5)],
            rules: compaction(3))
        #expect(pieces.kept == [tombstone("a", "z", 5)])
        #expect(pieces.kept == whole.kept)
        #expect(pieces.inputSum == whole.inputSum)
    }

    @Test func `One above the horizon hides nothing and stays whole`() {
        let merge = RangeTombstoneMerge(
            [tombstone("a", "f", 3), tombstone("c", nil, 9)], rules: compaction(5))
        #expect(merge.kept == [tombstone("a", "f", 3), tombstone("c", nil, 9)])
        #expect(merge.covering == [tombstone("a", "f", 3)])
    }

    @Test func `What a newer one at or below the horizon hides is dropped, but not by a flush`() {
        let input = [tombstone("a", "f", 3), tombstone("c", nil, 5)]
        let merge = RangeTombstoneMerge(input, rules: compaction(5))
        #expect(merge.kept == [tombstone("a", "c", 3), tombstone("c", nil, 5)])
        let flush = RangeTombstoneMerge(input, rules: .flush(horizon: SequenceNumber(5)))
        #expect(flush.kept == input)
        #expect(flush.droppedSum == 0)
    }

    @Test func `Random sets cover the same keys for every reader, and balance`() {
        var random = SeededRandom(seed: 3)
        for _ in 0..<1000 {
            let horizon = UInt64(random.below(10))
            let isBottommost = random.oneIn(3)
            let rules = compaction(horizon, bottommost: isBottommost)
            var whole: [RangeTombstone] = []
            for sequence in 1...UInt64(random.below(8) + 1) {
                let start = random.below(9)
                let end = start + 1 + random.below(10 - start)
                whole.append(tombstone("\(start)", end == 10 ? nil : "\(end)", sequence))
            }
            // The same, cut in two at a random key.
            let place = bytes("\(random.below(9))5")
            let cut = whole.flatMap { piece -> [RangeTombstone] in
                guard piece.span.contains(place) else { return [piece] }
                var left = piece
                var right = piece
                left.span.end = place
                right.span.start = place
                return [right, left]
            }
            let merge = RangeTombstoneMerge(whole, rules: rules)
            let mergeOfCut = RangeTombstoneMerge(cut, rules: rules)
            #expect(merge.kept == mergeOfCut.kept)
            #expect(merge.covering == mergeOfCut.covering)
            #expect(merge.inputSum == mergeOfCut.inputSum)
            #expect(merge.droppedSum == mergeOfCut.droppedSum)
            let keptSum = merge.kept.reduce(0) { $0 &+ RangeTombstoneMerge.sum(of: $1) }
            #expect(merge.inputSum == merge.droppedSum &+ keptSum)
            check(whole, merge, horizon: horizon, isBottommost: isBottommost)
        }
    }

    private func check(
        _ whole: [RangeTombstone], _ merge: RangeTombstoneMerge, horizon: UInt64, isBottommost: Bool
    ) {
        var walk = CoveringWalk(merge.covering)
        for digit in 0..<10 {
            let key = bytes("\(digit)")
            func newest(_ set: [RangeTombstone], at sequence: UInt64) -> SequenceNumber {
                set.filter { $0.span.contains(key) && $0.sequence.rawValue <= sequence }
                    .map(\.sequence).max() ?? .zero
            }
            #expect(key.withUnsafeBytes { walk.covering($0) } == newest(whole, at: horizon))
            for sequence in max(horizon, 1)...12 {
                var expected = newest(whole, at: sequence)
                if isBottommost, expected.rawValue <= horizon { expected = .zero }
                #expect(newest(merge.kept, at: sequence) == expected)
            }
        }
    }

    @Test func `Many nested ones, as trimming a queue leaves, collapse into one`() {
        let nested = (1...3000).map { index in
            tombstone("q", "q\(10_000 + index)", UInt64(index))
        }
        let merge = RangeTombstoneMerge(nested, rules: compaction(5000))
        #expect(merge.kept == [tombstone("q", "q13000", 3000)])
        #expect(merge.covering == merge.kept)
        let flush = RangeTombstoneMerge(nested, rules: .flush(horizon: SequenceNumber(5000)))
        #expect(flush.kept == nested.reversed())
        #expect(flush.covering == merge.kept)
    }

    @Test func `A lost or altered piece unbalances the sums`() {
        let input = [tombstone("a", "f", 3), tombstone("c", nil, 5)]
        let merge = RangeTombstoneMerge(input, rules: compaction(0))
        func sum(_ pieces: [RangeTombstone]) -> UInt64 {
            pieces.reduce(0) { $0 &+ RangeTombstoneMerge.sum(of: $1) }
        }
        #expect(sum(merge.kept) == merge.inputSum)
        #expect(sum([tombstone("a", "f", 3)]) != merge.inputSum)
        #expect(sum([tombstone("a", "e", 3), tombstone("c", nil, 5)]) != merge.inputSum)
        // A gap between two outputs: the piece [d, e) fell out.
        #expect(
            sum([tombstone("a", "d", 3), tombstone("e", "f", 3), tombstone("c", nil, 5)])
                != merge.inputSum)
        #expect(
            sum([tombstone("a", "d", 3), tombstone("d", "f", 3), tombstone("c", nil, 5)])
                == merge.inputSum)
    }
}
