// Many replicas on one thread: a virtual clock, a simulated network, disks in memory that lose
// power, and one seed from which everything is drawn. The same seed gives the same run, which
// `trace` shows. The replicas are the real ones; only the world around them is made up.
//
// The run is a queue of events. After each turn of a replica the oracle looks at what it did, and
// clients get their answers.
import Engine
import Replication

final class SimulatedCluster: @unchecked Sendable {
    // Unchecked: everything happens on the test's one thread.
    enum Event {
        case message(PeerMessage, from: MemberID, to: SimulatedProcess)
        case link(from: Int, to: Int)
        case tick(SimulatedProcess)
        case turn(SimulatedProcess)
        case logTurn(SimulatedProcess)
        case job(SimulatedProcess, () -> Void)
        case action(() -> Void)
    }

    let settings: ClusterSettings
    let journal = SimulationJournal()
    let delays: SimulatedDelays
    let oracle: ClusterOracle
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    private(set) var network: SimulatedNetwork!
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    private(set) var clients: ClusterClients!
    private(set) var now: UInt64 = 0
    private(set) var trace = SimulationTrace()
    private(set) var disks: [MemoryFileSystem] = []
    private var processes: [SimulatedProcess?]
    private var queue = EventQueue<Event>()
    private var random: SeededRandom
    /// How far each node's wall clock is ahead of the true time.
    private var clockOffsets: [UInt64] = []
    private var heldJobs: [(SimulatedProcess, () -> Void)] = []
    /// Entries that anybody sent, by checksum: a leader may apply what its own disk lacks yet.
    private var shipped: [Digest128: Entry] = [:]
    /// How often each node may still stop by itself, since its disk was made to fail.
    private var allowedHalts: [Int: Int] = [:]

    init(_ settings: ClusterSettings) {
        self.settings = settings
        random = SeededRandom(seed: settings.seed &* 0x9e37_79b9 &+ 7)
        delays = SimulatedDelays(random: random.fork())
        oracle = ClusterOracle()
        processes = Array(repeating: nil, count: settings.nodeCount)
        for _ in 0..<settings.nodeCount {
            disks.append(MemoryFileSystem(seed: random.next()))
            clockOffsets.append(UInt64(random.below(200)))
        }
        network = SimulatedNetwork(self, count: settings.nodeCount, random: random.fork())
        clients = ClusterClients(self, random: random.fork())
        for place in 0..<settings.nodeCount { startNode(place) }
    }

    deinit { for process in processes { process?.kill() } }

    // MARK: The world

    var nodeCount: Int { settings.nodeCount }
    func process(_ place: Int) -> SimulatedProcess? { processes[place] }
    var running: [SimulatedProcess] { processes.compactMap { $0 } }
    func setClock(of place: Int, ahead milliseconds: UInt64) {
        clockOffsets[place] = milliseconds
    }
    func wall(of place: Int) -> ClockMilliseconds {
        1_700_000_000_000 + now + clockOffsets[place]
    }

    /// The members that may evaluate commands; more than one only while a deposed leader does not
    /// know it yet.
    var leaders: [SimulatedProcess] {
        running.filter { $0.replica.evaluatingTerm != nil }
    }

    /// Those that a node's questions reach, in an order that changes.
    func reachablePeers(of place: Int) -> [SimulatedProcess] {
        var peers = running.filter {
            $0.place != place && network.isOpen(place, $0.place)
                && network.isOpen($0.place, place)
        }
        if peers.count > 1, random.oneIn(2) { peers.swapAt(0, 1) }
        return peers
    }

    func draw(_ bound: Int) -> Int { random.below(bound) }

    // MARK: Events

    func schedule(_ event: Event, after delay: UInt64) { queue.add(event, at: now + delay) }

    func perform(after delay: UInt64, _ action: @escaping () -> Void) {
        schedule(.action(action), after: delay)
    }

    func scheduleTick(_ process: SimulatedProcess) {
        schedule(.tick(process), after: UInt64(1 + random.below(settings.tickMilliseconds)))
    }

    /// Lets virtual time pass; ends early at the first violation.
    func run(milliseconds: UInt64) {
        let end = now + milliseconds
        while !oracle.hasViolations, let next = queue.nextTime, next <= end { step() }
        now = max(now, end)
    }

    /// Lets time pass until `condition` holds; false if it does not within the bound.
    func run(atMost milliseconds: UInt64, until condition: () -> Bool) -> Bool {
        let end = now + milliseconds
        while now < end {
            if oracle.hasViolations { return false }
            if condition() { return true }
            run(milliseconds: 20)
        }
        return condition()
    }

