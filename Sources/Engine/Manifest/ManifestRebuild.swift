// A manifest that is lost in both copies, made anew from tables and log: the last resort of a
// database that has no replica to ask (a node of a cluster takes the record from a peer). Offline,
// on one thread, for `martlet manifest rebuild`.
//
// What is no part of the database any more moves to quarantine/, before the manifest is written: a
// crash leaves either no manifest, and the rebuild may run again, or all of it. Where something may
// be missing without an error at its place, nothing is written unless that is forced.

package struct ManifestRebuild: Sendable {
    package struct Unreadable: Hashable, Sendable {
        package var file: String
        package var reason: String

        package init(file: String, reason: String) {
            self.file = file
            self.reason = reason
        }
    }

    /// Of the manifest, by id.
    package var tables: [TableRecord]
    /// Of those, the ones whose files are lost: reads of their ranges are errors.
    package var absent: [TableRecord]
    /// Files that nobody can tell the content of.
    package var unreadable: [Unreadable]
    /// Files that are no part of the database, in quarantine/.
    package var setAside: [String]
    /// Levels and tables are those that the log names. Else all tables are in level 0, and one that
    /// a compaction had replaced may be among them, with what was deleted since.
    package var isExact: Bool
    /// Why something may be missing without an error that says so.
    package var doubts: [String]
    /// The log is replayed from behind this entry.
    package var flushed: LogIndex
    package var isWritten: Bool

    /// Rebuilds the manifest of the data directory `path`. `.invalid` if a whole manifest is there,
    /// `.identity` for a node of a cluster, unless `isAlone` says that it has no other.
    package static func run(
        _ fileSystem: any FileSystem, path: String, keys: KeyRing = .plain, isAlone: Bool = false,
        isForced: Bool = false
    ) throws(EngineError) -> ManifestRebuild {
        guard fileSystem.exists(path + "/node") else {
            throw .invalid(reason: "\(path) is not a data directory: it has no file node")
        }
        let lock = try engineError { () throws(FileError) in
            try fileSystem.lock(path + "/LOCK")
        }
        guard let lock else { throw .locked(path: path) }
        defer { withExtendedLifetime(lock) {} }
        let node = try identity(fileSystem, path)
        guard isAlone || node.cluster.hasPrefix(NodeIdentity.embeddedPrefix) else {
            throw .identity(
                reason: "\(path) belongs to node \(node.node) of cluster \"\(node.cluster)\": "
                    + "started, it takes the manifest from a peer; --alone says that it has none")
        }
        let files = StoreFiles(fileSystem: fileSystem, directory: path + "/group-0", keys: keys)
        try engineError { () throws(FileError) in try files.create() }
        let work = Work(
            files: files,
            identity: ManifestIdentity(
                genesis: logGenesis(cluster: node.cluster, group: 0), group: 0, node: node.node))
        return try work.run(isForced: isForced)
    }

    private static func identity(_ fileSystem: any FileSystem, _ path: String)
        throws(EngineError) -> NodeIdentity
    {
        let bytes = try engineError { () throws(FileError) in
            try fileSystem.readAll(path + "/node", limit: 4096)
        }
        do throws(DecodingError) { return try NodeIdentity(decoding: bytes) } catch {
            throw .corrupt(
                file: "node", offset: 0, reason: "\(error); restore it from a backup")
        }
    }
}

/// One rebuild, in its directory.
private struct Work {
    let files: StoreFiles
    let identity: ManifestIdentity

    func run(isForced: Bool) throws(EngineError) -> ManifestRebuild {
        try checkIsLost()
        let (found, unreadable, strays) = try readTables()
        let log = try LogEvidence(
            files.fileSystem, files.log, genesis: identity.genesis, keys: files.keys)
        let plan = RebuildPlan(
            files: found, unreadable: unreadable, log: log, genesis: identity.genesis,
            ownEnd: log.start == nil ? try endWithoutLog(found) : nil)
        let state = try plan.state(genesis: identity.genesis)
        var result = ManifestRebuild(
            tables: state.manifest.tables.sortedByID, absent: plan.absent,
            unreadable: unreadable.map {
                ManifestRebuild.Unreadable(file: $0.name, reason: $0.reason)
            },
            setAside: (plan.setAside + strays).sorted(), isExact: plan.isExact,
            doubts: plan.doubts, flushed: plan.flushed.position.index, isWritten: false)
        guard plan.doubts.isEmpty || isForced else { return result }
        try setAside(result.setAside)
        // As encrypted as the tables are.
        let epoch = try highestEpoch(found)
        _ = try ManifestFile.create(
            files.fileSystem, directory: files.directory, identity: identity,
            keys: try files.keys.copying(epoch: epoch), state: state)
        result.isWritten = true
        return result
    }

