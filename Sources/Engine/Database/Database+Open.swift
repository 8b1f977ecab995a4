// Opening an embedded database: identity, lock, hard state, store, log; then the log's entries
// above S are applied again, since in a quorum of one what the log holds is committed.

extension Database {
    /// Opens or makes the database in the directory `path`.
    public static func open(_ path: String, options: DatabaseOptions = DatabaseOptions())
        throws(EngineError) -> Database
    {
        try options.check()
        let pool = ThreadPool(
            name: "martlet-job", threads: max(options.backgroundThreads, 1))
        do throws(EngineError) {
            return try open(
                POSIXFileSystem(), path, options, DatabaseEnvironment(jobs: pool), pool: pool)
        } catch {
            pool.stop()
            throw error
        }
    }

    /// On any file system and in any environment: what tests use. A `pool` ends with the database.
    package static func open(
        _ fileSystem: any FileSystem, _ path: String, _ options: DatabaseOptions,
        _ environment: DatabaseEnvironment, pool: ThreadPool? = nil
    ) throws(EngineError) -> Database {
        try options.check()
        let options = try options.namingFunctions()
        let keys = KeyRing(
            options.encryption, random: environment.random, observer: environment.sealObserver)
        let directory = try DataDirectory.open(
            fileSystem, path: path, wanted: nil,
            fallback: NodeIdentity(
                cluster: NodeIdentity.embeddedPrefix + hex16(environment.seed),
                node: EmbeddedOrder.member),
            isAlone: true, keys: keys)
        for note in directory.notes { options.report?(note) }
        // What is written here would be no other member's: the node could never join them again.
        guard directory.identity.cluster.hasPrefix(NodeIdentity.embeddedPrefix) else {
            throw .identity(
                reason: "\(path) belongs to node \(directory.identity.node) of cluster "
                    + "\"\(directory.identity.cluster)\"; only that node may write there")
        }
        let files = directory.group
        try engineError { () throws(FileError) in try files.create() }
        let isStrict = options.recovery == .strict
        if isStrict { try StrictCheck.checkFiles(files) }
        let hardState = try HardState.open(
            fileSystem, files.hardState, nonce: environment.seed, keys: keys, isStrict: isStrict)
        let genesis = logGenesis(cluster: directory.identity.cluster, group: 0)
        let wake = HealWake(environment.jobs)
        let store = try openStore(files, genesis, options, environment, wake)
        var logOptions = LogOptions(sync: options.sync == .always ? .always : .never)
        logOptions.keys = keys
        logOptions.isStrict = isStrict
        let (log, recovery) = try Log.open(
            fileSystem, files.log, hardState: hardState, genesis: genesis, group: 0,
            options: logOptions, base: store.logBase)
        for event in recovery.events { options.report?(event) }
        store.healer.noteHealed(hardState)
        store.healer.noteHoles(recovery.holes)
        // One at or below S harms only history.
        if let hole = recovery.holes.first(where: { $0.upper > store.flushedPosition.index }) {
            guard options.recovery == .pointInTime else {
                throw log.corrupt(
                    at: hole.lower,
                    "entries \(hole.lower) to \(hole.upper) are damaged, and there is no "
                        + "replica; recovery to a point in time would serve what is before them")
            }
            let outcome = try LostTail.cut(log, before: hole, store)
            options.report?(outcome)
            store.healer.noteIrreparable(file: "log", outcome)
        }
        let tail = try continued(log, store)
        try store.removeOrphans()
        // One term for each open: no index is ever used twice in one term.
        let term = max(hardState.current.term, log.last.term) + 1
        guard term < Term.limit else {
            throw .corrupt(file: directory.path + "/state", reason: "no term is left")
        }
        try hardState.saveVote(term: term, vote: EmbeddedOrder.member)
        let order = EmbeddedOrder(
            store: store, log: log, options: options, environment: environment, term: term,
            tail: tail)
        wake.setOrder(order)
        try order.begin()
        return Database(order, pool: pool, lockFile: directory.lock)
    }

    private static func openStore(
        _ files: StoreFiles, _ genesis: Digest128, _ options: DatabaseOptions,
        _ environment: DatabaseEnvironment, _ wake: HealWake
    ) throws(EngineError) -> Store {
        var storeOptions = options.store
        storeOptions.recordsBounds = options.sync == .never || !options.usesLog
        let wall = environment.wall
        let report = options.report
        // The order hears of a manifest that cannot be written by itself, hence no `halt`.
        var configuration = StoreConfiguration(
            files: files,
            identity: ManifestIdentity(genesis: genesis, group: 0, node: EmbeddedOrder.member),
            options: storeOptions, jobs: environment.jobs,
            healEnvironment: HealEnvironment(
                clock: { wall() }, wake: { wake.wake() }, note: { report?($0) },
                halt: { _ in }))
        configuration.isStrict = options.recovery == .strict
        return try Store.open(configuration)
    }

    /// Applies what the log holds above S; returns what the next entry continues.
    private static func continued(_ log: Log, _ store: Store) throws(EngineError) -> LogPoint {
        try replay(log, into: store)
        var tail = store.appliedTail
        let given = store.installed.bounds
        guard given.index > tail.position.index else { return tail }
        // An unsynced log lost its end: its indexes and sequences are not used again.
        try log.skip(to: given.index + 1)
        tail.position.index = given.index
        tail.nextSequence = max(tail.nextSequence, given.sequence + 1)
        store.skip(to: tail)
        return tail
    }

    private static func replay(_ log: Log, into store: Store) throws(EngineError) {
        while store.applied < log.last.index {
            // Indexes right behind S may have been skipped.
            let next = max(store.applied + 1, log.first)
            let batch = try log.entries(from: next, maxBytes: 4 << 20)
            guard !batch.isEmpty else { break }
            for entry in batch {
                do throws(DecodingError) { try EntryValidation.validate(entry) } catch {
                    throw log.corrupt(
                        at: entry.index, "entry \(entry.index) is malformed: \(error)")
                }
                try skipGap(before: entry, log, store)
                try checkChain(entry, log, store)
                store.apply(entry)
            }
            store.noteDurable(log.durable.index)
        }
    }

    /// Manifest and log may come from copies of one database that went apart.
    private static func checkChain(_ entry: Entry, _ log: Log, _ store: Store)
        throws(EngineError)
    {
        let before = store.appliedTail
        guard entry.index == before.position.index + 1,
            entry.header.previous == before.position.checksum
        else {
            throw log.corrupt(
                at: entry.index,
                "entry \(entry.index) does not follow entry \(before.position.index): "
                    + "it is of another history")
        }
    }

    /// Indexes that an earlier open left out are left out again: the entry behind them continues
    /// the chain.
    private static func skipGap(before entry: Entry, _ log: Log, _ store: Store)
        throws(EngineError)
    {
        var tail = store.appliedTail
        guard entry.index > tail.position.index + 1 else { return }
        guard entry.header.previous == tail.position.checksum,
            entry.header.firstSequence >= tail.nextSequence
        else {
            throw log.corrupt(
                at: tail.position.index + 1, "entries before \(entry.index) are missing")
        }
        tail.position.index = entry.index - 1
        tail.nextSequence = entry.header.firstSequence
        store.skip(to: tail)
    }
}
