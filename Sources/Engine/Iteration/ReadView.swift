// All sources of data at one moment: what a read, an iterator and a snapshot pin. Immutable but for
// the newest memtable, which goes on growing with versions that the reader's sequence hides.
//
// Sources that may interleave in age (memtables, stand-ins, level 0) are compared by sequence: the
// first hit does not win. Below level 0 an upper level is newer for every key, so the search ends
// at the first level that says something. Damage in a source that is needed is an error; it is
// never passed over towards an older version.
//
// Jobs let go at the deepest level what had expired by their clock. So no read of a view is at an
// earlier one, whatever "now" it brings: it would see some of what was alive then, and not all.

package final class ReadView: Sendable {
    /// Newest first; the first may still grow.
    package let memtables: [Memtable]
    /// Flushed tables that are not in the version yet, newest first.
    package let standIns: [TableHandle]
    package let version: Version
    /// Those that its tables refer to.
    package let blobs: BlobFiles
    package let mergeOperators: MergeOperators
    /// The latest clock of the jobs that made its tables.
    package let clock: ClockMilliseconds
    /// The highest horizon of what made its tables: a read at a lower sequence would miss versions.
    package let horizon: SequenceNumber

    package init(
        memtables: [Memtable], standIns: [TableHandle], version: Version,
        blobs: BlobFiles = .none, mergeOperators: MergeOperators = .builtIn,
        clock: ClockMilliseconds = 0, horizon: SequenceNumber = .zero
    ) {
        self.memtables = memtables
        self.standIns = standIns
        self.version = version
        self.blobs = blobs
        self.mergeOperators = mergeOperators
        self.clock = clock
        self.horizon = horizon
    }

    /// The value of `key` that a reader at `sequence` sees; nil if there is none or it has expired.
    /// The clock is looked at only for what may expire.
    package func get(
        _ key: [UInt8], at sequence: SequenceNumber,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        var outcome = Result<LiveValue?, EngineError>.success(nil)
        key.withUnsafeBytes { key in
            do throws(EngineError) {
                outcome = .success(try get(key, at: sequence, now: now(), io: io))
            } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    package func get(
        _ key: UnsafeRawBufferPointer, at sequence: SequenceNumber,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        guard let found = try newestVersion(key, at: sequence, io: io) else { return nil }
        switch found.trailer.kind {
        case .put: return LiveValue(value: found.value)
        case .delete, .singleDelete: return nil
        case .merge:
            let now = max(now(), clock)
            return LiveValue(value: try mergedValue(key, at: sequence, now: now, io: io))
        case .blobReference:
            return try separatedValue(found.value, now: max(now(), clock), io: io)
        case .expiringPut, nil:
            let now = max(now(), clock)
            var live: LiveValue?
            var failure: EngineError?
            found.value.withUnsafeBytes { bytes in
                do throws(EngineError) {
                    guard
                        let content = try VersionContent(found.trailer, bytes, now: now)
                    else { return }
                    live = LiveValue(value: [UInt8](content.value), expiry: content.expiry)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            return live
        }
    }

    /// The value that a stored reference leads to; nil if it has expired.
    @inline(never)
    private func separatedValue(
        _ stored: [UInt8], now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        let reference = try withKey(stored) { (bytes) throws(EngineError) in
            try BlobReference(stored: bytes)
        }
        if let expiry = reference.expiry, expiry <= now() { return nil }
        return LiveValue(
            value: try blobs.value(reference, io: io), expiry: reference.expiry)
    }

    /// How many keys are fetched ahead: enough to keep the memory busy, few enough for what was
    /// fetched to stay in the first-level cache.
    private static let prefetchedKeys = 16

    /// The values of `keys` that a reader at `sequence` sees, in their order. Reads of several keys
    /// wait for memory together: what each will touch is fetched before the first of them is read.
    package func multiGet(
        _ keys: [[UInt8]], at sequence: SequenceNumber, now: ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> [LiveValue?] {
        var values: [LiveValue?] = []
        values.reserveCapacity(keys.count)
        var start = 0
        while start < keys.count {
            let end = min(start + ReadView.prefetchedKeys, keys.count)
            if end - start > 1 { prefetch(keys[start..<end], at: sequence) }
            for place in start..<end {
                values.append(try get(keys[place], at: sequence, now: now, io: io))
            }
            start = end
        }
        return values
    }

    /// In rounds, each of which touches what the one before had fetched: the memory that a round
    /// asks for comes at once for all keys. Of the sorted levels; memtables and level 0 have no one
    /// place to fetch.
    private func prefetch(_ keys: ArraySlice<[UInt8]>, at sequence: SequenceNumber) {
        var places: [FetchedPlace] = []
        places.reserveCapacity(2 * keys.count)
        for index in keys.indices {
            keys[index].withUnsafeBytes { key in
                let hash = Checksum.hash64(key)
                let prefix = keyPrefix(key)
                for level in version.sorted {
                    let table = level.find(key, prefix)
                    guard let reader = table?._withUnsafeGuaranteedRef({ $0.openReader }) else {
                        continue
                    }
                    reader.prefetchFilter(hash)
                    places.append(FetchedPlace(key: index, hash: hash, reader: reader))
                }
            }
        }
        for index in places.indices {
            let place = places[index]
            places[index].block = keys[place.key].withUnsafeBytes {
                place.reader.prefetchSlot($0, hash: place.hash, at: sequence)
            }
        }
        for place in places {
            if let block = place.block { place.reader.prefetchBlock(block) }
        }
    }

    /// What the operands of `key` make, of which a reader at `sequence` sees one at least. A merged
    /// value never expires, whatever lies below it: an expired base is a tombstone. `now` is not
    /// earlier than the view's clock.
    @inline(never)
    func mergedValue(
        _ key: UnsafeRawBufferPointer, at sequence: SequenceNumber, now: ClockMilliseconds,
        io: ReadIO
    ) throws(EngineError) -> [UInt8] {
        var chain = MergeChain(key: key, sequence: sequence, io: io)
        try walk(key, &chain)
        let (operands, base) = try chain.resolve(now: now, blobs)
        return try mergeOperators.fold(operands, onto: base)
    }

    /// The newest version of `key` at or below `sequence` that no range tombstone hides: a put, an
    /// operand or a tombstone. Nil if there is none. Also tells when the key was last written.
    package func newestVersion(
        _ key: UnsafeRawBufferPointer, at sequence: SequenceNumber, io: ReadIO
    ) throws(EngineError) -> FoundVersion? {
        var search = PointSearch(key: key, sequence: sequence, io: io)
        try walk(key, &search)
        return search.visible
    }

    /// Shows `search` the sources that may hold `key`, newest first, until older ones add nothing.
    /// Those that may interleave in age are all shown.
    @inline(__always)
    private func walk<Search: KeySearch>(_ key: UnsafeRawBufferPointer, _ search: inout Search)
        throws(EngineError)
    {
        for memtable in memtables {
            search.visit(memtable)
            if search.isDecided { break }
        }
        for table in standIns where table.record.span.contains(key) {
            try search.visit(.passUnretained(table))
        }
        for table in version.levels[0] where table.record.span.contains(key) {
            try search.visit(.passUnretained(table))
        }
        if search.isDecided { return }
        let prefix = keyPrefix(key)
        for level in version.sorted {
            guard let table = level.find(key, prefix) else { continue }
            try search.visit(table)
            if search.isDecided { return }
        }
    }

    /// Iterates the live pairs of `span` that a reader at `sequence` sees. Unpositioned at first.
    package func makeIterator(
        _ span: KeySpan, at sequence: SequenceNumber, now: ClockMilliseconds, io: ReadIO
    ) -> VisibleIterator {
        VisibleIterator(self, span: span, at: sequence, now: now, io: io)
    }

    /// Up to `limit` live pairs of `span`, in key order or in reverse. `limitBytes` of keys and
    /// values also end it, behind the pair that reaches them.
    package func scan(
        _ span: KeySpan, reverse: Bool = false, limit: Int = .max, limitBytes: Int = .max,
        at sequence: SequenceNumber, now: ClockMilliseconds, io: ReadIO = .blocking
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)] {
        var pairs: [(key: [UInt8], value: LiveValue)] = []
        guard limit > 0, limitBytes > 0, !span.isEmpty else { return pairs }
        let iterator = makeIterator(span, at: sequence, now: now, io: io)
        if reverse { try iterator.seekToLast() } else { try iterator.seekToFirst() }
        var bytesLeft = limitBytes
        while iterator.isValid {
            let key = [UInt8](iterator.key)
            let value = [UInt8](iterator.value)
            pairs.append((key, LiveValue(value: value, expiry: iterator.expiry)))
            bytesLeft -= min(bytesLeft, key.count + value.count)
            if pairs.count == limit || bytesLeft == 0 { break }
            if reverse { try iterator.previous() } else { try iterator.next() }
        }
        return pairs
    }

    /// Whether any source may hold a version of a key that begins with `prefix`, a tombstone
    /// included: false is certain, and costs no data block.
    package func mayContainPrefix(_ prefix: [UInt8], io: ReadIO) throws(EngineError) -> Bool {
        let span = KeySpan.prefix(prefix)
        for memtable in memtables {
            guard try !memtable.holds(span) else { return true }
        }
        var tables = standIns.filter { $0.record.span.overlaps(span) }
        for level in version.levels.indices { tables += version.overlapping(level, span) }
        for table in tables where table.record.points != nil {
            let reader = try table.reader(io: io)
            if prefix.withUnsafeBytes({ reader.mayContainPrefix($0) }) { return true }
        }
        return false
    }

    /// Every source as a cursor that may hold keys of `span` for readers as of now: what comes into
    /// an empty memtable later is not for them.
    func makeCursor(_ span: KeySpan, io: ReadIO) -> any EntryCursor {
        var cursors: [any EntryCursor] = []
        for memtable in memtables where memtable.entryCount > 0 {
            cursors += memtable.makeCursors()
        }
        let prefix = [UInt8](span.sharedPrefix)
        for table in standIns + version.overlapping(0, span)
        where table.record.span.overlaps(span) && !ReadView.lacks(prefix, table) {
            // A level of one: opened when it is sought, and its errors are the iterator's.
            cursors.append(LevelCursor([table], io: io))
        }
        for level in 1..<version.levels.count {
            var tables = version.overlapping(level, span)
            if !prefix.isEmpty { tables.removeAll { ReadView.lacks(prefix, $0) } }
            if !tables.isEmpty { cursors.append(LevelCursor(tables, io: io)) }
        }
        return MergingCursor.over(cursors)
    }

    /// Whether a prefix filter rules the table out. A table that is not open is not opened for it:
    /// the scan may never come to it.
    private static func lacks(_ prefix: [UInt8], _ table: TableHandle) -> Bool {
        guard !prefix.isEmpty, let reader = table.openReader else { return false }
        return !prefix.withUnsafeBytes { reader.mayContainPrefix($0) }
    }
}

extension Memtable {
    /// Whether any version of a key of `span` is in it.
    fileprivate func holds(_ span: KeySpan) throws(EngineError) -> Bool {
        let cursor = makeCursor()
        try withKey(span.start) { (start) throws(EngineError) in
            try cursor.seek(start, Trailer(rawValue: .max))
        }
        guard cursor.isValid else { return false }
        return span.end.map { $0.compare(with: cursor.key) > 0 } ?? true
    }
}

/// A table that may hold a key of a batch.
private struct FetchedPlace {
    let key: Int
    let hash: UInt64
    let reader: TableReader
    /// Where in it; nil if its filter knows better.
    var block: Int?
}

/// The state of one point read on its way through the sources.
private struct PointSearch: KeySearch {
    private var probe: KeyProbe
    private var best: FoundVersion?
    private var bestSequence = SequenceNumber.zero

    init(key: UnsafeRawBufferPointer, sequence: SequenceNumber, io: ReadIO) {
        probe = KeyProbe(key: key, sequence: sequence, io: io)
    }

    /// Something was found, so sources that are older as a whole do not matter.
    var isDecided: Bool { max(bestSequence, probe.covering) > .zero }

    var visible: FoundVersion? { bestSequence > probe.covering ? best : nil }

    @inline(__always)
    mutating func visit(_ memtable: Memtable) {
        probe.cover(by: memtable)
        if let found = memtable.lookup(probe.key, hash: probe.hash, at: probe.sequence) {
            take(found)
        }
    }

    @inline(__always)
    mutating func visit(_ table: Unmanaged<TableHandle>) throws(EngineError) {
        guard let reader = try probe.reader(of: table, above: bestSequence) else { return }
        let found = try reader.lookup(
            probe.key, hash: probe.hash, at: probe.sequence, io: probe.io)
        if let found { take(found) }
    }

    @inline(__always)
    private mutating func take(_ found: FoundVersion) {
        guard found.trailer.sequence > bestSequence else { return }
        bestSequence = found.trailer.sequence
        best = found
    }
}
