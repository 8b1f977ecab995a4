// The state of one point read on its way through the sources: the newest version so far, where its
// source has it, with what keeps it there until the search is ended. Nothing is copied.

struct PointSearch: KeySearch, ~Copyable {
    private(set) var probe: KeyProbe
    private var best = BorrowedVersion(
        trailer: Trailer(rawValue: 0), value: UnsafeRawBufferPointer(start: nil, count: 0))
    /// Keeps `best`; nil if it is a memtable's, which the view keeps.
    private var block: PinnedBlock?
    /// Keeps the block's slot; nil as well if the caller does.
    private var reader: ReaderUse?

    @inline(__always)
    init(_ probe: KeyProbe) { self.probe = probe }

    /// Lets go of what was found.
    @inline(__always)
    mutating func end() {
        block?.release()
        reader?.end()
        block = nil
        reader = nil
    }

    /// Something was found, so sources that are older as a whole do not matter.
    @inline(__always)
    var isDecided: Bool { max(best.trailer.sequence, probe.covering) > .zero }

    /// What the read sees; borrowed until `end`, as long as the view stays.
    @inline(__always)
    var visible: BorrowedVersion? { best.trailer.sequence > probe.covering ? best : nil }

    @inline(__always)
    mutating func visit(_ memtable: Memtable) {
        probe.cover(by: memtable)
        let found = memtable.find(probe.key, hash: probe.hash, at: probe.sequence)
        guard let found, found.trailer.sequence > best.trailer.sequence else { return }
        end()
        best = found
    }

    @inline(__always)
    mutating func visit(_ table: Unmanaged<TableHandle>) throws(EngineError) {
        guard let use = try probe.reader(of: table, above: best.trailer.sequence) else { return }
        let found: PinnedVersion?
        do throws(EngineError) {
            found = try use.reader.with { (reader) throws(EngineError) in
                try reader.find(
                    probe.key, hash: probe.hash, at: probe.sequence, io: probe.io)
            }
        } catch {
            use.end()
            throw error
        }
        if let found, take(found) { reader = use } else { use.end() }
    }

    /// As above, of a table whose open reader the caller keeps, and of which it knows where the
    /// key may be.
    @inline(__always)
    mutating func visit(
        _ table: Unmanaged<TableHandle>, _ reader: Unmanaged<TableReader>, at place: BlockPlace
    ) throws(EngineError) {
        guard probe.matters(table, above: best.trailer.sequence) else { return }
        if table._withUnsafeGuaranteedRef({ $0.record.rangeTombstoneCount }) > 0 {
            guard try probe.cover(by: table, reader) else { return }
        }
        let found = try reader.with { (reader) throws(EngineError) -> PinnedVersion? in
            switch place {
            case .none: return nil
            case .unknown:
                return try reader.find(
                    probe.key, hash: probe.hash, at: probe.sequence, io: probe.io)
            case .block(let ordinal):
                return try reader.find(
                    probe.key, hash: probe.hash, at: probe.sequence, in: ordinal, io: probe.io)
            }
        }
        if let found { _ = take(found) }
    }

    /// Whether `found` is the newest so far, and kept.
    @inline(__always)
    private mutating func take(_ found: PinnedVersion) -> Bool {
        guard found.trailer.sequence > best.trailer.sequence else {
            found.pinned.release()
            return false
        }
        end()
        block = found.pinned
        best = BorrowedVersion(trailer: found.trailer, value: found.value)
        return true
    }
}
