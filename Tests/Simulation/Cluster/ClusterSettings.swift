// What a simulated cluster is made of. Everything is small, so that flushes, seals and compactions
// happen all the time.
import Engine
import Replication

package struct ClusterSettings {
    package var nodeCount = 3
    package var seed: UInt64
    package var logged = LoggedSettings()
    package var store = StoreOptions()
    /// Of the first member, a place in `codecs`; the others take those behind it.
    private var firstCodec = 0
    private static let codecs: [Compression] = [
        .none, .lz4, .zstd(level: 1), .zstdDictionary(level: 3),
    ]
    /// What else is different about a member.
    package var adjustStore: ((MemberID, inout StoreOptions) -> Void)?
    package var electionTimeoutMilliseconds: UInt64 = 300
    package var heartbeatMilliseconds: UInt64 = 60
    package var retainBytes: UInt64 = 8 << 30
    package var keepObsoleteMilliseconds: UInt64 = 600_000
    package var entryCacheBytes = 64 << 10
    /// Leaders read without asking for so long; 0: they always ask.
    package var leaseMilliseconds: UInt64 = 0
    package var leaseDriftMilliseconds: UInt64 = 25
    /// By how much each node's clock runs faster than time, out of a thousand.
    private var clockRates: [UInt64] = []
    /// Milliseconds between turns when nothing comes.
    package var tickMilliseconds = 25

    package init(seed: UInt64, nodeCount: Int = 3) {
        self.seed = seed
        self.nodeCount = nodeCount
        var random = SeededRandom(seed: seed)
        logged.segmentBytes = UInt64(8 << 10) << UInt64(random.below(3))
        logged.blockBytes = 512
        logged.filterBitsPerKey = [0, 10][random.below(2)]
        store.cacheBytes = 64 << 10
        store.openTables = 16
        store.memtablesMax = 2 + random.below(3)
        store.standInsMax = 8
        store.concurrentJobs = 1 + random.below(2)
        firstCodec = random.oneIn(2) ? 0 : 2
        store.compaction.level0Trigger = 2 + random.below(2)
        store.compaction.baseLevelBytes = 24 << 10
        store.compaction.multiplier = 3
        store.compaction.targetBytes = 8 << 10
        chooseBlobs()
        chooseLeases()
    }

    // What follows has its own numbers, so that all else of a seed stays as it was.

    private mutating func chooseBlobs() {
        var random = SeededRandom(seed: seed &+ 4_711)
        guard random.oneIn(2) else { return }
        logged.blobThreshold = 12
        logged.blobFileBytes = UInt64(2 << 10) << UInt64(random.below(3))
    }

    /// With leases clocks drift apart almost as far as members bargain for: a tenth of a lease.
    private mutating func chooseLeases() {
        var random = SeededRandom(seed: seed &+ 0x1ea5e)
        guard random.oneIn(3) else { return }
        leaseMilliseconds = 250
        clockRates = (0..<nodeCount).map { _ in UInt64(random.below(81)) }
    }

    package func clockRate(of place: Int) -> UInt64 {
        place < clockRates.count ? clockRates[place] : 0
    }

    /// Each member stores in its own way.
    package func store(of member: MemberID) -> StoreOptions {
        var options = store
        let place = firstCodec + Int(truncatingIfNeeded: member.rawValue)
        options.compression = CompressionPolicy(
            ClusterSettings.codecs[place % ClusterSettings.codecs.count])
        adjustStore?(member, &options)
        return options
    }

    package var members: Membership {
        Membership(
            (1...nodeCount).map {
                Member(
                    id: MemberID(UInt64($0)), peerAddress: "node-\($0):7380",
                    clientAddress: "node-\($0):7379")
            })
    }
}

/// How long things take on a node: turns, syncs, jobs. Every answer is drawn from the seed.
package final class SimulatedDelays {
    private var random: SeededRandom
    /// Jobs and syncs of these nodes crawl.
    package var slowNodes: Set<Int> = []
    /// Takes the place of the drawn delay where it answers.
    package var jobDelay: ((JobPriority, Int) -> UInt64?)?
    /// Jobs for which it says so wait until `SimulatedCluster.releaseHeldJobs`.
    package var isHolding: ((JobPriority, Int) -> Bool)?

    package init(random: SeededRandom) { self.random = random }

    package func turn() -> UInt64 { UInt64(random.below(3)) }

    package func logTurn() -> UInt64 {
        UInt64(random.oneIn(40) ? random.below(60) : random.below(4))
    }

    package func job(_ priority: JobPriority, at place: Int) -> UInt64 {
        if let chosen = jobDelay?(priority, place) { return chosen }
        let slow = slowNodes.contains(place) ? 1_500 : 0
        switch random.below(20) {
        case 0: return UInt64(random.below(400 + slow))
        case 1..<5: return UInt64(random.below(60 + slow))
        default: return UInt64(random.below(8 + slow / 4))
        }
    }
}

/// The last things that happened, for the report of a failure.
package final class SimulationJournal {
    private var lines: [String] = []
    /// Log entries of jobs that a replica found to change nothing.
    package private(set) var voidEntries = 0
    private static let capacity = 400

    package func add(_ line: String) {
        lines.append(line)
        if line.contains("is void") { voidEntries += 1 }
        if lines.count > 2 * SimulationJournal.capacity {
            lines.removeFirst(SimulationJournal.capacity)
        }
    }

    package func contains(_ text: String) -> Bool { lines.contains { $0.contains(text) } }

    package var latest: [String] { lines.suffix(SimulationJournal.capacity) }

    package func last(_ count: Int) -> String { lines.suffix(count).joined(separator: "\n") }
}
