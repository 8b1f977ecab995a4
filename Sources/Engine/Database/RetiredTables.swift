// Tables that this node's jobs have let go and whose files are still here when it opens. A member
// that is behind those jobs, with a damaged copy, can neither compute them nor fetch what they
// made, once that was compacted in its turn. So the files stay over a restart, as they do while the
// node runs, until every member is known to have passed what is installed here.

struct RetiredTables {
    /// The newest generation of each, by id.
    private(set) var generations: [TableID: UInt32] = [:]

    init(_ files: StoreFiles, _ state: ManifestState) throws(FileError) {
        for name in try files.fileSystem.list(files.tables) {
            guard let (id, generation) = TableHandle.parse(fileName: name),
                RetiredTables.isRetired(id, state)
            else { continue }
            generations[id] = max(generations[id] ?? 0, generation)
        }
    }

    /// What a crash left of an unfinished flush or job is not: it is made again.
    private static func isRetired(_ id: TableID, _ state: ManifestState) -> Bool {
        guard state.local[id] == nil else { return false }
        switch id.kind {
        case .flush, .flushBlob: return id.index <= state.manifest.sealedThrough
        case .compaction, .compactionBlob:
            return id.index <= state.frontier
                && !state.manifest.jobs.contains { $0.index == id.index }
        }
    }
}

extension Store {
    /// Makes them usable for other members. A file that does not tell whose it is, is of no use: it
    /// stays an orphan.
    func keep(_ retired: RetiredTables) {
        for (id, generation) in retired.generations.sorted(by: { $0.key < $1.key }) {
            let path = files.tables + "/" + TableHandle.fileName(id, generation: UInt64(generation))
            do {
                let file = try files.fileSystem.open(path, .read)
                let record = try TableReader.describe(file, keys: files.keys)
                let header = try TableImport.localHeader(file)
                guard record.id == id else {
                    throw EngineError.tableLost(id, reason: "\(path) holds table \(record.id)")
                }
                adopt(
                    BuiltTable(
                        record: record,
                        local: LocalTable(
                            generation: generation, codec: header.codec.rawValue,
                            fileBytes: try file.size())))
                obsolete.append(ObsoleteTable(id: id, after: installed.frontier))
            } catch {
                healer.noteTrouble("\(path) is of no use to others: \(error)")
            }
        }
    }
}
