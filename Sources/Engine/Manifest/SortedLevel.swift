// Where a point read looks in one sorted level that has tables: plain memory, so that no reference
// is counted on the way to a table. Made and kept by a `Version`, which also keeps the tables.

package struct SortedLevel {
    private let starts: Unmanaged<SortedKeys>
    private let ends: Unmanaged<SortedKeys>
    private let tables: UnsafeMutablePointer<Unmanaged<TableHandle>>
    private let count: Int

    /// `tables` are in key order and disjoint; the caller keeps them. `ends` are their spans' ends,
    /// of which the last may be missing.
    init(_ tables: [TableHandle], ends: SortedKeys) {
        count = tables.count
        starts = .passRetained(SortedKeys(tables.map(\.record.span.start)))
        self.ends = .passRetained(ends)
        self.tables = .allocate(capacity: tables.count)
        for (index, table) in tables.enumerated() {
            (self.tables + index).initialize(to: .passUnretained(table))
        }
    }

    func deallocate() {
        starts.release()
        ends.release()
        tables.deallocate()
    }

    /// The table whose span holds `key`. `prefix` is the key's `keyPrefix`.
    @inline(__always)
    package func find(_ key: UnsafeRawBufferPointer, _ prefix: UInt64) -> Unmanaged<TableHandle>? {
        let place = ends._withUnsafeGuaranteedRef { $0.countAtOrBefore(key, prefix: prefix) }
        guard place < count,
            starts._withUnsafeGuaranteedRef({ $0.isAtOrBefore(place, key, prefix) })
        else { return nil }
        return tables[place]
    }
}
