// Jobs across a cluster whose members compute wrongly, not at all, or late: what is proved is right,
// who is wrong fetches, and inputs stay until they are needed no more.
import Engine
import Replication
import Simulation
import Synchronization
import Testing

/// Keeps every value as it is; on a member whose bits flip it changes one bit of each.
private final class FlippingFilter: CompactionFilter {
    static let wanted = CompactionFilterID(id: 9, version: 1)
    let name = FlippingFilter.wanted
    let flips = Atomic(false)

    func decide(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, expiry: ClockMilliseconds?
    ) -> CompactionDecision {
        guard flips.load(ordering: .relaxed), !value.isEmpty else { return .keep }
        var flipped = [UInt8](value)
        flipped[0] ^= 1
        return .change(flipped)
    }
}

@Suite struct JobFaultTests {
    private let filters = (0..<3).map { _ in FlippingFilter() }

    private func filtering(_ settings: inout ClusterSettings) {
        settings.logged.functions.compactionFilter = FlippingFilter.wanted
        let filters = filters
        settings.adjustStore = { member, options in
            options.compactionFilters = [filters[Int(member.rawValue) - 1]]
        }
    }

    /// Entries of a kind in the log of a node, as far as it holds them.
    private func entries(_ kind: EntryKind, on process: SimulatedProcess) throws -> [Entry] {
        let log = process.replica.log
        var found: [Entry] = []
        var next = log.first
        while next <= log.last.index {
            let entries = try log.entries(from: next, maxBytes: 1 << 20)
            guard let last = entries.last else { break }
            found += entries.filter { $0.header.kind == kind }
            next = last.index + 1
        }
        return found
    }

    /// Two agree, the odd one out is named and takes their tables.
    @Test(arguments: [false, true], [51, 52] as [UInt64])
    func aMemberWithFlippedBitsIsFoundOut(isLeader: Bool, seed: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: seed) { filtering(&$0) }
        cluster.oracle.allowsDivergence = true
        let leader = try #require(cluster.leaders.first)
        let wrong = try #require(
            cluster.running.first { ($0 === leader) == isLeader })
        filters[wrong.place].flips.store(true, ordering: .relaxed)
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 10)
        let isFound = cluster.run(atMost: 60_000) {
            wrong.replica.store.healer.counters.divergences > 0
        }
        #expect(isFound, "\(cluster.stateText)")
        filters[wrong.place].flips.store(false, ordering: .relaxed)
        #expect(cluster.journal.contains("divergence"))
        for process in cluster.running where process !== wrong {
            #expect(process.replica.store.healer.counters.divergences == 0)
        }
        cluster.finish()
    }

    /// The filter that the settings name is nowhere: every member fails the job, which is cancelled;
    /// its tables stay as they are, and are read and written on.
    @Test func aJobThatFailsEverywhereIsCancelled() throws {
        let cluster = SimulatedCluster.small(seed: 53) {
            $0.logged.functions.compactionFilter = FlippingFilter.wanted
            $0.retainBytes = 1 << 30
        }
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 20)
        var cancelled: Entry?
        let isCancelled = cluster.run(atMost: 60_000) {
            guard let leader = cluster.leaders.first else { return false }
            cancelled = try? entries(.cancelled, on: leader).first
            return cancelled != nil
        }
        #expect(isCancelled, "\(cluster.stateText)")
        let record = try #require(cancelled).withPayload { try CancelledRecord(decoding: $0) }
        #expect(record.reason == .failed)
        cluster.expectProgress(within: 5_000)
        cluster.report()
    }

    /// One member has computed and the others are late: nobody lets an input go before the job is
    /// concluded and everybody is past it; then all do.
    @Test func inputsAreKeptUntilTheJobIsProved() throws {
        let cluster = SimulatedCluster.small(seed: 54)
        let quick = 0
        cluster.delays.isHolding = { priority, place in
            priority == .compaction && place != quick
        }
        cluster.clients.start(writers: 4, readers: 1, pauseMilliseconds: 10)
        var started: PendingJob?
        let isStarted = cluster.run(atMost: 30_000) {
            started = cluster.process(quick)?.replica.store.logical.jobs.first {
                $0.spec.action != .move
            }
            return started != nil
        }
        #expect(isStarted)
        let job = try #require(started)
        cluster.clients.pause()
        cluster.run(milliseconds: 10_000)
        func holders(_ table: TableID) -> Int {
            (0..<3).count { cluster.tableFiles($0).contains(table) }
        }
        for input in job.spec.inputs { #expect(holders(input.id) == 3, "\(input.id)") }
        cluster.delays.isHolding = nil
        cluster.releaseHeldJobs()
        cluster.finish()
        for input in job.spec.inputs { #expect(holders(input.id) == 0, "\(input.id)") }
    }
}
