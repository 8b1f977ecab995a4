// Writes a table file from canonical blocks in order: codec, block headers, block map, footer,
// sync. Shared by TableBuilder (blocks it makes) and TableImport (blocks it fetches), so that both
// leave the same file for the same blocks. Writes go to disk in pieces of at least 256 KiB.

final class TableFileWriter {
    private static let flushBytes = 256 << 10

    private let file: any File
    private let header: TableLocalHeader
    private var buffer = ByteWriter(capacity: TableFileWriter.flushBytes + (64 << 10))
    private var flushed: UInt64 = 0
    private var map = ByteWriter()
    private var blockCount: UInt32 = 0
    private var compressed: [UInt8] = []

    init(file: any File, header: TableLocalHeader) {
        self.file = file
        self.header = header
        buffer.write(raw: header.encoded())
    }

    private var offset: UInt64 { flushed + UInt64(buffer.count) }

    /// Ordinal of the block that `append` takes next.
    var nextOrdinal: BlockOrdinal { BlockOrdinal(blockCount) }

    /// Appends the next block. `digest` is that of its canonical bytes.
    func append(
        _ type: BlockType, _ canonical: UnsafeRawBufferPointer, _ digest: Digest128
    ) throws(EngineError) {
        var codec = BlockCodec.none
        var storedLength = canonical.count
        if header.codec == .lz4, let length = BlockCodec.compress(canonical, into: &compressed) {
            codec = .lz4
            storedLength = length
        }
        let checksum =
            codec == .none
            ? Checksum.crc32c(canonical)
            : compressed.withUnsafeBytes {
                Checksum.crc32c(UnsafeRawBufferPointer(rebasing: $0[..<storedLength]))
            }
        map.write(offset)
        map.write(UInt32(storedLength))
        let blockHeader = BlockHeader(
            type: type, codec: codec, ordinal: nextOrdinal, table: header.id,
            canonicalLength: UInt32(canonical.count), storedLength: UInt32(storedLength),
            storedChecksum: checksum, digest: digest)
        blockHeader.encode(into: &buffer)
        if codec == .none {
            try appendStored(canonical)
        } else {
            let stored = compressed
            try stored.span.bytes.withUnsafeBytes { bytes throws(EngineError) in
                try appendStored(UnsafeRawBufferPointer(rebasing: bytes[..<storedLength]))
            }
        }
        blockCount += 1
        if compressed.count > 1 << 20 { compressed = [] }
    }

    private func appendStored(_ stored: UnsafeRawBufferPointer) throws(EngineError) {
        if stored.count < TableFileWriter.flushBytes {
            buffer.write(raw: stored)
            if buffer.count >= TableFileWriter.flushBytes { try flush() }
            return
        }
        // Too large to be copied once more.
        try flush()
        try write(stored)
    }

    private func flush() throws(EngineError) {
        var pending: [UInt8] = []
        swap(&pending, &buffer.bytes)
        try pending.span.bytes.withUnsafeBytes { bytes throws(EngineError) in try write(bytes) }
        pending.removeAll(keepingCapacity: true)
        swap(&pending, &buffer.bytes)
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(EngineError) {
        guard !bytes.isEmpty else { return }
        do throws(FileError) { try file.write(bytes, at: flushed) } catch { throw .file(error) }
        flushed += UInt64(bytes.count)
    }

    /// Writes block map and footer and syncs. The size of the file.
    func finish(root: Digest128) throws(EngineError) -> UInt64 {
        let footer = TableFooter(
            blockCount: blockCount, mapOffset: offset, mapChecksum: Checksum.crc32c(map.bytes),
            root: root)
        buffer.write(raw: map.bytes)
        buffer.write(raw: footer.encoded())
        try flush()
        do throws(FileError) {
            // A file that is written over (a heal that was cut short) may have been longer.
            if try file.size() > flushed { try file.truncate(to: flushed) }
            try file.sync()
        } catch {
            throw .file(error)
        }
        return flushed
    }
}
