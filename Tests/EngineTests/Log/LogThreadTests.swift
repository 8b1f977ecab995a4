// Readers beside the appender: what they see is always a piece of the history, also while entries
// are truncated, trimmed and files recycled under them. Meant to be run under the thread sanitizer
// too.
import Engine
import Synchronization
import Testing

@Suite struct LogThreadTests {
    @Test(arguments: [LogSyncPolicy.always, .never])
    func readersBesideTheAppender(_ policy: LogSyncPolicy) throws {
        let directory = try TemporaryDirectory()
        let files = POSIXFileSystem()
        let hardState = try HardState.open(files, directory.path + "/state", nonce: 1)
        var base = LogBase()
        base.settings.segmentBytes = 16384
        let (log, _) = try Log.open(
            files, directory.path + "/log", hardState: hardState, genesis: LogRig.genesis, group: 0,
            options: LogOptions(sync: policy), base: base)
        let isDone = Atomic<Bool>(false)
        let faults = Mutex<[String]>([])
        let reads = Atomic<Int>(0)
        let pool = ThreadPool(name: "readers", threads: 3)
        for number in 0..<2 {
            pool.submit(.flush) {
                var random = SeededRandom(seed: UInt64(number))
                while !isDone.load(ordering: .acquiring) {
                    if let fault = readSome(log, &random) { faults.withLock { $0.append(fault) } }
                    reads.add(1, ordering: .relaxed)
                }
            }
        }
        pool.submit(.flush) {
            while !isDone.load(ordering: .acquiring) {
                if log.wantsPreparation { try? log.prepareNext() }
            }
        }
        defer {
            isDone.store(true, ordering: .releasing)
            pool.stop()
            #expect(faults.withLock { $0 }.isEmpty)
            #expect(reads.load(ordering: .relaxed) > 0)
        }
        try appendWhileOthersRead(log)
    }

    private func appendWhileOthersRead(_ log: Log) throws {
        var random = SeededRandom(seed: 3)
        var term: UInt64 = 1
        for round in 0..<400 {
            var group: [Entry] = []
            var previous = log.last
            for _ in 0..<(1 + random.below(4)) {
                group.append(LogRig.entry(after: previous, term: term, bytes: random.below(2000)))
                previous = group[group.count - 1].position
            }
            try log.append(group, sync: round % 8 == 0)
            if round % 50 == 49 {
                let keep = log.last.index.rawValue - 20
                try log.truncate(after: LogIndex(keep))
                term += 1
            }
            if round % 60 == 59 { try log.trim(through: LogIndex(log.last.index.rawValue - 60)) }
        }
    }
}

/// Reads a few entries somewhere and checks that they are a chain; says what is wrong.
private func readSome(_ log: Log, _ random: inout SeededRandom) -> String? {
    let last = log.last.index.rawValue
    guard last > 0 else { return nil }
    let start = LogIndex(last - min(last - 1, random.next() % 100))
    do throws(EngineError) {
        let entries = try log.entries(from: start, maxBytes: 8000)
        for (before, entry) in zip(entries, entries.dropFirst())
        where entry.index != before.index + 1 {
            return "a gap at \(entry.index)"
        }
        _ = log.position(at: start)
        return nil
    } catch {
        if case .logTrimmed = error { return nil }
        return "\(error)"
    }
}
