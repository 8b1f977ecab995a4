// Power cuts at random moments, over and over: of one node, of some, most often of all at once. What
// was not synced is lost, or part of it, in any order. Nothing acknowledged may be gone afterwards.
// A short run in debug; `TEST_SCALE=full` runs a thousand rounds, MARTLET_ROUNDS as many as it says.
import Engine
import Replication
import Simulation
import Testing

@Suite struct PowerCutTests {
    /// A thousand rounds are twenty clusters of fifty each, so that settings vary, too.
    private static let clusters: [UInt64] =
        SimulationScale.isFull ? Array(1...20) : Array(SimulationScale.seeds.prefix(2))

    @Test(arguments: clusters)
    func threeNodes(seed: UInt64) {
        run(nodes: 3, seed: seed, rounds: SimulationScale.rounds(debug: 24, full: 1_000))
    }

    @Test(arguments: clusters)
    func oneNode(seed: UInt64) {
        run(nodes: 1, seed: seed, rounds: SimulationScale.rounds(debug: 24, full: 1_000))
    }

    private func run(nodes: Int, seed: UInt64, rounds: Int) {
        var settings = ClusterSettings(seed: seed &+ 10_000, nodeCount: nodes)
        settings.electionTimeoutMilliseconds = 120
        settings.heartbeatMilliseconds = 30
        let cluster = SimulatedCluster(settings)
        cluster.run(milliseconds: 400)
        cluster.clients.start(writers: 4, readers: 1, pauseMilliseconds: 20)
        for round in 0..<(rounds / PowerCutTests.clusters.count) where !cluster.oracle.hasViolations
        {
            cutPower(cluster, round)
            if round % 5 == 4 { cluster.expectProgress(within: 6_000) }
        }
        cluster.expectProgress(within: 6_000)
        cluster.clients.pause()
        cluster.expectConvergence(within: 150_000)
        cluster.report()
        #expect(cluster.clients.applied > 2 * rounds / PowerCutTests.clusters.count)
    }

    private func cutPower(_ cluster: SimulatedCluster, _ round: Int) {
        // Sometimes before the nodes have recovered from the last one.
        cluster.run(milliseconds: UInt64(cluster.draw(cluster.draw(4) == 0 ? 60 : 900)))
        var victims = Array(0..<cluster.nodeCount)
        if cluster.nodeCount > 1, cluster.draw(5) < 2 {
            victims = victims.filter { _ in cluster.draw(2) == 0 }
        }
        // Between any two steps on the disk.
        let midway = victims.filter { cluster.process($0) != nil && cluster.draw(3) == 0 }
        for place in midway {
            cluster.allowHalt(place)
            cluster.disks[place].stop(after: cluster.draw(25))
        }
        if !midway.isEmpty { cluster.run(milliseconds: UInt64(1 + cluster.draw(15))) }
        for place in victims {
            cluster.stopNode(place, power: true)
            cluster.perform(after: UInt64(cluster.draw(200))) { cluster.startNode(place) }
        }
        cluster.run(milliseconds: 200)
    }
}
