// An embedded database as its users have it: real files in a directory of its own, jobs on threads.
// Only the clock is the test's.
import Engine

final class ThreadedRig: OracleHost {
    let directory: TemporaryDirectory
    let clock = ManualClock()
    let notes = Notes()
    private(set) var database: Database
    private let options: DatabaseOptions

    init(_ options: DatabaseOptions) throws {
        directory = try TemporaryDirectory()
        var options = options
        let notes = self.notes
        options.report = { notes.add($0) }
        self.options = options
        database = try ThreadedRig.open(directory.path, options, clock)
    }

    private static func open(
        _ directory: String, _ options: DatabaseOptions, _ clock: ManualClock
    ) throws -> Database {
        let pool = ThreadPool(name: "test-job", threads: 2)
        do {
            return try Database.open(
                POSIXFileSystem(), directory, options,
                DatabaseEnvironment(
                    jobs: pool, wall: { clock.milliseconds }, monotonic: { clock.milliseconds }),
                pool: pool)
        } catch {
            pool.stop()
            throw error
        }
    }

    func open() throws { database = try ThreadedRig.open(directory.path, options, clock) }
    func close() throws { try database.close() }
    var historyWindow: UInt64 { options.store.historyWindowMilliseconds }
    var keepsLog: Bool { options.usesLog }
    /// They run by themselves.
    func runJobs(_ count: Int) {}
}
