// The entries of one log segment in memory: a skiplist of point entries, beside it sorted runs (the
// puts of `bulk` entries) and range tombstones, and what the flush of the segment must account for
// (counts, entry sum, sequences).
//
// One writer at a time inserts; any thread reads at the same time without locks. A reader asks
// only for sequences that were published to it after their insert (that hand-over is the store's);
// what it sees beyond them it ignores by sequence. Cursors keep the memtable alive.

import Synchronization

// Once it is known what most keys begin with, a skiplist that makes use of it takes the first one's
// place. Whoever holds a node of that one goes on there: it has all that was published by then.

// @unchecked: the lists and the counters are changed by the one writer only; readers go through the
// lists' acquire loads, the atomics and the lock of `tombstones`. Counters that are not atomic are
// read by the writer, or by others once the memtable is handed over full.
package final class Memtable: @unchecked Sendable {
    private let firstList: UnsafeMutablePointer<SkipList>
    private let currentList: Atomic<UnsafeMutablePointer<SkipList>>
    /// Entries that it got.
    @exclusivity(unchecked) private var listed = 0
    private let runs = RunChains()
    private let filter: MemtableFilter
    private let tombstones = Mutex(RangeTombstoneList.empty)
    private let tombstoneTotal = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let entries = Atomic<Int>(0)
    @exclusivity(unchecked) private var tombstoneBytes = 0
    @exclusivity(unchecked) private var runBytes = 0

    /// Deletes among the point entries.
    @exclusivity(unchecked) package private(set) var deleteCount: UInt64 = 0
    /// Wrapping sum of `EntrySum` over point entries and range tombstones.
    @exclusivity(unchecked) package private(set) var entrySum: UInt64 = 0
    /// Over point entries and range tombstones; nil while empty.
    @exclusivity(unchecked) package private(set) var smallestSequence: SequenceNumber?
    @exclusivity(unchecked) package private(set) var largestSequence: SequenceNumber?

    /// Entries after which keys are looked at for what they have in common.
    private static let sampleCount = 256
    /// With more the copy would cost too much.
    private static let sampleBytes = 1 << 20
    /// Of what the sample has in common, the last bytes may still be told apart by what follows: a
    /// number that grows has zeros there.
    private static let commonSlack = 3
    /// Fewer common bytes leave enough of the first eight.
    private static let commonBytesMin = 4

    /// `expectedBytes`: roughly what it will hold. More makes lookups in vain slower.
    package init(expectedBytes: Int = 64 << 20) {
        filter = MemtableFilter(memtableBytes: expectedBytes)
        firstList = .allocate(capacity: 1)
        firstList.initialize(to: SkipList())
        currentList = Atomic(firstList)
    }

    deinit {
        let current = currentList.load(ordering: .relaxed)
        for list in current == firstList ? [firstList] : [firstList, current] {
            list.deinitialize(count: 1)
            list.deallocate()
        }
    }

    /// Holds all that readers may ask for. Loaded once for each use: another may take its place.
    @inline(__always)
    var list: UnsafeMutablePointer<SkipList> { currentList.load(ordering: .acquiring) }

    package var usesCommonBytes: Bool { list != firstList }

    @inline(__always)
    private func insertIntoList(
        _ key: UnsafeRawBufferPointer, _ trailer: Trailer, _ value: UnsafeRawBufferPointer
    ) {
        list.pointee.insert(key, trailer.rawValue, value)
        listed += 1
        if listed == Memtable.sampleCount { useCommonBytes() }
    }

    @inline(never)
    private func useCommonBytes() {
        let count = firstList.pointee.commonBytes() - Memtable.commonSlack
        guard count >= Memtable.commonBytesMin, let key = firstList.pointee.first?.key,
            firstList.pointee.usedBytes <= Memtable.sampleBytes
        else { return }
        let better = UnsafeMutablePointer<SkipList>.allocate(capacity: 1)
        better.initialize(to: SkipList(common: UnsafeRawBufferPointer(rebasing: key[..<count])))
        better.pointee.append(firstList.pointee)
        currentList.store(better, ordering: .releasing)
    }

    /// Memory in use, roughly: what counts against the write buffer. Any thread.
    package var byteCount: Int { bytes.load(ordering: .relaxed) }
    /// Point entries. Any thread.
    package var entryCount: Int { entries.load(ordering: .relaxed) }
    package var rangeTombstoneCount: Int { tombstoneTotal.load(ordering: .relaxed) }
    package var isEmpty: Bool { entryCount == 0 && rangeTombstoneCount == 0 }

    /// Smallest and largest user key among point entries; nil without any.
    package var points: TableRecord.PointRange? {
        var smallest = list.pointee.first.map { [UInt8]($0.key) }
        var largest = list.pointee.lastNode().map { [UInt8]($0.key) }
        runs.forEach { runs in
            guard let first = runs.first, let last = runs.last else { return }
            let low = first._withUnsafeGuaranteedRef { [UInt8]($0.smallest) }
            let high = last._withUnsafeGuaranteedRef { [UInt8]($0.largest) }
            if smallest.map({ low.isKeyBefore($0) }) ?? true { smallest = low }
            if largest.map({ $0.isKeyBefore(high) }) ?? true { largest = high }
        }
        guard let smallest, let largest else { return nil }
        return TableRecord.PointRange(smallest: smallest, largest: largest)
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
        insertIntoList(key, trailer, value)
        entrySum &+= EntrySum.of(keyHash: hash, trailer, value)
        if trailer.kind?.isDelete ?? false { deleteCount += 1 }
        note(trailer.sequence)
        entries.store(entries.load(ordering: .relaxed) + 1, ordering: .relaxed)
        noteMemory()
    }

    /// Inserts of `keys` are about to follow. Writer only.
    func approach(_ keys: UnsafeBufferPointer<UnsafeRawBufferPointer>) {
        list.pointee.approach(keys)
    }

    /// Adds a range tombstone. Writer only. Readers see the old list or the new one.
    package func insert(_ tombstone: RangeTombstone) {
        let longer = tombstones.withLock { $0 }.appending(tombstone)
        tombstones.withLock { $0 = longer }
        tombstoneTotal.store(tombstoneTotal.load(ordering: .relaxed) + 1, ordering: .releasing)
        entrySum &+= EntrySum.of(tombstone)
        tombstoneBytes += 256 + tombstone.span.start.count + (tombstone.span.end?.count ?? 0)
        note(tombstone.sequence)
        noteMemory()
    }

    /// Adds the puts of a validated `bulk` payload, which is copied: as a sorted run, or into the
    /// skiplist if it overlaps too many others. Writer only.
    package func insertRun(_ payload: UnsafeRawBufferPointer, firstSequence: SequenceNumber) {
        let run = SortedRun(payload, firstSequence: firstSequence)
        for place in 0..<run.count {
            let hash = Checksum.hash64(run.key(place))
            filter.insert(hash)
            entrySum &+= EntrySum.of(keyHash: hash, run.trailer(place), run.value(place))
        }
        if runs.add(run) {
            runBytes += run.memoryBytes
        } else {
            for place in 0..<run.count {
                insertIntoList(run.key(place), run.trailer(place), run.value(place))
            }
        }
        note(run.firstSequence)
        note(run.lastSequence)
        entries.store(entries.load(ordering: .relaxed) + run.count, ordering: .relaxed)
        noteMemory()
    }

    private func noteMemory() {
        let current = list
        var listBytes = current.pointee.usedBytes
        if current != firstList { listBytes += firstList.pointee.usedBytes }
        bytes.store(listBytes + tombstoneBytes + runBytes, ordering: .relaxed)
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
        find(key, hash: hash, at: sequence).map {
            FoundVersion(trailer: $0.trailer, value: [UInt8]($0.value))
        }
    }

    /// As `lookup`, without a copy.
    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber)
        -> BorrowedVersion?
    {
        guard entryCount > 0, filter.mayContain(hash) else { return nil }
        return search(key, at: sequence)
    }

    @inline(never)
    private func search(_ key: UnsafeRawBufferPointer, at sequence: SequenceNumber)
        -> BorrowedVersion?
    {
        if !runs.isEmpty { return searchWithRuns(key, at: sequence) }
        guard let node = list.pointee.nodeAtOrAfter(key, Trailer.seek(sequence).rawValue),
            compareKeys(node.key, key) == 0
        else { return nil }
        return BorrowedVersion(trailer: Trailer(rawValue: node.trailer), value: node.value)
    }

    /// Skiplist and runs interleave in age.
    @inline(never)
    private func searchWithRuns(_ key: UnsafeRawBufferPointer, at sequence: SequenceNumber)
        -> BorrowedVersion?
    {
        var newest = Trailer(rawValue: 0)
        var value = UnsafeRawBufferPointer(start: nil, count: 0)
        if let node = list.pointee.nodeAtOrAfter(key, Trailer.seek(sequence).rawValue),
            compareKeys(node.key, key) == 0
        {
            newest = Trailer(rawValue: node.trailer)
            value = node.value
        }
        runs.forEachVersion(of: key, at: sequence) { trailer, bytes in
            guard trailer > newest else { return }
            newest = trailer
            value = bytes
        }
        guard newest.rawValue > 0 else { return nil }
        return BorrowedVersion(trailer: newest, value: value)
    }

    /// Visits the versions of `key` at or below `sequence`, newest first, until `body` is done.
    func forEachVersion(
        of key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber,
        _ body: (Trailer, UnsafeRawBufferPointer) -> VersionStep
    ) {
        guard entryCount > 0, filter.mayContain(hash) else { return }
        // Few: one of each chain at most. Oldest first, to be taken from the end.
        var ofRuns: [(trailer: Trailer, value: UnsafeRawBufferPointer)] = []
        if !runs.isEmpty {
            runs.forEachVersion(of: key, at: sequence) { ofRuns.append(($0, $1)) }
            ofRuns.sort { $0.trailer < $1.trailer }
        }
        var node = list.pointee.nodeAtOrAfter(key, Trailer.seek(sequence).rawValue)
        while let version = node, compareKeys(version.key, key) == 0 {
            while let newer = ofRuns.last, newer.trailer.rawValue > version.trailer {
                guard body(newer.trailer, newer.value) == .goOn else { return }
                ofRuns.removeLast()
            }
            guard body(Trailer(rawValue: version.trailer), version.value) == .goOn else { return }
            node = version.next(0)
        }
        while let older = ofRuns.popLast() {
            guard body(older.trailer, older.value) == .goOn else { return }
        }
    }

    /// The sequence of the newest range tombstone over `key` at or below `sequence`.
    @inline(__always)
    func covering(_ key: UnsafeRawBufferPointer, at sequence: SequenceNumber) -> SequenceNumber? {
        if tombstoneTotal.load(ordering: .acquiring) == 0 { return nil }
        return rangeTombstones.covering(key, at: sequence)
    }

    /// The range tombstones inserted so far, as an immutable list.
    package var rangeTombstones: RangeTombstoneList {
        if tombstoneTotal.load(ordering: .acquiring) == 0 { return .empty }
        return tombstones.withLock { $0 }
    }

    /// The skiplist, then each chain of runs; together all point entries.
    package func makeCursors() -> [any EntryCursor] {
        var cursors: [any EntryCursor] = [MemtableCursor(self)]
        runs.forEach { cursors.append(RunCursor(self, $0)) }
        return cursors
    }

    package func makeCursor() -> any EntryCursor { MergingCursor.over(makeCursors()) }
}
