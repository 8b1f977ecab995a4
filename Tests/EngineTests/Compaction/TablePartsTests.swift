// A job in parts: whatever the boundaries, readers find what they would without any; and whoever
// does the parts in whatever order, the tables are the same.

import Engine
import Synchronization
import Testing

/// Runs what is submitted at once, now and then, in the middle of what submitted it: parts then
/// come in another order. Forgets the rest.
private final class InlineRunner: JobRunner {
    private let random: Mutex<SeededRandom>

    init(seed: UInt64) { random = Mutex(SeededRandom(seed: seed)) }

    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        if random.withLock({ $0.oneIn(2) }) { job() }
    }
}

@Suite struct TablePartsTests {
    private static let keys = 60
    private static let horizon: UInt64 = 300

    private struct Situation {
        let bed: TableBed
        var spec: CompactionSpec
        var inputs: [TableHandle] = []
        /// Blob files of the inputs.
        var blobs: [TableHandle] = []
        /// Below the job.
        var base: [TableHandle] = []

        func run(_ threads: JobThreads? = nil, at index: UInt64 = 100) throws -> MergeResult {
            try bed.compact(inputs, spec, at: index, blobs: blobs, threads: threads)
        }
    }

    private func key(_ number: Int) -> String { "key \(100 + number)" }

    /// Versions of all kinds. Keys of which a ninth are deleted singly, and only put again then.
    private func history(_ random: inout SeededRandom)
        -> (entries: [ModelEntry], tombstones: [RangeTombstone])
    {
        var entries: [ModelEntry] = []
        var tombstones: [RangeTombstone] = []
        var isThere = [Bool](repeating: false, count: TablePartsTests.keys)
        for sequence in 101...500 as ClosedRange<UInt64> {
            let number = random.below(TablePartsTests.keys)
            let value = String(repeating: "\(sequence) ", count: 1 + random.below(20))
            if random.oneIn(12) {
                let end = min(number + 1 + random.below(20), TablePartsTests.keys)
                tombstones.append(tombstone(key(number), key(end), sequence))
                for gone in number..<end { isThere[gone] = false }
            } else if number % 9 == 4 {
                let kind = isThere[number] ? ValueKind.singleDelete : .put
                entries.append(
                    ModelEntry(key(number), sequence, kind, isThere[number] ? "" : value))
                isThere[number].toggle()
            } else {
                switch random.below(8) {
                case 0: entries.append(ModelEntry(key(number), sequence, .delete))
                case 1:
                    entries.append(.expiring(key(number), sequence, at: UInt64(sequence), value))
                case 2...3:
                    let id = TestMerge.all[random.below(TestMerge.all.count)]
                    entries.append(
                        .merge(key(number), sequence, id, MergeReference.bytes(sequence)))
                default: entries.append(ModelEntry(key(number), sequence, .put, value))
                }
            }
        }
        return (entries, tombstones)
    }

    private func situation(_ seed: UInt64, codec: Compression = .lz4) throws -> Situation {
        var random = SeededRandom(seed: seed)
        let bed = try TableBed(codec: codec)
        bed.filters = [TouchingFilter()]
        let old = try bed.flush(
            TableBed.memtable(
                (0..<TablePartsTests.keys).filter { $0 % 9 != 4 }.map {
                    ModelEntry(key($0), UInt64($0 + 1), .put, "old \($0)")
                }), at: 1)
        let middle = try bed.compacted(old, bed.spec(old, to: 1), at: 2)
        let base = try bed.compacted(middle, bed.spec(middle, to: 2), at: 3)
        if seed % 3 > 0 {
            bed.blobs.threshold = 24
            bed.blobs.fileBytes = 2048
        }
        let (entries, tombstones) = history(&random)
        var made: [TableHandle] = []
        for part in 0..<3 as Range<UInt64> {
            let sequences = (101 + part * 134)...(234 + part * 134)
            made += try bed.flush(
                TableBed.memtable(
                    entries.filter { sequences.contains($0.trailer.sequence.rawValue) },
                    tombstones.filter { sequences.contains($0.sequence.rawValue) }),
                at: part + 10)
        }
        var functions = TestMerge.names
        if seed % 2 == 0 { functions.compactionFilter = TouchingFilter.wanted }
        let inputs = made.filter { !$0.record.isBlob }
        var situation = Situation(
            bed: bed,
            spec: bed.spec(
                inputs, to: 1, target: 1024, horizon: TablePartsTests.horizon, clock: 150,
                bottommost: seed % 4 == 1, functions: functions))
        situation.inputs = inputs
        situation.blobs = made.filter(\.record.isBlob)
        situation.base = seed % 4 == 1 ? [] : base
        if seed % 3 == 2 {
            situation.spec.collected = situation.blobs.map(\.id)
            situation.spec.blobFileBytes = 1024
        }
        return situation
    }

