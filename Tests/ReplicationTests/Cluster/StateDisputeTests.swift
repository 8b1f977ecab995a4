// State roots that differ: whoever is outvoted takes another member's state in place of its own.
import Engine
import Replication
import Simulation
import Testing

@Suite struct StateDisputeTests {
    // MARK: the verdict

    private let members = (1...3).map { MemberID(UInt64($0)) }

    private func root(_ number: UInt8) -> Digest128 { Digest128(of: [number]) }

    /// Of member 1, whose root is 1; nil did not answer, or does not know.
    private func verdict(_ second: UInt8?, _ third: UInt8?, of voters: [MemberID]? = nil)
        -> StateDispute.Verdict
    {
        var dispute = StateDispute(at: LogIndex(9), asked: [members[1], members[2]])
        dispute.answered(second.map { root($0) }, by: members[1])
        #expect(!dispute.isComplete)
        dispute.answered(third.map { root($0) }, by: members[2])
        // Nobody has two votes.
        dispute.answered(root(1), by: members[1])
        #expect(dispute.isComplete)
        return dispute.verdict(own: root(1), of: members[0], voters: voters ?? members)
    }

    @Test func mostVotersAreRight() {
        #expect(verdict(2, 2) == .thisOne(against: [members[1], members[2]]))
        #expect(verdict(1, 2) == .others([members[2]]))
        #expect(verdict(2, 1) == .others([members[1]]))
        #expect(verdict(1, nil) == .others([]))
        #expect(verdict(1, 1) == .others([]))
    }

    @Test func withoutAMajorityNobodyYields() {
        #expect(verdict(2, nil) == .open)
        #expect(verdict(nil, nil) == .open)
        #expect(verdict(2, 3) == .open)
        #expect(verdict(2, nil, of: [members[0], members[1]]) == .open)
    }

    /// A learner's own word does not count.
    @Test func onlyVotersCount() {
        #expect(
            verdict(2, 2, of: [members[1], members[2]])
                == .thisOne(against: [members[1], members[2]]))
        #expect(verdict(1, 2, of: [members[1], members[2]]) == .open)
    }

    // MARK: in a cluster

    /// Another count in the record of a table, with every checksum good: what a bug, or memory that
    /// forgets, would leave. Returns the table.
    private func alterManifest(_ cluster: SimulatedCluster, _ place: Int) throws -> TableID {
        let directory = "data/group-0"
        let identity = ManifestIdentity(
            genesis: logGenesis(cluster: "simulated", group: 0), group: 0,
            node: MemberID(UInt64(place + 1)))
        let found = try ManifestFile.recover(
            cluster.disks[place], directory: directory, identity: identity)
        let state = try #require(found).file.state
        let record = try #require(state.manifest.tables.sortedByID.first { !$0.isBlob })
        var altered = record
        altered.deleteCount += 1
        var bytes = state.encoded()
        let (old, new) = (encoded(record), encoded(altered))
        let start = try #require(
            bytes.indices.first { bytes[$0...].prefix(old.count).elementsEqual(old) })
        bytes.replaceSubrange(start..<(start + old.count), with: new)
        _ = try ManifestFile.create(
            cluster.disks[place], directory: directory, identity: identity,
            state: ManifestState(decoding: bytes))
        return record.id
    }

    private func encoded(_ record: TableRecord) -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        record.encode(into: &writer)
        return writer.bytes
    }

    /// With another root for all that it has passed lately.
    private func contradicted(_ state: ManifestState) throws -> ManifestState {
        let root = try #require(state.root(at: state.frontier))
        var writer = ByteWriter(capacity: 16)
        writer.write(root)
        var bytes = state.encoded()
        let place = try #require(
            bytes.indices.last { bytes[$0...].prefix(16).elementsEqual(writer.bytes) })
        bytes[place] ^= 1
        return try ManifestState(decoding: bytes)
    }

    /// A member without a manifest believes its peers unless they contradict each other; then only
    /// most members.
    @Test func aManifestIsTakenFromWhomNobodyContradicts() throws {
        let cluster = SimulatedCluster.small(seed: 94)
        cluster.clients.start(writers: 3, readers: 0)
        let hasTables = cluster.run(atMost: 30_000) {
            cluster.running.allSatisfy { $0.replica.store.manifest.manifest.tables.count > 2 }
        }
        try #require(hasTables)
        let states = cluster.running.map { $0.replica.store.manifest }
        let wrong = try contradicted(states[1])
        let good = Dictionary(uniqueKeysWithValues: zip(members, states))
        let furthest = try #require(DonorChoice.choose(good, members: 3))
        #expect(
            good[furthest]?.flushed.position.index == states.map(\.flushed.position.index).max())
        #expect(DonorChoice.choose([:], members: 3) == nil)
        #expect(DonorChoice.choose([members[0]: states[0]], members: 3) == members[0])
        #expect(DonorChoice.choose([members[0]: states[0], members[1]: wrong], members: 3) == nil)
        let two = [members[0]: states[0], members[1]: wrong, members[2]: states[0]]
        #expect(DonorChoice.choose(two, members: 4) == nil)
        #expect([members[0], members[2]].contains(DonorChoice.choose(two, members: 3)))
    }

    private func roots(_ cluster: SimulatedCluster) -> Set<Digest128> {
        let frontiers = cluster.running.map { $0.replica.store.manifest.frontier }
        guard let common = frontiers.min() else { return [] }
        return Set(cluster.running.compactMap { $0.replica.store.manifest.root(at: common) })
    }

    @Test(arguments: [false, true], [91, 92, 93] as [UInt64])
    func aMemberWithAWrongStateTakesItsPeers(leads: Bool, seed: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: seed) {
            // The record stays as it is, and no job looks at it.
            $0.store.compaction.isEnabled = false
        }
        cluster.clients.start(writers: 3, readers: 2)
        let hasTables = cluster.run(atMost: 30_000) {
            cluster.running.allSatisfy { $0.replica.store.manifest.manifest.tables.count > 2 }
        }
        try #require(hasTables)
        let place = Int(seed % 3)
        cluster.stopNode(place, power: false)
        let table = try alterManifest(cluster, place)
        cluster.oracle.allowsDivergence = true
        cluster.oracle.wrongStates.insert(place)
        cluster.allowHalt(place)
        cluster.startNode(place)
        let wrong = try #require(cluster.process(place))
        if leads {
            let hasLed = cluster.run(atMost: 30_000) {
                for process in cluster.leaders where process.place != place {
                    process.replica.post(.transfer(wrong.id))
                }
                return wrong.replica == nil || wrong.replica.evaluatingTerm != nil
            }
            #expect(hasLed)
        }
        let hasYielded = cluster.run(atMost: 60_000) { !wrong.isAlive }
        #expect(hasYielded)
        #expect(
            wrong.haltReason?.contains("state root") == true, "\(wrong.haltReason ?? "nothing")")
        let names = try cluster.disks[place].list("data/group-0/quarantine")
        #expect(names.filter { $0.hasPrefix("MANIFEST-") }.count == 2)
        let agrees = cluster.run(atMost: 60_000) {
            let records = Set(
                cluster.running.map { $0.replica.store.manifest.manifest.tables.record(table) })
            return cluster.running.count == 3 && roots(cluster).count == 1 && records.count == 1
        }
        #expect(agrees)
        cluster.finish()
        #expect(cluster.running.count == 3)
    }
}
