// Opening: the manifest and the table files it names; what a crash left over goes when the log has
// been judged. A damaged node opens at once: a table whose file is missing or unusable is hinted
// and healed, the rest serves.

/// What a store is opened with.
package struct StoreConfiguration {
    package var files: StoreFiles
    package var identity: ManifestIdentity
    package var options: StoreOptions
    package var jobs: any JobRunner
    package var healEnvironment: HealEnvironment
    /// A donor's record, to take the place of a manifest that is lost in both copies.
    package var replacement: ManifestState?
    /// Who gave it.
    package var donor = MemberID.none
    /// There was data: a manifest that was never completed is a lost one.
    package var expectsManifest = false
    /// A log that lacks the entry behind S is an error, as a lost manifest is: S may be too old.
    package var refusesGap = false
    /// Anything that is damaged or missing is an error, and nothing is mended.
    package var isStrict = false
    /// Other members may need what this one's jobs have let go.
    package var keepsRetired = false

    package init(
        files: StoreFiles, identity: ManifestIdentity, options: StoreOptions, jobs: any JobRunner,
        healEnvironment: HealEnvironment, replacement: ManifestState? = nil
    ) {
        self.files = files
        self.identity = identity
        self.options = options
        self.jobs = jobs
        self.healEnvironment = healEnvironment
        self.replacement = replacement
    }
}

extension Store {
    /// Throws `.corrupt` naming the manifest if both of its copies are lost: ask a peer for its
    /// record and open again with it as `replacement`. What a crash left over stays until
    /// `removeOrphans`.
    package static func open(_ configuration: StoreConfiguration) throws(EngineError) -> Store {
        let files = configuration.files
        let functions = try FunctionRegistry(
            mergeOperators: configuration.options.mergeOperators,
            compactionFilters: configuration.options.compactionFilters)
        try engineError { () throws(FileError) in try files.create() }
        let (manifestFile, notes) = try openManifest(configuration)
        for note in notes { configuration.healEnvironment.note(note.text) }
        let state = manifestFile.state
        let retired =
            configuration.keepsRetired
            ? try engineError { () throws(FileError) in try RetiredTables(files, state) } : nil

        let tables = TableDirectory()
        let healer = try Healer(
            files: files, options: configuration.options.heal,
            compression: configuration.options.compression, tables: tables,
            environment: configuration.healEnvironment)
        for note in notes where note.isDamage {
            healer.note(
                FileHeal(file: note.file, source: source(of: configuration), detail: note.text))
        }
        let memory = configuration.options.memoryBytes.map {
            MemoryBudget(
                total: $0, cacheBytes: configuration.options.cacheBytes,
                rowCacheBytes: configuration.options.rowCacheBytes)
        }
        let rowBytes = memory?.rowCacheBytes ?? configuration.options.rowCacheBytes
        let cache = BlockCache(
            capacity: memory?.cacheBytes ?? configuration.options.cacheBytes,
            rows: rowBytes > 0 ? RowCache(capacity: rowBytes) : nil)
        let openTables = OpenTables(
            files.fileSystem, directory: files.tables, cache: cache, mender: healer,
            keys: files.keys,
            limit: configuration.options.openTables)
        let attempts = try JobAttempts.open(files.fileSystem, path: files.jobs)
        try attempts.mend()
        let space = SpaceGuard(floor: spaceFloor(configuration, state))
        let store = Store(
            StoreParts(
                options: configuration.options, files: files, jobs: configuration.jobs,
                tables: tables, openTables: openTables, cache: cache, memory: memory,
                functions: functions, healer: healer,
                manifestFile: manifestFile, attempts: attempts, state: state,
                space: space, reserve: try findReserve(files, isWanted: space.isEnabled),
                clock: configuration.healEnvironment.clock))
        if !configuration.isStrict { store.hintMissingFiles() }
        try store.checkHeaders()
        if let retired { store.keep(retired) }
        if configuration.isStrict { try StrictCheck.check(tables) }
        return store
    }

    private static func spaceFloor(_ configuration: StoreConfiguration, _ state: ManifestState)
        -> UInt64
    {
        if let chosen = configuration.options.lowDiskBytes { return chosen }
        let files = configuration.files
        // A file system that does not say how large it is has no floor.
        let total = (try? files.fileSystem.totalBytes(files.directory)) ?? .max
        return SpaceGuard.automaticFloor(
            total: total, segmentBytes: state.settings.segmentBytes)
    }

    private static func source(of configuration: StoreConfiguration) -> FileHeal.Source {
        configuration.replacement == nil ? .local : .replica(configuration.donor, bytes: 0)
    }

    /// Whether a whole manifest is on disk.
    package static func hasManifest(_ configuration: StoreConfiguration) throws(EngineError) -> Bool
    {
        do throws(EngineError) {
            let found = try ManifestFile.recover(
                configuration.files.fileSystem, directory: configuration.files.directory,
                identity: configuration.identity, keys: configuration.files.keys)
            return found != nil
        } catch {
            if case .corrupt = error { return false }
            throw error
        }
    }

