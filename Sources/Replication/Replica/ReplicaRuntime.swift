// The edge of a replica on a node: its threads, clocks, connections and job pools. Everything here
// hands over and waits; what is decided is decided in `Replica`.
//
// Threads: an event loop for the replica's turns and for all traffic with peers, one for the log's
// appends and syncs, a pool for flushes, compaction and healing, a small one that answers peers'
// fetches. Turns and traffic share a thread because most turns begin with a message and end with
// one: what a read of sockets brought is one turn, and what the turn sends leaves with it.
import Engine
import Logging
import NIOCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class ReplicaRuntime: ReplicaEnvironment, @unchecked Sendable {
    private let logger: Logger
    private let onHalt: @Sendable (String) -> Void
    private let logSignal = WakeSignal()
    /// A turn is on its way.
    private let isTurnScheduled = Atomic(false)
    private let pool: ThreadPool
    private let fetchPool: ThreadPool
    private let fetches: PeerFetches
    private let intake = PeerIntake()
    /// Questions of each member that wait for a thread.
    private let openFetches = Mutex<[MemberID: Int]>([:])
    private static let openFetchesMax = 256
    // Set once, before `isRunning`.
    private var transport: PeerTransport?
    private var started: Replica?
    private var loop: (any EventLoop)?

    private var ticks: RepeatedTask?
    private var logThread: pthread_t?
    /// There are turns: what is posted before waits for the first.
    private let isRunning = Atomic(false)
    private let isStopping = Atomic(false)
    private let isPreparing = Atomic(false)

    /// Milliseconds between turns when nothing comes.
    private static let tickInterval = TimeAmount.milliseconds(10)

    /// `onHalt` is called, from any thread, when the node must end: nothing is acknowledged after.
    package init(
        logger: Logger, backgroundThreads: Int, onHalt: @escaping @Sendable (String) -> Void
    ) {
        self.logger = logger
        self.onHalt = onHalt
        pool = ThreadPool(name: "martlet-job", threads: max(backgroundThreads, 1))
        fetchPool = ThreadPool(name: "martlet-fetch", threads: 2)
        fetches = PeerFetches()
    }

    package var jobs: any JobRunner { pool }

    /// Only after `start`: nothing arrives before.
    package var replica: Replica {
        guard let started else { brokenInvariant("the replica was not started") }
        return started
    }

    /// Opens the transport and starts the threads. `opened` is a recovered log and store; `loop`
    /// runs until after `stop`.
    package func start(
        _ opened: OpenedReplica, options: ReplicaOptions,
        transport configuration: PeerTransportConfiguration?, on loop: any EventLoop
    ) async throws {
        self.loop = loop
        started = Replica(options: options, environment: self, opened: opened)
        if let configuration {
            // A file that is filled as it grows makes every few thousandth write wait for its disk.
            if opened.log.last.index == .zero { fillNextFile(of: opened.log) }
            try await startTransport(configuration, opened, on: loop)
        }
        isRunning.store(true, ordering: .releasing)
        let interval = ReplicaRuntime.tickInterval
        ticks = loop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [self] _ in
            turn()
        }
        startLogThread()
    }

    private func startTransport(
        _ configuration: PeerTransportConfiguration, _ opened: OpenedReplica,
        on loop: any EventLoop
    ) async throws {
        let peers = configuration.peers.map(\.member)
        if !peers.isEmpty {
            opened.store.healer.setRepairSource(PeerRepairSource(runtime: self, peers: peers))
        }
        let transport = PeerTransport(
            configuration, eventLoopGroup: loop, logger: logger, delegate: self)
        self.transport = transport
        fetches.start(transport: transport)
        try await transport.start()
    }

    /// Reads the certificate files again; connections made from now on use them. After a throw the
    /// old ones go on being used. Nothing without peers.
    package func reloadCertificates() throws(PeerTransportError) {
        try transport?.reloadCertificates()
    }

    /// On the loop.
    private func turn() {
        // Before the inbox is looked at: what comes later schedules another turn.
        _ = isTurnScheduled.exchange(false, ordering: .acquiringAndReleasing)
        guard !isStopping.load(ordering: .acquiring) else { return }
        intake.turnBegins()
        replica.turn()
        intake.turnEnded()
        fetches.expire(now: monotonicMilliseconds)
    }

    private func startLogThread() {
        let replica = self.replica
        logThread = startThread { [self] in
            while !isStopping.load(ordering: .acquiring) {
                logSignal.wait(until: monotonicMilliseconds + 1_000)
                replica.logWriter.turn()
                prepareLog(replica)
            }
            replica.logWriter.turn()
        }
    }

    /// Fills the log's next file ahead of the writer, off the commit path.
    private func prepareLog(_ replica: Replica) {
        guard replica.log.wantsPreparation, !isPreparing.exchange(true, ordering: .relaxed) else {
            return
        }
        pool.submit(.flush) { [self] in
            fillNextFile(of: replica.log)
            isPreparing.store(false, ordering: .relaxed)
        }
    }

    private func fillNextFile(of log: Log) {
        do throws(EngineError) { try log.prepareNext() } catch {
            // The next append meets the same disk and decides.
            logger.warning("the log cannot prepare its file: \(error)")
        }
    }

    /// Stops in order: leadership goes to another, then no more peers, then the threads, then the
    /// pools. What was acknowledged is in the log.
    package func stop() async {
        await handOver()
        await transport?.stop()
        isStopping.store(true, ordering: .releasing)
        logSignal.signal()
        if let logThread { pthread_join(logThread, nil) }
        fetches.failAll()
        fetchPool.stop()
        ticks?.cancel()
        let replica = self.replica
        // Behind the last turn.
        try? await loop?.submit { replica.stop() }.get()
        pool.stop()
    }

    /// The others need not wait for an election timeout.
    private func handOver() async {
        guard let status = started?.status(), status.role == "leader",
            let target = ReplicaRuntime.successor(status)
        else { return }
        started?.post(.transfer(target))
        for _ in 0..<ReplicaRuntime.handOverTries where started?.status().role == "leader" {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    private static let handOverTries = 50

    /// The voter that has most of the log among those that the leader hears; nil if it hears none.
    package static func successor(_ status: ReplicaStatus) -> MemberID? {
        status.members.filter { $0.id != status.node && $0.role != "learner" && $0.isActive }
            .max { $0.match < $1.match }?.id
    }

    // MARK: ReplicaEnvironment

    package var monotonicMilliseconds: UInt64 { Engine.monotonicMilliseconds() }
    package var wallMilliseconds: UInt64 { Engine.wallMilliseconds() }

    @discardableResult
    package func send(_ message: PeerMessage, to member: MemberID) -> Bool {
        guard case .forward(let request, _) = message else {
            return transport?.send(message, to: member) ?? false
        }
        // The link may still be made: should that fail, the client need not wait for an answer.
        let isTaken = transport?.send(message, to: member) { [weak self] failure in
            switch failure {
            case nil, .disconnected: break
            case .unknownMember, .notConnected, .queueFull, .unsendable, .stopped:
                self?.started?.post(.forwardNotSent(request))
            }
        }
        return isTaken ?? false
    }

    package func wakeReplica() {
        guard isRunning.load(ordering: .acquiring), !isStopping.load(ordering: .acquiring),
            !isTurnScheduled.exchange(true, ordering: .acquiringAndReleasing)
        else { return }
        loop?.execute { [self] in turn() }
    }
    package func wakeLogWriter() { logSignal.signal() }

    package func halt(reason: String) {
        logger.critical("the node stops", metadata: ["reason": "\(reason)"])
        onHalt(reason)
    }

    package func note(_ event: ReplicaNote) {
        switch event {
        case .becameLeader(let term):
            logger.notice("became leader", metadata: ["term": "\(term)"])
        case .leaderIs(let leader, let term):
            logger.notice("leader", metadata: ["member": "\(leader)", "term": "\(term)"])
        case .memberPastRetention(let member, let first):
            logger.error(
                "a member needs entries that are gone from the log; it must catch up by tables",
                metadata: ["member": "\(member)", "first": "\(first)"])
        case .logDiverged(let index):
            logger.critical("logs diverge", metadata: ["index": "\(index)"])
        case .divergence(let text): logger.error("divergence", metadata: ["what": "\(text)"])
        case .contradiction(let member, let text):
            transport?.cutOff(member, Refusal(.protocolViolation, text))
        case .warning(let text): logger.warning("\(text)")
        }
    }

    package func fetch(
        _ request: FetchRequest, of member: MemberID,
        completion: @escaping @Sendable (FetchReply?) -> Void
    ) {
        let fetches = self.fetches
        fetchPool.submit(.heal) {
            completion(
                fetches.ask(
                    request, of: member, deadline: ReplicaRuntime.fetchDeadlineMilliseconds))
        }
    }

    private static let fetchDeadlineMilliseconds: UInt64 = 2_000

    /// Asks a peer and waits; nil if it does not answer in time. Only from threads that may block.
    package func ask(_ request: FetchRequest, of member: MemberID, deadline: UInt64)
        -> FetchReply?
    {
        fetches.ask(request, of: member, deadline: deadline)
    }
}

extension ReplicaRuntime: PeerTransportDelegate {
    package func peerMessagesReceived(_ messages: [PeerMessage], from member: MemberID) {
        var rest: [PeerMessage] = []
        for message in messages {
            switch message {
            case .fetch(let id, let request): serve(id, request, to: member)
            case .fetchReply(let id, let reply): fetches.answered(id, by: member, reply)
            default: rest.append(message)
            }
        }
        guard !rest.isEmpty else { return }
        replica.post(.messages(rest, from: member))
        intake.add(rest, from: member)
    }

    package func takesMessages(of member: MemberID) -> Bool { intake.hasRoom(for: member) }

    private func serve(_ id: RequestID, _ request: FetchRequest, to member: MemberID) {
        let isTaken = openFetches.withLock { open in
            guard open[member, default: 0] < ReplicaRuntime.openFetchesMax else { return false }
            open[member, default: 0] += 1
            return true
        }
        guard isTaken else {
            send(.fetchReply(id, .unavailable("too many questions at once")), to: member)
            return
        }
        let replica = self.replica
        fetchPool.submit(.heal) { [weak self] in
            let reply = RepairServer.answer(request, replica: replica)
            self?.openFetches.withLock { $0[member, default: 1] -= 1 }
            self?.send(.fetchReply(id, reply), to: member)
        }
    }

    package func peerConnected(
        _ member: MemberID, lane: PeerLane, direction: PeerDirection
    ) {
        // Appends may have been lost with either of two lanes; heartbeats and votes come again.
        guard direction == .outgoing, lane != .urgent else { return }
        replica.post(.connected(member))
    }

    package func peerDisconnected(
        _ member: MemberID, lane: PeerLane, direction: PeerDirection
    ) {
        guard lane != .urgent else { return }
        if lane == .bulk { fetches.lost(member) }
        if lane == .control, direction == .outgoing {
            replica.post(.disconnected(member))
        } else {
            replica.post(.answersLost(member))
        }
    }
}

/// A condition that remembers being signalled while nobody waited.
final class WakeSignal: @unchecked Sendable {
    private let monitor = Monitor()
    private var isSignalled = false

    func signal() {
        monitor.lock()
        let wasSignalled = isSignalled
        isSignalled = true
        monitor.unlock()
        // Not under the lock, for which the woken thread would have to wait.
        if !wasSignalled { monitor.signal() }
    }

    /// Returns when signalled since the last return, or at `deadline`.
    func wait(until deadline: UInt64) {
        monitor.lock()
        if !isSignalled { monitor.wait(until: deadline) }
        isSignalled = false
        monitor.unlock()
    }
}
