// A copy of a database that opens by itself: the installed tables under second names, a manifest of
// its own, and no log, since all that it holds is in tables. Its next index and sequence are above
// all that the original had given out; both go on from there, so a follower of the changes of one
// cannot go on with the other.
//
// The file `node` comes last: a directory without it that holds anything, which a crash or an error
// leaves, does not open as an empty database but is refused.

/// What a checkpoint is made of. The handles keep the files while it exists.
struct CheckpointSource {
    let state: ManifestState
    let files: StoreFiles
    let identity: ManifestIdentity
    /// What the original has given out.
    let bounds: LogBounds
    let handles: [TableHandle]
}

extension Store {
    /// The installed state. Owner only: handles and manifest are of one moment.
    var checkpointSource: CheckpointSource {
        let records =
            installed.manifest.tables.sortedByID + installed.standIns.flatMap(\.tables)
        return CheckpointSource(
            state: installed, files: files, identity: manifestFile.identity,
            bounds: LogBounds(index: applied, sequence: appliedSequence),
            handles: records.compactMap { tables.handle($0.id) })
    }
}

enum Checkpoint {
    static func write(_ source: CheckpointSource, to path: String) throws(EngineError) {
        let fileSystem = source.files.fileSystem
        guard !fileSystem.exists(path) else {
            throw .invalid(reason: "\(path) exists; a checkpoint makes its own directory")
        }
        let target = StoreFiles(
            fileSystem: fileSystem, directory: path + "/group-0", keys: source.files.keys)
        try engineError { () throws(FileError) in
            try fileSystem.createDirectory(path)
            try target.create()
            for (id, local) in source.state.local.sorted(by: { $0.key < $1.key }) {
                let name = TableHandle.fileName(id, generation: UInt64(local.generation))
                try fileSystem.linkOrCopy(
                    source.files.tables + "/" + name, to: target.tables + "/" + name)
            }
            try fileSystem.syncDirectory(target.tables)
        }
        try HardState.create(fileSystem, target.hardState, keys: target.keys)
        _ = try ManifestFile.create(
            fileSystem, directory: target.directory, identity: source.identity,
            keys: target.keys, state: withoutLog(source))
        // Nobody writes it anew: its bytes are the original's.
        try engineError { () throws(FileError) in
            let node = try fileSystem.readAll(
                parentDirectory(of: source.files.directory) + "/node", limit: 4096)
            try fileSystem.replace(path + "/node", with: node)
        }
        withExtendedLifetime(source.handles) {}
    }

    /// What the original has given out is not given out again, though the log that says so is not
    /// here: no horizon of a job in the manifest is above it.
    private static func withoutLog(_ source: CheckpointSource) -> ManifestState {
        var state = source.state
        do throws(DecodingError) { try state.apply([.bounds(source.bounds)]) } catch {
            brokenInvariant("bounds contradict a manifest: \(error)")
        }
        return state
    }
}
