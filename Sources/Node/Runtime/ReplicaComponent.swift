// The replica of this node: its log and store, its peers.
import Engine
import Logging
import NIOCore
import Replication
import Synchronization

package final class ReplicaComponent: NodeComponent {
    package let name = "replica"
    private let configuration: NodeConfiguration
    private let directory: DirectoryComponent
    private let loops: NodeEventLoops
    private let fatal: FatalReport
    private let logger: Logger
    private let running = Mutex<ReplicaRuntime?>(nil)

    package init(
        _ configuration: NodeConfiguration, directory: DirectoryComponent,
        loops: NodeEventLoops, fatal: FatalReport, logger: Logger
    ) {
        self.configuration = configuration
        self.directory = directory
        self.loops = loops
        self.fatal = fatal
        self.logger = logger
    }

    /// Nil before the start and after the stop.
    package var replica: Replica? { runtime?.replica }
    package var runtime: ReplicaRuntime? { running.withLock { $0 } }

    package func start() async throws {
        if configuration.isCluster { try checkCertificateFiles() }
        guard let directory = directory.directory else {
            throw NodeFailure(.storage, "the data directory is not open")
        }
        guard let loop = loops.replica else {
            throw NodeFailure(.software, "the event loops do not run")
        }
        // Beside `node` it is missing only if it was lost.
        let isLost = !directory.fileSystem.exists(directory.group.hardState)
        let rejoins = configuration.isCluster && (configuration.rejoins || isLost)
        if rejoins { try rejoin(directory) }
        let boots = try PeerBoots(directory.group.fileSystem, path: directory.group.peers) {
            logger.warning("\($0)")
        }
        let fatal = self.fatal
        let runtime = ReplicaRuntime(
            logger: logger, backgroundThreads: configuration.compaction.threads
        ) { reason in
            fatal.report(NodeFailure(.storage, reason))
        }
        let opened = try await open(directory, runtime, on: loop, rejoins: rejoins)
        try ReplicaComponent.check(
            configured: configuration.membership, logged: opened.membership)
        // What is left of damaged hard state may count fewer starts than the peers have seen.
        if configuration.isCluster, !opened.hardState.isVoteTrusted {
            try opened.hardState.beginAnew(bootCounter: wallMilliseconds())
        }
        try await runtime.start(
            opened, options: options(), transport: try transport(opened.hardState, boots), on: loop)
        running.withLock { $0 = runtime }
    }

    package func stop() async {
        let stopped = running.withLock { running in
            defer { running = nil }
            return running
        }
        await stopped?.stop()
    }

    /// A node that led alone and is given more members would go on alone, and they would found a
    /// history of their own.
    static func check(configured: Membership, logged: Membership) throws(NodeFailure) {
        func list(_ membership: Membership) -> String {
            membership.members.map(\.id.description).joined(separator: ", ")
        }
        guard !logged.members.isEmpty, configured.members.map(\.id) != logged.members.map(\.id)
        else { return }
        throw NodeFailure(
            .configuration,
            "members: the configuration names \(list(configured)), but this node's data belongs to"
                + " a cluster of \(list(logged)), which cannot be changed; name those again, or"
                + " begin a new cluster with an empty data.directory on every member")
    }

    package func reload() async {
        guard configuration.isCluster else {
            return logger.notice("there are no certificates to read again: this node has no peers")
        }
        guard let runtime else { return }
        do {
            try checkCertificateFiles()
            try runtime.reloadCertificates()
            logger.notice("certificates are read again; new connections with peers use them")
        } catch {
            logger.error(
                "certificates cannot be read again; the old ones stay in use until the next SIGHUP",
                metadata: ["reason": "\(error)"])
        }
    }

    /// The TLS library says of a file that it cannot read no more than that.
    private func checkCertificateFiles() throws(NodeFailure) {
        let tls = configuration.tls
        for (key, path) in [
            ("tls.ca", tls.ca), ("tls.certificate", tls.certificate), ("tls.key", tls.key),
        ] {
            do throws(FileError) { _ = try SmallFile.read(path, limit: 16 << 20) } catch {
                throw NodeFailure(.identity, "\(key): \(error)")
            }
        }
    }

    // MARK: opening

    /// This node's data was lost, as is seen or as its operator says: it takes part without a vote,
    /// since it may have given one that it does not remember, and its peers take this for a new
    /// start of it.
    private func rejoin(_ directory: DataDirectory) throws(EngineError) {
        try engineError { () throws(FileError) in try directory.group.create() }
        let state = try HardState.open(
            directory.group.fileSystem, directory.group.hardState,
            nonce: UInt64.random(in: 1...UInt64.max), keys: directory.keys, rejoins: true)
        // No node is started once a millisecond: this is above every count.
        try state.beginAnew(bootCounter: wallMilliseconds())
        logger.warning(
            "this node's data was lost: it rejoins without a vote and takes what the others have")
    }

    private func open(
        _ directory: DataDirectory, _ runtime: ReplicaRuntime, on loop: any EventLoop,
        rejoins: Bool
    ) async throws -> OpenedReplica {
        let nonce = UInt64.random(in: 1...UInt64.max)
        var store = storeConfiguration(directory, runtime)
        store.expectsManifest = rejoins
        store.refusesGap = configuration.isCluster
        let reason: EngineError
        do throws(EngineError) {
            return try OpenedReplica.open(store, log: logOptions, nonce: nonce)
        } catch {
            guard error.isLostManifest, configuration.isCluster else { throw error }
            reason = error
        }
        logger.error(
            "the manifest is lost, whole or in part; asking the peers for theirs",
            metadata: ["reason": "\(reason)"])
        store.refusesGap = false
        let answer = try await replacement(directory, store, on: loop, nonce: nonce)
        store.replacement = answer?.state
        store.donor = answer?.donor ?? .none
        return try OpenedReplica.open(store, log: logOptions, nonce: nonce)
    }

    /// A peer's manifest; nil if none gives it and this node can go on with its own.
    private func replacement(
        _ directory: DataDirectory, _ store: StoreConfiguration, on loop: any EventLoop,
        nonce: UInt64
    ) async throws -> ManifestRescue.Answer? {
        // Peers refuse an older start of this node than they have seen: this one counts.
        let hardState = try HardState.open(
            directory.group.fileSystem, directory.group.hardState, nonce: nonce,
            keys: directory.keys)
        let rescue = ManifestRescue(
            configuration: try transportConfiguration(
                bootCounter: hardState.current.bootCounter, nonce: nonce),
            eventLoops: loop, logger: logger)
        // An own one that is whole is good enough if nobody has a newer one: then peers have the
        // log that it lacks.
        guard try Store.hasManifest(store) else {
            return try await rescue.fetch(patience: ManifestRescue.patienceMilliseconds)
        }
        do {
            return try await rescue.fetch(patience: ManifestRescue.shortPatienceMilliseconds)
        } catch let failure as NodeFailure {
            logger.warning("going on with the own manifest", metadata: ["reason": "\(failure)"])
            return nil
        }
    }

    private var logOptions: LogOptions {
        var options = LogOptions(sync: configuration.log.sync == .always ? .always : .never)
        options.expectsHardState = configuration.isCluster
        return options
    }

    private func storeConfiguration(_ directory: DataDirectory, _ runtime: ReplicaRuntime)
        -> StoreConfiguration
    {
        let logger = self.logger
        let fatal = self.fatal
        let genesis = logGenesis(cluster: configuration.clusterID, group: 0)
        return StoreConfiguration(
            files: directory.group,
            identity: ManifestIdentity(
                genesis: genesis, group: 0, node: configuration.nodeID),
            options: storeOptions, jobs: runtime.jobs,
            healEnvironment: HealEnvironment(
                clock: { wallMilliseconds() },
                wake: { [weak runtime] in runtime?.wakeReplica() },
                note: { logger.warning("\($0)") },
                halt: { fatal.report(NodeFailure(.storage, $0)) }))
    }

    private var compactionOptions: CompactionOptions {
        let wanted = configuration.compaction
        var options = CompactionOptions()
        switch wanted.strategy {
        case .leveled: options.strategy = .leveled
        case .sizeTiered: options.strategy = .sizeTiered
        case .fifo:
            options.strategy = .fifo(
                bytesMax: wanted.fifoBytes, ageMilliseconds: wanted.fifoAgeMilliseconds)
        }
        options.level0Trigger = wanted.level0Trigger
        options.level0SlowdownTrigger = wanted.level0Slowdown
        options.baseLevelBytes = wanted.baseBytes
        options.multiplier = UInt64(wanted.multiplier)
        options.targetBytes = wanted.tableBytes
        options.sizesLevelsDynamically = wanted.sizesLevelsDynamically
        options.bytesPerSecondMax = wanted.bytesPerSecond
        options.tombstonePercent = wanted.tombstonePercent
        options.spaceAmplificationPercentMax = wanted.spacePercent
        options.rewriteAfterMilliseconds = wanted.rewriteAfterMilliseconds
        options.fruitlessReadsMax = UInt64(wanted.fruitlessReads)
        options.blobDeadPercent = wanted.blobDeadPercent
        options.blobAgePercent = wanted.blobAgePercent
        options.clockMaxOffsetMilliseconds = configuration.clock.offsetMaxMilliseconds
        return options
    }

    private var storeOptions: StoreOptions {
        var options = StoreOptions()
        options.cacheBytes = Int(clamping: configuration.cache.bytes)
        options.rowCacheBytes = Int(clamping: configuration.cache.rowBytes)
        if configuration.memory.bytes > 0 {
            options.memoryBytes = Int(clamping: configuration.memory.bytes)
        }
        options.lowDiskBytes = configuration.space.lowBytes
        options.historyWindowMilliseconds = configuration.history.windowMilliseconds
        options.memtablesMax = max(1, configuration.memtable.segmentsMax - 1)
        options.level0StopTables = configuration.compaction.level0Stop
        options.compression = configuration.table.compression
        options.recordsBounds = configuration.log.sync == .never
        options.compaction = compactionOptions
        options.concurrentJobs = max(1, configuration.compaction.threads - 1)
        options.heal.isAutomatic = configuration.heal.isAutomatic
        options.heal.source =
            HealOptions.Source(rawValue: configuration.heal.source.rawValue) ?? .auto
        options.heal.keepEvidence = configuration.heal.keepsEvidence
        return options
    }

    private func options() -> ReplicaOptions {
        var options = ReplicaOptions(
            cluster: configuration.clusterID, node: configuration.nodeID,
            seedMembers: configuration.membership, seedSettings: configuration.loggedSettings,
            store: storeOptions)
        options.electionTimeoutMilliseconds = configuration.raft.electionTimeoutMilliseconds
        options.heartbeatMilliseconds = configuration.raft.heartbeatMilliseconds
        options.leaseMilliseconds = configuration.read.leaseMilliseconds
        options.leaseDriftMilliseconds = configuration.read.leaseDriftMilliseconds
        options.preferredLeader = configuration.raft.preferredLeader
        options.retainBytes = configuration.log.retainBytes
        options.maxClockOffsetMilliseconds = configuration.clock.offsetMaxMilliseconds
        options.seed = UInt64.random(in: 1...UInt64.max)
        return options
    }

    private func transport(_ hardState: HardState, _ boots: PeerBoots) throws
        -> PeerTransportConfiguration?
    {
        guard configuration.isCluster else { return nil }
        var transport = try transportConfiguration(
            bootCounter: hardState.current.bootCounter, nonce: hardState.current.nonce)
        transport.boots = boots
        return transport
    }

    private func transportConfiguration(bootCounter: UInt64, nonce: UInt64) throws
        -> PeerTransportConfiguration
    {
        let peers = try configuration.members.filter { $0.id != configuration.nodeID }.map {
            member in
            guard let address = HostAndPort(member.peer) else {
                throw NodeFailure(
                    .configuration,
                    "members: \"\(member.peer)\" of member \(member.id) is not host:port")
            }
            return PeerAddress(member: member.id, host: address.host, port: address.port)
        }
        return PeerTransportConfiguration(
            cluster: configuration.clusterID, node: configuration.nodeID, group: 0,
            listenHost: configuration.listen.host, listenPort: configuration.listen.peerPort,
            peers: peers, certificatePath: configuration.tls.certificate,
            keyPath: configuration.tls.key, authorityPath: configuration.tls.ca,
            bootCounter: bootCounter, nonce: nonce)
    }
}

/// `host:port`, the host in brackets if it is an IPv6 address.
package struct HostAndPort: Hashable, Sendable {
    package var host: String
    package var port: Int

    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = Int(text[text.index(after: colon)...]),
            (1...65_535).contains(port)
        else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty else { return nil }
        self.host = host
        self.port = port
    }
}
