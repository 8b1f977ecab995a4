// The range tombstones of all inputs of a merge, made one canonical set: pieces of the same range
// delete that earlier jobs cut apart are joined again, what the rules let go is taken out. Pure,
// and blind to how the inputs were split into tables, so that the outputs are too.
//
// Balance: a piece [a, b) of the range delete with sequence q counts h(q, a) − h(q, b), wrapping.
// Cutting a piece in two or joining two neighbours leaves the sum as it is, so the sums of what
// came in, what is kept and what is dropped must add up however outputs are cut; a piece lost in
// the gap between two outputs shows.

package struct RangeTombstoneMerge {
    /// What is left, by start and then newest first; pieces of one sequence neither meet nor touch.
    package private(set) var kept: [RangeTombstone] = []
    /// Where keys are range-deleted for every reader: disjoint, in order, each with the newest
    /// sequence at or below the horizon.
    package private(set) var covering: [RangeTombstone] = []
    package private(set) var inputSum: UInt64 = 0
    package private(set) var droppedSum: UInt64 = 0

    private let rules: CompactionRules
    private var pieces: [SequenceNumber: Piece] = [:]
    /// Sequences at or below the horizon that are active; ended ones leave when they come up.
    private var hiding = NewestFirst()

    private enum Fate { case absent, kept, dropped }

    /// A range delete at the point that the sweep has reached.
    private struct Piece {
        var overlaps = 0
        var fate = Fate.absent
        /// Where its current fate began.
        var start: [UInt8] = []
    }

    /// An end of an input's span; a nil key is behind all keys.
    private struct Boundary {
        let key: [UInt8]?
        let sequence: SequenceNumber
        let isStart: Bool
    }

    package init(_ tombstones: [RangeTombstone], rules: CompactionRules) {
        self.rules = rules
        var boundaries: [Boundary] = []
        boundaries.reserveCapacity(2 * tombstones.count)
        for tombstone in tombstones where !tombstone.span.isEmpty {
            inputSum &+= RangeTombstoneMerge.sum(of: tombstone)
            let span = tombstone.span
            boundaries.append(
                Boundary(key: span.start, sequence: tombstone.sequence, isStart: true))
            boundaries.append(
                Boundary(key: span.end, sequence: tombstone.sequence, isStart: false))
        }
        boundaries.sort(by: RangeTombstoneMerge.isBefore)
        sweep(boundaries)
        kept.sort {
            $0.span.start == $1.span.start
                ? $0.sequence > $1.sequence : $0.span.start.isKeyBefore($1.span.start)
        }
    }

    /// A piece's share of the balance.
    package static func sum(of piece: RangeTombstone) -> UInt64 {
        boundarySum(piece.sequence, piece.span.start)
            &- boundarySum(piece.sequence, piece.span.end)
    }

    private static func boundarySum(_ sequence: SequenceNumber, _ key: [UInt8]?) -> UInt64 {
        let place = key?.withUnsafeBytes { Checksum.hash64($0) } ?? 0x9e37_79b9_7f4a_7c15
        // Finaliser of splitmix64: the sum must not cancel between sequences.
        var mixed = place ^ (sequence.rawValue &* 0xff51_afd7_ed55_8ccd)
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    private static func isBefore(_ left: Boundary, _ right: Boundary) -> Bool {
        if left.key != right.key {
            guard let leftKey = left.key else { return false }
            guard let rightKey = right.key else { return true }
            return leftKey.isKeyBefore(rightKey)
        }
        if left.sequence != right.sequence { return left.sequence < right.sequence }
        // A piece that starts where its sibling ends continues it.
        return left.isStart && !right.isStart
    }

    private mutating func sweep(_ boundaries: [Boundary]) {
        var index = 0
        var newest: SequenceNumber?
        var newestStart: [UInt8] = []
        while index < boundaries.count {
            let key = boundaries[index].key
            var touched: [SequenceNumber] = []
            while index < boundaries.count, boundaries[index].key == key {
                count(boundaries[index])
                if touched.last != boundaries[index].sequence {
                    touched.append(boundaries[index].sequence)
                }
                index += 1
            }
            let hidingNow = newestHiding()
            if hidingNow != newest {
                if let newest {
                    covering.append(
                        RangeTombstone(
                            span: KeySpan(start: newestStart, end: key), sequence: newest))
                    touched.append(newest)
                }
                if let hidingNow { touched.append(hidingNow) }
                newest = hidingNow
                newestStart = key ?? []
            }
            for sequence in touched { settle(sequence, at: key, newest: newest) }
        }
    }

    private mutating func count(_ boundary: Boundary) {
        let sequence = boundary.sequence
        pieces[sequence, default: Piece()].overlaps += boundary.isStart ? 1 : -1
        let overlaps = pieces[sequence]?.overlaps ?? 0
        if overlaps == 1, boundary.isStart, sequence <= rules.horizon { hiding.insert(sequence) }
    }

    /// The newest active sequence at or below the horizon.
    private mutating func newestHiding() -> SequenceNumber? {
        while let first = hiding.first {
            if let piece = pieces[first], piece.overlaps > 0 { return first }
            hiding.removeFirst()
        }
        return nil
    }

    /// Ends what `sequence` was up to `key` and begins what it is from there.
    private mutating func settle(
        _ sequence: SequenceNumber, at key: [UInt8]?, newest: SequenceNumber?
    ) {
        guard var piece = pieces[sequence] else { return }
        let fate = piece.overlaps == 0 ? Fate.absent : fate(of: sequence, newest: newest)
        guard fate != piece.fate else { return }
        let ended = RangeTombstone(
            span: KeySpan(start: piece.start, end: key), sequence: sequence)
        switch piece.fate {
        case .absent: break
        case .kept: kept.append(ended)
        case .dropped: droppedSum &+= RangeTombstoneMerge.sum(of: ended)
        }
        piece.fate = fate
        piece.start = key ?? []
        pieces[sequence] = fate == .absent ? nil : piece
    }

    private func fate(of sequence: SequenceNumber, newest: SequenceNumber?) -> Fate {
        if sequence > rules.horizon { return .kept }
        if rules.dropsTombstones { return .dropped }
        if rules.dropsHiddenRangeTombstones, sequence != newest { return .dropped }
        return .kept
    }
}

/// A heap of sequences. Nested range deletes by the million are what trimming a queue leaves, so
/// nothing here may be linear in how many overlap.
private struct NewestFirst {
    private var heap: [SequenceNumber] = []

    var first: SequenceNumber? { heap.first }

    mutating func insert(_ sequence: SequenceNumber) {
        heap.append(sequence)
        var child = heap.count - 1
        while child > 0, heap[(child - 1) / 2] < heap[child] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { return }
            if child + 1 < heap.count, heap[child] < heap[child + 1] { child += 1 }
            guard heap[parent] < heap[child] else { return }
            heap.swapAt(child, parent)
            parent = child
        }
    }
}

/// Walks the covered spans beside keys that come in order.
package struct CoveringWalk {
    private let spans: [RangeTombstone]
    private var index = 0

    package init(_ spans: [RangeTombstone]) { self.spans = spans }

    /// Sequence of the newest range tombstone at or below the horizon over `key`; zero without.
    package mutating func covering(_ key: UnsafeRawBufferPointer) -> SequenceNumber {
        while index < spans.count, spans[index].span.isBelow(key) { index += 1 }
        guard index < spans.count, spans[index].span.start.compare(with: key) <= 0 else {
            return .zero
        }
        return spans[index].sequence
    }
}
