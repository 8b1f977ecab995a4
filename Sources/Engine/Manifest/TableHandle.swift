// One generation of a table's file on this node: what the log says of the table, the local facts
// beside it, and the open reader while there is one. Versions, stand-ins and snapshots share it.
//
// The reader is opened on first use and may be closed behind our back when too many files are open
// (`OpenTables`); cursors keep the one they use. A handle marked obsolete removes its file when the
// last holder lets go of it: nobody unlinks a file that somebody may still have to open. A table
// that moves to another level gets another handle of the same file (`placed`).

import Synchronization

/// Opens the files of tables, on the thread that needs one.
package protocol TableSource: AnyObject, Sendable {
    /// May wait for the disk. A file that is missing or unreadable and that nobody can mend is
    /// `.tableLost`. With `mending` false nobody is asked.
    func openReader(_ handle: TableHandle, mending: Bool) throws(EngineError) -> TableReader

    /// `table` has a reader from now on, and may be told to close it.
    func noteOpen(_ table: OpenTable)
}

/// Removes a file when the last handle of it is let go, once one of them was obsolete.
private final class FileOwner: Sendable {
    private let fileName: String
    private let remove: @Sendable (_ fileName: String) -> Void
    private let obsolete = Atomic<Bool>(false)

    init(_ fileName: String, _ remove: @escaping @Sendable (_ fileName: String) -> Void) {
        self.fileName = fileName
        self.remove = remove
    }

    deinit {
        if isObsolete { remove(fileName) }
    }

    func markObsolete() { obsolete.store(true, ordering: .releasing) }
    var isObsolete: Bool { obsolete.load(ordering: .acquiring) }
}

