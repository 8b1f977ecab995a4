// What a scan need not open: tables of which it would show nothing. Known without reading any file,
// so range deletes that are in tables themselves do not count.

/// The tables of which range deletes in memtables hide all. A scan asks when it comes to one.
package struct HiddenTables {
    /// What lies over everything.
    private let lists: [RangeTombstoneList]
    private let sequence: SequenceNumber

    package static let none = HiddenTables([], at: .zero)

    /// For a reader at `sequence`.
    package init(_ memtables: [Memtable], at sequence: SequenceNumber) {
        // Not mapped and filtered: every seek makes one, and mostly there is nothing to hold.
        var lists: [RangeTombstoneList] = []
        for memtable in memtables {
            let list = memtable.rangeTombstones
            if !list.isEmpty { lists.append(list) }
        }
        self.lists = lists
        self.sequence = sequence
    }

    @inline(__always)
    package func contains(_ table: TableHandle) -> Bool {
        !lists.isEmpty && lists.contains { $0.hides(table.record, at: sequence) }
    }
}
