// Every sync on the way of an open, an append, a flush, a stand-in, a seal and a compaction is
// needed: a run that leaves out any single one loses something to a power cut that the full run
// keeps.
//
// A promise is made when a call returns (or a job has run). So of several syncs of one file within
// one call only the last is looked at: those before it promise nothing to anybody. An entry of the
// engine's own promises nothing before an edit of the manifest follows from it. Not looked at
// either: directories without a new name that matters, `hints` and `ledger`, whose loss costs no
// data, and the content of CURRENT, without which the pair that goes furthest is taken.
import Engine
import Testing

/// One scripted run. After each step copies of the disk, as power cuts would leave it, are opened
/// and compared with what was promised.
private final class DatabaseSyncScript {
    struct Loss: Error {
        var what: String
    }

    private static let keys = 60
    let rig: DatabaseRig
    let files: RecordingFileSystem
    struct Step {
        enum Kind { case open, put, job }
        var kind: Kind
        var lastSync: Int
        /// Files that the manifest names after it.
        var tables: Set<String>
    }
    private(set) var steps: [Step] = []
    private var model = KeyValueModel(keys: keys)
    private var source = ChangeSource(seed: 5, keys: keys)
    private let skipped: Int?
    private let cuts: Int
    private var attemptLoss: String?
    /// Jobs that began since the last kill.
    private var begun: Set<JobID> = []

    /// Runs to the end, or throws the first `Loss`. Without `skipping` everything is looked at,
    /// else only what follows that sync.
    static func run(skipping: Int?, cuts: Int) throws -> DatabaseSyncScript {
        let memory = MemoryFileSystem(seed: 90)
        let files = RecordingFileSystem(memory)
        if let skipping { memory.skipSync = [skipping] }
        var options = DatabaseRig.smallOptions()
        options.store.compaction.baseLevelBytes = 4096
        let rig = try DatabaseRig(
            seed: 90, options, memory: memory, wrapped: { _ in files }, jobs: .first)
        let script = DatabaseSyncScript(rig, files, skipping, cuts)
        try script.script()
        files.onCreate = nil
        return script
    }

    private init(
        _ rig: DatabaseRig, _ files: RecordingFileSystem, _ skipped: Int?, _ cuts: Int
    ) {
        self.rig = rig
        self.files = files
        self.skipped = skipped
        self.cuts = cuts
        source.valueBytes = 700
        files.onCreate = { [unowned self] in watchAttempts($0) }
    }

    private func script() throws {
        try promised(.open)
        for _ in 0..<24 { try put() }
        while rig.jobs.waiting > 0 { try job() }
        try putsAndJobs(12)
        try dieWhileWriting()
        try putsAndJobs(12)
        while rig.jobs.waiting > 0 { try job() }
        try dieWhileInstalling()
        while rig.jobs.waiting > 0 { try job() }
    }

    private func putsAndJobs(_ count: Int) throws {
        for _ in 0..<count {
            try put()
            if rig.jobs.waiting > 0 { try job() }
        }
    }

    private func put() throws {
        let change = source.change(now: 0)
        guard case .put(let key, let value, _) = change else { return }
        let put = KeyValueModel.Change.put(key, value, expiry: nil)
        try rig.database.write([put].batch)
        model.apply(put)
        try promised(.put)
    }

    private func job() throws {
        rig.jobs.runOne()
        try promised(.job)
    }

    /// The process is killed before a group across a segment's end is synced; what the next open
    /// shows of it is as good as acknowledged.
    private func dieWhileWriting() throws {
        var batch = WriteBatch()
        let value = [UInt8](repeating: 7, count: 300)
        for key in 0..<20 { batch.put(KeyValueModel.key(key), value) }
        rig.memory.failNextSync()
        try? rig.database.write(batch)
        rig.kill()
        begun.removeAll()
        try rig.open()
        if try rig.database.get(KeyValueModel.key(0)) == value {
            for key in 0..<20 { model.apply(.put(key, value, expiry: nil)) }
        }
        try promised(.open)
    }

    /// The process is killed when the manifest's sync has failed: the pages are in the cache and
    /// nowhere else, and the next open shows what they say.
    private func dieWhileInstalling() throws {
        while rig.jobs.waiting == 0 { try put() }
        let name = try rig.memory.list(DatabaseRig.group).first { $0.hasPrefix("MANIFEST-") }
        rig.memory.failNextSync(DatabaseRig.group + "/" + (name ?? ""))
        while case .success = Result(catching: { try rig.database.get([]) }) { rig.jobs.runOne() }
        rig.kill()
        begun.removeAll()
        try rig.open()
        try promised(.open)
    }

