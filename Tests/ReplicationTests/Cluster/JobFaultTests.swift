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
        let ledger = wrong.replica.store.healer.ledger.rows()
        #expect(ledger.contains { $0.reason == "divergent" && $0.detail.contains("differs") })
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

    /// The third member cannot compute, it only takes what others have: the leader's own output is
    /// enough then.
    @Test(arguments: [55, 56] as [UInt64])
    func withOneDownAndOneThatOnlyFetchesCompactionGoesOn(seed: UInt64) throws {
        let fetcher = MemberID(3)
        let cluster = SimulatedCluster.small(seed: seed) { settings in
            filtering(&settings)
            let adjust = settings.adjustStore
            settings.adjustStore = { member, options in
                adjust?(member, &options)
                if member == fetcher { options.compactionFilters = [] }
            }
        }
        let leads = cluster.run(atMost: 10_000) {
            guard let leader = cluster.leaders.first else { return false }
            if leader.id == fetcher { leader.replica.post(.transfer(MemberID(1))) }
            return leader.id != fetcher
        }
        #expect(leads)
        let leader = try #require(cluster.leaders.first)
        let down = try #require(cluster.running.first { $0 !== leader && $0.id != fetcher }).place
        cluster.stopNode(down, power: false)
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 10)
        func computed(_ process: SimulatedProcess) throws -> [CompactedRecord] {
            try entries(.compacted, on: process).map {
                try $0.withPayload { try CompactedRecord(decoding: $0) }
            }.filter { $0.tables.contains { $0.id.kind == .compaction } }
        }
        let before = try computed(leader).count
        let goesOn = cluster.run(atMost: 120_000) {
            let count = (try? computed(leader).count) ?? 0
            return count >= before + 3
        }
        #expect(goesOn, "\(cluster.stateText)")
        let last = try #require(try computed(leader).last)
        let fetching = try #require(cluster.process(Int(fetcher.rawValue) - 1))
        let hasAll = cluster.run(atMost: 30_000) {
            last.tables.allSatisfy { cluster.tableFiles(fetching.place).contains($0.id) }
        }
        #expect(hasAll, "\(cluster.stateText)")
        cluster.startNode(down)
        cluster.finish()
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
