// The same log on three stores, with flushes and jobs at different times, in different orders and
// under different codecs and keys, some of them restarted on the way: wherever two frontiers are
// equal, so are M(F), its root and the digests of its tables; and every read in between is right.
import Engine
import Testing

@Suite struct StoreDeterminismTests {
    private static let entries = scaled("MARTLET_ENTRIES", full: 3_000, usual: 1_500)

    private static let mixed = CompressionPolicy(
        .zstdDictionary(level: 1),
        levels: [LevelCompression(level: 2, compression: .zstdDictionary(level: 9))])

    /// Files of the replica that hold a dictionary.
    private func dictionaries(_ replica: StoreReplica) throws -> Int {
        let directory = "data/group-0/sst"
        return try replica.files.list(directory).count { name in
            let bytes = try replica.files.readAll(directory + "/" + name, limit: 1 << 20)
            // The type of the file's first block.
            return bytes.count > 132 && bytes[132] == 64
        }
    }

    @Test(arguments: 1...2 as ClosedRange<UInt64>)
    func `The same log makes the same tables`(seed: UInt64) throws {
        _ = try run(seed)
    }

    @Test func `Tables that move are the same everywhere`() throws {
        let leader = try run(3, isAscending: true)
        #expect(leader.moves > 3, "\(leader.moves)")
    }

    @Test func `Merges in place and dynamic levels are the same everywhere`() throws {
        var compaction = SharedLog.compaction
        compaction.sizesLevelsDynamically = true
        compaction.level0MergeTables = 2
        let leader = try run(4, compaction: compaction, laziness: 20)
        #expect(leader.inPlace > 1, "\(leader.inPlace)")
        #expect(leader.passing > 3, "\(leader.passing)")
    }

    @Test func `Size-tiered tables are the same everywhere`() throws {
        var compaction = SharedLog.compaction
        compaction.strategy = .sizeTiered
        compaction.level0Trigger = 3
        let leader = try run(5, compaction: compaction)
        #expect(leader.inPlace > 3, "\(leader.inPlace)")
    }

    @Test(arguments: [7, 10] as [UInt64])
    func `Blob files are the same everywhere, and go when they are dead`(seed: UInt64) throws {
        var compaction = SharedLog.compaction
        if seed == 7 { compaction.strategy = .sizeTiered }
        let leader = try run(seed, compaction: compaction, blobThreshold: 40)
        #expect(leader.collected > 3, "\(leader.collected)")
        let blobs = leader.replica.store.manifest.manifest.tables.blobs
        #expect(blobs.contains { $0.id.kind == .compactionBlob }, "\(blobs.map(\.id))")
        #expect(!blobs.contains { $0.id.index < LogIndex(50) }, "\(blobs.map(\.id))")
    }

    @Test func `Jobs in parts are the same everywhere`() throws {
        var compaction = SharedLog.compaction
        compaction.targetBytes = 1 << 10
        let leader = try run(11, compaction: compaction, blobThreshold: 40)
        #expect(leader.divided > 3, "\(leader.divided)")
        #expect(leader.collected > 3, "\(leader.collected)")
        #expect(leader.hadSecondPart)
    }

    private func run(
        _ seed: UInt64, isAscending: Bool = false,
        compaction: CompactionOptions = SharedLog.compaction, laziness: Int = 1,
        blobThreshold: UInt32 = 0
    ) throws -> Leader {
        let log = SharedLog()
        var frontiers: [LogIndex: ManifestState] = [:]
        func compare(_ store: Store) throws {
            let state = store.manifest
            guard let other = frontiers[state.frontier] else {
                frontiers[state.frontier] = state
                return
            }
            try #require(store.stateRoot == other.manifest.stateRoot())
            try #require(state.manifest.tables.sortedByID == other.manifest.tables.sortedByID)
            try #require(state.manifest.jobs == other.manifest.jobs)
        }

        let leader = try Leader(
            log, seed: seed, isAscending: isAscending, compaction, laziness: laziness,
            blobThreshold: blobThreshold)
        leader.replica.onFrontier = compare
        try leader.run(entries: StoreDeterminismTests.entries)
        #expect(leader.jobs > StoreDeterminismTests.entries / 60)
        #expect(leader.cancelled > 0)

        // One job at a time; the youngest job first; anything.
        let first = try StoreReplica(log, seed: seed, .first, codec: .none, concurrentJobs: 1)
        let last = try StoreReplica(
            log, seed: seed + 10, .last, codec: CompressionPolicy(.zstd(level: 3)),
            concurrentJobs: 4, keys: KeyRing(try testKeys(1), random: seededNumbers(seed)))
        let any = try StoreReplica(
            log, seed: seed + 20, .random, codec: StoreDeterminismTests.mixed, concurrentJobs: 2,
            keys: KeyRing(try testKeys(2, 3), random: seededNumbers(seed + 1)))
        for replica in [first, last, any] { replica.onFrontier = compare }
        var withDictionary = 0
        any.onFrontier = { [unowned any] store in
            try compare(store)
            if withDictionary == 0 { withDictionary = try dictionaries(any) }
        }
        var random = SeededRandom(seed: seed)
        try follow(first, log, jobsPerEntry: 1, &random)
        var isOvertaken = false
        try follow(last, log, jobsPerEntry: 0, &random) {
            if !isOvertaken { isOvertaken = try isOutOfOrder(last) }
        }
        // A move is done as soon as it begins.
        #expect(
            isOvertaken || isAscending || compaction.strategy != .leveled,
            "no job overtook a slow one")
        try follow(any, log, jobsPerEntry: nil, restarts: true, &random)