    private func boundaries(_ random: inout SeededRandom, _ inputs: [TableHandle]) -> [[UInt8]] {
        let hull = CompactionSpec.hull(of: inputs.map(\.record)) ?? .everything
        var found = Set<[UInt8]>()
        for _ in 0..<(1 + random.below(Limits.jobParts - 1)) {
            // Also between keys.
            let place = bytes(key(random.below(TablePartsTests.keys)))
            found.insert(random.oneIn(3) ? place + [UInt8(random.below(3))] : place)
        }
        return found.filter { hull.start.isKeyBefore($0) && hull.contains($0) }
            .sorted { $0.isKeyBefore($1) }
    }

    /// What readers at and above the horizon find.
    private func contents(_ outputs: [TableHandle], _ situation: Situation) throws -> [String] {
        let handles = outputs + situation.base + situation.blobs
        let view = ReadView(
            memtables: [], standIns: [],
            version: try Version(handles.filter { !$0.record.isBlob }),
            blobs: BlobFiles(handles.filter(\.record.isBlob)),
            mergeOperators: try TestMerge.registry().mergeOperators)
        var lines: [String] = []
        for sequence in [TablePartsTests.horizon, 350, 420, 1000] {
            for now in [150, 320, 600] as [UInt64] {
                let found = try view.scan(
                    .everything, reverse: false, at: SequenceNumber(sequence), now: now)
                for (key, value) in found { lines.append("\(sequence) \(now) \(key) \(value)") }
            }
        }
        return lines
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `Any boundaries give the same contents as none`(seed: UInt64) throws {
        let situation = try situation(seed)
        let whole = try situation.run()
        #expect(whole.isBalanced)
        let expected = try contents(whole.outputs.map { situation.bed.handle($0) }, situation)
        #expect(expected.count > 100)
        var random = SeededRandom(seed: seed + 1000)
        for index in 200..<220 as Range<UInt64> {
            var divided = situation
            divided.spec.boundaries = boundaries(&random, situation.inputs)
            let result = try divided.run(at: index)
            #expect(result.isBalanced)
            let outputs = result.outputs.map { divided.bed.handle($0) }
            #expect(try contents(outputs, divided) == expected, "\(divided.spec.boundaries)")
            try checkRecords(result.outputs.map(\.record), divided, at: index)
        }
    }

    /// They pass for the outputs of their job.
    private func checkRecords(_ records: [TableRecord], _ situation: Situation, at index: UInt64)
        throws
    {
        let payload = Sample.compacted(index, records).encoded()
        let decoded = try payload.withUnsafeBytes { try CompactedRecord(decoding: $0) }
        #expect(decoded.tables == records)
        let hull = try #require(CompactionSpec.hull(of: situation.inputs.map(\.record)))
        let job = PendingJob(index: LogIndex(index), spec: situation.spec, hull: hull)
        #expect(job.refusal(of: records) == nil)
        #expect(
            job.refusal(ofBlobsOf: records, inputs: situation.inputs.map(\.record)) == nil)
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `Parts give the same tables in any order and on any threads`(seed: UInt64) throws {
        var random = SeededRandom(seed: seed + 2000)
        let places = boundaries(&random, try situation(seed).inputs)
        #expect(!places.isEmpty)
        var expected: [TableRecord]?
        let pool = ThreadPool(name: "test-parts", threads: 3)
        defer { pool.stop() }
        var runners: [(any JobRunner)?] = [nil, pool, pool]
        for number in 0..<4 as Range<UInt64> { runners.append(InlineRunner(seed: seed + number)) }
        for (number, runner) in runners.enumerated() {
            var divided = try situation(seed, codec: number % 2 == 0 ? .lz4 : .none)
            divided.spec.boundaries = places
            let result = try divided.run(runner.map { JobThreads($0, max: 4) })
            #expect(result.isBalanced)
            let records = result.outputs.map(\.record)
            #expect(records == expected ?? records)
            expected = records
        }
    }

    @Test func `A range tombstone over all parts goes on in each`() throws {
        let bed = try TableBed()
        let deep = try bed.flush(
            TableBed.memtable((1...9).map { ModelEntry("m\($0)", UInt64($0), .put, "old") }), at: 1)
        let level1 = try bed.compacted(deep, bed.spec(deep, to: 1), at: 2)
        let level2 = try bed.compacted(level1, bed.spec(level1, to: 2), at: 3)
        let run = try bed.flush(
            TableBed.memtable(
                [ModelEntry("a", 21), ModelEntry("z", 22)], [tombstone("m2", "m8", 20)]), at: 4)
        var spec = bed.spec(run, to: 1, horizon: 30)
        // The first is where it begins, the last where it ends.
        spec.boundaries = ["m2", "m4", "m5", "m8"].map { bytes($0) }
        let outputs = try bed.compacted(run, spec, at: 5)
        #expect(
            outputs.map(\.record.span.start) == ["a", "m2", "m4", "m5", "z"].map { bytes($0) })
        #expect(outputs.map { $0.record.id.ordinal / UInt32(Limits.jobTables) } == [0, 1, 2, 3, 4])
        let view = try ReadView(tables: outputs + level2)
        #expect(try view.keys() == ["a", "m1", "m8", "m9", "z"])
    }

