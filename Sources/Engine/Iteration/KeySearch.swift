// A read of one key on its way through the sources of a view: what every such read does alike with
// range tombstones, and with tables that cannot add anything.

/// Visits sources, newest first (`ReadView.walk`).
protocol KeySearch: ~Copyable {
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
        self.init(key: key, hash: Checksum.hash64(key), sequence: sequence, io: io)
    }

    @inline(__always)
    init(key: UnsafeRawBufferPointer, hash: UInt64, sequence: SequenceNumber, io: ReadIO) {
        self.key = key
        self.sequence = sequence
        self.io = io
        self.hash = hash
    }

    @inline(__always)
    mutating func cover(by memtable: Memtable) {
        if let covered = memtable.covering(key, at: sequence) {
            covering = max(covering, covered)
        }
    }

    /// The table's reader if it may hold versions of the key above `known` that no range tombstone
    /// hides. Else it need not even be readable. Its span holds the key.
    @inline(__always)
    mutating func reader(of table: Unmanaged<TableHandle>, above known: SequenceNumber)
        throws(EngineError) -> ReaderUse?
    {
        guard matters(table, above: known) else { return nil }
        let use = try open(table)
        guard table._withUnsafeGuaranteedRef({ $0.record.rangeTombstoneCount }) > 0 else {
            return use
        }
        do throws(EngineError) {
            if try cover(by: table, use.reader) { return use }
        } catch {
            use.end()
            throw error
        }
        use.end()
        return nil
    }

    /// Whether anything in the table is above `known`, not hidden and visible.
    @inline(__always)
    func matters(_ table: Unmanaged<TableHandle>, above known: SequenceNumber) -> Bool {
        table._withUnsafeGuaranteedRef { table in
            table.record.largestSequence > max(known, covering)
                && table.record.smallestSequence <= sequence
        }
    }

    /// Takes note of the table's range tombstones; false if they hide all of its points.
    @inline(never)
    mutating func cover(by table: Unmanaged<TableHandle>, _ reader: Unmanaged<TableReader>)
        throws(EngineError) -> Bool
    {
        let list = try reader.takeUnretainedValue().rangeTombstones(io: io)
        if let covered = list.covering(key, at: sequence) { covering = max(covering, covered) }
        let record = table.takeUnretainedValue().record
        return record.entryCount > 0 && record.largestSequence > covering
    }

    @inline(__always)
    private func open(_ table: Unmanaged<TableHandle>) throws(EngineError) -> ReaderUse {
        if let use = table._withUnsafeGuaranteedRef({ $0.useOpenReader() }) { return use }
        return try table.takeUnretainedValue().useReader(io: io)
    }
}
