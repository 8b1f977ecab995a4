// The blob files that the references of some tables lead to, and how a reference is read: its block
// is proved like any block of a table (by the digest tree, else by a replica), and what stands at
// its place there must have the length and the checksum that the key table gives. Anything else is
// a typed error, never another value.

package struct BlobFiles: Sendable {
    private let handles: [TableID: TableHandle]

    package static let none = BlobFiles([])

    package init(_ handles: some Sequence<TableHandle>) {
        self.handles = Dictionary(handles.map { ($0.id, $0) }) { first, _ in first }
    }

    package func contains(_ file: TableID) -> Bool { handles[file] != nil }

    /// The value that `reference` leads to, without its expiry.
    package func value(_ reference: BlobReference, io: ReadIO) throws(EngineError) -> [UInt8] {
        let head = Int(reference.length) - reference.valueBytes
        return try withStored(reference, io: io) { stored in
            [UInt8](UnsafeRawBufferPointer(rebasing: stored[head...]))
        }
    }

    /// Shows the bytes that `reference` leads to: the value, behind its expiry if it has one.
    /// `fillsCache` is for reads; jobs leave the cache alone.
    package func withStored<R>(
        _ reference: BlobReference, io: ReadIO, fillsCache: Bool = true,
        _ body: (UnsafeRawBufferPointer) throws(EngineError) -> R
    ) throws(EngineError) -> R {
        guard let handle = handles[reference.file] else {
            throw .tableLost(reference.file, reason: "no manifest names this blob file")
        }
        return try handle.reader(io: io).withStored(
            reference, io: io, fillCache: fillsCache, body)
    }
}

extension TableReader {
    /// As `BlobFiles.withStored`, in this blob file.
    func withStored<R>(
        _ reference: BlobReference, io: ReadIO, fillCache: Bool,
        _ body: (UnsafeRawBufferPointer) throws(EngineError) -> R
    ) throws(EngineError) -> R {
        let ordinal = Int(reference.block.rawValue)
        guard ordinal < leafList.dataCount else { throw misled(reference) }
        let pinned = try pin(ordinal, io, fillCache: fillCache)
        defer { pinned.release() }
        let block = DataBlock(pinned.block.bytes)
        guard reference.place < block.count else { throw misled(reference) }
        let entry = block.entry(Int(reference.place))
        guard entry.trailer.kind == reference.kind, entry.value.count == Int(reference.length),
            Checksum.hash64(entry.value) == reference.checksum
        else { throw misled(reference) }
        return try body(entry.value)
    }

    /// The block is what the log says; then the reference is not.
    private func misled(_ reference: BlobReference) -> EngineError {
        .corrupt(
            file: table.file.path, offset: table.place(of: reference.block)?.offset,
            reason: "a reference to entry \(reference.place) of block \(reference.block.rawValue) "
                + "is not to what is there")
    }
}
