// A running node of the simulated cluster: one replica with the world it needs, all of it virtual.
// Threads become events: the replica's turns, the log writer's turns and each job run when the
// cluster's queue comes to them, one at a time.
import Engine
import Replication

package final class SimulatedProcess: @unchecked Sendable {
    // Unchecked: everything here runs on the test's one thread.
    package unowned let cluster: SimulatedCluster
    /// Place among the cluster's nodes.
    package let place: Int
    package let id: MemberID
    package let files: ProcessFiles
    private let clock: VirtualClock
    /// By how much its own clock runs faster than time, out of a thousand.
    private let clockRate: UInt64
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    package private(set) var replica: Replica!
    package private(set) var isAlive = true
    package private(set) var haltReason: String?
    /// Its own manifest was lost, and it opened with a peer's.
    package private(set) var tookManifest = false
    /// The whole process stands still until then.
    package var pausedUntil: UInt64 = 0
    /// Its disk answers nothing until then.
    package var stuckUntil: UInt64 = 0
    /// What its log had durable after its last turn.
    package var durable = LogIndex.zero
    package private(set) var unanswered = UnansweredQuestions()
    /// The peer's that answered a read in this node's place: from its own state, which may be newer.
    package var answeredFrom: Store?
    /// Connected since its last turn: with the next one it asks again what nobody answered.
    private var hasNewPeer = false
    private var isTurnScheduled = false
    private var isLogTurnScheduled = false
    private var isPreparingLog = false
    private let link = Link()

    /// Leads to the process while it lives. A weak reference would make every count of its
    /// references slower, and they are counted with every event.
    private final class Link: @unchecked Sendable {
        // Unchecked: everything here runs on the test's one thread.
        var process: SimulatedProcess?
    }

    package init(cluster: SimulatedCluster, place: Int, files: ProcessFiles) {
        self.cluster = cluster
        clock = cluster.clock
        self.place = place
        id = MemberID(UInt64(place + 1))
        clockRate = cluster.settings.clockRate(of: place)
        self.files = files
        link.process = self
    }

    /// Opens what the disk holds and starts.
    package func start(_ settings: ClusterSettings, nonce: UInt64) throws(EngineError) {
        let cluster = self.cluster
        var configuration = StoreConfiguration(
            files: StoreFiles(fileSystem: files, directory: "data/group-0"),
            identity: ManifestIdentity(
                genesis: logGenesis(cluster: "simulated", group: 0), group: 0, node: id),
            options: settings.store(of: id), jobs: self,
            healEnvironment: HealEnvironment(
                clock: { [link] in link.process?.wallMilliseconds ?? 0 },
                wake: { [link] in link.process?.wakeReplica() },
                note: { [link] in link.process?.say($0) },
                halt: { [link] in link.process?.halt(reason: $0) }))
        var log = LogOptions()
        log.aheadBytes = 16 << 10
        let opened: OpenedReplica
        do throws(EngineError) {
            opened = try OpenedReplica.open(configuration, log: log, nonce: nonce)
        } catch {
            // As a node does: a lost manifest is taken from a peer. Only one that was set aside is
            // lost here; any other is a violation.
            guard error.isLostManifest, cluster.oracle.allowsDivergence else { throw error }
            let states = Dictionary(
                uniqueKeysWithValues: cluster.reachablePeers(of: place).map {
                    ($0.id, $0.replica.store.manifest)
                })
            guard let donor = DonorChoice.choose(states, members: cluster.nodeCount) else {
                throw error
            }
            tookManifest = true
            configuration.replacement = states[donor]
            configuration.donor = donor
            opened = try OpenedReplica.open(configuration, log: log, nonce: nonce)
        }
        var options = ReplicaOptions(
            cluster: "simulated", node: id, seedMembers: settings.members,
            seedSettings: settings.logged, store: settings.store(of: id))
        options.electionTimeoutMilliseconds = settings.electionTimeoutMilliseconds
        options.heartbeatMilliseconds = settings.heartbeatMilliseconds
        options.retainBytes = settings.retainBytes
        options.keepObsoleteMilliseconds = settings.keepObsoleteMilliseconds
        options.cacheBytes = settings.entryCacheBytes
        options.leaseMilliseconds = settings.leaseMilliseconds
        options.leaseDriftMilliseconds = settings.leaseDriftMilliseconds
        options.seed = nonce
        replica = Replica(options: options, environment: self, opened: opened)
        if settings.members.members.count > 1 { replica.store.healer.setRepairSource(self) }
        cluster.scheduleTick(self)
    }

    /// Ends without a goodbye.
    package func kill() {
        isAlive = false
        link.process = nil
        answeredFrom = nil
        files.kill()
        replica = nil
    }

    package func turn() {
        isTurnScheduled = false
        if hasNewPeer { unanswered = UnansweredQuestions() }
        hasNewPeer = false
        replica.turn()
    }

    package func connected(to peer: MemberID) {
        hasNewPeer = true
        replica.post(.connected(peer))
    }

    package func logTurn() {
        isLogTurnScheduled = false
        replica.logWriter.turn()
        guard replica.log.wantsPreparation, !isPreparingLog else { return }
        isPreparingLog = true
        submit(.flush) { [link] in
            guard let process = link.process else { return }
            process.isPreparingLog = false
            do throws(EngineError) { try process.replica.log.prepareNext() } catch {
                process.say("the log cannot prepare its file: \(error)")
            }
        }
    }

    package func say(_ text: String) { cluster.journal.add("\(cluster.now) node \(id): \(text)") }
}

