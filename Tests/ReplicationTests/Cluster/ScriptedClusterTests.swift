// Orders of events that seeds seldom find, arranged by hand: jobs that finish in the wrong order,
// crashes and elections between the entries of one job, a member that was away, rot on one node.
import Engine
import Replication
import Simulation
import Synchronization
import Testing

@Suite struct ScriptedClusterTests {
    // MARK: Waits

    /// More members than there are: it ends with its time, on the leader and elsewhere, where the
    /// leader is asked again and again; or soon after its client has gone.
    @Test func aWaitEndsWithItsTimeOrItsClient() throws {
        let cluster = SimulatedCluster.small(seed: 4)
        let leader = try #require(cluster.leaders.first)
        for process in cluster.running {
            let isLeader = process === leader
            let answers = Mutex<[Int]>([])
            let patient = CancellationFlag()
            func ask(_ timeout: UInt64, _ cancellation: CancellationFlag = CancellationFlag()) {
                process.replica.wait(
                    for: leader.replica.store.applied, count: 9, timeout: timeout,
                    cancellation: cancellation
                ) { reached in answers.withLock { $0.append(reached) } }
            }
            ask(0, patient)
            ask(5_000)
            cluster.run(milliseconds: 4_900)
            #expect(answers.withLock { $0 }.isEmpty)
            cluster.run(milliseconds: 400)
            #expect(answers.withLock { $0 } == [2], "leader: \(isLeader)")
            patient.cancel()
            cluster.run(milliseconds: 2_400)
            #expect(answers.withLock { $0.count } == 2, "leader: \(isLeader)")
        }
        cluster.finish()
    }

    // MARK: Jobs