package final class TableHandle: @unchecked Sendable {
    // Unchecked: all of it is constant or atomic.
    package let record: TableRecord
    /// Counts heals; part of the file's name.
    package let generation: UInt64
    /// Name in the directory of tables.
    package let fileName: String
    /// Size of the file; differs between nodes.
    package let fileBytes: UInt64
    package let codec: BlockCodec

    /// Its range tombstones, if they are few and the job that wrote it knew them, or they were read
    /// since; nil if neither.
    private let tombstones: Mutex<[RangeTombstone]?>
    private let source: any TableSource
    private let owner: FileOwner
    private let open: OpenTable
    /// Serialises opening.
    private let opening = PlainLock()
    /// Reads of the reader that found nothing, before this handle had it.
    private let fruitlessBefore: UInt64

    /// `remove` is called once, from whatever thread releases the handle last, if it is obsolete.
    package convenience init(
        record: TableRecord, generation: UInt64, fileBytes: UInt64, codec: BlockCodec,
        source: any TableSource, tombstones: [RangeTombstone]? = nil,
        remove: @escaping @Sendable (_ fileName: String) -> Void
    ) {
        let name = TableHandle.fileName(record.id, generation: generation)
        self.init(
            record, generation, fileBytes, codec, source, tombstones,
            FileOwner(name, remove), open: nil)
    }

    private init(
        _ record: TableRecord, _ generation: UInt64, _ fileBytes: UInt64, _ codec: BlockCodec,
        _ source: any TableSource, _ tombstones: [RangeTombstone]?, _ owner: FileOwner,
        open: TableReader?
    ) {
        self.record = record
        self.generation = generation
        fileName = TableHandle.fileName(record.id, generation: generation)
        self.fileBytes = fileBytes
        self.codec = codec
        self.source = source
        self.tombstones = Mutex(tombstones)
        self.owner = owner
        self.open = OpenTable(open)
        fruitlessBefore = open?.fruitlessReads ?? 0
    }

    // Not when the clock comes to it: the file would stay open, and its memory taken, till then.
    deinit { open.close() }

    /// A handle of the same file for the same table at `level`: the file stays until all of them
    /// are let go, and what is in memory of it is theirs, too.
    package func placed(at level: UInt8) -> TableHandle {
        guard level != record.level else { return self }
        var record = record
        record.level = level
        let handle = TableHandle(
            record, generation, fileBytes, codec, source, tombstones.withLock { $0 }, owner,
            open: openReader)
        if handle.isOpen { source.noteOpen(handle.open) }
        return handle
    }

    /// `<index, 16 hex>-<kind><ordinal>.<generation>.sst`
    package static func fileName(_ id: TableID, generation: UInt64) -> String {
        "\(id).\(generation).sst"
    }

    package var id: TableID { record.id }

    /// The file goes when nobody holds the handle any more.
    package func markObsolete() { owner.markObsolete() }
    package var isObsolete: Bool { owner.isObsolete }

    /// The open reader, opened if need be and if `io` allows it. With `mending` false it opens
    /// from this node's file or not at all: so does who answers peers, lest two of them wait for
    /// each other.
    package func reader(io: ReadIO, mending: Bool = true) throws(EngineError) -> TableReader {
        open.noteUse()
        if let reader = openReader { return reader }
        guard io == .blocking else { throw .wouldBlock }
        return try opening.withLock { () throws(EngineError) in
            if let reader = openReader { return reader }
            let reader = try source.openReader(self, mending: mending)
            open.reference.replace(with: reader)
            // Not before: who closes what is not there yet would leave it open for good.
            source.noteOpen(open)
            return reader
        }
    }

    /// As `reader`, for one read.
    @inline(__always)
    func useReader(io: ReadIO) throws(EngineError) -> ReaderUse {
        if let use = useOpenReader() { return use }
        return ReaderUse(retaining: try reader(io: io))
    }

    /// The reader, if the table is open.
    @inline(__always)
    func useOpenReader() -> ReaderUse? {
        open.noteUse()
        let use = open.reference.use()
        if let reader = use.object { return ReaderUse(reader, use) }
        use.end()
        return nil
    }

    /// The reader, if the table is open.
    package var openReader: TableReader? { open.reader }

    /// Its range tombstones, if they are in memory; nil if it is not known what they are.
    package var knownTombstones: [RangeTombstone]? {
        if let known = tombstones.withLock({ $0 }) { return known }
        return try? openReader?.rangeTombstones(io: .cacheOnly).tombstones
    }

    /// From then on its range tombstones are known. May wait for the disk, but asks nobody: of
    /// those that this node's file does not give there are none, till it is healed.
    package func readTombstones() {
        // They are read as the table opens.
        _ = try? reader(io: .blocking, mending: false)
        let found = knownTombstones ?? []
        tombstones.withLock { $0 = found }
    }

    /// A cursor over its point entries, or those in `scope`. `fillsCache` is for reads; jobs leave
    /// the cache alone.
    package func makeCursor(
        io: ReadIO, fillsCache: Bool = true, scope: ScanScope = .everything
    ) throws(EngineError) -> TableCursor {
        try reader(io: io).makeCursor(io: io, fillCache: fillsCache, scope: scope)
    }

    /// Whether its points reach up to `key`. Copies nothing: every seek asks.
    @inline(__always)
    func hasPoints(atOrAfter key: UnsafeRawBufferPointer) -> Bool {
        guard let largest = record.points?.largest else { return false }
        return largest.compare(with: key) >= 0
    }

    /// Lets the reader go; the next use opens another.
    package func closeReader() { open.close() }

    package var isOpen: Bool { openReader != nil }

    /// Point reads of this handle, since it was opened, that read a block and found nothing.
    package var fruitlessReads: UInt64 {
        guard let open = openReader, open.fruitlessReads > fruitlessBefore else { return 0 }
        return open.fruitlessReads - fruitlessBefore
    }
}

/// An open table for one read: it stays until `end`.
struct ReaderUse {
    let reader: Unmanaged<TableReader>
    /// Nil if the reader is retained instead.
    private let use: SharedReference<TableReader>.Use?

    @inline(__always)
    init(_ reader: Unmanaged<TableReader>, _ use: SharedReference<TableReader>.Use) {
        self.reader = reader
        self.use = use
    }

    init(retaining reader: TableReader) {
        self.reader = .passRetained(reader)
        use = nil
    }

    /// Once.
    @inline(__always)
    func end() {
        if let use { use.end() } else { reader.release() }
    }
}

extension TableHandle {
    /// The manifest's row for this file.
    package var local: LocalTable {
        LocalTable(generation: UInt32(generation), codec: codec.rawValue, fileBytes: fileBytes)
    }

    /// Reads back `fileName`; nil if `name` is not a table's.
    package static func parse(fileName name: String) -> (id: TableID, generation: UInt32)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[2] == "sst", let id = TableID(parts[0]),
            let generation = UInt32(parts[1]),
            fileName(id, generation: UInt64(generation)) == name
        else { return nil }
        return (id, generation)
    }
}
