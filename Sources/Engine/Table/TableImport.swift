// Writes a table file from canonical blocks that come from elsewhere: from the damaged file itself,
// from replicas, one from each if need be. The result has the record's digest or there is none.

package enum TableImport {
    /// Writes `file` (new, empty) as `generation` of the table and syncs it. `fetch` is asked for
    /// `.leaves` first, then for each block in order, with the digest it must have; every answer is
    /// checked. Returns the size of the file. After a throw the file is garbage.
    package static func write(
        file: any File, record: TableRecord, generation: UInt64, codec: Compression,
        keys: KeyRing = .plain,
        fetch: (BlockOrdinal, Digest128) throws(EngineError) -> [UInt8]
    ) throws(EngineError) -> UInt64 {
        let list = try TableReader.decodeLeaves(
            try fetch(.leaves, record.digest), record, from: nil)
        let writer = TableFileWriter(
            file: file,
            header: TableLocalHeader(id: record.id, generation: generation, codec: codec.codec),
            compression: codec, cipher: keys.makeCipher(.table))
        for number in 0..<list.count {
            let ordinal = BlockOrdinal(UInt32(number))
            let leaf = list[ordinal]
            let bytes = try fetch(ordinal, leaf.digest)
            try TableReader.check(bytes, leaf, BlockAddress(table: record.id, ordinal: ordinal))
            try bytes.span.bytes.withUnsafeBytes { raw throws(EngineError) in
                try writer.append(leaf.type, raw, leaf.digest)
            }
        }
        try list.canonical.span.bytes.withUnsafeBytes { raw throws(EngineError) in
            try writer.append(.leaves, raw, record.digest)
        }
        return try writer.finish(root: record.digest)
    }

    /// What the file says of itself: how a node without its manifest learns generation and codec. A
    /// sound header of another format version is `.identity`, not damage.
    package static func localHeader(_ file: any File, fromMedium: Bool = false)
        throws(EngineError) -> TableLocalHeader
    {
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try file.readBytes(
                at: 0, count: TableFormat.fileHeaderBytes, fromMedium: fromMedium)
        } catch {
            throw .file(error)
        }
        do throws(DecodingError) {
            return try bytes.span.bytes.withUnsafeBytes { raw throws(DecodingError) in
                try TableLocalHeader(decoding: raw)
            }
        } catch {
            let version = bytes.withUnsafeBytes { try? TableLocalHeader.version(of: $0) }
            if let version, version != TableFormat.version {
                throw .unsupported(version: version, of: file.path)
            }
            throw .corrupt(file: file.path, offset: 0, reason: error.description)
        }
    }
}