    private static func openManifest(_ configuration: StoreConfiguration) throws(EngineError)
        -> (ManifestFile, [ManifestNote])
    {
        let files = configuration.files
        if let replacement = configuration.replacement {
            let state = try withLocalColumns(replacement, files)
            return (
                try ManifestFile.create(
                    files.fileSystem, directory: files.directory,
                    identity: configuration.identity, keys: files.keys, state: state),
                [
                    ManifestNote(
                        file: "MANIFEST", damage: FileDamage("no whole copy was left"),
                        outcome: "it was taken over from a peer")
                ]
            )
        }
        if let recovered = try ManifestFile.recover(
            files.fileSystem, directory: files.directory, identity: configuration.identity,
            keys: files.keys, isStrict: configuration.isStrict)
        {
            return (recovered.file, recovered.notes)
        }
        // An empty manifest beside data would make orphans of all tables.
        let hasData = try holdsData(files)
        if hasData || configuration.expectsManifest {
            throw .corrupt(
                file: "MANIFEST",
                reason: "there was data, and no whole copy is left; where no peer has its record, "
                    + "`martlet manifest rebuild` makes one from tables and log")
        }
        return (
            try ManifestFile.create(
                files.fileSystem, directory: files.directory, identity: configuration.identity,
                keys: files.keys, state: ManifestState(genesis: configuration.identity.genesis)),
            []
        )
    }

    /// A complete manifest is there before the first table and the first segment.
    private static func holdsData(_ files: StoreFiles) throws(EngineError) -> Bool {
        try engineError { () throws(FileError) in
            for directory in [files.tables, files.log] where files.fileSystem.exists(directory) {
                if try !files.fileSystem.list(directory).isEmpty { return true }
            }
            return false
        }
    }

    /// A donor's record with this node's own files: the newest generation of each table that is
    /// here, by its name and header; a table that is not here gets a row all the same, and is
    /// healed as missing.
    private static func withLocalColumns(_ donor: ManifestState, _ files: StoreFiles)
        throws(EngineError) -> ManifestState
    {
        let names = try engineError { () throws(FileError) in
            try files.fileSystem.list(files.tables)
        }
        var newest: [TableID: UInt32] = [:]
        for name in names {
            guard let (id, generation) = TableHandle.parse(fileName: name) else { continue }
            newest[id] = max(newest[id] ?? 0, generation)
        }
        var local: [TableID: LocalTable] = [:]
        for id in donor.local.keys {
            local[id] = localColumns(id, generation: newest[id] ?? 0, files)
        }
        var state = donor
        do throws(DecodingError) { try state.adopt(local: local) } catch {
            throw .corrupt(file: "MANIFEST", reason: "the donor's record is malformed: \(error)")
        }
        return state
    }

    private static func localColumns(_ id: TableID, generation: UInt32, _ files: StoreFiles)
        -> LocalTable
    {
        let path = files.tables + "/" + TableHandle.fileName(id, generation: UInt64(generation))
        do {
            let file = try files.fileSystem.open(path, .read)
            let header = try TableImport.localHeader(file)
            return LocalTable(
                generation: generation, codec: header.codec.rawValue, fileBytes: try file.size())
        } catch {
            return LocalTable(
                generation: generation, codec: BlockCodec.none.rawValue, fileBytes: 0)
        }
    }

    /// Removes table files that nobody knows, and everything staged. Before any work begins, and
    /// not before the log is known to be whole: a flush whose edit a crash prevented may be the
    /// last that holds what the log has lost.
    package func removeOrphans() throws(EngineError) {
        let kept = Set(tables.all.map(\.fileName))
        try engineError { () throws(FileError) in
            try files.removeOrphans { kept.contains($0) }
        }
    }

    /// Before anything is read, healed or written: every file must be of this format version, and
    /// its key the right one. Files of another epoch are hinted.
    private func checkHeaders() throws(EngineError) {
        for handle in tables.all {
            let path = files.tables + "/" + handle.fileName
            let header: TableLocalHeader
            do {
                header = try TableImport.localHeader(try files.fileSystem.open(path, .read))
            } catch EngineError.identity(let reason) {
                throw .identity(reason: reason)
            } catch {
                // What is missing or damaged is another matter.
                continue
            }
            _ = try files.keys.cipher(header.key, .table, path: path) as FileCipher?
            if header.keyEpoch != files.keys.currentEpoch { healer.noteOldKey(handle.id) }
        }
    }

    /// Handles for every table of the manifest; a file that is not there is hinted.
    private func hintMissingFiles() {
        for handle in tables.all
        where !files.fileSystem.exists(files.tables + "/" + handle.fileName) {
            healer.noteMissing(handle.id)
        }
    }
}
