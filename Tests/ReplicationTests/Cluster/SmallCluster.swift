// Simulated clusters for tests that arrange events by hand: small segments, so that flushes and jobs
// come soon.
import Engine
import Simulation

extension SimulatedCluster {
    /// Three nodes that have had the time to elect a leader.
    static func small(seed: UInt64, _ adjust: (inout ClusterSettings) -> Void = { _ in })
        -> SimulatedCluster
    {
        var settings = ClusterSettings(seed: seed)
        settings.logged.segmentBytes = 8 << 10
        settings.store.memtablesMax = 4
        settings.store.standInsMax = 32
        adjust(&settings)
        let cluster = SimulatedCluster(settings)
        cluster.run(milliseconds: 1_200)
        return cluster
    }

    /// Without faults from now on it has to go on and to agree; records what was violated.
    func finish() {
        endFaults()
        expectProgress(within: 5_000)
        clients.pause()
        expectConvergence(within: 150_000)
        report()
    }
}
