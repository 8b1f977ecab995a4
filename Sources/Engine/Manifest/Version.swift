// The live tables by level, immutable: what a read pins. Level 0 holds runs that may overlap,
// newest first; each deeper level holds tables whose spans are disjoint, in key order. For one key,
// what a level says is newer than what any deeper level says.

package final class Version: @unchecked Sendable {
    // @unchecked: immutable after init.
    /// `TableRecord.levelCount` levels.
    package let levels: [[TableHandle]]
    /// Where the spans of each sorted level's tables end. Only the last table of a level may have
    /// no end; it has none here either.
    private let ends: [SortedKeys]
    private let bearing: [Bool]
    /// The numbers of the sorted levels that have tables, from the top.
    let sortedLevels: [Int]
    /// As they are for point reads.
    package let sorted: UnsafeMutableBufferPointer<SortedLevel>

    package static let empty = Version()

    private init() {
        levels = Array(repeating: [], count: Int(TableRecord.levelCount))
        ends = Array(repeating: SortedKeys([]), count: Int(TableRecord.levelCount))
        bearing = levels.map { _ in false }
        sortedLevels = []
        sorted = .allocate(capacity: 0)
    }

    deinit {
        for level in sorted { level.deallocate() }
        sorted.deallocate()
    }

    /// Places each table at the level its record names. Throws if two of a sorted level overlap:
    /// such a set would answer wrongly with every checksum good.
    package init(_ tables: [TableHandle]) throws(EngineError) {
        var levels = Array(repeating: [TableHandle](), count: Int(TableRecord.levelCount))
        for table in tables {
            guard table.record.level < TableRecord.levelCount else {
                throw .corrupt(
                    file: "MANIFEST", reason: "table \(table.id) is at level \(table.record.level)")
            }
            levels[Int(table.record.level)].append(table)
        }
        levels[0].sort(by: Version.isYounger)
        for level in 1..<levels.count {
            levels[level].sort { $0.record.span.start.isKeyBefore($1.record.span.start) }
            try Version.check(levels[level])
        }
        self.levels = levels
        let ends = levels.enumerated().map { level, tables in
            SortedKeys(level == 0 ? [] : tables.compactMap(\.record.span.end))
        }
        self.ends = ends
        bearing = levels.map { $0.contains { $0.record.rangeTombstoneCount > 0 } }
        sortedLevels = levels.indices.dropFirst().filter { !levels[$0].isEmpty }
        sorted = .allocate(capacity: sortedLevels.count)
        for (place, level) in sortedLevels.enumerated() {
            sorted.initializeElement(at: place, to: SortedLevel(levels[level], ends: ends[level]))
        }
    }

    /// Age in level 0 goes by sequence, not by when a table was made: a merge of some of its runs
    /// keeps their place. Outputs of one job share the place and hold different keys.
    private static func isYounger(_ left: TableHandle, _ right: TableHandle) -> Bool {
        left.record.largestSequence != right.record.largestSequence
            ? left.record.largestSequence > right.record.largestSequence : right.id < left.id
    }

    private static func check(_ level: [TableHandle]) throws(EngineError) {
        for (left, right) in zip(level, level.dropFirst()) {
            guard let end = left.record.span.end, !right.record.span.start.isKeyBefore(end) else {
                throw .corrupt(
                    file: "MANIFEST",
                    reason: "tables \(left.id) and \(right.id) overlap at level "
                        + String(left.record.level))
            }
        }
    }

    package var tables: some Sequence<TableHandle> { levels.joined() }
    package var tableCount: Int { levels.reduce(0) { $0 + $1.count } }

    package func table(_ id: TableID) -> TableHandle? { tables.first { $0.id == id } }

    /// Whether any table of a level has range tombstones.
    func bearsRangeTombstones(_ level: Int) -> Bool { bearing[level] }

    /// Tables of a level that say something about keys of `span`, in the level's order.
    package func overlapping(_ level: Int, _ span: KeySpan) -> ArraySlice<TableHandle> {
        if levels[level].isEmpty || span.isEmpty { return [] }
        if level == 0 { return levels[0].filter { $0.record.span.overlaps(span) }[...] }
        let first = span.start.withUnsafeBytes { ends[level].countAtOrBefore($0) }
        guard let end = span.end else { return levels[level][first...] }
        // Those that end at or before the span's end start before it; of the next it is not known.
        var last = end.withUnsafeBytes { ends[level].countAtOrBefore($0) }
        if last < levels[level].count, levels[level][last].record.span.start.isKeyBefore(end) {
            last += 1
        }
        return levels[level][first..<max(first, last)]
    }

    /// Where the spans of a sorted level's tables end, in order; the last may have no end.
    func ends(of level: Int) -> SortedKeys { ends[level] }

    /// This version without the tables `removed` and with `added`. A handle of a new generation
    /// replaces the old one by being in both.
    package func replacing(removed: Set<TableID>, added: [TableHandle]) throws(EngineError)
        -> Version
    {
        try Version(tables.filter { !removed.contains($0.id) } + added)
    }
}
