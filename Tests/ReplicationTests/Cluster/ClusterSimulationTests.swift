// Three replicas under random faults, many seeds: nothing acknowledged is lost, nothing refused
// appears, reads are linearizable, manifests agree, and everything converges once the faults stop.
import Engine
import Replication
import Simulation
import Testing

@Suite struct ClusterSimulationTests {
    @Test func theSameSeedGivesTheSameRun() {
        let first = run(seed: 42, milliseconds: 6_000)
        let second = run(seed: 42, milliseconds: 6_000)
        let other = run(seed: 43, milliseconds: 6_000)
        #expect(first.trace == second.trace)
        #expect(first.clients.applied == second.clients.applied)
        #expect(first.trace != other.trace)
    }

    @Test(arguments: SimulationScale.seeds)
    func nothingIsLostUnderFaults(seed: UInt64) {
        let cluster = run(seed: seed, milliseconds: 8_000)
        cluster.expectProgress(within: 5_000)
        cluster.clients.pause()
        cluster.expectConvergence(within: 150_000)
        cluster.report()
        #expect(cluster.clients.applied > 20)
        #expect(cluster.oracle.frontierCount > 2)
    }

    private func run(seed: UInt64, milliseconds: UInt64) -> SimulatedCluster {
        let cluster = SimulatedCluster(ClusterSettings(seed: seed))
        let faults = ClusterFaults(cluster, FaultMix(), seed: seed)
        cluster.run(milliseconds: 1_500)
        cluster.clients.start(writers: 3, readers: 2)
        faults.start()
        cluster.run(milliseconds: milliseconds)
        faults.end()
        return cluster
    }
}

extension SimulatedCluster {
    /// Records every violation as an issue of the running test.
    func report() {
        guard oracle.hasViolations else { return }
        let what = oracle.violations.joined(separator: "\n")
        Issue.record(
            "seed \(settings.seed), at \(now) ms: \(what)\n\(journal.last(100))\n\(stateText)")
    }
}