    @Test func `A part that fails ends the job, and a cancelled job has no outputs`() throws {
        var divided = try situation(2)
        divided.spec.boundaries = [bytes(key(20)), bytes(key(40))]
        let job = try CompactionJob(
            divided.spec, at: LogIndex(100), inputs: divided.inputs,
            blobs: BlobFiles(divided.blobs),
            registry: TestMerge.registry(filters: divided.bed.filters))
        let factory = divided.bed.factory
        let begun = Mutex<Set<Int>>([])
        let failing: TableMerge.FileFactory = { (id) throws(EngineError) in
            let part = CompactionSpec.part(ofOrdinal: id.ordinal)
            begun.withLock { _ = $0.insert(part) }
            if part == 1 { throw .limit(what: "this test", value: 1, limit: 0) }
            return try factory(id)
        }
        let error = #expect(throws: EngineError.self) {
            try job.run(codec: .none, makeFile: failing)
        }
        #expect(error?.description.contains("this test") == true)
        // The third never began.
        #expect(begun.withLock { $0 } == [0, 1])
        let flag = CancellationFlag()
        let cancelling: TableMerge.FileFactory = { (id) throws(EngineError) in
            if CompactionSpec.part(ofOrdinal: id.ordinal) == 1 { flag.cancel() }
            return try factory(id)
        }
        let again = try CompactionJob(
            divided.spec, at: LogIndex(101), inputs: divided.inputs,
            blobs: BlobFiles(divided.blobs),
            registry: TestMerge.registry(filters: divided.bed.filters))
        #expect(try again.run(codec: .none, cancellation: flag, makeFile: cancelling) == nil)
    }
}

@Suite struct JobThreadsTests {
    @Test func `Every part is done once, by no more threads than allowed`() {
        let pool = ThreadPool(name: "test-parts", threads: 4)
        defer { pool.stop() }
        for most in 1...4 {
            let threads = JobThreads(pool, max: most)
            let state = Mutex((done: [Int](repeating: 0, count: 200), inside: 0, most: 0))
            threads.run(200) { part in
                state.withLock {
                    $0.inside += 1
                    $0.most = max($0.most, $0.inside)
                    $0.done[part] += 1
                }
                state.withLock { $0.inside -= 1 }
            }
            let (done, inside, seen) = state.withLock { $0 }
            #expect(done.allSatisfy { $0 == 1 })
            #expect(inside == 0 && seen <= most)
        }
    }

    @Test func `Another thread helps with a part that would wait`() {
        let pool = ThreadPool(name: "test-parts", threads: 1)
        defer { pool.stop() }
        let monitor = Monitor()
        let begun = Mutex<Set<Int>>([])
        let deadline = monotonicMilliseconds() + 30_000
        JobThreads(pool, max: 2).run(2) { part in
            begun.withLock { _ = $0.insert(part) }
            monitor.broadcast()
            // Each waits for the other, which only another thread can do.
            monitor.lock()
            while begun.withLock({ $0.count }) < 2, monotonicMilliseconds() < deadline {
                monitor.wait(until: min(deadline, monotonicMilliseconds() + 10))
            }
            monitor.unlock()
        }
        #expect(begun.withLock { $0 } == [0, 1])
        #expect(monotonicMilliseconds() < deadline)
    }
}
