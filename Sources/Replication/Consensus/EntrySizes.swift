// Encoded sizes of the entries that this leader made, as running totals: they pack messages to
// their limit and bound what is uncommitted, without asking the log. Older entries have no size
// here; members that need those are served one message at a time.
import Engine

package struct EntrySizes: Sendable {
    /// The entry before the first whose size is known.
    private var base: LogIndex
    /// Total through each entry; `totals[start]` belongs to `base` itself.
    private var totals: [UInt64] = [0]
    private var start = 0

    package init(after base: LogIndex) { self.base = base }

    private var last: LogIndex { base + UInt64(totals.count - 1 - start) }

    package mutating func append(_ bytes: Int) {
        totals.append(totals[totals.count - 1] + UInt64(bytes))
    }

    /// Whether the entries from `index` on are known (or there are none yet).
    package func knows(from index: LogIndex) -> Bool { index > base && index <= last + 1 }

    /// Bytes of the known entries above `index`.
    package func bytes(after index: LogIndex) -> UInt64 {
        let from = max(index, base)
        return from >= last ? 0 : totals[totals.count - 1] - total(through: from)
    }

    /// The longest run of entries from `first` that fits into `limit`, at least one.
    package func pack(from first: LogIndex, limit: Int) -> (last: LogIndex, bytes: Int)? {
        guard first > base, first <= last else { return nil }
        let before = total(through: first - 1)
        var low = place(of: first)
        var high = totals.count
        while low + 1 < high {
            let middle = (low + high) / 2
            if totals[middle] - before <= UInt64(limit) { low = middle } else { high = middle }
        }
        return (base + UInt64(low - start), Int(totals[low] - before))
    }

    /// Forgets sizes at or below `index`, except the latest `keeping`.
    package mutating func forget(through index: LogIndex, keeping: Int) {
        guard last.rawValue > UInt64(keeping) else { return }
        let cut = min(index, last - UInt64(keeping))
        guard cut > base else { return }
        start += Int(cut - base)
        base = cut
        // Moves the rest only when half of the array is unused: constant work per entry.
        guard start > 1024, start * 2 > totals.count else { return }
        totals.removeFirst(start)
        start = 0
    }

    private func place(of index: LogIndex) -> Int { start + Int(index - base) }
    private func total(through index: LogIndex) -> UInt64 { totals[place(of: index)] }
}
