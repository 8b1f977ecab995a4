// What befalls leaders as they begin: what they have appended is on a few disks only, and the next
// leader does not know of it.
import Engine
import Replication

final class LeaderFaults {
    private unowned let cluster: SimulatedCluster
    private unowned let faults: FaultAtlas
    private var random: SeededRandom
    /// What happens to the next leaders as soon as they lead.
    private var expected: [FaultKind] = []
    /// Leaders that are still to fall in a succession.
    private var heirs = 0

    private static let expectedMax = 6

    init(_ cluster: SimulatedCluster, _ faults: FaultAtlas, random: SeededRandom) {
        self.cluster = cluster
        self.faults = faults
        self.random = random
    }

    /// Some of the next leaders fare so. False if there is enough to come.
    func expect(_ kind: FaultKind) -> Bool {
        guard expected.count < LeaderFaults.expectedMax else { return false }
        for _ in 0...random.below(3) { expected.append(kind) }
        return true
    }

    func greet(_ leader: SimulatedProcess) {
        if heirs > 0 {
            heirs -= 1
            return fall(leader)
        }
        guard !expected.isEmpty else { return }
        strike(leader, expected.remove(at: random.below(expected.count)))
    }

    private func strike(_ leader: SimulatedProcess, _ kind: FaultKind) {
        cluster.perform(after: UInt64(random.below(20))) { [self] in
            guard faults.isActive, isRunning(leader) else { return }
            switch kind {
            case .partition: faults.isolate(leader.place)
            case .stuck: leader.stuckUntil = cluster.now + UInt64(100 + random.below(1_500))
            default: faults.stop(leader.place, power: kind == .power)
            }
        }
    }

    private func isRunning(_ process: SimulatedProcess) -> Bool {
        cluster.process(process.place) === process
    }

    // MARK: Succession

    /// Leaders fall one after another, before anything of theirs has left or while their own disk
    /// does not answer; who was away comes back at that moment. So what one of them leaves behind is
    /// taken up by the next but one, while the one in between holds something else in its place.
    func beginSuccession() -> Bool {
        guard heirs == 0, let leader = cluster.leaders.first else { return false }
        heirs = 2 + random.below(3)
        keepAway(leader.place)
        cluster.perform(after: UInt64(3_000 + random.below(3_000))) { [self] in
            heirs = 0
            cluster.network.heal()
        }
        return true
    }

    /// The only one that is cut off.
    private func keepAway(_ place: Int) {
        cluster.network.heal()
        cluster.network.isolate(place)
    }

    private func fall(_ leader: SimulatedProcess) {
        if random.oneIn(2) { return keepAway(leader.place) }
        leader.stuckUntil = cluster.now + 1_000
        cluster.perform(after: UInt64(20 + random.below(200))) { [self] in
            guard faults.isActive, isRunning(leader) else { return }
            faults.stop(leader.place, power: random.oneIn(2))
            let others = (0..<cluster.nodeCount).filter { $0 != leader.place }
            keepAway(others.isEmpty ? leader.place : others[random.below(others.count)])
        }
    }
}
