// A few stores on memory disks that apply the same log on the test's thread, and a repair source
// that asks the others directly. Jobs run one step at a time.
import Engine
import Synchronization
import Testing

/// Runs jobs when told to, the most urgent first.
final class StepRunner: JobRunner {
    private let queue = Mutex<[(JobPriority, @Sendable () -> Void)]>([])

    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        queue.withLock { $0.append((priority, job)) }
    }

    /// False if there was nothing to do.
    func step() -> Bool {
        let job = queue.withLock { queue -> (@Sendable () -> Void)? in
            guard let first = queue.map(\.0).max(),
                let at = queue.firstIndex(where: { $0.0 == first })
            else { return nil }
            return queue.remove(at: at).1
        }
        job?()
        return job != nil
    }
}

/// Hands out the clean blocks of other stores; lies or is silent if told to.
final class FakeRepair: RepairSource {
    struct State {
        var donors: [HealMember] = []
        var isLying = false
        var calls = 0
        var reads = 0
    }

    let state = Mutex(State())

    func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64,
        isProven: (RepairedBlock) -> Bool
    ) -> RepairedBlock? {
        let (donors, isLying) = state.withLock { state in
            state.calls += 1
            return (state.donors, state.isLying)
        }
        for donor in donors {
            guard
                var bytes = donor.store.donateBlock(table, digest: digest, ordinal: ordinal)
            else { continue }
            if isLying { bytes[bytes.count / 2] ^= 4 }
            let block = RepairedBlock(bytes: bytes, donor: donor.id)
            if isProven(block) { return block }
        }
        return nil
    }

    func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
    {
        state.withLock { $0.reads += 1 }
        return nil
    }

    var calls: Int { state.withLock { $0.calls } }
    var reads: Int { state.withLock { $0.reads } }
    func setDonors(_ donors: [HealMember]) { state.withLock { $0.donors = donors } }
    func setLying(_ lies: Bool) { state.withLock { $0.isLying = lies } }
}

final class HealMember: @unchecked Sendable {
    // Unchecked: used by the test's thread only.
    let id: MemberID
    var disk: MemoryFileSystem
    var options: StoreOptions
    let repair = FakeRepair()
    private(set) var store: Store
    private(set) var runner = StepRunner()
    private var events = EventQueue()
    private let genesis: Digest128
    let keys: KeyRing

    private final class EventQueue: Sendable {
        let events = Mutex<[StoreEvent]>([])
    }

    init(
        _ id: MemberID, _ genesis: Digest128, _ options: StoreOptions, seed: UInt64,
        keys: KeyRing
    ) throws {
        self.id = id
        self.keys = keys
        self.genesis = genesis
        self.options = options
        disk = MemoryFileSystem(seed: seed &* 31 &+ id.rawValue)
        store = try HealMember.open(disk, genesis, id, options, runner, keys)
        listen()
    }

    private static func open(
        _ disk: MemoryFileSystem, _ genesis: Digest128, _ id: MemberID, _ options: StoreOptions,
        _ runner: StepRunner, _ keys: KeyRing
    ) throws -> Store {
        let store = try Store.open(
            StoreConfiguration(
                files: StoreFiles(fileSystem: disk, directory: "/data/group-0", keys: keys),
                identity: ManifestIdentity(genesis: genesis, group: 0, node: id),
                options: options, jobs: runner,
                healEnvironment: HealEnvironment(
                    clock: { 1_000 }, wake: {}, note: { _ in }, halt: { _ in })))
        try store.removeOrphans()
        return store
    }

    private func listen() {
        let events = self.events
        store.setEventHandler { event in events.events.withLock { $0.append(event) } }
        store.healer.setRepairSource(repair)
    }

    /// A new process on the disk as it is.
    func reopen(_ entries: [Entry]) throws {
        runner = StepRunner()
        events = EventQueue()
        store = try HealMember.open(disk, genesis, id, options, runner, keys)
        listen()
        for entry in entries where entry.index > store.applied { try apply(entry, now: 0) }
    }

    func apply(_ entry: Entry, now: UInt64) throws {
        if !store.canApply { settle(now: now) }
        try #require(store.canApply)
        store.apply(entry)
        store.noteDurable(entry.index)
    }

    /// Hands over the events that wait, and runs one job; false if there was nothing.
    func step(now: UInt64) -> Bool {
        let hadEvents = deliver(now: now)
        return runner.step() || hadEvents
    }

