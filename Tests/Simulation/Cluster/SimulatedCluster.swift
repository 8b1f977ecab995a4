// Many replicas on one thread: a virtual clock, a simulated network, disks in memory that lose
// power, and one seed from which everything is drawn. The same seed gives the same run, which
// `trace` shows. The replicas are the real ones; only the world around them is made up.
//
// The run is a queue of events. After each turn of a replica the oracle looks at what it did, and
// clients get their answers.
import Engine
import Replication

package final class SimulatedCluster: @unchecked Sendable {
    // Unchecked: everything happens on the test's one thread.
    package enum Event {
        case message(Letter)
        case link(from: Int, to: Int)
        case tick(SimulatedProcess)
        case turn(SimulatedProcess)
        case logTurn(SimulatedProcess)
        case job(SimulatedProcess, () -> Void)
        case action(() -> Void)
    }

    /// A message on its way. An object, since events are handed on and messages are large.
    package final class Letter {
        let message: PeerMessage
        let sender: MemberID
        let receiver: SimulatedProcess

        init(_ message: PeerMessage, from sender: MemberID, to receiver: SimulatedProcess) {
            self.message = message
            self.sender = sender
            self.receiver = receiver
        }
    }

    package let settings: ClusterSettings
    package let journal = SimulationJournal()
    package let delays: SimulatedDelays
    package let oracle: ClusterOracle
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    package private(set) var network: SimulatedNetwork!
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    package private(set) var clients: ClusterClients!
    /// Made by a run that wants them.
    package var registers: RegisterClients?
    /// Called with the place of a node that is about to take back durable entries of its log.
    package var onRewind: ((Int) -> Void)?
    /// Called with whoever has given another node a block, before that goes on.
    package var onBlockGiven: ((SimulatedProcess) -> Void)?
    /// What a node gives in place of an entry that another one has lost.
    package var forgeEntry: ((SimulatedProcess, Entry) -> Entry)?
    /// Called with whoever has begun to lead.
    package var onLeader: ((SimulatedProcess) -> Void)?
    package let clock = VirtualClock()
    package var now: UInt64 { clock.now }
    /// Events that were performed.
    package private(set) var events: UInt64 = 0
    package private(set) var trace = SimulationTrace()
    package private(set) var disks: [MemoryFileSystem] = []
    private var processes: [SimulatedProcess?]
    private var queue = EventQueue<Event>()
    private var random: SeededRandom
    /// How far each node's wall clock is ahead of the true time.
    private var clockOffsets: [UInt64] = []
    private let trueOffsets: [UInt64]
    private var heldJobs: [(SimulatedProcess, () -> Void)] = []
    /// Entries that anybody sent, by checksum: a leader may apply what its own disk lacks yet.
    private var shipped: [Digest128: Entry] = [:]
    /// How often each node may still stop by itself, since its disk was made to fail.
    private var allowedHalts: [Int: Int] = [:]
    /// Nodes whose disks have no room: they may stop by themselves.
    private var troubled: Set<Int> = []

    package init(_ settings: ClusterSettings) {
        self.settings = settings
        random = SeededRandom(seed: settings.seed &* 0x9e37_79b9 &+ 7)
        delays = SimulatedDelays(random: random.fork())
        oracle = ClusterOracle()
        processes = Array(repeating: nil, count: settings.nodeCount)
        for _ in 0..<settings.nodeCount {
            disks.append(MemoryFileSystem(seed: random.next()))
            clockOffsets.append(UInt64(random.below(200)))
        }
        trueOffsets = clockOffsets
        network = SimulatedNetwork(self, count: settings.nodeCount, random: random.fork())
        clients = ClusterClients(self, random: random.fork())
        for place in 0..<settings.nodeCount { startNode(place) }
    }

    deinit { for process in processes { process?.kill() } }

    // MARK: The world

    package var nodeCount: Int { settings.nodeCount }
    package func process(_ place: Int) -> SimulatedProcess? { processes[place] }
    package var running: [SimulatedProcess] { processes.compactMap { $0 } }
    package func setClock(of place: Int, ahead milliseconds: UInt64) {
        clockOffsets[place] = milliseconds
    }
    package func correctClocks() { clockOffsets = trueOffsets }
    package func wall(of place: Int) -> ClockMilliseconds {
        1_700_000_000_000 + now + clockOffsets[place]
    }

    /// The members that may evaluate commands; more than one only while a deposed leader does not
    /// know it yet.
    package var leaders: [SimulatedProcess] {
        running.filter { $0.replica.evaluatingTerm != nil }
    }

    /// Those that a node's questions reach, in an order that changes.
    package func reachablePeers(of place: Int) -> [SimulatedProcess] {
        var peers = running.filter {
            $0.place != place && network.isOpen(place, $0.place)
                && network.isOpen($0.place, place)
        }
        if peers.count > 1, random.oneIn(2) { peers.swapAt(0, 1) }
        return peers
    }

    package func draw(_ bound: Int) -> Int { random.below(bound) }

    // MARK: Events

    package func schedule(_ event: Event, after delay: UInt64) { queue.add(event, at: now + delay) }

    package func perform(after delay: UInt64, _ action: @escaping () -> Void) {
        schedule(.action(action), after: delay)
    }

    package func scheduleTick(_ process: SimulatedProcess) {
        schedule(.tick(process), after: UInt64(1 + random.below(settings.tickMilliseconds)))
    }

    /// Lets virtual time pass; ends early at the first violation.
    package func run(milliseconds: UInt64) {
        let end = now + milliseconds
        while !oracle.hasViolations, let next = queue.nextTime, next <= end { step() }
        clock.now = max(now, end)
    }

    /// Lets time pass until `condition` holds; false if it does not within the bound.
    package func run(atMost milliseconds: UInt64, until condition: () -> Bool) -> Bool {
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
        clock.now = time
        if let later = isDelayed(event) { return queue.add(event, at: later) }
        events += 1
        switch event {
        case .message(let letter):
            let process = letter.receiver
            guard process.isAlive else { return }
            trace.add(3, now, UInt64(process.place), summary(of: letter.message))
            process.replica.post(.messages([letter.message], from: letter.sender))
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

    /// Until when nothing can come of it: its process is stopped, or its disk answers nothing.
    private func isDelayed(_ event: Event) -> UInt64? {
        let until: UInt64
        switch event {
        case .message(let letter): until = letter.receiver.pausedUntil
        case .tick(let process), .turn(let process): until = process.pausedUntil
        case .logTurn(let process), .job(let process, _):
            until = max(process.pausedUntil, process.stuckUntil)
        case .link, .action: return nil
        }
        return until > now ? until : nil
    }

    private func turn(_ process: SimulatedProcess) {
        process.turn()
        let store = process.replica.store
        trace.add(
            UInt64(process.place), now, store.applied.rawValue,
            store.appliedTail.position.checksum.low ^ store.frontier.rawValue)
        oracle.observe(process)
        clients.settle()
        registers?.settle()
        noteRewind(of: process)
        reviewHealth(of: process)
    }

    /// What a node has durable falls for one reason: it takes entries back.
    private func noteRewind(of process: SimulatedProcess) {
        let durable = process.replica.status().durable
        defer { process.durable = durable }
        if durable < process.durable { onRewind?(process.place) }
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

    package func hold(_ job: @escaping () -> Void, of process: SimulatedProcess) {
        heldJobs.append((process, job))
    }

    package func releaseHeldJobs() {
        for (process, job) in heldJobs { schedule(.job(process, job), after: 1) }
        heldJobs.removeAll()
    }

    // MARK: Entries

    package func noteShipped(_ entries: [Entry]) {
        for entry in entries where entry.index > oracle.committed {
            shipped[entry.header.checksum] = entry
        }
        if shipped.count > 4_096 {
            let committed = oracle.committed
            shipped = shipped.filter { $0.value.index > committed }
        }
    }

    /// The entry that a process applied: as it was sent, else from a log.
    package func entry(at position: Position, by process: SimulatedProcess) -> Entry? {
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

    package func startNode(_ place: Int) {
        guard processes[place] == nil else { return }
        let process = SimulatedProcess(
            cluster: self, place: place,
            files: ProcessFiles(disks[place], clock: { [unowned self] in now }))
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
    package func stopNode(_ place: Int, power: Bool) {
        guard let process = processes[place] else {
            if power { disks[place].powerCut() }
            return
        }
        journal.add("\(now) node \(process.id) \(power ? "loses power" : "is killed")")
        processes[place] = nil
        oracle.noteEnd(process)
        process.kill()
        if power { disks[place].powerCut() } else { disks[place].restart() }
        clients.processEnded(process)
        registers?.processEnded(process)
        network.processEnded(place)
    }

    /// A fault of the disk was injected, after which the node may stop by itself.
    package func allowHalt(_ place: Int) { allowedHalts[place, default: 0] += 1 }

    /// While there is no room on its disk.
    package func setTrouble(_ place: Int, _ isTroubled: Bool) {
        if isTroubled {
            troubled.insert(place)
        } else {
            troubled.remove(place)
            allowHalt(place)
        }
    }

    private func takeAllowedHalt(_ place: Int) -> Bool {
        if troubled.contains(place) { return true }
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

/// Virtual milliseconds since the run began. An object of its own, since everybody asks for it all
/// the time.
package final class VirtualClock {
    fileprivate(set) package var now: UInt64 = 0
}

/// A running hash over what happened and when.
package struct SimulationTrace: Equatable {
    package private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325

    package mutating func add(_ what: UInt64, _ time: UInt64, _ first: UInt64, _ second: UInt64) {
        mix(what)
        mix(time)
        mix(first)
        mix(second)
    }

    private mutating func mix(_ value: UInt64) {
        hash = (hash ^ value) &* 0x0000_0100_0000_01b3
        hash ^= hash >> 29
    }
}