    /// On one node every other job crawls, so that later ones over the same keys are ready first.
    @Test(arguments: [2, 3] as [UInt64])
    func aSlowJobIsOvertakenByALaterOne(seed: UInt64) {
        let cluster = SimulatedCluster.small(seed: seed) {
            $0.store.concurrentJobs = 3
            $0.store.compaction.targetBytes = 4 << 10
            $0.store.compaction.baseLevelBytes = 4 << 10
            $0.store.compaction.multiplier = 2
        }
        cluster.clients.keyCount = 400
        var count = 0
        cluster.delays.jobDelay = { priority, place in
            guard priority == .compaction, place == 2 else { return nil }
            count += 1
            return count % 2 == 1 ? 1_500 : 1
        }
        var overtakings = 0
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 15)
        for _ in 0..<300 where !cluster.oracle.hasViolations {
            cluster.run(milliseconds: 30)
            if hasOvertaking(cluster, place: 2) { overtakings += 1 }
        }
        cluster.delays.jobDelay = nil
        cluster.finish()
        #expect(overtakings > 0)
    }

    /// The node has outputs of a job, and none of an earlier one that the others have installed.
    private func hasOvertaking(_ cluster: SimulatedCluster, place: Int) -> Bool {
        guard let process = cluster.process(place) else { return false }
        let frontier = process.replica.store.frontier
        let here = Set(
            cluster.tableFiles(place).filter { $0.kind == .compaction && $0.index > frontier }
                .map(\.index))
        guard let last = here.max() else { return false }
        let elsewhere = cluster.running.filter { $0.place != place }.flatMap {
            $0.replica.store.manifest.local.keys
        }
        return elsewhere.contains {
            $0.kind == .compaction && $0.index > frontier && $0.index < last
                && !here.contains($0.index)
        }
    }

    // MARK: Clocks

    /// A leader's clock jumps years ahead: it stops leading, nobody learns its time, and when it is
    /// gone writes go on.
    @Test(arguments: [2_000, 60_000, 300_000_000_000] as [UInt64])
    func aLeaderWithItsClockAheadStepsDown(offset: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: 17)
        let old = try #require(cluster.running.first { $0.replica.status().role == "leader" })
        cluster.setClock(of: old.place, ahead: offset)
        cluster.run(milliseconds: 4_000)
        let leaders = cluster.running.filter { $0.replica.status().role == "leader" }
        #expect(leaders.count == 1 && leaders.first?.place != old.place)
        let term = try #require(leaders.first).replica.status().term
        let latest = cluster.running.filter { $0.place != old.place }.map { $0.replica.clock }.max()
        #expect(try #require(latest) <= cluster.wall(of: (old.place + 1) % 3) + 11_000)
        cluster.clients.start(writers: 2, readers: 2, pauseMilliseconds: 20)
        cluster.run(milliseconds: 3_000)
        #expect(cluster.running.allSatisfy { $0.replica.status().term == term })
        cluster.setClock(of: old.place, ahead: 0)
        cluster.run(milliseconds: 1_000)
        // Nothing is left of the wrong time, neither in its answers nor when it leads again.
        let corrected = try #require(cluster.process(old.place)?.replica)
        let permit = try corrected.boundedRead(staleness: 5_000).get()
        #expect(permit.clock <= cluster.wall(of: old.place) + 11_000)
        let current = try #require(cluster.running.first { $0.replica.status().role == "leader" })
        current.replica.post(.transfer(corrected.status().node))
        let leadsAgain = cluster.run(atMost: 40_000) { corrected.evaluatingTerm != nil }
        #expect(leadsAgain)
        #expect(corrected.clock <= cluster.wall(of: old.place) + 11_000)
        cluster.finish()
    }

    /// Two of three are left, and the leader's clock jumps: the other one would take no entry of
    /// it, so it must not go on leading.
    @Test func aLeaderWhoseClockTheOnlyFollowerRefusesStepsDown() throws {
        let cluster = SimulatedCluster.small(seed: 18)
        let old = try #require(cluster.running.first { $0.replica.status().role == "leader" })
        let third = (old.place + 1) % 3
        cluster.stopNode(third, power: false)
        cluster.run(milliseconds: 1_000)
        cluster.setClock(of: old.place, ahead: 90_000)
        cluster.run(milliseconds: 5_000)
        let leaders = cluster.running.filter { $0.replica.evaluatingTerm != nil }
        #expect(leaders.count == 1 && leaders.first?.place != old.place)
        cluster.setClock(of: old.place, ahead: 0)
        cluster.startNode(third)
        cluster.finish()
    }

    /// All clocks are set back further than a clock may be ahead, while the log carries the later
    /// time: writes go on, and a member that was away takes what it missed.
    @Test(arguments: [false, true])
    func allClocksAreSetBack(isOneAway: Bool) throws {
        let cluster = SimulatedCluster.small(seed: 19)
        let away = try #require(cluster.running.first { $0.replica.status().role != "leader" })
        for place in 0..<3 { cluster.setClock(of: place, ahead: 3_600_000) }
        cluster.clients.start(writers: 2, readers: 1, pauseMilliseconds: 20)
        cluster.run(milliseconds: 2_000)
        if isOneAway { cluster.stopNode(away.place, power: false) }
        cluster.clients.pause()
        cluster.run(milliseconds: 15_000)
        cluster.clients.start(writers: 2, readers: 1, pauseMilliseconds: 20)
        cluster.run(milliseconds: 2_000)
        for place in 0..<3 { cluster.setClock(of: place, ahead: 0) }
        cluster.expectProgress(within: 5_000)
        if isOneAway { cluster.startNode(away.place) }
        cluster.finish()
    }

    /// Only an answer to its own ballot tells a member the time.
    @Test func aVoteThatNobodyAskedForTellsNoTime() throws {
        let cluster = SimulatedCluster.small(seed: 20)
        for process in cluster.running {
            let status = process.replica.status()
            let other = MemberID(UInt64((process.place + 1) % 3 + 1))
            let clock = cluster.wall(of: process.place) + 9_000
            for isPreVote in [false, true] {
                let reply = VoteReply(
                    term: status.term, isPreVote: isPreVote, isGranted: true, clock: clock)
                process.replica.post(
                    .messages([.raft(group: 0, .voteReply(reply))], from: other))
            }
        }
        cluster.run(milliseconds: 200)
        for process in cluster.running {
            #expect(process.replica.clock < cluster.wall(of: process.place) + 1_000)
        }
        cluster.finish()
    }

    /// Flushes finish in any order on all nodes; seals are logged in the order of segments.
    @Test func flushesFinishInTheWrongOrder() {
        let cluster = SimulatedCluster.small(seed: 11)
        var count = 0
        cluster.delays.jobDelay = { priority, _ in
            guard priority == .flush else { return nil }
            count += 1
            return count % 3 == 0 ? 700 : 1
        }
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 15)
        cluster.run(milliseconds: 8_000)
        cluster.delays.jobDelay = nil
        cluster.finish()
        // Nothing was proposed out of order: a void entry would be a seal before its turn.
        #expect(cluster.journal.voidEntries == 0)
        #expect(cluster.oracle.frontierCount > 10)
    }

    /// One node's compactions never end, so its seals cannot be installed and stand-ins pile up; then
    /// the power goes.
    @Test func aCrashWithStandInsWhoseSealsWait() {
        let cluster = SimulatedCluster.small(seed: 21)
        cluster.delays.jobDelay = { priority, place in
            priority == .compaction && place == 0 ? 3_600_000 : nil
        }
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 10)
        let hasStandIns = cluster.run(atMost: 30_000) {
            (cluster.process(0)?.replica.store.manifest.standIns.count ?? 0) >= 3
        }
        #expect(hasStandIns)
        for _ in 0..<3 {
            cluster.stopNode(0, power: true)
            cluster.run(milliseconds: 300)
            cluster.startNode(0)
            cluster.run(milliseconds: 700)
        }
        cluster.delays.jobDelay = nil
        cluster.stopNode(0, power: true)
        cluster.finish()
    }

    /// The leader dies when `compact` is applied and nobody has computed the job yet: its successor
    /// concludes it.
    @Test(arguments: [31, 32, 33] as [UInt64])
    func theLeaderChangesBetweenCompactAndCompacted(seed: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: seed)
        cluster.delays.isHolding = { priority, _ in priority == .compaction }
        cluster.clients.start(writers: 4, readers: 1, pauseMilliseconds: 10)
        var job: LogIndex?
        let isStarted = cluster.run(atMost: 30_000) {
            job = cluster.running.map { $0.replica.store.logical.jobs.first?.index ?? .zero }.min()
            return job != .zero
        }
        #expect(isStarted)
        let index = try #require(job)
        let old = try #require(cluster.leaders.first)
        cluster.stopNode(old.place, power: seed % 2 == 0)
        let hasNext = cluster.run(atMost: 10_000) { !cluster.leaders.isEmpty }
        #expect(hasNext)
        cluster.delays.isHolding = nil
        cluster.releaseHeldJobs()
        let isDone = cluster.run(atMost: 90_000) {
            cluster.leaders.allSatisfy { leader in
                !leader.replica.store.logical.jobs.contains { $0.index == index }
            } && !cluster.leaders.isEmpty
        }
        #expect(isDone)
        cluster.perform(after: 500) { cluster.startNode(old.place) }
        cluster.run(milliseconds: 2_000)
        cluster.finish()
    }

    /// Compactions of both followers stand still. The leader's level 0 stays bounded all the same:
    /// at the trigger its own output has to do, and writes go on.
    @Test func levelZeroStaysBoundedWhileBothFollowersAreSlow() throws {
        let cluster = SimulatedCluster.small(seed: 35) {
            $0.store.compaction.level0SlowdownTrigger = 6
        }
        let leader = try #require(cluster.leaders.first).place
        cluster.delays.isHolding = { priority, place in
            priority == .compaction && place != leader
        }
        cluster.clients.start(writers: 2, readers: 2, pauseMilliseconds: 40)
        var highest = 0
        for _ in 0..<400 {
            cluster.run(milliseconds: 100)
            guard let store = cluster.process(leader)?.replica.store else { break }
            highest = max(highest, store.level0Count)
        }
        let store = try #require(cluster.process(leader)).replica.store
        #expect(store.manifest.manifest.tables.deepestLevel ?? 0 > 0)
        #expect(highest >= 6 && highest < 18, "\(highest) tables in level 0")
        cluster.expectProgress(within: 5_000)
        cluster.delays.isHolding = nil
        cluster.releaseHeldJobs()
        cluster.finish()
    }

    // MARK: Away and back

    /// Two nodes go on for many segments; the third then reads them from files.
    @Test func aNodeComesBackAfterManySegments() {
        let cluster = SimulatedCluster.small(seed: 41) { $0.entryCacheBytes = 4 << 10 }
        cluster.clients.start(writers: 5, readers: 2, pauseMilliseconds: 8)
        cluster.run(milliseconds: 500)
        cluster.stopNode(1, power: true)
        let before = cluster.oracle.committed
        cluster.run(milliseconds: 6_000)
        #expect(cluster.oracle.committed - before > 300)
        #expect(cluster.segments(0).count > 5)
        cluster.startNode(1)
        cluster.run(milliseconds: 3_000)
        cluster.finish()
        // Nobody holds log any more once all are past it.
        #expect(cluster.segments(0).count <= 3)
    }

    /// A job that one node has yet to install, the settings and the members are in segments that it
    /// does not have any more: after a power cut it knows them all the same.
    @Test func whatIsPendingOutlivesItsSegment() throws {
        let late = 1
        let cluster = SimulatedCluster.small(seed: 43)
        cluster.delays.isHolding = { priority, place in
            priority == .compaction && place == late
        }
        cluster.clients.start(writers: 5, readers: 1, pauseMilliseconds: 8)
        let isRecycled = cluster.run(atMost: 60_000) {
            guard let replica = cluster.process(late)?.replica,
                let pending = replica.store.installed.jobEntries.first
            else { return false }
            return replica.log.first > pending.index
        }
        #expect(isRecycled, "\(cluster.stateText)")
        let before = try #require(cluster.process(late)).replica.store.installed
        #expect(before.frontier < (try #require(before.jobEntries.first).index))
        #expect(!before.jobEntries.isEmpty)
        cluster.stopNode(late, power: true)
        cluster.startNode(late)
        let store = try #require(cluster.process(late)).replica.store
        #expect(store.installed.jobEntries == before.jobEntries)
        #expect(store.installed.settings == before.settings)
        #expect(store.membership == before.membership && before.membership.members.count == 3)
        cluster.delays.isHolding = nil
        cluster.releaseHeldJobs()
        cluster.run(milliseconds: 3_000)
        cluster.finish()
    }

    /// More than the bound is written while a member is away: the log does not grow for it, and the
    /// leader says what it cannot do.
    @Test func aDeadMemberDoesNotFillTheDisk() {
        let cluster = SimulatedCluster.small(seed: 42) { $0.retainBytes = 40 << 10 }
        cluster.oracle.allowsMembersPastRetention = true
        cluster.clients.start(writers: 5, readers: 2, pauseMilliseconds: 8)
        cluster.stopNode(1, power: false)
        cluster.run(milliseconds: 6_000)
        // Between two looks at the log, a second apart, it may hold what was written meanwhile.
        var bytes = UInt64.max
        for _ in 0..<60 {
            cluster.run(milliseconds: 50)
            bytes = min(bytes, cluster.logBytes(0))
        }
        #expect(bytes < 100 << 10)
        cluster.startNode(1)
        cluster.run(milliseconds: 2_000)
        #expect(cluster.oracle.membersPastRetention.contains(MemberID(2)))
        cluster.report()
    }

    // MARK: Rot

    /// Bytes of one node's log rot while it is down, in entries above S: they come from a peer.
    @Test(arguments: Array(51...62) as [UInt64])
    func aRottenLogEntryComesFromAPeer(seed: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: seed) { $0.logged.segmentBytes = 32 << 10 }
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 10)
        cluster.run(milliseconds: UInt64(1_000 + cluster.draw(1_000)))
        let place = cluster.draw(3)
        var flushed = LogIndex.zero
        let isReady = cluster.run(atMost: 5_000) {
            guard let replica = cluster.process(place)?.replica else { return false }
            flushed = replica.store.flushedPosition.index
            return replica.log.durable.index > flushed + 12
        }
        #expect(isReady)
        let all = seed % 3 == 0
        for other in 0..<3 where all || other == place { cluster.stopNode(other, power: false) }
        let damaged = try cluster.rotLogEntries(
            place, count: 1 + cluster.draw(3), above: flushed)
        #expect(!damaged.isEmpty)
        for other in 0..<3 { cluster.startNode(other) }
        cluster.run(milliseconds: 3_000)
        cluster.finish()
        let log = try #require(cluster.process(place)).replica.log
        #expect(log.holes.isEmpty)
        for index in damaged where index >= log.first {
            #expect(log.position(at: index) == cluster.oracle.position(at: index))
        }
        #expect(cluster.journal.contains("the log is whole again"))
        let replica = try #require(cluster.process(place)?.replica)
        let rows = replica.store.healer.ledger.rows().filter { $0.file == "group-0/log" }
        #expect(rows.map(\.state).contains(.detected))
        let healed = try #require(rows.first { $0.state == .healedReplica })
        #expect(healed.bytesFetched > 0)
    }

    /// Different entries rot on two of three voters. Neither may say that it never had its own: with
    /// the third away they are each other's only copy.
    @Test(arguments: [false, true], [63, 64, 65] as [UInt64])
    func differentEntriesRotOnTwoOfThreeVoters(thirdIsAway: Bool, seed: UInt64) throws {
        let cluster = SimulatedCluster.small(seed: seed) { $0.logged.segmentBytes = 64 << 10 }
        cluster.clients.start(writers: 4, readers: 2, pauseMilliseconds: 10)
        cluster.run(milliseconds: UInt64(1_000 + cluster.draw(1_000)))
        let third = cluster.draw(3)
        let voters = (0..<3).filter { $0 != third }
        // Both hold the same entries then, and the third goes first: it cannot have more.
        if thirdIsAway { cluster.stopNode(third, power: false) }
        cluster.run(milliseconds: 1_000)
        var flushed: [LogIndex] = []
        let isReady = cluster.run(atMost: 5_000) {
            let replicas = voters.compactMap { cluster.process($0)?.replica }
            flushed = replicas.map(\.store.flushedPosition.index)
            return zip(replicas, flushed).allSatisfy { $0.log.durable.index > $1 + 24 }
        }
        #expect(isReady)
        cluster.clients.pause()
        for place in 0..<3 { cluster.stopNode(place, power: false) }
        let first = try cluster.rotLogEntries(voters[0], count: 2, above: flushed[0])
        let second = try cluster.rotLogEntries(
            voters[1], count: 2, above: flushed[1], sparing: first)
        #expect(!first.isEmpty && !second.isEmpty)
        for place in voters { cluster.startNode(place) }
        if !thirdIsAway { cluster.startNode(third) }
        let isWhole = cluster.run(atMost: 20_000) {
            voters.allSatisfy { cluster.process($0)?.replica.log.holes.isEmpty ?? false }
        }
        #expect(isWhole, "\(cluster.stateText)")
        cluster.clients.start(writers: 2, readers: 2, pauseMilliseconds: 20)
        cluster.expectProgress(within: 5_000)
        cluster.startNode(third)
        cluster.finish()
        for (place, damaged) in zip(voters, [first, second]) {
            let log = try #require(cluster.process(place)).replica.log
            for index in damaged where index >= log.first {
                #expect(log.position(at: index) == cluster.oracle.position(at: index))
            }
        }
    }

    /// A block of a table rots on one node, while it runs or while it is down.
    @Test(arguments: [false, true], [71, 72, 73] as [UInt64])
    func aRottenBlockIsHealedFromAReplica(whileRunning: Bool, seed: UInt64) throws {
        let cluster = try quietCluster(seed: seed)
        let place = Int(seed % 3)
        if !whileRunning { cluster.stopNode(place, power: false) }
        let id = try #require(try cluster.rotTable(place, part: 1, of: 4))
        cluster.startNode(place)
        cluster.run(milliseconds: 600)
        let process = try #require(cluster.process(place))
        cluster.oracle.checkScan(process, reverse: seed % 2 == 0)
        if whileRunning { #expect(process.replica.store.scrubber.start()) }
        let isHealed = cluster.run(atMost: 20_000) {
            process.replica.store.manifest.local[id]?.generation == 1
        }
        #expect(isHealed)
        var found: LedgerRow?
        _ = cluster.run(atMost: 5_000) {
            found = process.replica.store.healer.ledger.rows().first { $0.state != .detected }
            return found != nil
        }
        let row = try #require(found)
        #expect(row.state == .healedReplica)
        #expect(row.peer != 0 && row.bytesFetched > 0)
        try expectCleanTables(cluster)
        cluster.finish()
    }

    /// Two replicas lose different blocks of one table, the third is down: each heals the other.
    @Test func twoDamagedReplicasHealEachOther() throws {
        let cluster = try quietCluster(seed: 81)
        for place in 0..<3 { cluster.stopNode(place, power: false) }
        let first = try #require(try cluster.rotTable(0, part: 1, of: 8))
        let second = try #require(try cluster.rotTable(1, part: 5, of: 8))
        #expect(first == second)
        cluster.startNode(0)
        cluster.startNode(1)
        let isUp = cluster.run(atMost: 5_000) { !cluster.leaders.isEmpty }
        #expect(isUp)
        for process in cluster.running {
            cluster.oracle.checkScan(process, reverse: false)
            #expect(process.replica.store.scrubber.start())
        }
        let isHealed = cluster.run(atMost: 30_000) {
            cluster.running.allSatisfy {
                $0.replica.store.manifest.local[first]?.generation == 1
                    && !$0.replica.store.scrubber.status.isRunning
            }
        }
        #expect(isHealed)
        try expectCleanTables(cluster)
        cluster.finish()
    }

    /// A table file is gone altogether.
    @Test func aMissingTableIsFetched() throws {
        let cluster = try quietCluster(seed: 91)
        cluster.stopNode(2, power: false)
        let file = try #require(cluster.largestTable(2))
        try cluster.disks[2].unlink(file.path)
        cluster.startNode(2)
        cluster.run(milliseconds: 500)
        let process = try #require(cluster.process(2))
        cluster.oracle.checkScan(process, reverse: false)
        let isHealed = cluster.run(atMost: 20_000) {
            process.replica.store.manifest.local[file.id]?.generation == 1
        }
        #expect(isHealed)
        try expectCleanTables(cluster)
        cluster.finish()
    }

    /// A table file is gone, and who gives its first block loses power before it can give another.
    @Test(arguments: [92, 93, 94] as [UInt64])
    func aDonorDiesInMidFetch(seed: UInt64) throws {
        let cluster = try quietCluster(seed: seed)
        cluster.stopNode(2, power: false)
        let file = try #require(cluster.largestTable(2))
        try cluster.disks[2].unlink(file.path)
        var donor: Int?
        cluster.onBlockGiven = { [unowned cluster] process in
            guard donor == nil else { return }
            donor = process.place
            cluster.stopNode(process.place, power: true)
        }
        cluster.startNode(2)
        let isHealed = cluster.run(atMost: 30_000) {
            cluster.process(2)?.replica.store.manifest.local[file.id]?.generation == 1
        }
        #expect(isHealed)
        cluster.run(milliseconds: 200)
        let dead = try #require(donor)
        let replica = try #require(cluster.process(2)).replica
        let row = try #require(
            replica?.store.healer.ledger.rows().last { $0.state == .healedReplica })
        #expect(row.peer == UInt64(2 - dead))
        cluster.startNode(dead)
        try expectCleanTables(cluster)
        cluster.finish()
    }

    /// Nobody reads a value that is dead, so only a scrub is sure to find what rots in a blob file.
    @Test(arguments: [73, 74] as [UInt64])
    func aRottenBlobFileIsHealedByAScrub(seed: UInt64) throws {
        let cluster = try quietCluster(seed: seed, blobThreshold: 12)
        for place in 0..<2 { cluster.stopNode(place, power: false) }
        // Sizes differ with the codec: it need not be the same file.
        let rotten = [
            try #require(try cluster.rotTable(0, part: 1, of: 8, isBlob: true)),
            try #require(try cluster.rotTable(1, part: 5, of: 8, isBlob: true)),
        ]
        for place in 0..<2 { cluster.startNode(place) }
        cluster.run(milliseconds: 600)
        for place in 0..<2 {
            let process = try #require(cluster.process(place))
            cluster.oracle.checkScan(process, reverse: place == 0)
            #expect(process.replica.store.scrubber.start())
        }
        let isHealed = cluster.run(atMost: 30_000) {
            (0..<2).allSatisfy { place in
                guard let store = cluster.process(place)?.replica.store else { return false }
                return store.manifest.local[rotten[place]]?.generation == 1
                    && !store.scrubber.status.isRunning
            }
        }
        #expect(isHealed)
        try expectCleanTables(cluster)
        cluster.finish()
    }

    /// Data in tables of several levels, everything at rest.
    private func quietCluster(seed: UInt64, blobThreshold: UInt32? = nil) throws
        -> SimulatedCluster
    {
        let cluster = SimulatedCluster.small(seed: seed) { settings in
            settings.store.cacheBytes = 0
            settings.logged.blobThreshold = blobThreshold ?? settings.logged.blobThreshold
        }
        cluster.clients.start(writers: 4, readers: 1, pauseMilliseconds: 8)
        cluster.run(milliseconds: 4_000)
        cluster.clients.pause()
        cluster.expectConvergence(within: 100_000)
        cluster.report()
        return cluster
    }

    /// Every block of every table verifies on the medium, on every node.
    private func expectCleanTables(_ cluster: SimulatedCluster) throws {
        for process in cluster.running {
            let store = process.replica.store
            // One that a test began may still be under way.
            let isFree = cluster.run(atMost: 20_000) { !store.scrubber.status.isRunning }
            #expect(isFree && store.scrubber.start())
            let isDone = cluster.run(atMost: 20_000) { !store.scrubber.status.isRunning }
            #expect(isDone)
            #expect(store.scrubber.status.blocksRead > 0)
            #expect(store.scrubber.status.damagedBlocks == 0)
        }
    }
}
