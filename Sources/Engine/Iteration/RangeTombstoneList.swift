// An immutable set of range tombstones that answers "which is the newest one at or below a
// sequence that covers this key?". Every source (memtable, table) hands one over beside its point
// entries.
//
// The tombstones lie in runs of falling size (the logarithmic method): appending one builds a run
// of one and merges runs of equal size, so n appends cost O(n log² n) altogether and every
// intermediate list stays valid for readers that hold it. A run cuts the key space at all its
// ends and keeps a segment tree over the pieces: a tombstone stands in O(log n) nodes, so deeply
// nested ranges cost O(n log n) memory where plain fragments would cost O(n²).

package struct RangeTombstoneList: Sendable {
    private var runs: [Run]

    package static let empty = RangeTombstoneList([])

    package init(_ tombstones: [RangeTombstone]) {
        runs = tombstones.isEmpty ? [] : [Run(tombstones)]
    }

    package var isEmpty: Bool { runs.isEmpty }
    package var count: Int { runs.reduce(0) { $0 + $1.tombstones.count } }

    /// All of them, as given (not clipped, not fragmented); in no particular order.
    package var tombstones: [RangeTombstone] { runs.flatMap(\.tombstones) }

    /// The list with one more.
    package func appending(_ tombstone: RangeTombstone) -> RangeTombstoneList {
        var gathered = [tombstone]
        var result = self
        while let last = result.runs.last, last.tombstones.count <= gathered.count {
            gathered = last.tombstones + gathered
            result.runs.removeLast()
        }
        result.runs.append(Run(gathered))
        return result
    }

    /// Sequence of the newest tombstone at or below `sequence` that covers `key`; nil if none.
    package func covering(_ key: UnsafeRawBufferPointer, at sequence: SequenceNumber)
        -> SequenceNumber?
    {
        var newest: SequenceNumber?
        for run in runs {
            guard let piece = run.piece(of: key) else { continue }
            guard let found = run.newest(in: piece, at: sequence) else { continue }
            if newest.map({ $0 < found }) ?? true { newest = found }
        }
        return newest
    }

    /// As `covering`, with the widest known stretch of keys around `key` for which the answer is
    /// the same: a scan asks again only when it leaves it.
    package func window(around key: UnsafeRawBufferPointer, at sequence: SequenceNumber) -> Window {
        var window = Window(sequence: nil, start: [], end: nil)
        for run in runs {
            let piece = run.piece(of: key)
            let span = run.span(of: piece)
            if window.start.isKeyBefore(span.start) { window.start = span.start }
            if let end = span.end, window.end.map({ end.isKeyBefore($0) }) ?? true {
                window.end = end
            }
            guard let piece, let found = run.newest(in: piece, at: sequence) else { continue }
            if window.sequence.map({ $0 < found }) ?? true { window.sequence = found }
        }
        return window
    }

    /// Whether all that `table` holds is hidden from every reader at or above `horizon`: of each of
    /// its keys, by a tombstone at or below the horizon that is newer than the whole table.
    package func hides(_ table: TableRecord, at horizon: SequenceNumber) -> Bool {
        var place = table.span.start
        while true {
            let window = place.withUnsafeBytes { self.window(around: $0, at: horizon) }
            guard let newest = window.sequence, newest > table.largestSequence else { return false }
            guard let end = window.end else { return true }
            if let last = table.span.end, !end.isKeyBefore(last) { return true }
            place = end
        }
    }

    /// Keys from `start` up to but without `end` (nil: to the last key) share one answer.
    package struct Window: Sendable {
        package var sequence: SequenceNumber?
        package var start: [UInt8]
        package var end: [UInt8]?
    }
}

