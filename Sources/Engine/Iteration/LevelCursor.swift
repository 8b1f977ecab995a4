// The tables of a sorted level as one source: they follow each other in key order, so only one is
// open at a time, and none before it is needed.
//
// Invariants: tables are sorted and their spans disjoint (`Version` checks that). A table without
// point entries, or one that turns out to have none behind a key, is passed over: the end of a
// table is never the end of the level. So is one that the reader sees nothing of (`HiddenTables`),
// unopened. After a throw the cursor is invalid until sought again.

package final class LevelCursor: EntryCursor {
    package typealias Opener = (TableHandle) throws(EngineError) -> any EntryCursor

    private let tables: [TableHandle]
    private let hidden: HiddenTables
    private let open: Opener
    /// The open table and its cursor.
    private var index = -1
    private var cursor: (any EntryCursor)?
    // The entry that the open cursor stands on. Private with package getters: the compiler then
    // proves that accesses do not overlap, instead of checking it at run time for every entry.
    private var valid = false
    private var currentKey = UnsafeRawBufferPointer(start: nil, count: 0)
    private var currentTrailer = Trailer(rawValue: 0)
    private var currentValue = UnsafeRawBufferPointer(start: nil, count: 0)

    package init(
        _ tables: [TableHandle], but hidden: HiddenTables = .none, open: @escaping Opener
    ) {
        self.tables = tables
        self.hidden = hidden
        self.open = open
    }

    package convenience init(
        _ tables: [TableHandle], but hidden: HiddenTables = .none, io: ReadIO,
        fillsCache: Bool = true
    ) {
        self.init(tables, but: hidden) { (table) throws(EngineError) in
            try table.makeCursor(io: io, fillsCache: fillsCache)
        }
    }

    package var isValid: Bool { valid }
    package var key: UnsafeRawBufferPointer { currentKey }
    package var trailer: Trailer { currentTrailer }
    package var value: UnsafeRawBufferPointer { currentValue }

    package func seekToFirst() throws(EngineError) {
        valid = false
        try enterFirst(from: 0)
    }

    package func seekToLast() throws(EngineError) {
        valid = false
        try enterLast(from: tables.count - 1)
    }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
        valid = false
        let first = tables.partitionPoint { $0.record.span.isBelow(key) }
        guard first < tables.count else { return }
        if let points = tables[first].record.points, points.largest.compare(with: key) >= 0,
            !hidden.contains(tables[first].record)
        {
            let cursor = try enter(first)
            try cursor.seek(key, trailer)
            if show(cursor) { return }
        }
        try enterFirst(from: first + 1)
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        valid = false
        let last = tables.partitionPoint { $0.record.span.start.compare(with: key) < 0 } - 1
        guard last >= 0 else { return }
        if let points = tables[last].record.points, points.smallest.compare(with: key) < 0,
            !hidden.contains(tables[last].record)
        {
            let cursor = try enter(last)
            try cursor.seekBefore(key)
            if show(cursor) { return }
        }
        try enterLast(from: last - 1)
    }

    package func next() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let cursor = try enter(index)
        try cursor.next()
        if !show(cursor) { try enterFirst(from: index + 1) }
    }

    package func advance() throws(EngineError) -> CursorEntry? {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        if let entry = try enter(index).advance() {
            currentKey = entry.key
            currentTrailer = entry.trailer
            currentValue = entry.value
            valid = true
            return entry
        }
        try enterFirst(from: index + 1)
        return current
    }

    package func previous() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let cursor = try enter(index)
        try cursor.previous()
        if !show(cursor) { try enterLast(from: index - 1) }
    }

    /// Takes over the entry that `cursor` stands on; false if it has ended.
    @inline(__always)
    private func show(_ cursor: any EntryCursor) -> Bool {
        guard cursor.isValid else { return false }
        currentKey = cursor.key
        currentTrailer = cursor.trailer
        currentValue = cursor.value
        valid = true
        return true
    }

    /// Stands on the first entry of the first table at or after `start` that has any.
    private func enterFirst(from start: Int) throws(EngineError) {
        var table = start
        while table < tables.count {
            if isShown(tables[table].record) {
                let cursor = try enter(table)
                try cursor.seekToFirst()
                if show(cursor) { return }
            }
            table += 1
        }
    }

    /// Stands on the last entry of the last table at or before `start` that has any.
    private func enterLast(from start: Int) throws(EngineError) {
        var table = start
        while table >= 0 {
            if isShown(tables[table].record) {
                let cursor = try enter(table)
                try cursor.seekToLast()
                if show(cursor) { return }
            }
            table -= 1
        }
    }

    private func isShown(_ table: TableRecord) -> Bool {
        table.points != nil && !hidden.contains(table)
    }

    /// The cursor of table `index`, opened unless it is the one at hand.
    private func enter(_ index: Int) throws(EngineError) -> any EntryCursor {
        if self.index == index, let cursor { return cursor }
        cursor = nil
        self.index = -1
        let opened = try open(tables[index])
        cursor = opened
        self.index = index
        return opened
    }
}
