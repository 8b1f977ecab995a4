// What a replica makes of its files when it opens them.
import Engine
import Replication
import Simulation
import Testing

@Suite struct ReplicaOpeningTests {
    private static let state = "data/group-0/state"

    private func isVoteTrusted(_ disk: MemoryFileSystem) throws -> Bool {
        let copy = disk.snapshotAfterPowerCut()
        return try HardState.open(copy, ReplicaOpeningTests.state, nonce: 9).isVoteTrusted
    }

    /// The term of its entries tells on the first start; from then on the terms agree again.
    @Test func aHardStateThatWasRolledBackIsDistrustedForGood() throws {
        let cluster = SimulatedCluster.small(seed: 31)
        let old = try #require(cluster.running.first { $0.replica.status().role == "leader" })
        let place = (old.place + 1) % 3
        let disk = cluster.disks[place]
        cluster.stopNode(place, power: false)
        let before = try disk.readAll(ReplicaOpeningTests.state, limit: 1 << 20)
        cluster.startNode(place)

        // A term later.
        let term = old.replica.status().term
        cluster.stopNode(old.place, power: false)
        cluster.run(milliseconds: 3_000)
        cluster.startNode(old.place)
        cluster.clients.start(writers: 2, readers: 0)
        cluster.run(milliseconds: 1_000)
        #expect(try #require(cluster.process(place)).replica.status().term > term)
        cluster.stopNode(place, power: false)
        #expect(try isVoteTrusted(disk))

        try disk.open(ReplicaOpeningTests.state, .write).writeAll(before, at: 0)
        for _ in 0..<2 {
            cluster.startNode(place)
            cluster.run(milliseconds: 300)
            cluster.stopNode(place, power: false)
            #expect(try !isVoteTrusted(disk))
        }
    }
}