    private func step() {
        guard let (time, event) = queue.popFirst() else { return }
        now = time
        switch event {
        case .message(let message, let from, let process):
            guard process.isAlive else { return }
            trace.add(3, now, UInt64(process.place), summary(of: message))
            process.replica.post(.messages([message], from: from))
        case .link(let from, let to): network.change(from, to)
        case .tick(let process):
            guard process.isAlive else { return }
            scheduleTick(process)
            turn(process)
        case .turn(let process):
            guard process.isAlive else { return }
            turn(process)
        case .logTurn(let process):
            guard process.isAlive else { return }
            process.logTurn()
            reviewHealth(of: process)
        case .job(let process, let body):
            guard process.isAlive else { return }
            trace.add(4, now, UInt64(process.place), 0)
            body()
            reviewHealth(of: process)
        case .action(let body): body()
        }
    }

    private func turn(_ process: SimulatedProcess) {
        process.turn()
        let store = process.replica.store
        trace.add(
            UInt64(process.place), now, store.applied.rawValue,
            store.appliedTail.position.checksum.low ^ store.frontier.rawValue)
        oracle.observe(process)
        clients.settle()
        reviewHealth(of: process)
    }

    private func summary(of message: PeerMessage) -> UInt64 {
        switch message {
        case .raft(_, .append(let request)):
            return request.previousIndex.rawValue << 8 | UInt64(request.entries.count & 0xff)
        case .raft(_, .appendReply(let reply)): return reply.index.rawValue << 1
        case .raft(_, .heartbeat(let heartbeat)): return heartbeat.round << 2
        case .report(_, let report): return report.frontier.rawValue << 3
        default: return 5
        }
    }

    func hold(_ job: @escaping () -> Void, of process: SimulatedProcess) {
        heldJobs.append((process, job))
    }

    func releaseHeldJobs() {
        for (process, job) in heldJobs { schedule(.job(process, job), after: 1) }
        heldJobs.removeAll()
    }

    // MARK: Entries

    func noteShipped(_ entries: [Entry]) {
        for entry in entries where entry.index > oracle.committed {
            shipped[entry.header.checksum] = entry
        }
        if shipped.count > 4_096 {
            let committed = oracle.committed
            shipped = shipped.filter { $0.value.index > committed }
        }
    }

    /// The entry that a process applied: as it was sent, else from a log.
    func entry(at position: Position, by process: SimulatedProcess) -> Entry? {
        if let entry = shipped[position.checksum] { return entry }
        for holder in [process] + running where holder.replica != nil {
            guard
                let found = try? holder.replica.log.entries(from: position.index, maxBytes: 1),
                let entry = found.first, entry.header.checksum == position.checksum
            else { continue }
            return entry
        }
        return nil
    }

    // MARK: Nodes

    func startNode(_ place: Int) {
        guard processes[place] == nil else { return }
        let process = SimulatedProcess(
            cluster: self, place: place,
            files: ProcessFiles(disks[place]) { [unowned self] in now })
        do throws(EngineError) {
            try process.start(settings, nonce: random.next())
        } catch {
            process.kill()
            if takeAllowedHalt(place) {
                disks[place].restart()
                perform(after: 200) { [unowned self] in startNode(place) }
            } else {
                oracle.violation("node \(process.id) does not open: \(error)")
            }
            return
        }
        processes[place] = process
        oracle.noteStart(process)
        network.processStarted(place)
        journal.add("\(now) node \(process.id) starts")
    }

    /// Ends the process; with `power`, also what was not synced is lost, or part of it.
    func stopNode(_ place: Int, power: Bool) {
        guard let process = processes[place] else {
            if power { disks[place].powerCut() }
            return
        }
        journal.add("\(now) node \(process.id) \(power ? "loses power" : "is killed")")
        processes[place] = nil
        process.kill()
        if power { disks[place].powerCut() } else { disks[place].restart() }
        clients.processEnded(process)
        network.processEnded(place)
    }

    /// A fault of the disk was injected, after which the node may stop by itself.
    func allowHalt(_ place: Int) { allowedHalts[place, default: 0] += 1 }

    private func takeAllowedHalt(_ place: Int) -> Bool {
        guard let left = allowedHalts[place], left > 0 else { return false }
        allowedHalts[place] = left - 1
        return true
    }

    /// A node stops by itself only after a fault of its disk; then it is started again.
    private func reviewHealth(of process: SimulatedProcess) {
        guard process.isAlive, let reason = process.haltReason else { return }
        if !takeAllowedHalt(process.place) {
            oracle.violation("node \(process.id) halts without cause: \(reason)")
        }
        stopNode(process.place, power: random.oneIn(2))
        let place = process.place
        perform(after: UInt64(50 + random.below(500))) { [unowned self] in startNode(place) }
    }
}

/// A running hash over what happened and when.
struct SimulationTrace: Equatable {
    private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ values: UInt64...) {
        for value in values {
            hash = (hash ^ value) &* 0x0000_0100_0000_01b3
            hash ^= hash >> 29
        }
    }
}
