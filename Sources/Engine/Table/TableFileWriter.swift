// Writes a table file from canonical blocks in order: codec, dictionary, block headers, block map,
// footer, sync. Shared by TableBuilder (blocks it makes) and TableImport (blocks it fetches), so
// that both leave the same file for the same blocks. Writes go to disk in pieces of at least 256
// KiB. With a dictionary the first data blocks wait in memory until it is trained from them.

final class TableFileWriter {
    private static let flushBytes = 256 << 10

    private let file: any File
    private let header: TableLocalHeader
    private var buffer = ByteWriter(capacity: TableFileWriter.flushBytes + (64 << 10))
    private var flushed: UInt64 = 0
    private var map = ByteWriter()
    private var blockCount: UInt32 = 0
    private let compressor: BlockCompressor
    /// Blocks that wait for the dictionary; nil once it is there, or clear that there is none.
    private var sample: BlockSample?
    private var dictionaryBytes: UInt32 = 0
    private let cipher: FileCipher?

    /// `header.key` follows from `cipher`; nil for a plain file.
    init(
        file: any File, header: TableLocalHeader, compression: Compression, cipher: FileCipher?
    ) {
        invariant(header.codec == compression.codec, "a header of another codec")
        var header = header
        header.key = cipher?.header
        self.file = file
        self.header = header
        self.cipher = cipher
        compressor = BlockCompressor(compression)
        if case .zstdDictionary = compression { sample = BlockSample() }
        buffer.write(raw: header.encoded())
    }

    private var offset: UInt64 { flushed + UInt64(buffer.count) }

    /// Ordinal of the block that `append` takes next.
    var nextOrdinal: BlockOrdinal { BlockOrdinal(blockCount + UInt32(sample?.count ?? 0)) }

    /// Appends the next block. `digest` is that of its canonical bytes.
    func append(
        _ type: BlockType, _ canonical: UnsafeRawBufferPointer, _ digest: Digest128
    ) throws(EngineError) {
        if type == .data, sample?.takes(canonical.count) ?? false {
            sample?.add(canonical, digest)
            return
        }
        try endSample()
        try write(type, canonical, digest)
    }

    /// Trains the dictionary and writes it, then the blocks that waited for it.
    private func endSample() throws(EngineError) {
        guard let sample else { return }
        self.sample = nil
        if let dictionary = compressor.adopt(sample) {
            dictionaryBytes = UInt32(dictionary.count)
            let blockHeader = BlockDictionary.header(of: dictionary, in: header.id)
            try dictionary.span.bytes.withUnsafeBytes { raw throws(EngineError) in
                try append(blockHeader, raw)
            }
        }
        try sample.forEach { (canonical, digest) throws(EngineError) in
            try write(.data, canonical, digest)
        }
    }

    private func write(
        _ type: BlockType, _ canonical: UnsafeRawBufferPointer, _ digest: Digest128
    ) throws(EngineError) {
        let stored = compressor.compress(type, canonical)
        map.write(offset)
        map.write(UInt32(stored.bytes.count))
        let blockHeader = BlockHeader(
            type: type, codec: stored.codec, ordinal: BlockOrdinal(blockCount), table: header.id,
            canonicalLength: UInt32(canonical.count), storedLength: UInt32(stored.bytes.count),
            storedChecksum: 0, digest: digest)
        try append(blockHeader, stored.bytes)
        blockCount += 1
    }

    private func append(
        _ header: BlockHeader, _ stored: UnsafeRawBufferPointer
    ) throws(EngineError) {
        if let cipher { return try appendSealed(header, stored, cipher) }
        var header = header
        header.storedChecksum = Checksum.crc32c(stored)
        header.encode(into: &buffer)
        try appendStored(stored)
    }

    /// Encrypts the block where it waits to be written.
    private func appendSealed(
        _ header: BlockHeader, _ stored: UnsafeRawBufferPointer, _ cipher: FileCipher
    ) throws(EngineError) {
        let start = buffer.count
        var header = header
        header.isEncrypted = true
        header.encode(into: &buffer)
        buffer.write(raw: stored)
        buffer.bytes.withUnsafeMutableBytes {
            header.seal(UnsafeMutableRawBufferPointer(rebasing: $0[start...]), cipher)
        }
        if buffer.count >= TableFileWriter.flushBytes { try flush() }
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
        // A block that was larger than all others leaves nothing behind.
        pending.removeAll(keepingCapacity: pending.capacity <= 8 * TableFileWriter.flushBytes)
        swap(&pending, &buffer.bytes)
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(EngineError) {
        guard !bytes.isEmpty else { return }
        do throws(FileError) { try file.write(bytes, at: flushed) } catch { throw .file(error) }
        flushed += UInt64(bytes.count)
    }

    /// Writes block map and footer and syncs. The size of the file.
    func finish(root: Digest128) throws(EngineError) -> UInt64 {
        invariant(sample == nil, "a table without its last block")
        var footer = TableFooter(
            blockCount: blockCount, mapOffset: offset, mapChecksum: Checksum.crc32c(map.bytes),
            dictionaryBytes: dictionaryBytes, root: cipher == nil ? root : .zero)
        footer.mirrorsHeader = cipher != nil
        buffer.write(raw: map.bytes)
        if cipher != nil { buffer.write(raw: header.encoded()) }
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
