// The end of one node's log is lost: with it goes what its last entry says of the others.
import Engine
import Replication
import Simulation
import Testing

@Suite struct LostTailTests {
    /// The others are silent and give what they are asked for, so nobody else tells.
    @Test(arguments: [41, 42, 43] as [UInt64])
    func theLastEntryTellsWhatWasCommittedOnceItIsMended(seed: UInt64) throws {
        let (cluster, place) = try clusterAtRest(seed: seed)
        let lost = try #require(try cluster.rotLastLogEntries(place, count: 1).first)
        silenceOthers(cluster)
        cluster.startNode(place)
        let replica = try #require(cluster.process(place)?.replica)
        #expect(replica.log.holes.map(\.upper) == [lost.index])
        #expect(lost.commit > replica.store.applied)
        let isWhole = cluster.run(atMost: 2_500) { replica.log.holes.isEmpty }
        #expect(isWhole)
        cluster.run(milliseconds: 20)
        #expect(replica.status().commit >= lost.commit)
        cluster.run(milliseconds: 4_000)
        cluster.finish()
    }

    private func silenceOthers(_ cluster: SimulatedCluster) {
        for process in cluster.running { process.pausedUntil = cluster.now + 3_000 }
    }

    /// Everything is in all logs, and above S; a node that does not lead is stopped.
    private func clusterAtRest(seed: UInt64) throws -> (SimulatedCluster, place: Int) {
        let cluster = SimulatedCluster.small(seed: seed) { $0.logged.segmentBytes = 1 << 20 }
        cluster.clients.start(writers: 2, readers: 1, pauseMilliseconds: 20)
        cluster.run(milliseconds: 1_000)
        cluster.clients.pause()
        cluster.run(milliseconds: 1_000)
        let follower = cluster.running.first { $0.replica.status().role == "follower" }
        let place = try #require(follower).place
        cluster.stopNode(place, power: false)
        return (cluster, place)
    }
}
