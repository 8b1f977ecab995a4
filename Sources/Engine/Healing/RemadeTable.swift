// Index, filters, properties and leaf list of a table follow from its data: what is lost of them
// here and known to no replica is made anew, as `TableSalvage` makes it. The table so made counts
// only if it has the digest of the record, so every block of it is proved. It needs all data, range
// tombstones and the properties sound, which tell the shape; it stands in `staged/` meanwhile.

struct RemadeTable {
    private let reader: TableReader
    private let path: String
    private let fileSystem: any FileSystem

    /// Nil if the damaged or missing file of `handle` does not give the table of its record. Throws
    /// `.file` if `path`, which is new, cannot be written.
    init?(of handle: TableHandle, in files: StoreFiles, at path: String) throws(EngineError) {
        let source = files.tables + "/" + handle.fileName
        do throws(EngineError) {
            if files.fileSystem.exists(path) {
                try engineError { () throws(FileError) in try files.fileSystem.unlink(path) }
            }
            let report = try TableSalvage.run(
                files.fileSystem, from: source, to: path, keys: files.keys)
            guard report.record.digest == handle.record.digest else {
                RemadeTable.discard(path, files.fileSystem)
                return nil
            }
            let file = try engineError { () throws(FileError) in
                try files.fileSystem.open(path, .read)
            }
            reader = try TableReader.open(
                file: file, record: handle.record, cache: BlockCache(capacity: 0, shards: 1),
                keys: files.keys)
        } catch {
            RemadeTable.discard(path, files.fileSystem)
            // What the damaged file does not give is lost; what the machine lacks is no loss.
            if case .file(let cause) = error, cause.path != source || cause.isShortage {
                throw error
            }
            return nil
        }
        self.path = path
        fileSystem = files.fileSystem
    }

    func block(_ ordinal: BlockOrdinal) throws(EngineError) -> [UInt8] {
        try reader.canonicalBlock(ordinal, fromMedium: false)
    }

    func remove() { RemadeTable.discard(path, fileSystem) }

    /// Best effort: what stays in `staged/` goes with the next open.
    private static func discard(_ path: String, _ fileSystem: any FileSystem) {
        try? fileSystem.unlink(path)
    }
}
