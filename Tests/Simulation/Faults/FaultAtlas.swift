// Faults that a correct cluster always recovers from, so that what stays broken afterwards is a
// defect. Processes die, lose power, stop and go on, and links fail anywhere, for a while; what a
// disk kept, though, is damaged only on the same minority of nodes during all of a run, in one copy
// of what is kept twice, and never in the last entries of a log, where rot reads as torn.
import Engine
import Replication

package final class FaultAtlas: @unchecked Sendable {
    // Unchecked: everything happens on the simulation's one thread.
    private unowned let cluster: SimulatedCluster
    private let kinds: [FaultKind]
    private var random: SeededRandom
    private let pauseMax: Int
    /// Whose disks may be damaged, and whose clocks are wrong.
    private let victims: [Int]
    private(set) var isActive = false
    // Set once, in init, to something that needs self.
    // swift-format-ignore: NeverUseImplicitlyUnwrappedOptionals
    private var leaders: LeaderFaults!
    /// Stopped nodes whose damage nothing may add to before they have mended it.
    private var damaged: Set<Int> = []
    package private(set) var counts: [FaultKind: Int] = [:]

    package init(
        _ cluster: SimulatedCluster, _ kinds: [FaultKind], seed: UInt64, pauseMax: Int = 900
    ) {
        self.cluster = cluster
        self.kinds = kinds
        self.pauseMax = pauseMax
        random = SeededRandom(seed: seed)
        var places = Array(0..<cluster.nodeCount)
        var victims: [Int] = []
        for _ in 0..<((cluster.nodeCount - 1) / 2) {
            victims.append(places.remove(at: random.below(places.count)))
        }
        self.victims = victims
        leaders = LeaderFaults(cluster, self, random: random.fork())
    }

    package var total: Int { counts.values.reduce(0, +) }

    package func start() {
        isActive = !kinds.isEmpty
        cluster.onLeader = { [unowned self] in if isActive { leaders.greet($0) } }
        again()
    }

    private func again() {
        guard isActive else { return }
        cluster.perform(after: UInt64(50 + random.below(pauseMax))) { [self] in
            guard isActive else { return }
            let kind = kinds[random.below(kinds.count)]
            if act(kind) {
                counts[kind, default: 0] += 1
                cluster.journal.add("\(cluster.now) fault: \(kind.rawValue)")
            }
            again()
        }
    }

    package func end() {
        isActive = false
        cluster.onLeader = nil
        for place in 0..<cluster.nodeCount { cluster.disks[place].capacity = .max }
        cluster.endFaults()
    }

    /// False if there was nothing that it could have happened to.
    private func act(_ kind: FaultKind) -> Bool {
        switch kind {
        case .crash: return crash()
        case .power: return cutPower()
        case .midway: return stopMidway()
        case .transfer: return transfer()
        case .succession: return leaders.beginSuccession()
        case .partition, .oneWay: return cut(isOneWay: kind == .oneWay)
        case .delay, .loss, .reorder, .duplicate, .bandwidth: return changeWeather(kind)
        case .rotLog: return rotLog()
        case .rotManifest: return damageVictim { [self] place, _ in rotManifest(place) }
        case .rotState: return damageVictim { [self] place, _ in rotState(place) }
        case .lostState: return loseState()
        case .rotTable: return rotTable()
        case .misdirected: return misdirect()
        case .unreadable: return makeUnreadable()
        case .full: return fill()
        case .stuck: return stick()
        case .failedSync: return failSync()
        case .clock: return jump()
        case .slowJobs: return slowJobs()
        case .pause: return pause()
        }
    }

    private func anyPlace() -> Int { random.below(cluster.nodeCount) }

    // MARK: Processes

    func stop(_ place: Int, power: Bool) {
        stop(place, power: power, for: random.oneIn(4) ? random.below(4_000) : random.below(600))
    }

    private func stop(_ place: Int, power: Bool, for milliseconds: Int) {
        guard !damaged.contains(place) else { return }
        cluster.stopNode(place, power: power)
        cluster.perform(after: UInt64(20 + milliseconds)) { [self] in start(place) }
    }

    private func start(_ place: Int) {
        if !damaged.contains(place) { cluster.startNode(place) }
    }

    private func crash() -> Bool {
        if random.oneIn(4) { return leaders.expect(.crash) }
        let place = random.oneIn(2) ? cluster.leaders.first?.place ?? anyPlace() : anyPlace()
        guard cluster.process(place) != nil else { return false }
        stop(place, power: false)
        return true
    }

    /// Any subset, all of them often.
    private func cutPower() -> Bool {
        let all = random.oneIn(2)
        for place in 0..<cluster.nodeCount where all || random.oneIn(2) {
            stop(place, power: true)
        }
        return true
    }

    private func stopMidway() -> Bool {
        if random.oneIn(3) { return stopNextRewind() }
        let place = anyPlace()
        guard cluster.process(place) != nil else { return false }
        breakDown(place, power: random.oneIn(2))
        return true
    }

    /// Whoever takes back entries of its log next loses power before that is done, or soon after:
    /// what the medium keeps of them must not come back.
    private func stopNextRewind() -> Bool {
        cluster.onRewind = { [unowned self] place in
            cluster.onRewind = nil
            breakDown(place, power: true)
        }
        return true
    }

    /// After a few more changes the disk takes none any more, and the process dies.
    private func breakDown(_ place: Int, power: Bool) {
        let process = cluster.process(place)
        cluster.allowHalt(place)
        cluster.disks[place].stop(after: random.below(30))
        cluster.perform(after: UInt64(5 + random.below(60))) { [self] in
            guard cluster.process(place) === process else { return }
            stop(place, power: power)
        }
    }

    private func transfer() -> Bool {
        guard let leader = cluster.leaders.first else { return false }
        let target = MemberID(UInt64(1 + anyPlace()))
        guard target != leader.id else { return false }
        if random.oneIn(2) { keepFromLearning(leader.place) }
        let place = leader.place
        cluster.perform(after: 400) { [unowned cluster] in
            cluster.process(place)?.replica.post(.transfer(target))
        }
        return true
    }

    /// All that the others tell a leader takes so long that their answers from before a handover
    /// reach it when the next one has begun, of which it learns later still.
    private func keepFromLearning(_ place: Int) {
        cluster.network.delayTo[place] = 100 + UInt64(random.below(150))
        cluster.perform(after: 1_500) { [unowned cluster] in
            cluster.network.delayTo[place] = nil
        }
    }

    private func pause() -> Bool {
        let place = random.oneIn(2) ? cluster.leaders.first?.place ?? anyPlace() : anyPlace()
        guard let process = cluster.process(place) else { return false }
        // Often just long enough that somebody else leads when it goes on, and it does not know yet.
        let length = random.oneIn(2) ? 250 + random.below(450) : 50 + random.below(2_500)
        if random.oneIn(2) {
            pauseInRound(process, length)
        } else {
            process.pausedUntil = cluster.now + UInt64(length)
        }
        return true
    }

    /// What it has asked the others is answered while it sleeps, as are writes somewhere else; it
    /// finds the answers together with its clients' next questions.
    private func pauseInRound(_ process: SimulatedProcess, _ length: Int) {
        cluster.clients.read(at: process)
        cluster.perform(after: 2) { [unowned cluster] in
            process.pausedUntil = cluster.now + UInt64(length)
        }
        cluster.perform(after: UInt64(length)) { [self] in
            guard cluster.process(process.place) === process else { return }
            hurryClients(at: process.place)
        }
    }

    /// Some flushes or compactions crawl, so that later ones over the same keys are ready first: on
    /// one node, or on all of them, whose jobs are proved in another order then.
    private func slowJobs() -> Bool {
        let place = random.oneIn(2) ? nil : anyPlace()
        let isFlush = random.oneIn(3)
        var counts = Array(repeating: 0, count: cluster.nodeCount)
        cluster.delays.jobDelay = { priority, at in
            guard place == nil || at == place, priority == (isFlush ? .flush : .compaction) else {
                return nil
            }
            counts[at] += 1
            return counts[at] % 2 == 1 ? 2_000 : 1
        }
        cluster.perform(after: UInt64(1_000 + random.below(4_000))) { [unowned cluster] in
            cluster.delays.jobDelay = nil
        }
        return true
    }

    private func jump() -> Bool {
        guard let place = victims.first else { return false }
        cluster.setClock(
            of: place,
            ahead: UInt64(
                [0, random.below(200), random.below(3_000), 60_000][
                    random.below(4)]))
        return true
    }

    // MARK: Network

    func isolate(_ place: Int) {
        let resets = random.oneIn(3)
        cluster.network.isolate(place, resets: resets)
        // Others may lead before this one knows: its clients must not see what was.
        if resets { hurryClients(at: place) }
        healLater()
    }

    private func hurryClients(at place: Int) {
        for step in 0..<25 {
            cluster.perform(after: UInt64(8 * step)) { [unowned cluster] in
                cluster.clients.write()
                if let process = cluster.process(place) { cluster.clients.read(at: process) }
            }
        }
    }

    private func healLater() {
        cluster.perform(after: UInt64(random.below(4_000))) { [unowned cluster] in
            cluster.network.heal()
        }
    }

    private func cut(isOneWay: Bool) -> Bool {
        if !isOneWay, random.oneIn(4) { return leaders.expect(.partition) }
        let place = random.oneIn(3) ? cluster.leaders.first?.place ?? anyPlace() : anyPlace()
        let other = anyPlace()
        guard place != other else { return false }
        if isOneWay {
            cluster.network.cut(place, other)
            healLater()
        } else {
            isolate(place)
        }
        return true
    }

    private func changeWeather(_ kind: FaultKind) -> Bool {
        let isWorse = random.below(3) > 0
        let fair = NetworkWeather.fair
        switch kind {
        case .loss: cluster.network.weather.lost = isWorse ? 10 + random.below(60) : fair.lost
        case .duplicate: cluster.network.weather.repeated = isWorse ? 30 : fair.repeated
        case .reorder: cluster.network.weather.overtaking = isWorse ? 200 : fair.overtaking
        case .bandwidth:
            cluster.network.weather.bandwidth = isWorse ? 16 + random.below(240) : fair.bandwidth
        default:
            cluster.network.weather.late = isWorse ? 30 : fair.late
            cluster.network.weather.delayMax = isWorse ? 4 + random.below(30) : fair.delayMax
        }
        return true
    }

    // MARK: Disks

    private func runningVictim() -> SimulatedProcess? {
        victims.isEmpty ? nil : cluster.process(victims[random.below(victims.count)])
    }

    private func damageVictim(_ body: (Int, LogIndex) throws -> Bool) -> Bool {
        guard let process = runningVictim() else { return false }
        return damage(process, body)
    }

    /// Damage to what a process reads when it opens: nothing more happens to this disk before it
    /// runs again and has mended it.
    private func damage(_ process: SimulatedProcess, _ body: (Int, LogIndex) throws -> Bool)
        -> Bool
    {
        let place = process.place
        let flushed = process.replica.store.flushedPosition.index
        cluster.stopNode(place, power: false)
        let isDone = (try? body(place, flushed)) ?? false
        damaged.insert(place)
        cluster.perform(after: UInt64(20 + random.below(800))) { [self] in
            damaged.remove(place)
            start(place)
        }
        return isDone
    }

    private func rotLog() -> Bool {
        guard let process = runningVictim() else { return false }
        if random.oneIn(2) { return rotLog(of: process) }
        rotLogBesideLaggard(process)
        return true
    }

    private func rotLog(of process: SimulatedProcess) -> Bool {
        damage(process) { [self] place, flushed in
            try !cluster.rotLogEntries(place, count: 1 + random.below(3), above: flushed).isEmpty
        }
    }

    /// What rots is needed: another node was away when it was committed, and comes back while those
    /// are away that have it whole.
    private func rotLogBesideLaggard(_ process: SimulatedProcess) {
        let others = (0..<cluster.nodeCount).filter { $0 != process.place }
        guard !others.isEmpty else { return }
        let laggard = others[random.below(others.count)]
        cluster.network.isolate(laggard)
        cluster.perform(after: UInt64(300 + random.below(1_200))) { [self] in
            cluster.network.heal()
            guard isActive, cluster.process(process.place) === process else { return }
            for place in others where place != laggard {
                stop(place, power: random.oneIn(2), for: 1_500 + random.below(1_500))
            }
            _ = rotLog(of: process)
        }
    }

    private func rotManifest(_ place: Int) -> Bool {
        let directory = "data/group-0"
        let names = (try? cluster.disks[place].list(directory)) ?? []
        let found = names.filter { $0.hasPrefix("MANIFEST-") }
        guard !found.isEmpty else { return false }
        let path = directory + "/" + found[random.below(found.count)]
        let size = cluster.size(place, path)
        guard size > 0 else { return false }
        cluster.disks[place].flip(path, UInt64(random.below(Int(size))), mask: 0x20)
        return true
    }

    private func rotState(_ place: Int) -> Bool {
        let copy = random.below(HardStateFormat.copies)
        let offset =
            HardStateFormat.copyOffset(copy)
            + UInt64(random.below(HardStateFormat.sectorBytes))
        cluster.disks[place].flip("data/group-0/state", offset, mask: 0x08)
        return true
    }

    /// All that a member remembers of its votes and of what it took back of its log. A page beside
    /// them may be all that tells of entries that are lost: never while some are.
    private func loseState() -> Bool {
        guard let process = runningVictim(), process.replica.log.holes.isEmpty else {
            return false
        }
        return damage(process) { [self] place, _ in
            let disk = cluster.disks[place]
            try disk.unlink("data/group-0/state")
            cluster.oracle.noteStateLost(place)
            // A sync that was made to fail fails here, and is gone with it.
            do { try disk.syncDirectory("data/group-0") } catch {
                try disk.syncDirectory("data/group-0")
            }
            return true
        }
    }

    private func rotTable() -> Bool {
        guard let process = runningVictim() else { return false }
        let part = UInt64(random.below(8))
        let isBlob = random.oneIn(4)
        let id = try? cluster.rotTable(process.place, part: part, of: 8, isBlob: isBlob)
        return id != nil
    }

    /// A sector that was meant for one place of a table is found at another.
    private func misdirect() -> Bool {
        guard let process = runningVictim(), let table = cluster.largestTable(process.place) else {
            return false
        }
        let disk = cluster.disks[process.place]
        let size = cluster.size(process.place, table.path)
        guard size > 4_096, let file = try? disk.open(table.path, .read) else { return false }
        let sectors = Int(size / 512) / 2
        let from = UInt64(512 * random.below(sectors))
        let to = UInt64(512 * (1 + random.below(sectors - 1)))
        guard from != to, let wrong = try? file.readBytes(at: from, count: 512),
            let right = try? file.readBytes(at: to, count: 512)
        else { return false }
        for place in 0..<512 where wrong[place] != right[place] {
            disk.flip(table.path, to + UInt64(place), mask: wrong[place] ^ right[place])
        }
        return true
    }

    private func makeUnreadable() -> Bool {
        guard let process = runningVictim(), let table = cluster.largestTable(process.place) else {
            return false
        }
        let disk = cluster.disks[process.place]
        let size = Int(cluster.size(process.place, table.path))
        guard size > 1_024 else { return false }
        let start = UInt64(128 + random.below(size / 2))
        disk.failReads(table.path, [start..<(start + 512)])
        cluster.perform(after: UInt64(200 + random.below(3_000))) {
            disk.failReads(table.path, [])
        }
        return true
    }

    private func fill() -> Bool {
        guard let process = runningVictim() else { return false }
        let place = process.place
        cluster.disks[place].capacity =
            cluster.disks[place].usedBytes + UInt64(random.below(48 << 10))
        cluster.setTrouble(place, true)
        cluster.perform(after: UInt64(300 + random.below(3_000))) { [unowned cluster] in
            cluster.disks[place].capacity = .max
            cluster.setTrouble(place, false)
        }
        return true
    }

    private func stick() -> Bool {
        if random.oneIn(4) { return leaders.expect(.stuck) }
        let place = anyPlace()
        guard let process = cluster.process(place) else { return false }
        process.stuckUntil = cluster.now + UInt64(100 + random.below(3_000))
        return true
    }

    private func failSync() -> Bool {
        let place = anyPlace()
        guard cluster.process(place) != nil else { return false }
        cluster.allowHalt(place)
        cluster.disks[place].failNextSync()
        return true
    }
}
