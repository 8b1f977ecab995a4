// A read of one key on its way through the sources of a view: what every such read does alike with
// range tombstones, and with tables that cannot add anything.

/// Visits sources, newest first (`ReadView.walk`).
protocol KeySearch {
    /// Older sources add nothing.
    var isDecided: Bool { get }
    mutating func visit(_ memtable: Memtable)
    /// A table whose span holds the key; the caller keeps it.
    mutating func visit(_ table: Unmanaged<TableHandle>) throws(EngineError)
}

struct KeyProbe {
    let key: UnsafeRawBufferPointer
    let sequence: SequenceNumber
    let io: ReadIO
    /// One serves all memtables and all levels.
    let hash: UInt64
    /// The newest range tombstone over the key so far.
    private(set) var covering = SequenceNumber.zero

    @inline(__always)
    init(key: UnsafeRawBufferPointer, sequence: SequenceNumber, io: ReadIO) {
        self.key = key
        self.sequence = sequence
        self.io = io
        hash = Checksum.hash64(key)
    }

    @inline(__always)
    mutating func cover(by memtable: Memtable) {
        if let covered = memtable.rangeTombstones.covering(key, at: sequence) {
            covering = max(covering, covered)
        }
    }

    /// The table's reader if it may hold versions of the key above `known` that no range tombstone
    /// hides. Else it need not even be readable. Its span holds the key.
    @inline(__always)
    mutating func reader(of table: Unmanaged<TableHandle>, above known: SequenceNumber)
        throws(EngineError) -> TableReader?
    {
        let largest = table._withUnsafeGuaranteedRef { $0.record.largestSequence }
        guard largest > max(known, covering),
            table._withUnsafeGuaranteedRef({ $0.record.smallestSequence }) <= sequence
        else { return nil }
        let reader = try open(table)
        if table._withUnsafeGuaranteedRef({ $0.record.rangeTombstoneCount }) > 0,
            let covered = try reader.rangeTombstones(io: io).covering(key, at: sequence)
        {
            covering = max(covering, covered)
            guard largest > covering else { return nil }
        }
        return table._withUnsafeGuaranteedRef { $0.record.entryCount } > 0 ? reader : nil
    }

    @inline(__always)
    private func open(_ table: Unmanaged<TableHandle>) throws(EngineError) -> TableReader {
        if let reader = table._withUnsafeGuaranteedRef({ $0.readerInUse }) { return reader }
        return try table.takeUnretainedValue().reader(io: io)
    }
}
