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

    /// Nothing is appended meanwhile, so nothing but the mended entry tells that the log goes on.
    @Test func oneThatWaitsForSpaceStopsNothingOnceThereIsSome() throws {
        let (cluster, place) = try clusterAtRest(seed: 44)
        _ = try cluster.rotLastLogEntries(place, count: 1)
        cluster.startNode(place)
        let replica = try #require(cluster.process(place)?.replica)
        let disk = cluster.disks[place]
        disk.capacity = 0
        let isRefused = cluster.run(atMost: 3_000) {
            cluster.journal.contains("the log cannot grow now")
        }
        #expect(isRefused)
        disk.capacity = .max
        let isOver = cluster.run(atMost: 3_000) {
            replica.status().obstacle == nil && replica.log.holes.isEmpty
        }
        #expect(isOver)
        cluster.stopNode(place, power: true)
        cluster.startNode(place)
        #expect(try #require(cluster.process(place)?.replica).log.holes.isEmpty)
        cluster.finish()
    }

    // MARK: Entries that nothing names

    /// The only donor that can be reached gives a sound entry that continues the log, and is not
    /// the one that was lost: it is not believed before the leader says so, too.
    @Test(arguments: [51, 52, 53] as [UInt64])
    func oneMembersWordIsNotEnough(seed: UInt64) throws {
        let (cluster, place) = try clusterAtRest(seed: seed)
        let lost = try loseTail(cluster, place)
        let leader = try #require(cluster.leaders.first).place
        cluster.forgeEntry = { donor, entry in
            donor.place == leader ? entry : Self.entry(like: entry, clock: entry.header.clock + 1)
        }
        cluster.network.cut(place, leader)
        cluster.network.cut(leader, place)
        try start(cluster, place)
        let replica = try #require(cluster.process(place)?.replica)
        cluster.run(milliseconds: 3_000)
        #expect(!replica.log.holes.isEmpty)
        cluster.network.heal()
        try expectWhole(cluster, place, lost)
    }

    /// Nobody leads, since the others take no turns, but both give the same.
    @Test(arguments: [61, 62, 63] as [UInt64])
    func twoMembersAreBelievedWithoutALeader(seed: UInt64) throws {
        let (cluster, place) = try clusterAtRest(seed: seed)
        let lost = try loseTail(cluster, place)
        silenceOthers(cluster)
        try start(cluster, place)
        let replica = try #require(cluster.process(place)?.replica)
        let isWhole = cluster.run(atMost: 2_500) { replica.log.holes.isEmpty }
        #expect(isWhole)
        #expect(replica.status().leader == .none)
        cluster.run(milliseconds: 4_000)
        try expectWhole(cluster, place, lost)
    }

    /// Its checksum is right and it continues the log, but it could not be applied.
    @Test func aMalformedEntryIsRefused() throws {
        let (cluster, place) = try clusterAtRest(seed: 71)
        let lost = try loseTail(cluster, place)
        var isForging = true
        cluster.forgeEntry = { _, entry in
            isForging ? Self.entry(like: entry, kind: .noop, payload: [1]) : entry
        }
        try start(cluster, place)
        cluster.run(milliseconds: 3_000)
        let replica = try #require(cluster.process(place)?.replica)
        #expect(!replica.log.holes.isEmpty)
        #expect(cluster.journal.contains("is refused: a payload where none belongs"))
        isForging = false
        try expectWhole(cluster, place, lost)
    }

    private static func entry(
        like entry: Entry, kind: EntryKind? = nil, payload: [UInt8]? = nil,
        clock: ClockMilliseconds? = nil
    ) -> Entry {
        let header = entry.header
        return Entry(
            kind: kind ?? header.kind, payload: payload ?? entry.withPayload { Array($0) },
            previous: header.previous, group: header.group, term: header.term,
            index: header.index, firstSequence: header.firstSequence,
            clock: clock ?? header.clock, commit: header.commit)
    }

    /// Its last entries are lost, and their end is promised without its content, as after a cut
    /// within lost entries.
    private func loseTail(_ cluster: SimulatedCluster, _ place: Int) throws -> [EntryHeader] {
        let file = try cluster.disks[place].open("data/group-0/state", .write)
        for slot in 0..<HardStateFormat.pageSlots {
            let offset = HardStateFormat.pageOffset(slot)
            var page = try HardStateFormat.decodePage(
                file.readBytes(at: offset, count: HardStateFormat.sectorBytes))
            page.position.checksum = .zero
            try file.writeAll(HardStateFormat.encode(page), at: offset)
        }
        return try cluster.rotLastLogEntries(place, count: 3)
    }

    private func start(_ cluster: SimulatedCluster, _ place: Int) throws {
        cluster.startNode(place)
        let log = try #require(cluster.process(place)?.replica).log
        #expect(log.holes.count == 1 && log.holes.first?.checksum == nil)
    }

    private func expectWhole(_ cluster: SimulatedCluster, _ place: Int, _ lost: [EntryHeader])
        throws
    {
        let replica = try #require(cluster.process(place)?.replica)
        let isWhole = cluster.run(atMost: 10_000) { replica.log.holes.isEmpty }
        #expect(isWhole)
        cluster.finish()
        for header in lost {
            #expect(
                replica.log.position(at: header.index)
                    == cluster.oracle.position(at: header.index))
        }
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
