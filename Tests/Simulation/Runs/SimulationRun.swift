// One seed from its start to its verdict: load under faults, then peace, in which everything must
// come together: writes go on, damage heals, tables agree, and all that clients saw fits together.
import Engine
import Replication

/// What to simulate.
package struct SimulationPlan: Sendable {
    package var seed: UInt64
    package var nodeCount = 3
    /// Virtual time under load.
    package var seconds: UInt64 = 60
    /// Goes on under load until clients had this many answers, for at most four times as long.
    package var operationsMin = 3_000
    package var faults = FaultKind.allCases

    package init(seed: UInt64) { self.seed = seed }
}

package struct SimulationResult: Sendable {
    package var milliseconds: UInt64
    package var events: UInt64
    package var operations: Int
    package var faults: Int
    package var traceHash: UInt64
    /// Empty if all is well.
    package var violations: [String]
    package var timeline: [String]
    package var state: String

    package var isClean: Bool { violations.isEmpty }
}

package struct SimulationRun {
    /// Virtual milliseconds in which the cluster must be well again after the last fault.
    private static let progressBound: UInt64 = 10_000
    private static let healBound: UInt64 = 120_000
    private static let convergenceBound: UInt64 = 150_000

    private let plan: SimulationPlan

    package init(_ plan: SimulationPlan) { self.plan = plan }

    package func perform() -> SimulationResult {
        let cluster = SimulatedCluster(settings)
        let faults = FaultAtlas(cluster, plan.faults, seed: plan.seed &+ 0x5eed_0fa1)
        let registers = RegisterClients(cluster, seed: plan.seed &+ 0x5eed_c11e)
        cluster.registers = registers
        cluster.run(milliseconds: 1_500)
        let pause = clientPause
        cluster.clients.start(writers: 4, readers: 3, pauseMilliseconds: pause)
        registers.start(clients: 4, pauseMilliseconds: pause)
        faults.start()
        load(cluster)
        faults.end()
        cluster.expectProgress(within: SimulationRun.progressBound)
        cluster.clients.pause()
        registers.stop()
        cluster.expectHealing(within: SimulationRun.healBound)
        cluster.expectConvergence(within: SimulationRun.convergenceBound)
        registers.check()
        return SimulationResult(
            milliseconds: cluster.now, events: cluster.events,
            operations: operations(cluster), faults: faults.total,
            traceHash: cluster.trace.hash, violations: cluster.oracle.violations,
            timeline: cluster.journal.latest, state: cluster.stateText)
    }

    /// Some clusters are busy, and some have time between writes for everything else.
    private var clientPause: Int {
        var random = SeededRandom(seed: plan.seed &+ 0x5eed_10ad)
        return [30, 60, 120, 180][random.below(4)]
    }

    private var settings: ClusterSettings {
        ClusterSettings(seed: plan.seed, nodeCount: plan.nodeCount)
    }

    private func operations(_ cluster: SimulatedCluster) -> Int {
        let clients: ClusterClients = cluster.clients
        return clients.applied + clients.reads + clients.bounded
            + (cluster.registers?.answered ?? 0)
    }

    private func load(_ cluster: SimulatedCluster) {
        let from = cluster.now
        while !cluster.oracle.hasViolations {
            let passed = cluster.now - from
            if passed >= 4_000 * plan.seconds { return }
            let isEnough = operations(cluster) >= plan.operationsMin
            if passed >= 1_000 * plan.seconds, isEnough { return }
            cluster.run(milliseconds: 500)
        }
    }
}

extension SimulatedCluster {
    /// Logs without holes, and tables that verify on the medium, on every node.
    package func expectHealing(within milliseconds: UInt64) {
        let end = now + milliseconds
        var damaged = "logs"
        while now < end, !oracle.hasViolations {
            let isWhole = run(atMost: end - now) {
                running.allSatisfy { $0.replica.log.holes.isEmpty }
            }
            guard isWhole else { break }
            for process in running { _ = process.replica.store.scrubber.start() }
            _ = run(atMost: end - now) {
                running.allSatisfy { !$0.replica.store.scrubber.status.isRunning }
            }
            let open = running.filter { $0.replica.store.scrubber.status.damagedBlocks > 0 }
            if open.isEmpty { return }
            damaged = "tables of " + open.map { "node \($0.id)" }.joined(separator: ", ")
            run(milliseconds: 2_000)
        }
        guard !oracle.hasViolations else { return }
        oracle.violation("damage is not healed after \(milliseconds) ms: \(damaged)")
    }
}