    /// Hands over the events that wait.
    func deliver(now: UInt64) -> Bool {
        let waiting = events.events.withLock { events -> [StoreEvent] in
            defer { events = [] }
            return events
        }
        for event in waiting { store.handle(event) }
        store.turn(now: now)
        return !waiting.isEmpty
    }

    func settle(now: UInt64) { while step(now: now) {} }

    // MARK: files

    func path(_ id: TableID) -> String {
        let generation = store.manifest.local[id]?.generation ?? 0
        return directory + TableHandle.fileName(id, generation: UInt64(generation))
    }

    var directory: String { "/data/group-0/sst/" }
    var tables: [TableRecord] { store.manifest.manifest.tables.sortedByID }
    var hints: [HealHint] { store.healer.hints.all }

    struct Place {
        var type: UInt8
        var ordinal: UInt32
        var offset: UInt64
        var end: UInt64
    }

    /// Where the blocks of a sound table file lie.
    func blocks(_ id: TableID) throws -> [Place] {
        let bytes = try disk.readAll(path(id), limit: 1 << 30)
        func word(_ at: Int) -> UInt32 {
            bytes[at..<at + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        var places: [Place] = []
        var at = 128
        while at + 80 <= bytes.count, word(at) == 0x4254_4c4d {
            let end = at + 80 + Int(word(at + 32))
            places.append(
                Place(
                    type: bytes[at + 4], ordinal: word(at + 8), offset: UInt64(at),
                    end: UInt64(end)))
            at = end
        }
        return places
    }

    /// Flips a byte in the middle of a block's stored bytes.
    func damage(_ id: TableID, _ place: Place) {
        disk.flip(path(id), (place.offset + 80 + place.end) / 2, mask: 0x10)
    }

    /// Digest and generation that the file itself proves.
    func describe(_ id: TableID) throws -> (digest: Digest128, generation: UInt64) {
        let file = try disk.open(path(id), .read)
        let record = try TableReader.describe(file, keys: keys)
        let reader = try TableReader.open(
            file: file, record: record, cache: BlockCache(capacity: 0), keys: keys)
        #expect(reader.verify(fromMedium: true).isClean)
        return (record.digest, try TableImport.localHeader(file).generation)
    }
}

final class HealBed {
    private(set) var members: [HealMember] = []
    private(set) var entries: [Entry] = []
    private(set) var model: [[UInt8]: [UInt8]] = [:]
    var now: UInt64 = 1
    private var tail: LogPoint
    private var director: JobDirector
    private let genesis = logGenesis(cluster: "heal", group: 0)

    init(
        members count: Int = 2, seed: UInt64 = 1, keys: [KeyRing] = [],
        blobThreshold: UInt32 = 0, configure: (inout StoreOptions) -> Void = { _ in },
        configureMember: (Int, inout StoreOptions) -> Void = { _, _ in }
    ) throws {
        var options = StoreOptions()
        options.cacheBytes = 0
        options.compaction.isEnabled = false
        configure(&options)
        tail = .beginning(genesis: genesis)
        director = JobDirector(own: MemberID(1), options: options.compaction)
        director.setLeading(true, now: 0)
        for number in 1...count {
            var own = options
            configureMember(number - 1, &own)
            members.append(
                try HealMember(
                    MemberID(UInt64(number)), genesis, own, seed: seed,
                    keys: number <= keys.count ? keys[number - 1] : .plain))
        }
        connect()
        var settings = LoggedSettings()
        settings.blockBytes = 512
        settings.blobThreshold = blobThreshold
        try append(.settings, settings.encoded())
        try append(.rotate, [])
    }

    /// Everybody may ask everybody else.
    func connect() {
        for member in members { member.repair.setDonors(members.filter { $0 !== member }) }
    }

    var first: HealMember { members[0] }

    func append(_ kind: EntryKind, _ payload: [UInt8]) throws {
        let entry = Entry(
            kind: kind, payload: payload, previous: tail.position.checksum, group: 0,
            term: Term(1), index: tail.position.index + 1, firstSequence: tail.nextSequence,
            clock: tail.clock + 1, commit: tail.position.index)
        tail = LogPoint(after: entry)
        entries.append(entry)
        for member in members { try member.apply(entry, now: now) }
    }

    func write(_ build: (inout WriteBatch) -> Void) throws {
        var batch = WriteBatch()
        build(&batch)
        try append(.write, batch.payload(horizonDistance: tail.nextSequence.rawValue))
    }

    static func key(_ number: Int) -> [UInt8] {
        Array("key\(String(1_000 + number))".utf8)
    }

    /// Two tables over the same keys: whoever passes over the newer one gets an older value.
    /// `suffix` makes them longer.
    func load(keys: Int = 100, suffix: String = "") throws {
        for round in ["old", "new"] {
            try write { batch in
                for number in 0..<keys {
                    let text = "\(round) \(number * 7919 % 1_000_003) \(number)\(suffix)"
                    let value = Array(text.utf8) + [UInt8](repeating: UInt8(number), count: 40)
                    batch.put(HealBed.key(number), value)
                    self.model[HealBed.key(number)] = value
                }
                if round == "new" {
                    batch.deleteRange(HealBed.key(20), HealBed.key(25))
                    for number in 20..<25 { self.model[HealBed.key(number)] = nil }
                }
            }
            try append(.rotate, [])
            try settle()
        }
        #expect(first.tables.count { !$0.isBlob } == 2)
    }

    /// New values for some keys that `load` has put.
    func overwrite(_ keys: Range<Int>) throws {
        try write { batch in
            for number in keys {
                let value = Array("newest \(number)".utf8) + [UInt8](repeating: 7, count: 40)
                batch.put(HealBed.key(number), value)
                self.model[HealBed.key(number)] = value
            }
        }
        try append(.rotate, [])
        try settle()
    }

    /// Runs everything that can run now.
    func settle() throws {
        var isBusy = true
        while isBusy {
            isBusy = false
            for member in members { while member.step(now: now) { isBusy = true } }
            director.absorb(first.store.takeJobInputs(), now: now)
            director.note(first.store.outcomes, from: MemberID(1), now: now)
            let situation = JobSituation(
                store: first.store.jobFacts(at: tail.clock), able: [MemberID(1)], now: now,
                clock: tail.clock)
            for proposal in director.decide(situation) {
                guard case .entry(let kind, let payload) = proposal else { continue }
                try append(kind, payload)
                if kind == .compact { director.compactApplied() }
                isBusy = true
            }
            for member in members { member.store.noteMinimumFrontier(first.store.frontier) }
        }
    }

    func compactAll() throws {
        director.requestFullCompaction(first.store.jobFacts(at: 0).manifest)
        try settle()
    }

    func reopen(_ member: HealMember) throws { try member.reopen(entries) }

    /// Every key by get, and all of them by scans in both directions.
    func checkReads(_ member: HealMember, _ comment: Comment? = nil) throws {
        for number in 0..<100 {
            let key = HealBed.key(number)
            let found = try member.store.get(key, now: 1, io: .blocking)
            #expect(found?.value == model[key], comment)
        }
        let sorted = model.keys.sorted { $0.isKeyBefore($1) }
        for reverse in [false, true] {
            let pairs = try member.store.scan(
                KeySpan(start: [], end: nil), reverse: reverse, limit: .max, limitBytes: .max,
                now: 1)
            #expect(pairs.map(\.key) == (reverse ? sorted.reversed() : sorted), comment)
            #expect(pairs.allSatisfy { $0.value.value == model[$0.key] }, comment)
        }
    }

    /// The case is closed: a new generation with the log's digest, the old file gone.
    func checkHealed(
        _ member: HealMember, _ table: TableRecord, _ state: LedgerRow.State,
        generation: UInt64 = 1, _ comment: Comment? = nil
    ) throws {
        #expect(member.hints.isEmpty, comment)
        #expect(member.store.manifest.local[table.id]?.generation == UInt32(generation), comment)
        let file = try member.describe(table.id)
        #expect(file.digest == table.digest, comment)
        #expect(file.generation == generation, comment)
        let names = try member.disk.list(member.directory).filter { $0.hasPrefix("\(table.id).") }
        #expect(names == [TableHandle.fileName(table.id, generation: generation)], comment)
        #expect(try member.disk.list("/data/group-0/staged").isEmpty, comment)
        #expect(member.store.healer.ledger.rows(limit: 1).first?.state == state, comment)
        #expect(member.store.healer.repairedBytes == 0, comment)
    }
}