/// A set of tombstones with its segment tree. Piece i holds the keys from `points[i]` up to
/// `points[i + 1]`, the last one all keys from its point on; keys before `points[0]` are uncovered.
private final class Run: Sendable {
    /// By sequence, ascending.
    let tombstones: [RangeTombstone]
    private let points: [[UInt8]]
    /// Node n of the implicit tree (root 1, leaf of piece i at `points.count + i`) holds
    /// `sequences[starts[n]..<starts[n + 1]]`, ascending.
    private let starts: [Int]
    private let sequences: [SequenceNumber]

    init(_ unsorted: [RangeTombstone]) {
        let tombstones = unsorted.sorted { $0.sequence < $1.sequence }
        let points = Run.points(of: tombstones)
        let leaves = points.count
        var counts = [Int](repeating: 0, count: 2 * leaves + 1)
        for tombstone in tombstones {
            Run.forEachNode(of: tombstone.span, in: points) { counts[$0 + 1] += 1 }
        }
        for node in counts.indices.dropFirst() { counts[node] += counts[node - 1] }
        var sequences = [SequenceNumber](repeating: .zero, count: counts.last ?? 0)
        var fill = counts
        for tombstone in tombstones {
            Run.forEachNode(of: tombstone.span, in: points) { node in
                sequences[fill[node]] = tombstone.sequence
                fill[node] += 1
            }
        }
        self.tombstones = tombstones
        self.points = points
        self.starts = counts
        self.sequences = sequences
    }

    private static func points(of tombstones: [RangeTombstone]) -> [[UInt8]] {
        var all: [[UInt8]] = []
        all.reserveCapacity(2 * tombstones.count)
        for tombstone in tombstones {
            all.append(tombstone.span.start)
            if let end = tombstone.span.end { all.append(end) }
        }
        all.sort { $0.isKeyBefore($1) }
        var distinct: [[UInt8]] = []
        for point in all where distinct.last != point { distinct.append(point) }
        return distinct
    }

    /// The nodes that together hold exactly the pieces of `span`.
    private static func forEachNode(
        of span: KeySpan, in points: [[UInt8]], _ body: (Int) -> Void
    ) {
        guard !span.isEmpty else { return }
        var low = lowerBound(span.start, in: points) + points.count
        var high = (span.end.map { lowerBound($0, in: points) } ?? points.count) + points.count
        while low < high {
            if low & 1 == 1 {
                body(low)
                low += 1
            }
            if high & 1 == 1 {
                high -= 1
                body(high)
            }
            low >>= 1
            high >>= 1
        }
    }

    private static func lowerBound(_ key: [UInt8], in points: [[UInt8]]) -> Int {
        var low = 0
        var high = points.count
        while low < high {
            let middle = (low + high) / 2
            if points[middle].isKeyBefore(key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The piece that holds `key`; nil before the first point.
    func piece(of key: UnsafeRawBufferPointer) -> Int? {
        var low = 0
        var high = points.count
        while low < high {
            let middle = (low + high) / 2
            let isAfter = points[middle].withUnsafeBytes { compareKeys($0, key) > 0 }
            if isAfter { high = middle } else { low = middle + 1 }
        }
        return low == 0 ? nil : low - 1
    }

    func span(of piece: Int?) -> KeySpan {
        guard let piece else { return KeySpan(start: [], end: points.first) }
        return KeySpan(
            start: points[piece], end: piece + 1 < points.count ? points[piece + 1] : nil)
    }

    func newest(in piece: Int, at sequence: SequenceNumber) -> SequenceNumber? {
        var newest: SequenceNumber?
        var node = piece + points.count
        while node >= 1 {
            if let found = newestInNode(node, at: sequence), newest.map({ $0 < found }) ?? true {
                newest = found
            }
            node >>= 1
        }
        return newest
    }

    private func newestInNode(_ node: Int, at sequence: SequenceNumber) -> SequenceNumber? {
        var low = starts[node]
        var high = starts[node + 1]
        let first = low
        while low < high {
            let middle = (low + high) / 2
            if sequences[middle] <= sequence { low = middle + 1 } else { high = middle }
        }
        return low == first ? nil : sequences[low - 1]
    }
}