        #expect(
            withDictionary > 0 || compaction != SharedLog.compaction,
            "no file ever had a dictionary")
        for replica in [leader.replica, first, last, any] {
            #expect(replica.store.applied == log.last)
            #expect(replica.store.frontier == leader.replica.store.frontier)
            #expect(!replica.notes.contains("differs"), "\(replica.notes.all.suffix(3))")
        }
        return leader
    }

    /// A job's outputs are there while an older job's are not.
    private func isOutOfOrder(_ replica: StoreReplica) throws -> Bool {
        guard replica.store.manifest.manifest.jobs.count > 1 else { return false }
        let built = try replica.files.list("data/group-0/sst").compactMap {
            TableHandle.parse(fileName: $0)?.id
        }
        let jobs = Set(built.filter { $0.kind == .compaction }.map(\.index))
        guard let youngest = jobs.max() else { return false }
        return replica.store.manifest.manifest.jobs.contains {
            $0.index < youngest && !jobs.contains($0.index)
        }
    }

    /// Applies the whole log. Without jobs per entry they run when nothing else can go on.
    private func follow(
        _ replica: StoreReplica, _ log: SharedLog, jobsPerEntry: Int?, restarts: Bool = false,
        _ random: inout SeededRandom, _ afterStep: () throws -> Void = {}
    ) throws {
        var steps = 0
        while replica.store.applied < log.last || replica.jobs.waiting > 0 {
            steps += 1
            try #require(steps < 100 * Int(log.last.rawValue), "it does not get on")
            replica.noteDurable(lag: UInt64(random.below(4)))
            let count = jobsPerEntry ?? random.below(3)
            for _ in 0..<count { try replica.runJob() }
            if try !replica.applyNext() {
                replica.noteDurable(lag: 0)
                try replica.settle()
                try replica.runJob()
            }
            try afterStep()
            if random.oneIn(12) { try replica.check() }
            if restarts, random.oneIn(60) {
                try replica.restart(powerCut: random.oneIn(2))
            }
        }
        // The frontier waits for the last entry to be durable, and for what becomes due with it.
        replica.noteDurable(lag: 0)
        try replica.settle()
        while replica.jobs.waiting > 0 { try replica.runJob() }
        try replica.check()
    }
}

/// Makes the log: random writes, and the entries that its own flushes and jobs lead to.
private final class Leader {
    let replica: StoreReplica
    private let log: SharedLog
    private var source: ChangeSource
    private var random: SeededRandom
    /// For `bulk` entries, so that the rest of the log does not depend on them.
    private var loads: SeededRandom
    private var director: JobDirector
    private var clock: UInt64 = 1_000
    private(set) var jobs = 0
    private(set) var cancelled = 0
    private(set) var moves = 0

    /// Jobs inside level 0, and those from there past a level.
    private(set) var inPlace = 0
    private(set) var passing = 0

    /// One write in so many is followed by work.
    private let laziness: Int
    private let isAscending: Bool
    private let blobThreshold: UInt32
    /// Blob files that jobs were told to collect.
    private(set) var collected = 0
    /// Jobs in parts.
    private(set) var divided = 0
    /// There were tables of another part than the first.
    private(set) var hadSecondPart = false

