// The entries of one log segment in memory: a skiplist of point entries, range tombstones beside
// it, and what the flush of the segment must account for (counts, entry sum, sequences).
//
// One writer at a time inserts; any thread reads at the same time without locks. A reader asks
// only for sequences that were published to it after their insert (that hand-over is the store's);
// what it sees beyond them it ignores by sequence. Cursors keep the memtable alive.

import Synchronization

// @unchecked: the list and the counters are changed by the one writer only; readers go through the
// list's acquire loads, the atomics and the lock of `tombstones`. Counters that are not atomic are
// read by the writer, or by others once the memtable is handed over full.
package final class Memtable: @unchecked Sendable {
    let list = SkipList()
    private let filter = MemtableFilter()
    private let tombstones = Mutex(RangeTombstoneList.empty)
    private let tombstoneTotal = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let entries = Atomic<Int>(0)
    private var tombstoneBytes = 0

    /// Deletes among the point entries.
    package private(set) var deleteCount: UInt64 = 0
    /// Wrapping sum of `EntrySum` over point entries and range tombstones.
    package private(set) var entrySum: UInt64 = 0
    /// Over point entries and range tombstones; nil while empty.
    package private(set) var smallestSequence: SequenceNumber?
    package private(set) var largestSequence: SequenceNumber?

    package init() {}

    /// Memory in use, roughly: what counts against the write buffer. Any thread.
    package var byteCount: Int { bytes.load(ordering: .relaxed) }
    /// Point entries. Any thread.
    package var entryCount: Int { entries.load(ordering: .relaxed) }
    package var rangeTombstoneCount: Int { tombstoneTotal.load(ordering: .relaxed) }
    package var isEmpty: Bool { entryCount == 0 && rangeTombstoneCount == 0 }

    /// Smallest and largest user key among point entries; nil without any.
    package var points: TableRecord.PointRange? {
        guard let first = list.first, let last = list.lastNode() else { return nil }
        return TableRecord.PointRange(smallest: [UInt8](first.key), largest: [UInt8](last.key))
    }

    /// Adds a version; key and value are copied. Writer only. Sequences are unique per version.
    package func insert(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) {
        invariant(key.count <= Limits.keyBytes, "a key of \(key.count) bytes reached the memtable")
        invariant(
            value.count <= Limits.valueBytesMax + 8,
            "a value of \(value.count) bytes reached the memtable")
        let hash = Checksum.hash64(key)
        filter.insert(hash)
        list.insert(key, trailer.rawValue, value)
        entrySum &+= EntrySum.of(keyHash: hash, trailer, value)
        if trailer.kind?.isDelete ?? false { deleteCount += 1 }
        note(trailer.sequence)
        entries.store(entries.load(ordering: .relaxed) + 1, ordering: .relaxed)
        bytes.store(list.usedBytes + tombstoneBytes, ordering: .relaxed)
    }

    /// Adds a range tombstone. Writer only. Readers see the old list or the new one.
    package func insert(_ tombstone: RangeTombstone) {
        let longer = tombstones.withLock { $0 }.appending(tombstone)
        tombstones.withLock { $0 = longer }
        tombstoneTotal.store(tombstoneTotal.load(ordering: .relaxed) + 1, ordering: .releasing)
        entrySum &+= EntrySum.of(tombstone)
        tombstoneBytes += 256 + tombstone.span.start.count + (tombstone.span.end?.count ?? 0)
        note(tombstone.sequence)
        bytes.store(list.usedBytes + tombstoneBytes, ordering: .relaxed)
    }

    private func note(_ sequence: SequenceNumber) {
        if smallestSequence.map({ sequence < $0 }) ?? true { smallestSequence = sequence }
        if largestSequence.map({ $0 < sequence }) ?? true { largestSequence = sequence }
    }

    /// The newest version of `key` at or below `sequence`, whatever its kind.
    package func lookup(_ key: UnsafeRawBufferPointer, at sequence: SequenceNumber)
        -> FoundVersion?
    {
        lookup(key, hash: Checksum.hash64(key), at: sequence)
    }

    /// As above, for a caller that has hashed the key already: one hash serves every source.
    package func lookup(_ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber)
        -> FoundVersion?
    {
        guard filter.mayContain(hash),
            let node = list.nodeAtOrAfter(key, Trailer.seek(sequence).rawValue),
            compareKeys(node.key, key) == 0
        else { return nil }
        return FoundVersion(
            trailer: Trailer(rawValue: node.trailer), value: [UInt8](node.value))
    }

    /// Visits the versions of `key` at or below `sequence`, newest first, until `body` is done.
    func forEachVersion(
        of key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber,
        _ body: (Trailer, UnsafeRawBufferPointer) -> VersionStep
    ) {
        guard filter.mayContain(hash) else { return }
        var node = list.nodeAtOrAfter(key, Trailer.seek(sequence).rawValue)
        while let version = node, compareKeys(version.key, key) == 0 {
            guard body(Trailer(rawValue: version.trailer), version.value) == .goOn else { return }
            node = version.next(0)
        }
    }

    /// The range tombstones inserted so far, as an immutable list.
    package var rangeTombstones: RangeTombstoneList {
        if tombstoneTotal.load(ordering: .acquiring) == 0 { return .empty }
        return tombstones.withLock { $0 }
    }

    package func makeCursor() -> any EntryCursor { MemtableCursor(self) }
}
