// Writers and readers on threads of their own, with groups that form while the disk syncs.
import Engine
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite struct DatabaseThreadTests {
    private static let writes = scaled("MARTLET_THREAD_WRITES", full: 5_000, usual: 300)
    private static let writers = 4

    private static func key(_ writer: Int, _ number: Int) -> [UInt8] {
        [UInt8(writer), UInt8(number >> 16), UInt8(number >> 8 & 255), UInt8(number & 255)]
    }

    private static func value(_ writer: Int, _ number: Int) -> [UInt8] {
        key(writer, number) + [UInt8](repeating: UInt8(number & 255), count: number % 200)
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func `What four threads write is all there`(sync: DatabaseOptions.Sync) throws {
        let rig = try ThreadedRig(
            DatabaseRig.smallOptions(segmentBytes: 16 << 10, sync: sync))
        let database = rig.database
        let progress = (0..<DatabaseThreadTests.writers).map { _ in Progress() }
        let failures = Notes()
        let before = database.store.appliedTail.nextSequence.rawValue
        var threads = progress.indices.map { writer in
            startThread { DatabaseThreadTests.write(database, writer, progress[writer], failures) }
        }
        threads += (0..<2).map { reader in
            startThread {
                DatabaseThreadTests.read(database, UInt64(reader), progress, failures)
            }
        }
        for thread in threads { pthread_join(thread, nil) }
        #expect(failures.all.isEmpty, "\(failures.all.prefix(3))")

        // Sequences are dense: each effect took one.
        let total = DatabaseThreadTests.writers * DatabaseThreadTests.writes
        let after = database.store.appliedTail.nextSequence.rawValue
        #expect(after - before == UInt64(total))
        try checkAll(rig.database)
        try database.flush()
        #expect(!database.tables().isEmpty)
        try checkAll(rig.database)
        try rig.close()
        try rig.open()
        try checkAll(rig.database)
        try rig.database.compactAll()
        try checkAll(rig.database)
        try rig.close()
    }

    /// Numbers below it are acknowledged.
    private final class Progress: Sendable {
        let acknowledged = Atomic<Int>(0)
    }

    private static func write(
        _ database: Database, _ writer: Int, _ progress: Progress, _ failures: Notes
    ) {
        do {
            for number in 0..<writes {
                try database.put(key(writer, number), value(writer, number))
                progress.acknowledged.store(number + 1, ordering: .releasing)
            }
        } catch { failures.add("writer \(writer): \(error)") }
    }

    /// What was acknowledged before is there; in a snapshot a writer's keys have no gap.
    private static func read(
        _ database: Database, _ seed: UInt64, _ progress: [Progress], _ failures: Notes
    ) {
        var random = SeededRandom(seed: seed)
        do {
            for _ in 0..<writes {
                let writer = random.below(writers)
                let acknowledged = progress[writer].acknowledged.load(ordering: .acquiring)
                let number = random.below(writes)
                let snapshot = database.snapshot()
                let found = try snapshot.get(key(writer, number))
                if let found, found != value(writer, number) { failures.add("a wrong value") }
                if found == nil, number < acknowledged { failures.add("\(number) is not there") }
                if found != nil, number > 0, try snapshot.get(key(writer, number - 1)) == nil {
                    failures.add("a gap before \(number)")
                }
                let later = try snapshot.scan(
                    KeySpan(start: key(writer, number), end: [UInt8(writer) + 1]), limit: 3)
                if (later.first?.key == key(writer, number)) != (found != nil) {
                    failures.add("a scan and a get of one snapshot differ")
                }
            }
        } catch { failures.add("reader: \(error)") }
    }

    private func checkAll(_ database: Database) throws {
        let found = try database.scan(.everything)
        let expected = (0..<DatabaseThreadTests.writers).flatMap { writer in
            (0..<DatabaseThreadTests.writes).map { DatabaseThreadTests.key(writer, $0) }
        }
        #expect(found.map(\.key) == expected)
        let isRight = found.allSatisfy { pair in
            let number = Int(pair.key[1]) << 16 | Int(pair.key[2]) << 8 | Int(pair.key[3])
            return pair.value.value == DatabaseThreadTests.value(Int(pair.key[0]), number)
        }
        #expect(isRight)
    }

    /// No job runs before all of them have come, and each span takes several.
    @Test func `Each of many who compact at once gets the span that was asked for`() throws {
        let directory = try TemporaryDirectory()
        let pool = ThreadPool(name: "test-job", threads: 1)
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        options.store.compaction.jobBytesMax = 1
        let database = try Database.open(
            POSIXFileSystem(), directory.path, options, DatabaseEnvironment(jobs: pool), pool: pool)
        for number in 0..<3 {
            for writer in 0..<DatabaseThreadTests.writers {
                try database.put(
                    DatabaseThreadTests.key(writer, number),
                    DatabaseThreadTests.value(writer, number))
                try database.flush()
            }
        }
        let jobs = Latch()
        pool.submit(.flush) { while jobs.wait() != .opened {} }
        let failures = Notes()
        let arrivals = Notes()
        let threads = (0..<DatabaseThreadTests.writers).map { writer in
            startThread {
                let span = KeySpan(start: [UInt8(writer)], end: [UInt8(writer) + 1])
                arrivals.add("\(writer)")
                do {
                    try database.compact(span)
                    for table in database.tables()
                    where table.level == 0 && table.span.overlaps(span) {
                        failures.add("table \(table.id) of writer \(writer) is as it was")
                    }
                } catch { failures.add("\(error)") }
            }
        }
        while arrivals.count < threads.count { sched_yield() }
        for _ in 0..<20_000 { sched_yield() }
        jobs.open()
        for thread in threads { pthread_join(thread, nil) }
        #expect(failures.all.isEmpty, "\(failures.all)")
        try database.close()
    }

    @Test func `Closing beside writers and flushes loses nothing`() throws {
        let rig = try ThreadedRig(DatabaseRig.smallOptions())
        for round in 0..<8 {
            let database = rig.database
            let box = Acknowledged()
            let threads = (0..<3).map { writer in
                startThread { box.write(database, round * 3 + writer) }
            }
            let flusher = startThread { for _ in 0..<3 { try? database.flush() } }
            while box.total < 40 { sched_yield() }
            try rig.close()
            for thread in threads { pthread_join(thread, nil) }
            pthread_join(flusher, nil)
            #expect(throws: EngineError.self) { try database.get([1]) }
            try rig.open()
            for (writer, count) in box.counts {
                for number in 0..<count {
                    let found = try rig.database.get(DatabaseThreadTests.key(writer, number))
                    #expect(found == DatabaseThreadTests.value(writer, number))
                }
            }
        }
    }

    /// A job is still running: whoever closes has to wait for it, also as the second.
    @Test func `Whoever closes may open the directory again`() throws {
        let directory = try TemporaryDirectory()
        let pool = ThreadPool(name: "test-job", threads: 1)
        let options = DatabaseRig.smallOptions()
        let database = try Database.open(
            POSIXFileSystem(), directory.path, options, DatabaseEnvironment(jobs: pool), pool: pool)
        try database.put([1], [1])
        let job = Latch()
        pool.submit(.flush) { while job.wait() != .opened {} }
        let failures = Notes()
        let first = startThread {
            do { try database.close() } catch { failures.add("first: \(error)") }
        }
        while (try? database.get([1])) != nil { sched_yield() }
        let path = directory.path
        let events = Notes()
        let second = startThread {
            do {
                events.add("the second comes")
                try database.close()
                events.add("the second is done")
                try Database.open(path, options: options).close()
            } catch { failures.add("second: \(error)") }
        }
        while events.count == 0 { sched_yield() }
        for _ in 0..<20_000 { sched_yield() }
        events.add("the job ends")
        job.open()
        pthread_join(first, nil)
        pthread_join(second, nil)
        #expect(events.all == ["the second comes", "the job ends", "the second is done"])
        #expect(failures.all.isEmpty, "\(failures.all)")
    }

    /// Counts of what was acknowledged, by writer.
    private final class Acknowledged: @unchecked Sendable {
        // Unchecked: guarded by `monitor` (the thread sanitizer knows its kind of lock).
        private let monitor = Monitor()
        private var numbers: [Int: Int] = [:]

        var counts: [Int: Int] {
            monitor.lock()
            defer { monitor.unlock() }
            return numbers
        }
        /// Added up with the lock held: the sanitizer does not see that a dictionary is copied
        /// before it changes under somebody who reads it.
        var total: Int {
            monitor.lock()
            defer { monitor.unlock() }
            return numbers.values.reduce(0, +)
        }

        private func note(_ writer: Int, _ count: Int) {
            monitor.lock()
            defer { monitor.unlock() }
            numbers[writer] = count
        }

        /// Until the database refuses.
        func write(_ database: Database, _ writer: Int) {
            for number in 0..<100_000 {
                do {
                    try database.put(
                        DatabaseThreadTests.key(writer, number),
                        DatabaseThreadTests.value(writer, number))
                } catch { return }
                note(writer, number + 1)
            }
        }
    }
}
