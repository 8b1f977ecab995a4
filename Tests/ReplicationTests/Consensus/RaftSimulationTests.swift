// Random runs of whole clusters, by seed: a failing one is repeated exactly by its number.
import Testing

@Suite("Raft: simulation")
struct RaftSimulationTests {
    @Test("promises hold under loss, reordering, partitions and crashes", arguments: 0..<20)
    func promisesHold(batch: Int) {
        var committed = 0
        var reads = 0
        for seed in (batch * 25)..<((batch + 1) * 25) {
            let simulation = RaftSimulation(seed: UInt64(seed) + 1, members: seed % 2 == 0 ? 3 : 5)
            simulation.run(steps: 300)
            #expect(simulation.violations.isEmpty, "\(simulation.violations.prefix(3))")
            committed += simulation.committed
            reads += simulation.answeredReads
        }
        // The runs do something.
        #expect(committed > 25 * 12)
        #expect(reads > 25 * 2)
    }

    @Test("promises hold while members come, go and change their part", arguments: 0..<4)
    func promisesHoldThroughChanges(batch: Int) {
        var changes = 0
        var joint = 0
        for seed in (batch * 25)..<((batch + 1) * 25) {
            let simulation = RaftSimulation(seed: UInt64(seed) + 1, members: 5, changes: true)
            simulation.run(steps: 400)
            #expect(simulation.violations.isEmpty, "\(simulation.violations.prefix(3))")
            changes += simulation.proposedChanges
            joint += simulation.jointMemberships
        }
        #expect(changes > 15)
        #expect(joint > 10)
    }

    @Test("promises hold while members lose their votes and get them back", arguments: 0..<8)
    func promisesHoldWithoutHardState(batch: Int) {
        var lost = 0
        var restored = 0
        for seed in (batch * 25)..<((batch + 1) * 25) {
            let simulation = RaftSimulation(
                seed: UInt64(seed) + 1, members: seed % 2 == 0 ? 3 : 5, losesVotes: true)
            simulation.run(steps: 2_000)
            #expect(simulation.violations.isEmpty, "\(simulation.violations.prefix(3))")
            lost += simulation.lostVotes
            restored += simulation.restoredVotes
        }
        #expect(lost > 20, "\(lost)")
        #expect(restored > 0)
    }

    @Test("the same seed gives the same run")
    func repeatable() {
        let runs = (0..<2).map { _ in
            let simulation = RaftSimulation(seed: 77, members: 5)
            simulation.run(steps: 300)
            return [simulation.committed, simulation.terms, simulation.answeredReads]
        }
        #expect(runs[0] == runs[1])
    }
}
