// An embedded database on one thread: files in memory, jobs by hand, a clock by hand, and crashes.
import Engine
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How much a heavy test does: in full with TEST_SCALE=full, or as a variable of its own says.
func scaled(_ variable: String, full: Int, usual: Int, deep: Int? = nil) -> Int {
    if let text = getenv(variable), let number = Int(String(cString: text)) { return number }
    switch getenv("TEST_SCALE").map({ String(cString: $0) }) {
    case "full": return full
    case "deep": return deep ?? full
    default: return usual
    }
}

final class DatabaseRig: OracleHost {
    static let path = "data"
    static let group = "data/group-0"

    let fileSystem: any FileSystem
    let memory: MemoryFileSystem
    let jobs: ManualJobs
    let clock = ManualClock()
    var options = DatabaseOptions()
    private(set) var database: Database
    private var seed: UInt64
    /// Looks on at what is encrypted.
    private let watch: SealWatch?
    /// What the database reported.
    let notes = Notes()

    /// Small segments and levels, so that flushes and compactions happen all the time.
    static func smallOptions(segmentBytes: UInt64 = 4096, sync: DatabaseOptions.Sync = .always)
        -> DatabaseOptions
    {
        var options = DatabaseOptions()
        options.sync = sync
        options.settings.segmentBytes = segmentBytes
        options.settings.blockBytes = 512
        options.store.cacheBytes = 256 << 10
        options.store.openTables = 16
        options.store.memtablesMax = 3
        options.store.standInsMax = 6
        options.store.compaction.level0Trigger = 2
        options.store.compaction.baseLevelBytes = 4 * segmentBytes
        options.store.compaction.multiplier = 4
        options.store.compaction.targetBytes = segmentBytes
        options.mergeOperators = TestMerge.operators
        return options
    }

    init(
        seed: UInt64 = 1, _ options: DatabaseOptions = smallOptions(),
        memory: MemoryFileSystem? = nil, wrapped: ((MemoryFileSystem) -> any FileSystem)? = nil,
        jobs policy: ManualJobs.Policy = .random, watch: SealWatch? = nil
    ) throws {
        self.seed = seed
        self.watch = watch
        self.options = options
        let memory = memory ?? MemoryFileSystem(seed: seed)
        self.memory = memory
        fileSystem = wrapped?(memory) ?? memory
        jobs = ManualJobs(seed: seed, policy)
        let notes = self.notes
        self.options.report = { notes.add($0) }
        database = try DatabaseRig.open(fileSystem, self.options, jobs, clock, seed: seed, watch)
    }

    private static func open(
        _ fileSystem: any FileSystem, at path: String = path, _ options: DatabaseOptions,
        _ jobs: ManualJobs, _ clock: ManualClock, seed: UInt64, _ watch: SealWatch?
    ) throws -> Database {
        var environment = DatabaseEnvironment(
            jobs: jobs, wall: { clock.milliseconds }, monotonic: { clock.milliseconds },
            yield: {
                // On one thread nobody else could end the wait.
                guard jobs.runOne() else { fatalError("a wait that no job ends") }
                return true
            }, seed: seed)
        environment.random = seededNumbers(seed)
        environment.sealObserver = watch?.observer
        return try Database.open(fileSystem, path, options, environment)
    }

    /// Opens after `close`, `kill` or `powerCut`.
    func open() throws {
        seed += 1
        database = try DatabaseRig.open(fileSystem, options, jobs, clock, seed: seed, watch)
    }

    /// Another database on the same disk, with jobs of its own.
    func openCopy(_ path: String, _ jobs: ManualJobs) throws -> Database {
        seed += 1
        return try DatabaseRig.open(
            fileSystem, at: path, options, jobs, clock, seed: seed, watch)
    }

    /// Removes what is in a directory.
    func removeAll(_ path: String) throws {
        for name in try fileSystem.list(path) {
            let child = path + "/" + name
            do throws(FileError) { try fileSystem.unlink(child) } catch { try removeAll(child) }
        }
        try fileSystem.syncDirectory(path)
    }

    /// What was submitted before the close runs to its end, as on a pool.
    func close() throws {
        try database.close()
        jobs.runAll()
    }

    func runJobs(_ count: Int) {
        for _ in 0..<count { jobs.runOne() }
    }

    /// The process dies, the page cache stays.
    func kill() {
        jobs.dropAll()
        memory.restart()
    }

    func powerCut() {
        jobs.dropAll()
        memory.powerCut()
    }

    var store: Store { database.store }
    var historyWindow: UInt64 { options.store.historyWindowMilliseconds }
    var keepsLog: Bool { options.usesLog }
}

/// Texts from any thread.
final class Notes: Sendable {
    private let texts = Mutex<[String]>([])

    func add(_ text: String) { texts.withLock { $0.append(text) } }
    var all: [String] { texts.withLock { $0 } }
    /// For who waits while others add: looked at under the lock.
    var count: Int { texts.withLock { $0.count } }
    func contains(_ part: String) -> Bool { all.contains { $0.contains(part) } }
}
