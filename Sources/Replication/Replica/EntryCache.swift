// The newest entries of the log in memory: what followers are sent, and what is applied, without
// reading the disk. Contiguous; bounded by bytes, but never drops an entry that is not yet durable
// here (the caller says up to where dropping is allowed).
import Engine

package struct EntryCache {
    private var entries: [Entry] = []
    private var head = 0
    private var bytes = 0
    private let capacity: Int

    package init(capacityBytes: Int) { capacity = capacityBytes }

    package var first: LogIndex? { head < entries.count ? entries[head].index : nil }
    package var last: LogIndex? { head < entries.count ? entries[entries.count - 1].index : nil }

    package subscript(index: LogIndex) -> Entry? {
        guard let first, index >= first else { return nil }
        let at = head + Int(index - first)
        return at < entries.count ? entries[at] : nil
    }

    package mutating func append(_ entry: Entry) {
        if let last { invariant(entry.index == last + 1, "the entry cache has a gap") }
        entries.append(entry)
        bytes += entry.encoded.count
    }

    /// Removes everything above `index`.
    package mutating func truncate(after index: LogIndex) {
        while let last, last > index { bytes -= entries.removeLast().encoded.count }
        if head == entries.count { removeAll() }
    }

    /// Drops the oldest entries while the cache is above its capacity, none above `index`.
    package mutating func shrink(through index: LogIndex) {
        while bytes > capacity, let first, first <= index {
            bytes -= entries[head].encoded.count
            head += 1
        }
        if head == entries.count {
            removeAll()
        } else if head > 1024, head * 2 > entries.count {
            entries.removeFirst(head)
            head = 0
        }
    }

    package mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
        head = 0
        bytes = 0
    }

    /// Entries from `index` on, at most `maxBytes` of them but at least one, none above `last`;
    /// nil if the cache does not reach back to `index`.
    package func slice(from index: LogIndex, through last: LogIndex, maxBytes: Int) -> [Entry]? {
        guard let first, index >= first, index <= last else { return nil }
        var at = head + Int(index - first)
        var taken: [Entry] = []
        var total = 0
        while at < entries.count, entries[at].index <= last {
            total += entries[at].encoded.count
            if !taken.isEmpty, total > maxBytes { break }
            taken.append(entries[at])
            at += 1
        }
        return taken.isEmpty ? nil : taken
    }
}
