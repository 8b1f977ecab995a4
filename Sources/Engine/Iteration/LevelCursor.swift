// The tables of a sorted level as one source: they follow each other in key order, so only one is
// open at a time, and none before it is needed.
//
// Invariants: tables are sorted and their spans disjoint (`Version` checks that). A table without
// point entries, or one that turns out to have none behind a key, is passed over: the end of a
// table is never the end of the level. So is one that the reader sees nothing of (`HiddenTables`),
// unopened. After a throw the cursor is invalid until sought again.

package final class LevelCursor: EntryCursor {
    private let tables: ArraySlice<TableHandle>
    private let ends: SortedKeys?
    private let hidden: HiddenTables
    private let scope: ScanScope
    private let io: ReadIO
    private let fillsCache: Bool
    /// The open table and its cursor, which is retained here: a scan asks it for every entry, and
    /// counts no reference for that.
    private var index = -1
    private var cursor: Unmanaged<TableCursor>?
    // The entry that the open cursor stands on. Private with package getters: the compiler then
    // proves that accesses do not overlap, instead of checking it at run time for every entry.
    private var valid = false
    private var currentKey = UnsafeRawBufferPointer(start: nil, count: 0)
    private var currentTrailer = Trailer(rawValue: 0)
    private var currentValue = UnsafeRawBufferPointer(start: nil, count: 0)

    /// `ends` are the ends of the spans of the whole level of which `tables` are a part: with them
    /// a table is found without touching others.
    package init(
        _ tables: ArraySlice<TableHandle>, ends: SortedKeys? = nil,
        but hidden: HiddenTables = .none, scope: ScanScope = .everything, io: ReadIO,
        fillsCache: Bool = true
    ) {
        self.tables = tables
        self.ends = ends
        self.hidden = hidden
        self.scope = scope
        self.io = io
        self.fillsCache = fillsCache
    }

    deinit { cursor?.release() }

    package var isValid: Bool { valid }
    package var key: UnsafeRawBufferPointer { currentKey }
    package var trailer: Trailer { currentTrailer }
    package var value: UnsafeRawBufferPointer { currentValue }

    package func seekToFirst() throws(EngineError) {
        valid = false
        try enterFirst(from: tables.startIndex)
    }

    package func seekToLast() throws(EngineError) {
        valid = false
        try enterLast(from: tables.endIndex - 1)
    }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
        valid = false
        let first = firstNotBelow(key)
        guard first < tables.endIndex else { return }
        if tables[first].hasPoints(atOrAfter: key), !hidden.contains(tables[first]) {
            let cursor = try enter(first)
            try cursor.with { (cursor) throws(EngineError) in try cursor.seek(key, trailer) }
            if show(cursor) { return }
        }
        try enterFirst(from: first + 1)
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        valid = false
        let last = tables.partitionPoint { $0.record.span.start.compare(with: key) < 0 } - 1
        guard last >= tables.startIndex else { return }
        if let points = tables[last].record.points, points.smallest.compare(with: key) < 0,
            !hidden.contains(tables[last])
        {
            let cursor = try enter(last)
            try cursor.with { (cursor) throws(EngineError) in try cursor.seekBefore(key) }
            if show(cursor) { return }
        }
        try enterLast(from: last - 1)
    }

    package func next() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let cursor = try enter(index)
        try cursor.with { (cursor) throws(EngineError) in try cursor.next() }
        if !show(cursor) { try enterFirst(from: index + 1) }
    }

    package func advance() throws(EngineError) -> CursorEntry? {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let entry = try enter(index).with { (cursor) throws(EngineError) in try cursor.advance() }
        if let entry {
            show(entry)
            return entry
        }
        try enterFirst(from: index + 1)
        return current
    }

    package func previous() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let cursor = try enter(index)
        try cursor.with { (cursor) throws(EngineError) in try cursor.previous() }
        if !show(cursor) { try enterLast(from: index - 1) }
    }

    /// Takes over the entry that `cursor` stands on; false if it has ended.
    @inline(__always)
    private func show(_ cursor: Unmanaged<TableCursor>) -> Bool {
        guard let entry = cursor._withUnsafeGuaranteedRef({ $0.current }) else { return false }
        show(entry)
        return true
    }

    /// Stands on the first entry of the first table at or after `start` that has any.
    private func enterFirst(from start: Int) throws(EngineError) {
        var table = start
        while table < tables.endIndex {
            if isShown(tables[table]) {
                let cursor = try enter(table)
                try cursor.with { (cursor) throws(EngineError) in try cursor.seekToFirst() }
                if show(cursor) { return }
            }
            table += 1
        }
    }

    /// Stands on the last entry of the last table at or before `start` that has any.
    private func enterLast(from start: Int) throws(EngineError) {
        var table = start
        while table >= tables.startIndex {
            if isShown(tables[table]) {
                let cursor = try enter(table)
                try cursor.with { (cursor) throws(EngineError) in try cursor.seekToLast() }
                if show(cursor) { return }
            }
            table -= 1
        }
    }

    @inline(__always)
    private func show(_ entry: CursorEntry) {
        currentKey = entry.key
        currentTrailer = entry.trailer
        currentValue = entry.value
        valid = true
    }

    /// The first table whose span does not end at or before `key`.
    private func firstNotBelow(_ key: UnsafeRawBufferPointer) -> Int {
        guard let ends else { return tables.partitionPoint { $0.record.span.isBelow(key) } }
        return min(max(ends.countAtOrBefore(key), tables.startIndex), tables.endIndex)
    }

    private func isShown(_ table: TableHandle) -> Bool {
        table.record.points != nil && !hidden.contains(table)
    }

    /// The cursor of table `index`, opened unless it is the one at hand.
    @inline(__always)
    private func enter(_ index: Int) throws(EngineError) -> Unmanaged<TableCursor> {
        if self.index == index, let cursor { return cursor }
        return try open(index)
    }

    @inline(never)
    private func open(_ index: Int) throws(EngineError) -> Unmanaged<TableCursor> {
        cursor?.release()
        cursor = nil
        self.index = -1
        let opened = Unmanaged.passRetained(
            try tables[index].makeCursor(io: io, fillsCache: fillsCache, scope: scope))
        cursor = opened
        self.index = index
        return opened
    }
}