    // MARK: promises

    private func promised(_ kind: Step.Kind) throws {
        if let loss = attemptLoss { throw Loss(what: loss) }
        let names = rig.store.manifest.local.map { id, local in
            TableHandle.fileName(id, generation: UInt64(local.generation))
        }
        steps.append(Step(kind: kind, lastSync: rig.memory.syncCount, tables: Set(names)))
        if let skipped, skipped != .max, rig.memory.syncCount < skipped { return }
        for cut in 0..<cuts { try check(rig.memory.snapshotAfterPowerCut(), cut) }
    }

    private func check(_ copy: MemoryFileSystem, _ cut: Int) throws {
        try loseOneManifest(copy, cut)
        let opened: DatabaseRig
        do {
            opened = try DatabaseRig(seed: 7, rig.options, memory: copy)
        } catch { throw Loss(what: "\(error)") }
        let (mine, theirs) = (rig.store, opened.store)
        let term = mine.appliedTail.position.term
        guard theirs.appliedTail.position.term > term else { throw Loss(what: "a term") }
        guard theirs.frontier >= mine.frontier else { throw Loss(what: "the frontier") }
        guard theirs.flushedPosition.index >= mine.flushedPosition.index else {
            throw Loss(what: "S")
        }
        guard theirs.settings == mine.settings else { throw Loss(what: "the settings") }
        guard try endedAttempts(rig.memory).isSubset(of: endedAttempts(copy)) else {
            throw Loss(what: "the end of an attempt")
        }
        guard try identity(copy) == identity(rig.memory) else { throw Loss(what: "the identity") }
        do {
            let found = try opened.database.scan(.everything)
            let live = model.live(0, nil, now: 0)
            let isSame =
                found.map(\.key) == live.map { KeyValueModel.key($0) }
                && found.map(\.value.value) == live.map { model.get($0, now: 0) }
            guard isSame else { throw Loss(what: "entries") }
        } catch let error as EngineError { throw Loss(what: "\(error)") }
        opened.kill()
    }

    private func identity(_ files: MemoryFileSystem) throws -> [UInt8] {
        try files.readAll(DatabaseRig.path + "/node", limit: 4096)
    }

    /// Either copy of the manifest is enough.
    private func loseOneManifest(_ copy: MemoryFileSystem, _ cut: Int) throws {
        let names = try copy.list(DatabaseRig.group).filter { $0.hasPrefix("MANIFEST-") }
        let mirrors = names.filter { $0.hasSuffix(".mirror") }
        let lost =
            cut % 3 == 0 ? mirrors : cut % 3 == 1 ? names.filter { !mirrors.contains($0) } : []
        for name in lost { try copy.unlink(DatabaseRig.group + "/" + name) }
    }

    private func endedAttempts(_ files: MemoryFileSystem) throws -> Set<JobID> {
        let attempts = try JobAttempts.open(files, path: DatabaseRig.group + "/jobs")
        return begun.filter { attempts.unfinished($0) == 0 }
    }

    /// An attempt is durable before its job starts.
    private func watchAttempts(_ path: String) {
        guard path.contains("/staged/") else { return }
        let name = String(path.split(separator: "/").last ?? "")
        // A flush is repeated until it succeeds: only jobs count their attempts.
        guard let id = TableHandle.parse(fileName: name)?.id, id.kind == .compaction else { return }
        let job = JobID(index: id.index, kind: id.kind)
        guard begun.insert(job).inserted, skipped != nil else { return }
        for _ in 0..<4 * cuts {
            let copy = rig.memory.snapshotAfterPowerCut()
            let attempts = try? JobAttempts.open(copy, path: DatabaseRig.group + "/jobs")
            guard let count = attempts?.unfinished(job), count > 0 else {
                attemptLoss = "an attempt"
                return
            }
        }
    }
}

