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

package final class ReadView: @unchecked Sendable {
    // Unchecked: immutable after init.
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
    // What a point read goes through, in plain memory, so that no reference is counted on the way:
    // the memtables, and the tables that may overlap, stand-ins first.
    private let plainMemtables: UnsafeMutableBufferPointer<Unmanaged<Memtable>>
    private let plainOverlapping: UnsafeMutableBufferPointer<Unmanaged<TableHandle>>

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
        plainMemtables = .unretained(memtables)
        plainOverlapping = .unretained(standIns + version.levels[0])
    }

    deinit {
        plainMemtables.deallocate()
        plainOverlapping.deallocate()
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
        var search = PointSearch(KeyProbe(key: key, sequence: sequence, io: io))
        defer { search.end() }
        try walk(key, &search)
        guard let found = search.visible else { return nil }
        return try liveValue(key, found, at: sequence, now: now(), io: io)
    }

    /// As `get`, without a copy if the value lies in one piece: `body` is called with it, and it is
    /// borrowed until then. False, and no call, if there is none.
    @inline(__always)
    func withValue(
        of key: UnsafeRawBufferPointer, at sequence: SequenceNumber,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(EngineError) -> Bool {
        var search = PointSearch(KeyProbe(key: key, sequence: sequence, io: io))
        defer { search.end() }
        try walk(key, &search)
        guard let found = search.visible else { return false }
        if found.trailer.kind == .put {
            body(found.value)
            return true
        }
        let live = try liveValue(key, found, at: sequence, now: now(), io: io)
        guard let live else { return false }
        live.value.withUnsafeBytes(body)
        return true
    }

    /// What the newest version of `key` says.
    @inline(__always)
    func liveValue(
        _ key: UnsafeRawBufferPointer, _ found: BorrowedVersion, at sequence: SequenceNumber,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        switch found.trailer.kind {
        case .put: return LiveValue(value: [UInt8](found.value))
        case .delete, .singleDelete: return nil
        case .merge:
            let now = max(now(), clock)
            return LiveValue(value: try mergedValue(key, at: sequence, now: now, io: io))
        case .blobReference:
            return try separatedValue(found.value, now: max(now(), clock), io: io)
        case .expiringPut, nil:
            let now = max(now(), clock)
            guard let content = try VersionContent(found.trailer, found.value, now: now) else {
                return nil
            }
            return LiveValue(value: [UInt8](content.value), expiry: content.expiry)
        }
    }

    /// The value that a stored reference leads to; nil if it has expired.
    @inline(never)
    private func separatedValue(
        _ stored: UnsafeRawBufferPointer, now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        let reference = try BlobReference(stored: stored)
        if let expiry = reference.expiry, expiry <= now() { return nil }
        return LiveValue(
            value: try blobs.value(reference, io: io), expiry: reference.expiry)
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
        var search = PointSearch(KeyProbe(key: key, sequence: sequence, io: io))
        defer { search.end() }
        try walk(key, &search)
        return search.visible.map {
            FoundVersion(trailer: $0.trailer, value: [UInt8]($0.value))
        }
    }

    /// Shows `search` the sources that may hold `key`, newest first, until older ones add nothing.
    /// Those that may interleave in age are all shown.
    @inline(__always)
    private func walk<Search: KeySearch & ~Copyable>(
        _ key: UnsafeRawBufferPointer, _ search: inout Search
    ) throws(EngineError) {
        try visitUnsorted(key, &search)
        if search.isDecided { return }
        let prefix = keyPrefix(key)
        for level in version.sorted {
            guard let table = level.find(key, prefix) else { continue }
            try search.visit(table)
            if search.isDecided { return }
        }
    }

    /// Memtables, and the tables that may overlap.
    @inline(__always)
    func visitUnsorted<Search: KeySearch & ~Copyable>(
        _ key: UnsafeRawBufferPointer, _ search: inout Search
    ) throws(EngineError) {
        for memtable in plainMemtables {
            memtable._withUnsafeGuaranteedRef { search.visit($0) }
            if search.isDecided { break }
        }
        for table in plainOverlapping
        where table._withUnsafeGuaranteedRef({ $0.record.span.contains(key) }) {
            try search.visit(table)
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

    /// Every source as a cursor that may hold keys of `span` for the reader of `scope`, which is
    /// that span, as of now: what comes into an empty memtable later is not for it.
    func makeCursor(_ span: KeySpan, _ scope: ScanScope, io: ReadIO) -> any EntryCursor {
        let hidden = HiddenTables(memtables, at: scope.visible)
        var cursors: [any EntryCursor] = []
        cursors.reserveCapacity(
            memtables.count + plainOverlapping.count + version.sortedLevels.count)
        for memtable in memtables where memtable.entryCount > 0 {
            cursors += memtable.makeCursors()
        }
        let prefix = span.sharedPrefix
        for table in plainOverlapping {
            let table = table.takeUnretainedValue()
            guard table.record.span.overlaps(span), !ReadView.lacks(prefix, table) else { continue }
            // A level of one: opened when it is sought, and its errors are the iterator's.
            cursors.append(LevelCursor([table], but: hidden, scope: scope, io: io))
        }
        for level in version.sortedLevels {
            var tables = version.overlapping(level, span)
            var ends: SortedKeys? = version.ends(of: level)
            if !prefix.isEmpty, tables.contains(where: { ReadView.lacks(prefix, $0) }) {
                tables = tables.filter { !ReadView.lacks(prefix, $0) }[...]
                ends = nil
            }
            if tables.isEmpty { continue }
            cursors.append(LevelCursor(tables, ends: ends, but: hidden, scope: scope, io: io))
        }
        return MergingCursor.over(cursors)
    }

    /// Whether a prefix filter rules the table out. A table that is not open is not opened for it:
    /// the scan may never come to it.
    private static func lacks(_ prefix: ArraySlice<UInt8>, _ table: TableHandle) -> Bool {
        guard !prefix.isEmpty, let reader = table.openReader else { return false }
        return !prefix.withUnsafeBytes { reader.mayContainPrefix($0) }
    }
}

extension UnsafeMutableBufferPointer {
    /// The objects in new memory; the caller keeps them.
    fileprivate static func unretained<Object: AnyObject>(_ objects: [Object])
        -> UnsafeMutableBufferPointer where Element == Unmanaged<Object>
    {
        let plain = UnsafeMutableBufferPointer.allocate(capacity: objects.count)
        _ = plain.initialize(from: objects.map { Unmanaged.passUnretained($0) })
        return plain
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
