// The range tombstones that a scan meets: for a key and a version of it, whether one of any source
// hides it. Lists of tables are read only when the scan comes to a key in the table's span with a
// version older than the table's newest, so a lost one makes that range unreadable and no other.
//
// Each source remembers the stretch of keys around the last one that has the same answer; a scan
// pays two comparisons per key and source, and nothing at all without range tombstones.

package struct RangeCover {
    /// Tables that do not overlap, in key order, or one memtable.
    private struct Source {
        enum Kind {
            case list(RangeTombstoneList)
            case tables([TableHandle])
        }

        let kind: Kind
        var window: RangeTombstoneList.Window?
    }

    private var sources: [Source] = []
    private let sequence: SequenceNumber
    private let io: ReadIO

    package init(_ view: ReadView, span: KeySpan, at sequence: SequenceNumber, io: ReadIO) {
        self.sequence = sequence
        self.io = io
        for memtable in view.memtables {
            let list = memtable.rangeTombstones
            if !list.isEmpty { sources.append(Source(kind: .list(list))) }
        }
        for table in view.standIns { add([table]) }
        for level in view.version.levels.indices where view.version.bearsRangeTombstones(level) {
            let tables = view.version.overlapping(level, span)
            if level == 0 { tables.forEach { add([$0]) } } else { add(tables) }
        }
    }

    private mutating func add(_ tables: ArraySlice<TableHandle>) {
        let bearing = tables.filter { $0.record.rangeTombstoneCount > 0 }
        if !bearing.isEmpty { sources.append(Source(kind: .tables(bearing))) }
    }

    package var isEmpty: Bool { sources.isEmpty }

    /// Whether a range tombstone visible to the scan is newer than the version `version` of `key`.
    package mutating func hides(_ key: UnsafeRawBufferPointer, _ version: SequenceNumber)
        throws(EngineError) -> Bool
    {
        for index in sources.indices {
            if let newest = try newest(over: key, version, source: index), newest > version {
                return true
            }
        }
        return false
    }

    private mutating func newest(
        over key: UnsafeRawBufferPointer, _ version: SequenceNumber, source index: Int
    ) throws(EngineError) -> SequenceNumber? {
        if let window = sources[index].window, RangeCover.contains(window, key) {
            return window.sequence
        }
        switch sources[index].kind {
        case .list(let list):
            let window = list.window(around: key, at: sequence)
            sources[index].window = window
            return window.sequence
        case .tables(let tables):
            return try enter(tables, key, version, source: index)
        }
    }

    private mutating func enter(
        _ tables: [TableHandle], _ key: UnsafeRawBufferPointer, _ version: SequenceNumber,
        source index: Int
    ) throws(EngineError) -> SequenceNumber? {
        let place = tables.partitionPoint { $0.record.span.isBelow(key) }
        guard place < tables.count, tables[place].record.span.start.compare(with: key) <= 0 else {
            sources[index].window = RangeCover.gap(before: place, in: tables)
            return nil
        }
        let table = tables[place]
        // Nothing in it is newer: what it says of this key does not matter, nor whether it can be
        // read. The window stays unset, since an older version may come.
        if table.record.largestSequence < version { return nil }
        let list = try table.reader(io: io).rangeTombstones(io: io)
        var window = list.window(around: key, at: sequence)
        let span = table.record.span
        if window.start.isKeyBefore(span.start) { window.start = span.start }
        if let end = span.end, window.end.map({ end.isKeyBefore($0) }) ?? true {
            window.end = end
        }
        sources[index].window = window
        return window.sequence
    }

    /// The keys between two tables.
    private static func gap(before place: Int, in tables: [TableHandle])
        -> RangeTombstoneList.Window
    {
        RangeTombstoneList.Window(
            sequence: nil, start: place > 0 ? tables[place - 1].record.span.end ?? [] : [],
            end: place < tables.count ? tables[place].record.span.start : nil)
    }

    @inline(__always)
    private static func contains(
        _ window: RangeTombstoneList.Window, _ key: UnsafeRawBufferPointer
    ) -> Bool {
        guard window.start.compare(with: key) <= 0 else { return false }
        guard let end = window.end else { return true }
        return end.compare(with: key) > 0
    }
}
