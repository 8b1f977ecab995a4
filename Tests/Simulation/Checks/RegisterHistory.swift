// Was a history of reads and writes of one register linearizable? Decided exactly and in
// O(n log n), since no two writes write the same value (Gibbons and Korach, "Testing Shared
// Memories", 1997). Keys are independent of each other, so each is looked at by itself
// (P-compositionality). Pure: histories of real processes can be judged as well.

/// One call of a client. Times are numbers of any strictly increasing clock that all clients share,
/// above zero.
package struct RegisterOperation: Sendable {
    package enum Kind: Sendable { case read, write }

    package var kind: Kind
    /// What was written or seen; nil where a read found nothing. No value is written twice.
    package var value: UInt64?
    package var began: UInt64
    /// Nil while nobody knows whether it took effect: it may do so at any later time, or never. A
    /// write that was refused for good, and a read without an answer, do not belong into a history.
    package var ended: UInt64?

    package init(_ kind: Kind, _ value: UInt64?, began: UInt64, ended: UInt64?) {
        self.kind = kind
        self.value = value
        self.began = began
        self.ended = ended
    }
}

package struct RegisterHistory {
    /// A write with all reads of its value. Between its first end and its last beginning, if they
    /// are in this order (`isForward`), the register must have held the value all the time; else
    /// it must have held it at some time between the two.
    private struct Zone {
        var value: UInt64?
        var writeBegan: UInt64
        var firstEnd: UInt64
        var lastBegin: UInt64

        var isForward: Bool { firstEnd < lastBegin }
        var low: UInt64 { min(firstEnd, lastBegin) }
        var high: UInt64 { max(firstEnd, lastBegin) }
    }

    private var operations: [RegisterOperation] = []

    package init() {}

    package var count: Int { operations.count }

    package mutating func add(_ operation: RegisterOperation) { operations.append(operation) }

    /// What cannot be explained by any order of the operations; nil if there is one. The register
    /// holds nothing at first.
    package func violation() -> String? {
        var zones: [Zone] = [Zone(value: nil, writeBegan: 0, firstEnd: 0, lastBegin: 0)]
        var places: [UInt64?: Int] = [nil: 0]
        for write in operations where write.kind == .write {
            guard places.updateValue(zones.count, forKey: write.value) == nil else {
                return "\(text(write.value)) is written twice"
            }
            zones.append(
                Zone(
                    value: write.value, writeBegan: write.began, firstEnd: write.ended ?? .max,
                    lastBegin: write.began))
        }
        for read in operations where read.kind == .read {
            guard let ended = read.ended else { continue }
            guard let place = places[read.value] else {
                return "\(text(read.value)) is read from \(read.began) to \(ended) and was never "
                    + "written"
            }
            guard ended > zones[place].writeBegan else {
                return "\(text(read.value)) is read at \(ended), before it is written at "
                    + "\(zones[place].writeBegan)"
            }
            zones[place].firstEnd = min(zones[place].firstEnd, ended)
            zones[place].lastBegin = max(zones[place].lastBegin, read.began)
        }
        return conflict(zones)
    }

    private func conflict(_ zones: [Zone]) -> String? {
        let forward = zones.filter(\.isForward).sorted { $0.low < $1.low }
        for (earlier, later) in zip(forward, forward.dropFirst()) where later.low < earlier.high {
            return "\(text(earlier.value)) holds from \(earlier.low) to \(earlier.high), and "
                + "\(text(later.value)) from \(later.low) to \(later.high)"
        }
        for zone in zones where !zone.isForward {
            guard let place = lastPlace(in: forward, below: zone.low) else { continue }
            let around = forward[place]
            if around.high > zone.high {
                return "\(text(around.value)) holds from \(around.low) to \(around.high), and "
                    + "\(text(zone.value)) must hold between \(zone.low) and \(zone.high)"
            }
        }
        return nil
    }

    /// Of the last zone that begins before `bound`; a binary search.
    private func lastPlace(in zones: [Zone], below bound: UInt64) -> Int? {
        var low = 0
        var high = zones.count
        while low < high {
            let middle = (low + high) / 2
            if zones[middle].low < bound { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? low - 1 : nil
    }

    private func text(_ value: UInt64?) -> String { value.map { "value \($0)" } ?? "nothing" }
}
