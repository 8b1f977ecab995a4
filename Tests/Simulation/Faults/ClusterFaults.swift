// What goes wrong in a run of the simulated cluster, and how it ends: faults at random moments,
// then peace, then everything must come together within a bounded time.
import Engine
import Replication

package struct FaultMix {
    /// Out of a hundred disturbances each.
    package var kill = 15
    package var killLeader = 12
    package var powerCut = 12
    package var partition = 18
    package var weather = 15
    package var slowDisk = 8
    package var transfer = 6
    /// The process dies between any two steps on its disk.
    package var stopMidway = 8
    package var failedSync = 6
    /// Milliseconds between disturbances, at most.
    package var pauseMax = 700

    package init() {}
}

package final class ClusterFaults: @unchecked Sendable {
    // Unchecked: everything happens on the test's one thread.
    private unowned let cluster: SimulatedCluster
    private let mix: FaultMix
    private var random: SeededRandom
    private var isActive = false

    package init(_ cluster: SimulatedCluster, _ mix: FaultMix, seed: UInt64) {
        self.cluster = cluster
        self.mix = mix
        random = SeededRandom(seed: seed)
    }

    package func start() {
        isActive = true
        again()
    }

    private func again() {
        cluster.perform(after: UInt64(50 + random.below(mix.pauseMax))) { [self] in
            guard isActive else { return }
            disturb()
            again()
        }
    }

    /// Ends all faults: links open, nodes up, disks fast.
    package func end() {
        isActive = false
        cluster.endFaults()
    }

    private func disturb() {
        let kinds: [(Int, () -> Void)] = [
            (mix.kill, { [self] in stop(random.below(cluster.nodeCount), power: false) }),
            (
                mix.killLeader,
                { [self] in
                    guard let leader = cluster.leaders.first else { return }
                    stop(leader.place, power: random.oneIn(2))
                }
            ),
            (mix.powerCut, { [self] in cutPower() }),
            (mix.partition, { [self] in partition() }),
            (
                mix.weather,
                { [self] in
                    cluster.network.weather = random.oneIn(2) ? .fair : .poor
                }
            ),
            (
                mix.slowDisk,
                { [self] in
                    if random.oneIn(2) {
                        cluster.delays.slowNodes = []
                    } else {
                        cluster.delays.slowNodes.insert(random.below(cluster.nodeCount))
                    }
                }
            ),
            (mix.transfer, { [self] in transfer() }),
            (mix.stopMidway, { [self] in stopMidway(random.below(cluster.nodeCount)) }),
            (mix.failedSync, { [self] in failSync(random.below(cluster.nodeCount)) }),
        ]
        var drawn = random.below(max(1, kinds.reduce(0) { $0 + $1.0 }))
        for (weight, act) in kinds {
            if drawn < weight { return act() }
            drawn -= weight
        }
    }

    private func stop(_ place: Int, power: Bool) {
        cluster.stopNode(place, power: power)
        startLater(place)
    }

    private func startLater(_ place: Int) {
        let delay = random.oneIn(4) ? random.below(4_000) : random.below(600)
        cluster.perform(after: UInt64(20 + delay)) { [unowned cluster] in
            cluster.startNode(place)
        }
    }

    /// Any subset, all of them often.
    private func cutPower() {
        let all = random.oneIn(2)
        for place in 0..<cluster.nodeCount where all || random.oneIn(2) {
            stop(place, power: true)
        }
    }

    private func partition() {
        if random.oneIn(3) { return cluster.network.heal() }
        let place = random.below(cluster.nodeCount)
        let other = random.below(cluster.nodeCount)
        if random.oneIn(2) {
            cluster.network.isolate(place)
        } else if place != other {
            cluster.network.cut(place, other)
        }
        cluster.perform(after: UInt64(random.below(3_000))) { [unowned cluster] in
            cluster.network.heal()
        }
    }

    private func transfer() {
        guard let leader = cluster.leaders.first else { return }
        let target = MemberID(UInt64(1 + random.below(cluster.nodeCount)))
        guard target != leader.id else { return }
        leader.replica.post(.transfer(target))
    }

    /// After some more changes the disk refuses everything; then the process dies.
    private func stopMidway(_ place: Int) {
        guard let process = cluster.process(place) else { return }
        cluster.allowHalt(place)
        cluster.disks[place].stop(after: random.below(30))
        cluster.perform(after: UInt64(5 + random.below(60))) { [self] in
            guard cluster.process(place) === process else { return }
            stop(place, power: random.oneIn(2))
        }
    }

    private func failSync(_ place: Int) {
        guard cluster.process(place) != nil else { return }
        cluster.allowHalt(place)
        cluster.disks[place].failNextSync()
    }
}

