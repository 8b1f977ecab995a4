// The live tables of a manifest, by level, as a value. Level 0 is ordered by age, oldest first;
// levels 1 to 6 by key, and their spans never overlap.
//
// Beside the levels stands one row for each table, sorted by id, with the digest of its encoded
// record: it finds a table by id without a dictionary (whose copies would cost more than arrays')
// and makes the state root a hash over 16 bytes for each table. A copy shares everything until one
// side changes; a change costs one pass over the levels that it touches.
//
// Blob files are in no level and stand apart, by id; they have rows like tables, and so are part of
// the state root.
//
// Age is the largest sequence: segments have disjoint ranges of sequences, and a merge of
// neighbours in age stays between the neighbours.

package struct ManifestTables: Hashable, Sendable {
    private var levels: [[TableRecord]]
    private var rows: [Row]
    /// Blob files, oldest first.
    package private(set) var blobs: [TableRecord] = []
    /// What of them lives.
    package private(set) var ledger = BlobLedger()
    /// Canonical bytes of each level.
    package private(set) var levelBytes: [UInt64]

    /// One live table: where to find it, and the leaf of the state root.
    private struct Row: Hashable, Sendable {
        var id: TableID
        var level: UInt8
        var start: [UInt8]
        var leaf: Digest128

        init(_ record: TableRecord) {
            id = record.id
            level = record.level
            start = record.span.start
            leaf = record.leafDigest
        }
    }

    package init() {
        levels = Array(repeating: [], count: Int(TableRecord.levelCount))
        levelBytes = Array(repeating: 0, count: Int(TableRecord.levelCount))
        rows = []
    }

    /// Builds from records in any order; nil if an id comes twice or a level overlaps.
    package init?(_ records: [TableRecord]) {
        self.init()
        for record in records.sorted(by: { $0.id < $1.id }) {
            if let last = rows.last, last.id == record.id { return nil }
            rows.append(Row(record))
            if record.isBlob {
                blobs.append(record)
                ledger.add(record)
                continue
            }
            levels[Int(record.level)].append(record)
            levelBytes[Int(record.level)] &+= record.canonicalBytes
        }
        for table in levels.joined() { ledger.note(table.blobs) }
        levels[0].sort { ManifestTables.isOlder($0, $1) }
        for level in 1..<levels.count {
            levels[level].sort { $0.span.start.isKeyBefore($1.span.start) }
            for (left, right) in zip(levels[level], levels[level].dropFirst()) {
                guard let end = left.span.end, !right.span.start.isKeyBefore(end) else {
                    return nil
                }
            }
        }
    }

    /// Tables and blob files.
    package var count: Int { rows.count }
    package var isEmpty: Bool { rows.isEmpty }

    /// Level 0 oldest first; others by key.
    package func tables(at level: UInt8) -> [TableRecord] { levels[Int(level)] }

    /// The deepest level that holds a table; nil when there is none.
    package var deepestLevel: UInt8? {
        levels.lastIndex { !$0.isEmpty }.map { UInt8($0) }
    }

    /// All records, those of blob files among them, sorted by id.
    package var sortedByID: [TableRecord] {
        (levels.joined() + blobs).sorted { $0.id < $1.id }
    }

    package func record(_ id: TableID) -> TableRecord? {
        guard let row = rowIndex(of: id).map({ rows[$0] }) else { return nil }
        if id.kind.isBlob { return blobs[blobs.partitionPoint { $0.id < id }] }
        if row.level == 0 { return levels[0].last { $0.id == id } }
        let level = levels[Int(row.level)]
        let at = level.firstIndex(notBefore: row.start)
        return at < level.count && level[at].id == id ? level[at] : nil
    }

    package func contains(_ id: TableID) -> Bool { rowIndex(of: id) != nil }

    /// The tables of a level that `span` overlaps, in the level's order.
    package func overlapping(_ span: KeySpan, at level: UInt8) -> [TableRecord] {
        guard level > 0 else { return levels[0].filter { $0.span.overlaps(span) } }
        return Array(levels[Int(level)][overlappingRange(span, at: level)])
    }

    package func overlaps(_ span: KeySpan, at level: UInt8) -> Bool {
        guard level > 0 else { return levels[0].contains { $0.span.overlaps(span) } }
        return !overlappingRange(span, at: level).isEmpty
    }

    /// XXH3-128 over the digests of the encoded records, in the order of their ids.
    package func stateRoot() -> Digest128 {
        var writer = ByteWriter(capacity: rows.count * 16)
        for row in rows { writer.write(row.leaf) }
        return Digest128(of: writer.bytes)
    }

    /// Takes out `removed` and puts in `added`, whose tables are in the order of their level and
    /// have no other between them there.
    package mutating func replace(_ removed: [TableRecord], with added: [TableRecord]) {
        remove(removed)
        guard !added.isEmpty else { return }
        for blob in added where blob.isBlob {
            blobs.insert(blob, at: blobs.partitionPoint { $0.id < blob.id })
            ledger.add(blob)
        }
        insert(added.filter { !$0.isBlob })
        insertRows(of: added)
    }

    private mutating func insert(_ tables: [TableRecord]) {
        guard let first = tables.first else { return }
        let level = Int(first.level)
        let at =
            level == 0
            ? levels[0].partitioningIndex { ManifestTables.isOlder(first, $0) }
            : levels[level].firstIndex(notBefore: first.span.start)
        levels[level].insert(contentsOf: tables, at: at)
        for record in tables {
            levelBytes[level] &+= record.canonicalBytes
            ledger.note(record.blobs)
        }
    }

    private mutating func insertRows(of added: [TableRecord]) {
        let new = added.map { Row($0) }.sorted { $0.id < $1.id }
        let row = rows.partitioningIndex { new[0].id < $0.id }
        if row == rows.count || new[new.count - 1].id < rows[row].id {
            rows.insert(contentsOf: new, at: row)
        } else {
            // Outputs of one piece of work have consecutive ids; tables that move may not.
            for one in new { rows.insert(one, at: rows.partitioningIndex { one.id < $0.id }) }
        }
    }

    /// Blob files that `tables`, which are gone, used and that no table uses any more.
    package func unusedBlobs(after tables: [TableRecord]) -> [TableRecord] {
        let unused = Set(tables.lazy.flatMap(\.blobs).map(\.file)).filter {
            ledger[$0].map { $0.users == 0 } ?? false
        }
        return unused.isEmpty ? [] : blobs.filter { unused.contains($0.id) }
    }

    private mutating func remove(_ records: [TableRecord]) {
        guard !records.isEmpty else { return }
        let gone = Set(records.lazy.map(\.id))
        for level in Set(records.lazy.map(\.level)) {
            levels[Int(level)].removeAll { gone.contains($0.id) }
        }
        if records.contains(where: \.isBlob) { blobs.removeAll { gone.contains($0.id) } }
        rows.removeAll { gone.contains($0.id) }
        for record in records where !record.isBlob {
            levelBytes[Int(record.level)] &-= record.canonicalBytes
            ledger.forget(record.blobs)
        }
        for record in records where record.isBlob { ledger.remove(record.id) }
    }

    static func isOlder(_ left: TableRecord, _ right: TableRecord) -> Bool {
        left.largestSequence != right.largestSequence
            ? left.largestSequence < right.largestSequence : left.id < right.id
    }

    private func rowIndex(of id: TableID) -> Int? {
        let at = rows.partitioningIndex { id <= $0.id }
        return at < rows.count && rows[at].id == id ? at : nil
    }

    private func overlappingRange(_ span: KeySpan, at level: UInt8) -> Range<Int> {
        let tables = levels[Int(level)]
        let first = tables.partitioningIndex { table in
            table.span.end.map { span.start.isKeyBefore($0) } ?? true
        }
        guard let end = span.end else { return first..<tables.count }
        return first..<max(first, tables.firstIndex(notBefore: end))
    }
}

extension TableRecord {
    /// Digest of the encoded record: its leaf in the state root.
    package var leafDigest: Digest128 {
        var writer = ByteWriter(capacity: 256)
        encode(into: &writer)
        return Digest128(of: writer.bytes)
    }
}

extension Array where Element == TableRecord {
    /// Of tables sorted by key, the first that does not start before `key`.
    fileprivate func firstIndex(notBefore key: [UInt8]) -> Int {
        partitioningIndex { !$0.span.start.isKeyBefore(key) }
    }
}

extension Array {
    /// The first index whose element satisfies `predicate`, if all behind it do and none before.
    fileprivate func partitioningIndex(_ predicate: (Element) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = low + (high - low) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