    /// A whole manifest is worth more than any rebuilt one.
    private func checkIsLost() throws(EngineError) {
        let directory = try ManifestDirectory.read(files.fileSystem, files.directory)
        do throws(EngineError) {
            let found = try directory.choose(identity, files.keys)
            guard let found, (try? found.chain.folded()) != nil else { return }
        } catch {
            guard case .corrupt = error else { throw error }
            return
        }
        throw .invalid(
            reason: "\(files.directory) has a whole manifest: there is nothing to rebuild")
    }

    // MARK: tables

    /// The newest readable generation of each table; names of the others, and of what is no table.
    private func readTables() throws(EngineError) -> (
        [TableID: RebuildPlan.File], [RebuildPlan.Unreadable], strays: [String]
    ) {
        var found: [TableID: RebuildPlan.File] = [:]
        var unreadable: [RebuildPlan.Unreadable] = []
        var strays: [String] = []
        for name in try engineError({ () throws(FileError) in
            try files.fileSystem.list(files.tables)
        }) {
            guard let (id, generation) = TableHandle.parse(fileName: name) else {
                strays.append(name)
                continue
            }
            do throws(EngineError) {
                let file = try read(name, id, generation)
                guard let other = found[id] else {
                    found[id] = file
                    continue
                }
                let isNewer = other.local.generation < generation
                strays.append(isNewer ? other.name : name)
                if isNewer { found[id] = file }
            } catch {
                switch error {
                case .wrongKey, .identity: throw error
                default:
                    unreadable.append(
                        RebuildPlan.Unreadable(name: name, id: id, reason: error.description))
                }
            }
        }
        return (found, unreadable, strays)
    }

    private func read(_ name: String, _ id: TableID, _ generation: UInt32) throws(EngineError)
        -> RebuildPlan.File
    {
        let file = try engineError { () throws(FileError) in
            try files.fileSystem.open(files.tables + "/" + name, .read)
        }
        let record = try TableReader.describe(file, keys: files.keys)
        guard record.id == id else {
            throw .corrupt(file: name, reason: "it holds table \(record.id)")
        }
        do throws(DecodingError) { try record.checkStructure() } catch {
            throw .corrupt(file: name, reason: error.description)
        }
        let header = try? TableImport.localHeader(file)
        let size = try engineError { () throws(FileError) in try file.size() }
        return RebuildPlan.File(
            name: name, record: record,
            local: LocalTable(
                generation: generation, codec: (header?.codec ?? .none).rawValue, fileBytes: size))
    }

    private func highestEpoch(_ found: [TableID: RebuildPlan.File]) throws(EngineError) -> UInt32 {
        var epoch: UInt32 = 0
        for file in found.values {
            let header = try? TableImport.localHeader(
                try files.fileSystem.open(files.tables + "/" + file.name, .read))
            epoch = max(epoch, header?.keyEpoch ?? 0)
        }
        return epoch
    }

    // MARK: files

    /// Where the next entry goes if the log is gone, too: above all that tables and hard state know
    /// to have been given out.
    private func endWithoutLog(_ found: [TableID: RebuildPlan.File]) throws(EngineError)
        -> LogPoint?
    {
        var last = found.keys.map(\.index).max() ?? .zero
        var term = Term(1)
        if files.fileSystem.exists(files.hardState) {
            let state = try HardState.read(
                files.fileSystem, files.hardState, keys: files.keys)
            last = max(last, state.current.cut, state.foundPage?.position.index ?? .zero)
            term = max(term, state.current.term)
        }
        guard last > .zero else { return nil }
        let sequence = found.values.map(\.record.largestSequence).max() ?? .zero
        return LogPoint(
            position: Position(term: term, index: last, checksum: .zero),
            nextSequence: sequence + 1, clock: 0)
    }

    /// Moves table files to quarantine, durably there: what a crash leaves of them beside the
    /// tables as well is cleared away at the next open.
    private func setAside(_ names: [String]) throws(EngineError) {
        guard !names.isEmpty else { return }
        try engineError { () throws(FileError) in
            for name in names {
                try files.fileSystem.rename(
                    files.tables + "/" + name,
                    to: files.quarantine + "/" + files.freeQuarantineName(name))
            }
            try files.fileSystem.syncDirectory(files.quarantine)
        }
    }
}
