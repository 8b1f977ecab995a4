// Runs the workloads with db_bench's meaning: every thread does `count` operations on a key space
// of `count` keys; wall time runs from the first thread's start until the last operation returns,
// with flush and compaction going on as they will. Latency is from the end of one operation to the
// end of the next, so that one reading of the clock serves both; it is as much as a quarter of a
// fast read, so it can be left out, as db_bench does unless it is told otherwise. What each
// workload does is said at `BenchmarkWorkload`.
// `fillseq` and `fillrandom` do not empty the database first: all workloads share it, in order.
import Engine
import Glibc
import Histogram
import Synchronization

package final class EngineBenchmark: Sendable {
    let database: any BenchmarkDatabase
    let options: BenchmarkOptions

    package init(_ database: any BenchmarkDatabase, _ options: BenchmarkOptions) {
        self.database = database
        self.options = options
    }

    /// Runs the workloads in order; `each` is called after each of them.
    package func run(_ each: (BenchmarkReport) -> Void) throws {
        for (place, workload) in options.workloads.enumerated() {
            each(try run(workload, place: place))
        }
    }

    private func run(_ workload: BenchmarkWorkload, place: Int) throws -> BenchmarkReport {
        guard workload == .fillsync, !options.syncsLog else {
            return try measure(workload, place: place)
        }
        try database.setSync(true)
        let report = try measure(workload, place: place)
        try database.setSync(false)
        return report
    }

    private func measure(_ workload: BenchmarkWorkload, place: Int) throws -> BenchmarkReport {
        let (writtenBefore, readBefore) = (database.bytesWritten, database.bytesRead)
        let threads = workload.isSingle ? 1 : options.threads
        let filter = workload == .filterquery ? try makeFilter() : nil
        let total = Mutex(Outcome())
        // Readers are numbered from 0; the one extra thread is the writer that they run against.
        let extra = workload == .readwhilewriting ? 1 : 0
        let readersLeft = Atomic<Int>(threads)
        let start = monotonicNanoseconds()
        runThreads(threads + extra, name: workload.rawValue) { [self] index in
            let seed = options.seed &+ UInt64(place) &* 1000 &+ UInt64(index)
            do {
                if index >= threads {
                    try writeUntilDone(seed: seed, readersLeft: readersLeft)
                } else {
                    let recorder = try operate(workload, seed: seed, filter)
                    total.withLock { $0.add(recorder, end: monotonicNanoseconds()) }
                }
            } catch {
                total.withLock { if $0.error == nil { $0.error = error } }
            }
            if index < threads { readersLeft.subtract(1, ordering: .releasing) }
        }
        let outcome = total.withLock { $0 }
        if let error = outcome.error { throw error }
        let recorder = outcome.recorder
        return BenchmarkReport(
            workload: workload, operations: recorder.operations,
            seconds: Double(outcome.end - start) / 1e9,
            latency: options.timesOperations ? BenchmarkReport.Latency(recorder) : nil,
            storage: database.storage,
            bytesWritten: database.bytesWritten - writtenBefore,
            bytesRead: database.bytesRead - readBefore, found: recorder.found)
    }

    private struct Outcome: Sendable {
        var recorder = LatencyRecorder()
        var end: UInt64 = 0
        var error: (any Error)?

        mutating func add(_ other: LatencyRecorder, end: UInt64) {
            recorder.merge(other)
            self.end = max(self.end, end)
        }
    }

    func newRecorder() -> LatencyRecorder {
        LatencyRecorder(timesOperations: options.timesOperations)
    }

    private func operate(
        _ workload: BenchmarkWorkload, seed: UInt64, _ filter: ResidentFilter?
    ) throws -> LatencyRecorder {
        switch workload {
        case .fillseq: return try write(options.count, seed: seed, isSequential: true)
        case .fillrandom, .overwrite:
            return try write(options.count, seed: seed, isSequential: false)
        case .fillsync:
            return try write(max(options.count / 1000, 1), seed: seed, isSequential: false)
        case .mergerandom: return try merge(seed: seed)
        case .deleterange: return try deleteRanges(seed: seed)
        case .compact: return try once { try database.compact() }
        case .waitforcompaction: return try once { try database.waitForCompaction() }
        case .readrandom, .readwhilewriting:
            return try read(seed: seed, keyBytes: options.keyBytes)
        case .multireadrandom: return try readBatches(seed: seed)
        // One byte longer than any key that was written: the same places, never found.
        case .readmissing: return try read(seed: seed, keyBytes: options.keyBytes + 1)
        case .seekrandom: return try seek(seed: seed)
        case .prefixscan: return try scanPrefixes(seed: seed)
        case .readseq: return try readInOrder()
        case .filterbuild: return buildFilter(seed: seed)
        case .filterquery: return filter.map { query($0, seed: seed) } ?? newRecorder()
        case .xxh3: return digestBlocks(seed: seed)
        }
    }

    private func once(_ body: () throws -> Void) throws -> LatencyRecorder {
        var recorder = newRecorder()
        let start = monotonicNanoseconds()
        try body()
        recorder.record(monotonicNanoseconds() - start)
        return recorder
    }

    private func write(_ operations: Int, seed: UInt64, isSequential: Bool) throws
        -> LatencyRecorder
    {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var values = BenchmarkValues(valueBytes: options.valueBytes, seed: seed)
        var key = BenchmarkKey(count: options.keyBytes)
        let count = UInt64(operations)
        var last = monotonicNanoseconds()
        for number in 0..<count {
            key.set(isSequential ? number : random.next(below: count))
            try values.withNext { value in
                try key.bytes.withUnsafeBytes { try database.put($0, value) }
            }
            recorder.lap(&last)
        }
        return recorder
    }

    private func writeUntilDone(seed: UInt64, readersLeft: borrowing Atomic<Int>) throws {
        var random = BenchmarkRandom(seed: seed)
        var values = BenchmarkValues(valueBytes: options.valueBytes, seed: seed)
        var key = BenchmarkKey(count: options.keyBytes)
        var pace = WritePace(bytesPerSecond: options.writeRate)
        while readersLeft.load(ordering: .acquiring) > 0 {
            guard pace.takes(options.keyBytes + options.valueBytes) else {
                usleep(1000)
                continue
            }
            key.set(random.next(below: UInt64(options.count)))
            try values.withNext { value in
                try key.bytes.withUnsafeBytes { try database.put($0, value) }
            }
        }
    }

    private func read(seed: UInt64, keyBytes: Int) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var key = BenchmarkKey(count: keyBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<options.count {
            key.set(random.next(below: UInt64(options.count), skew: options.readSkew))
            if try key.bytes.withUnsafeBytes({ try database.get($0) }) != nil {
                recorder.found += 1
            }
            recorder.lap(&last)
        }
        return recorder
    }

    private func seek(seed: UInt64) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var key = BenchmarkKey(count: options.keyBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<options.count {
            key.set(random.next(below: UInt64(options.count)))
            let iterator = try database.makeIterator()
            let isFound = try key.bytes.withUnsafeBytes { wanted in
                try iterator.seek(wanted)
                return iterator.isValid && iterator.key.elementsEqual(wanted)
            }
            if isFound { recorder.found += 1 }
            recorder.lap(&last)
        }
        return recorder
    }

    private func readInOrder() throws -> LatencyRecorder {
        var recorder = newRecorder()
        var last = monotonicNanoseconds()
        let iterator = try database.makeIterator()
        try iterator.seekToFirst()
        var left = options.count
        while left > 0, iterator.isValid {
            // db_bench counts the bytes, so both are looked at.
            if iterator.key.count + iterator.value.count > 0 { recorder.found += 1 }
            try iterator.next()
            left -= 1
            recorder.lap(&last)
        }
        return recorder
    }
}

extension BenchmarkWorkload {
    /// One operation of one thread.
    fileprivate var isSingle: Bool { self == .compact || self == .waitforcompaction }
}

/// Holds a writer to a rate.
private struct WritePace {
    let bytesPerSecond: UInt64
    private let start = monotonicNanoseconds()
    private var bytes: UInt64 = 0

    init(bytesPerSecond: UInt64) { self.bytesPerSecond = bytesPerSecond }

    /// Whether so many bytes may be written now; they count as written then.
    mutating func takes(_ count: Int) -> Bool {
        guard bytesPerSecond > 0 else { return true }
        let due = Double(bytes) / Double(bytesPerSecond) * 1e9
        guard due <= Double(monotonicNanoseconds() - start) else { return false }
        bytes += UInt64(count)
        return true
    }
}

extension LatencyRecorder {
    @inline(__always)
    mutating func lap(_ last: inout UInt64, operations: Int = 1) {
        guard timesOperations else { return count(operations) }
        let now = monotonicNanoseconds()
        record(now - last, operations: operations)
        last = now
    }
}

@inline(__always)
package func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