@Suite struct DatabaseSyncNecessityTests {
    @Test func `Every sync of the database is needed`() throws {
        let full = try DatabaseSyncScript.run(skipping: nil, cuts: 3)
        let wanted = syncsThatPromise(full)
        #expect(wanted.count > 60)
        for kind in ["/log", ".seg", "/node", "/staged/", "/sst", "MANIFEST", ".mirror", "/jobs"] {
            #expect(wanted.contains { $0.path.contains(kind) }, "no sync of \(kind)")
        }
        #expect(full.rig.store.manifest.manifest.tables.deepestLevel ?? 0 >= 1)
        // Looked at as closely, a run that leaves out none loses nothing.
        for cuts in cutsOfALook { _ = try DatabaseSyncScript.run(skipping: .max, cuts: cuts) }
        // All of them in full, else every third.
        let step = scaled("MARTLET_SYNC_STEP", full: 1, usual: 3)
        let looked = wanted.enumerated().filter { $0.offset % step == 0 }.map(\.element)
        var needless: [String] = []
        for sync in looked where try !isMissed(sync) {
            needless.append("\(sync.number) of \(sync.path)")
        }
        #expect(needless.isEmpty, "not needed: \(needless)")
    }

    /// Most losses show after a few cuts of the power; a copy of the manifest that lacks its last
    /// record matters only where a cut takes the other copy and a segment is already used again.
    private var cutsOfALook: [Int] { [12, 300] }

    private func isMissed(_ sync: RecordingFileSystem.Sync) throws -> Bool {
        for cuts in cutsOfALook {
            do {
                _ = try DatabaseSyncScript.run(skipping: sync.number, cuts: cuts)
            } catch is DatabaseSyncScript.Loss { return true }
        }
        return false
    }

    /// Without a synced log nothing but the vote says that a term was used.
    @Test func `The sync of the term is needed`() throws {
        var isNeeded = false
        for seed in 1...20 as ClosedRange<UInt64> {
            let full = try openTwice(seed: seed, skipping: nil)
            #expect(!full.isTermReused)
            let short = try openTwice(seed: seed, skipping: full.vote)
            isNeeded = isNeeded || short.isTermReused
        }
        #expect(isNeeded)
    }

    private func openTwice(seed: UInt64, skipping: Int?) throws -> (vote: Int, isTermReused: Bool) {
        let memory = MemoryFileSystem(seed: seed)
        let files = RecordingFileSystem(memory)
        if let skipping { memory.skipSync = [skipping] }
        let rig = try DatabaseRig(
            seed: seed, DatabaseRig.smallOptions(sync: .never), memory: memory,
            wrapped: { _ in files })
        try rig.close()
        try rig.open()
        let vote = try #require(files.syncs.last { $0.path == DatabaseRig.group + "/state" })
        let term = rig.store.appliedTail.position.term
        rig.powerCut()
        try rig.open()
        return (vote.number, rig.store.appliedTail.position.term <= term)
    }

    /// See above: what somebody may rely on.
    private func syncsThatPromise(_ full: DatabaseSyncScript) -> [RecordingFileSystem.Sync] {
        var wanted: [RecordingFileSystem.Sync] = []
        var first = 0
        for step in full.steps {
            let syncs = full.files.syncs.filter { $0.number > first && $0.number <= step.lastSync }
            for sync in syncs where promises(sync, step, first == 0, full.files.syncs) {
                wanted.append(sync)
            }
            first = step.lastSync
        }
        return wanted
    }

    private func promises(
        _ sync: RecordingFileSystem.Sync, _ step: DatabaseSyncScript.Step, _ isFirstOpen: Bool,
        _ all: [RecordingFileSystem.Sync]
    ) -> Bool {
        if let names = sync.names, names.isDisjoint(with: step.tables) {
            // No new name, or none that anything relies on yet.
            if names.isEmpty || sync.path.hasSuffix("/sst") { return false }
        }
        for name in ["/hints", "/ledger", "/CURRENT"] where sync.path.contains(name) {
            return false
        }
        let rest = all.drop { $0.number <= sync.number }
        let path = sync.path.hasSuffix(".new") ? String(sync.path.dropLast(4)) : sync.path
        if rest.contains(where: { $0.path == path && $0.number <= step.lastSync }) { return false }
        switch step.kind {
        case .put: return true
        case .open:
            // The term is in the no-op, too, once that is synced; and only the names of `hints`
            // and `ledger` are made again.
            let isCovered = path.hasSuffix("/state") || path == DatabaseRig.group && !isFirstOpen
            return !isCovered
        case .job:
            guard path.hasSuffix(".seg") else { return true }
            return rest.first { $0.path == path || $0.path.contains("/MANIFEST") }?.path != path
        }
    }
}