extension SimulatedProcess: ReplicaEnvironment {
    package var monotonicMilliseconds: UInt64 {
        let passed = clock.now
        return passed + passed * clockRate / 1_000 + 1_000 * (id.rawValue + 1)
    }
    package var wallMilliseconds: UInt64 { cluster.wall(of: place) }

    package func send(_ message: PeerMessage, to member: MemberID) -> Bool {
        guard isAlive else { return false }
        if case .raft(_, .append(let request)) = message { cluster.noteShipped(request.entries) }
        return cluster.network.send(message, from: place, to: Int(member.rawValue) - 1)
    }

    package func wakeReplica() {
        guard isAlive, !isTurnScheduled else { return }
        isTurnScheduled = true
        cluster.schedule(.turn(self), after: cluster.delays.turn())
    }

    package func wakeLogWriter() {
        guard isAlive, !isLogTurnScheduled else { return }
        isLogTurnScheduled = true
        cluster.schedule(.logTurn(self), after: cluster.delays.logTurn())
    }

    package var jobs: any JobRunner { self }

    package func halt(reason: String) {
        say("halts: \(reason)")
        haltReason = reason
    }

    package func note(_ event: ReplicaNote) {
        say("\(event)")
        switch event {
        case .becameLeader(let term):
            cluster.oracle.noteLeader(id, term)
            cluster.onLeader?(self)
        case .divergence:
            if !cluster.oracle.allowsDivergence {
                cluster.oracle.violation("node \(id): \(event)")
            }
        case .logDiverged, .contradiction: cluster.oracle.violation("node \(id): \(event)")
        case .memberPastRetention(let member, _):
            cluster.oracle.notePastRetention(member)
        case .leaderIs, .warning: break
        }
    }

    package func fetch(
        _ request: FetchRequest, of member: MemberID,
        completion: @escaping @Sendable (FetchReply?) -> Void
    ) {
        let donor = cluster.reachablePeers(of: place).first { $0.id == member }
        var reply = donor.map { RepairServer.answer(request, replica: $0.replica) }
        if case .entry = request, case .bytes(let bytes) = reply, let donor,
            let forge = cluster.forgeEntry, let entry = try? Entry(decoding: bytes)
        {
            reply = .bytes(forge(donor, entry).encoded)
        }
        cluster.schedule(
            .job(self, { [reply] in completion(reply) }), after: cluster.delays.turn())
    }
}

extension SimulatedProcess: JobRunner {
    package func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        guard isAlive else { return }
        if cluster.delays.isHolding?(priority, place) == true { return cluster.hold(job, of: self) }
        cluster.schedule(.job(self, job), after: cluster.delays.job(priority, at: place))
    }
}

extension SimulatedProcess: RepairSource {
    package func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64,
        isProven: (RepairedBlock) -> Bool
    ) -> RepairedBlock? {
        let request: FetchRequest =
            ordinal == .leaves
            ? .leaves(table: table, digest: digest)
            : .block(table: table, digest: digest, ordinal: ordinal)
        let address = BlockAddress(table: table, ordinal: ordinal)
        let peers = cluster.reachablePeers(of: place)
        for peer in peers {
            if case .bytes(let bytes) = RepairServer.answer(request, replica: peer.replica) {
                let block = RepairedBlock(bytes: bytes, donor: peer.id)
                guard isProven(block) else { continue }
                cluster.onBlockGiven?(peer)
                return block
            }
        }
        unanswered.noteBlock(address, now: wallMilliseconds)
        for peer in peers where peer.holds(address, digest: digest) {
            cluster.oracle.violation("node \(peer.id) has \(address) and does not give it")
        }
        return nil
    }

    package func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
    {
        let peers = cluster.reachablePeers(of: place)
        for peer in peers {
            if case .value(let value) = RepairServer.answer(
                .read(key: key, index: index, now: now), replica: peer.replica)
            {
                answeredFrom = peer.replica.store
                return RemoteRead(value: value)
            }
        }
        unanswered.noteRead(now: wallMilliseconds)
        for peer in peers where peer.canRead(key, at: index, now: now) {
            cluster.oracle.violation("node \(peer.id) can answer a read and does not")
        }
        return nil
    }
}

/// What a peer could give, as one sees it who looks into its manifest and its disk.
extension SimulatedProcess {
    /// Whether a file that its manifest names holds the block clean.
    fileprivate func holds(_ address: BlockAddress, digest: Digest128) -> Bool {
        let state = replica.store.manifest
        let id = address.table
        let found =
            state.manifest.tables.record(id)
            ?? state.standIns.flatMap(\.tables).first { $0.id == id }
        guard let local = state.local[id], let record = found, record.digest == digest else {
            return false
        }
        let name = TableHandle.fileName(id, generation: UInt64(local.generation))
        do {
            let file = try cluster.disks[place].open(SimulatedCluster.tables + "/" + name, .read)
            let reader = try TableReader.open(
                file: file, record: record, cache: BlockCache(capacity: 0, shards: 1))
            _ = try reader.canonicalBlock(address.ordinal, fromMedium: true)
            return true
        } catch {
            return false
        }
    }

    /// Whether it has applied enough to answer, and lacks nothing that others would have.
    fileprivate func canRead(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds) -> Bool {
        guard replica.store.applied >= index else { return false }
        do throws(EngineError) {
            _ = try replica.store.getHere(key, now: now, io: .blocking)
            return true
        } catch {
            return !unanswered.explainScan(error, now: wallMilliseconds)
        }
    }
}