    init(
        _ log: SharedLog, seed: UInt64, isAscending: Bool, _ compaction: CompactionOptions,
        laziness: Int, blobThreshold: UInt32
    ) throws {
        self.laziness = laziness
        self.blobThreshold = blobThreshold
        self.isAscending = isAscending
        self.log = log
        replica = try StoreReplica(
            log, seed: seed + 30, .random, codec: .lz4, concurrentJobs: 3, compaction: compaction)
        source = ChangeSource(seed: seed, keys: SharedLog.keys)
        source.isAscending = isAscending
        // Worth a dictionary.
        source.ending = [UInt8](#"{"state":"active","currency":"EUR","mail":"@example.com"}"#.utf8)
        random = SeededRandom(seed: seed + 1)
        loads = SeededRandom(seed: seed + 2)
        director = JobDirector(own: MemberID(1), options: compaction)
    }

    func run(entries: Int) throws {
        try append(.noop, [])
        try changeSettings()
        try append(.rotate, [])
        while Int(log.last.rawValue) < entries {
            clock += UInt64(random.below(30))
            if replica.store.writeRefusal == nil { try write() }
            if laziness == 1 || random.oneIn(laziness) {
                for _ in 0..<random.below(3) { try replica.runJob() }
            }
            try decide()
            if random.oneIn(20) { try replica.check() }
        }
        // What is under way comes to its end.
        while replica.jobs.waiting > 0 {
            try replica.runJob()
            try decide()
        }
        try replica.check()
    }

    private func write() throws {
        if random.oneIn(80) { try changeSettings() }
        if random.oneIn(50) { try append(.rotate, []) }
        if loads.oneIn(6) { try load() }
        let changes = source.changes(now: clock, on: replica.model)
        let distance = log.tail.nextSequence.rawValue - replica.store.appliedSequence.rawValue
        // The horizon of a busy leader lags.
        let horizon = distance + UInt64(random.below(5))
        try append(
            .write,
            changes.batch.payload(horizonDistance: min(horizon, log.tail.nextSequence.rawValue)),
            changes)
    }

    private func load() throws {
        let changes = replica.model.load(loadsSingles: true, &loads)
        guard !changes.isEmpty else { return }
        var builder = BulkPayloadBuilder()
        for case let (key, value)? in changes.map(\.pair) {
            try key.withUnsafeBytes { key in
                try value.withUnsafeBytes { try builder.add(key, $0) }
            }
        }
        try append(.bulk, builder.take().payload, changes)
    }

    private func changeSettings() throws {
        var settings = LoggedSettings()
        settings.segmentBytes = UInt64(4096 << random.below(2))
        settings.blockBytes = UInt32(256 << random.below(3))
        if blobThreshold > 0 {
            settings.blobThreshold = blobThreshold
            settings.blobFileBytes = 4096
        }
        if isAscending {
            // What is the same at all levels may move.
            try append(.settings, settings.encoded())
            return
        }
        if settings.blockBytes == 256 {
            settings.blockLevels = [LevelBlockBytes(level: 1, bytes: 2048)]
        }
        settings.filter = filterPolicy()
        if random.oneIn(2) { settings.functions.mergeOperators = TestMerge.references }
        if random.oneIn(2) { settings.functions.compactionFilter = TouchingFilter.wanted }
        try append(.settings, settings.encoded())
    }

    private func filterPolicy() -> FilterPolicy {
        var policy = FilterPolicy(bitsPerKey: UInt32(random.below(3) * 7))
        // Has its own numbers, so that what the leader does stays as it was.
        var random = SeededRandom(seed: log.last.rawValue)
        policy.kind = random.oneIn(3) ? .bloom : .burr
        policy.expectsHits = random.oneIn(3)
        if random.oneIn(2) { policy.allocation = .monkey(sizeRatio: 3, deepestLevel: 2) }
        if random.oneIn(3) {
            policy.levels = [LevelFilterBudget(level: 1, budget: .falsePositive(oneIn: 50))]
        }
        if random.oneIn(2) { policy.partitionAbove = 64 }
        if random.oneIn(2) { policy.prefix = .fixed(length: 4) }
        return policy
    }

    private func append(
        _ kind: EntryKind, _ payload: [UInt8], _ changes: [KeyValueModel.Change] = []
    ) throws {
        let entry = try log.append(kind, payload, clock: clock, changes)
        // A leader applies what it has committed, room or not.
        replica.noteDurable(lag: 0)
        if try !replica.applyNext() {
            while try !replica.applyNext() { try replica.runJob() }
        }
        replica.noteDurable(lag: 0)
        if entry.header.kind == .compact { director.compactApplied() }
        if entry.header.kind == .compacted, !hadSecondPart {
            let tables = replica.store.logical.tables.sortedByID
            hadSecondPart = tables.contains { $0.id.ordinal >= UInt32(Limits.jobTables) }
        }
        try replica.settle()
    }

    private func decide() throws {
        let store = replica.store
        let now = replica.now
        director.setLeading(true, now: now)
        director.absorb(store.takeJobInputs(), now: now)
        director.note(store.outcomes, from: MemberID(1), now: now)
        let decided = director.decide(
            JobSituation(
                store: store.jobFacts(at: clock), able: [MemberID(1)], now: now, clock: clock))
        for case .entry(let kind, let payload) in decided {
            try append(kind, payload)
            guard kind == .compact else { continue }
            jobs += 1
            let spec = try payload.withUnsafeBytes { try CompactionSpec(decoding: $0) }
            if spec.action == .move { moves += 1 }
            collected += spec.collected.count
            if spec.partCount > 1 { divided += 1 }
            if spec.outputLevel == 0 { inPlace += 1 }
            if spec.outputLevel > spec.sourceLevel + 1 { passing += 1 }
            // The same job again is void; and some are called off while they run.
            if random.oneIn(4) { try append(.compact, payload) }
            if random.oneIn(8), let job = store.logical.jobs.randomElement(using: &random) {
                let record = CancelledRecord(job: job.index, reason: .requested, detail: "test")
                try append(.cancelled, record.encoded())
                cancelled += 1
                // Its tables are left out of picks for a while, which passes.
                for _ in 0..<3 { try replica.runJob() }
                director.absorb(store.takeJobInputs(), now: replica.now)
                replica.now += CompactionExclusions.backOffMax
            }
        }
    }
}