extension SimulatedCluster {
    /// Every node runs, every link is open, the weather is fair.
    package func endFaults() {
        network.weather = .fair
        network.delayTo = [:]
        delays.slowNodes = []
        delays.jobDelay = nil
        onRewind = nil
        correctClocks()
        for place in 0..<nodeCount { setTrouble(place, false) }
        for process in running {
            process.pausedUntil = 0
            process.stuckUntil = 0
        }
        network.heal()
        for place in 0..<nodeCount { startNode(place) }
    }

    /// A write is acknowledged within `milliseconds`.
    package func expectProgress(within milliseconds: UInt64) {
        let before = clients.applied
        let isLive = run(atMost: milliseconds) {
            clients.write()
            return clients.applied > before
        }
        if !isLive, !oracle.hasViolations {
            oracle.violation("no write is acknowledged \(milliseconds) ms after the last fault")
        }
    }

    /// All nodes hold the same log, applied, flushed, sealed and compacted, in the same tables.
    package func expectConvergence(within milliseconds: UInt64) {
        guard run(atMost: milliseconds, until: { isConverged }) else {
            if !oracle.hasViolations {
                oracle.violation("no convergence after \(milliseconds) ms: \(stateText)")
            }
            return
        }
        if !run(atMost: 3_000, until: { leftovers.isEmpty }) {
            oracle.violation("files that nobody needs stay: \(leftovers)")
        }
        let failed = oracle.failedReads
        for process in running {
            oracle.checkScan(process, reverse: false)
            oracle.checkScan(process, reverse: true)
        }
        if oracle.failedReads > failed { oracle.violation("reads fail though all nodes agree") }
    }

    package var isConverged: Bool {
        guard running.count == nodeCount, let first = running.first?.replica.store else {
            return false
        }
        return running.allSatisfy { process in
            let store = process.replica.store
            return store.applied == oracle.committed
                && store.isFlushed(through: store.lastFrozenIndex)
                && store.isInstalled(through: store.applied)
                && store.jobFacts(at: 0).manifest.jobs.isEmpty
                && store.frontier == first.frontier
                && store.stateRoot == first.stateRoot
        }
    }

    /// Files in the table directories that no manifest names, and what it names and is not there.
    private var leftovers: [String] {
        running.flatMap { process -> [String] in
            let local = process.replica.store.manifest.local
            let wanted = Set(
                local.map {
                    TableHandle.fileName($0.key, generation: UInt64($0.value.generation))
                })
            let found = Set((try? disks[process.place].list(SimulatedCluster.tables)) ?? [])
            let staged = (try? disks[process.place].list("data/group-0/staged")) ?? []
            return (found.symmetricDifference(wanted).sorted() + staged).map {
                "node \(process.id): \($0)"
            }
        }
    }

    package var stateText: String {
        running.map { process in
            let store = process.replica.store
            return "node \(process.id) applied \(store.applied) of \(oracle.committed), frontier "
                + "\(store.frontier), frozen \(store.frozenCount), stand-ins "
                + "\(store.installed.standIns.count), unsealed \(store.logical.unsealed.count), "
                + "log \(process.replica.log.first)...\(process.replica.log.last.index), S "
                + "\(store.flushedPosition.index), "
                + "jobs \(store.logical.jobs.map(\.index)), outcomes "
                + "\(store.outcomes.map { "\($0.job.kind)@\($0.job.index)" }), role "
                + "\(process.replica.status().role)"
        }.joined(separator: "; ")
    }
}
