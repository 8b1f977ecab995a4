import Foundation
import Node
import Synchronization
import Testing

@Suite struct EngineBenchmarkTests {
    private func options(
        _ workloads: [BenchmarkWorkload], count: Int = 200, threads: Int = 1, seed: UInt64 = 1
    ) -> BenchmarkOptions {
        var options = BenchmarkOptions()
        options.workloads = workloads
        options.count = count
        options.threads = threads
        options.seed = seed
        return options
    }

    private func run(_ database: FakeBenchmarkDatabase, _ options: BenchmarkOptions) throws
        -> [BenchmarkReport]
    {
        var reports: [BenchmarkReport] = []
        try EngineBenchmark(database, options).run { reports.append($0) }
        return reports
    }

    private func key(_ number: UInt64) -> [UInt8] {
        var key = BenchmarkKey(count: 16)
        key.set(number)
        return key.bytes
    }

    @Test func keysAreBigEndianAndFilledUp() {
        #expect(key(0x0102_0304) == [0, 0, 0, 0, 1, 2, 3, 4] + [UInt8](repeating: 0x30, count: 8))
        var short = BenchmarkKey(count: 4)
        short.set(0x0102_0304)
        #expect(short.bytes == [1, 2, 3, 4])
        #expect(key(255).lexicographicallyPrecedes(key(256)))
    }

    @Test func valuesAreHalfCompressible() {
        var values = BenchmarkValues(valueBytes: 100, seed: 9)
        var distinct: Set<[UInt8]> = []
        for _ in 0..<50 {
            values.withNext { value in
                #expect(value.count == 100)
                #expect(value.prefix(50).elementsEqual(value.suffix(50)))
                distinct.insert(Array(value))
            }
        }
        #expect(distinct.count == 50)
        var large = BenchmarkValues(valueBytes: 3 << 20, seed: 9)
        large.withNext { #expect($0.count == 3 << 20) }
        var empty = BenchmarkValues(valueBytes: 0, seed: 9)
        empty.withNext { #expect($0.isEmpty) }
    }

    @Test func fillseqWritesEveryKeyInOrder() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(database, options([.fillseq]))
        #expect(reports.map(\.operations) == [200])
        #expect(reports[0].bytesWritten == 3200)
        #expect(database.contents.withLock { $0.putKeys } == (0..<200).map { key($0) })
    }

    @Test func fillrandomStaysInTheKeySpaceAndRepeatsWithItsSeed() throws {
        let first = FakeBenchmarkDatabase()
        let second = FakeBenchmarkDatabase()
        let other = FakeBenchmarkDatabase()
        _ = try run(first, options([.fillrandom]))
        _ = try run(second, options([.fillrandom]))
        _ = try run(other, options([.fillrandom], seed: 2))
        let keys = first.contents.withLock { $0.putKeys }
        #expect(keys == second.contents.withLock { $0.putKeys })
        #expect(keys != other.contents.withLock { $0.putKeys })
        #expect(keys.count == 200)
        let space = Set((0..<200).map { key($0) })
        #expect(keys.allSatisfy { space.contains($0) })
        // Drawn with repetition: about 63 % of the space.
        #expect((100..<160).contains(Set(keys).count))
    }

    /// Trap 22: a report says what was found, so that reads of nothing do not pass for fast ones.
    @Test func theWorkloadsShareOneDatabaseInTheOrderGiven() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(
            database,
            options([.fillseq, .overwrite, .compact, .readrandom, .readmissing, .readseq]))
        #expect(
            reports.map(\.workload) == [
                .fillseq, .overwrite, .compact, .readrandom, .readmissing, .readseq,
            ])
        #expect(reports.map(\.operations) == [200, 200, 1, 200, 200, 200])
        #expect(reports[3].found == 200)
        #expect(reports[3].bytesRead == 1400 && reports[3].bytesWritten == 0)
        #expect(reports[4].found == 0)
        #expect(reports[5].found == 200)
        #expect(database.contents.withLock { $0.compactions } == 1)
        #expect(database.contents.withLock { $0.pairs.count } == 200)
    }

    @Test func missingKeysAreLongerThanWrittenOnes() throws {
        let database = FakeBenchmarkDatabase()
        _ = try run(database, options([.fillseq, .readmissing]))
        #expect(database.contents.withLock { $0.getKeys.allSatisfy { $0.count == 17 } })
    }

    @Test func seekrandomFindsWhatIsThere() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(database, options([.fillseq, .seekrandom], count: 50))
        #expect(reports[1].operations == 50 && reports[1].found == 50)
        #expect(database.contents.withLock { $0.seekKeys.count } == 50)
    }

    @Test func everyThreadDoesItsShareWithItsOwnKeys() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(database, options([.fillrandom, .readrandom], threads: 3))
        #expect(reports.map(\.operations) == [600, 600])
        let keys = database.contents.withLock { $0.putKeys }
        #expect(keys.count == 600)
    }

    @Test func readwhilewritingCountsReadersOnlyAndStopsTheWriter() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(
            database, options([.fillseq, .readwhilewriting], count: 2000, threads: 2))
        #expect(reports[1].operations == 4000)
        #expect(reports[1].found == 4000)
        let (puts, gets) = database.contents.withLock { ($0.putKeys.count, $0.getKeys.count) }
        #expect(gets == 4000)
        #expect(puts >= 2000)
    }

    // MARK: Merges, ranges, batches, prefixes, syncs

    @Test func mergerandomMergesIntegersOrValues() throws {
        let database = FakeBenchmarkDatabase()
        var wanted = options([.mergerandom])
        #expect(try run(database, wanted).map(\.operations) == [200])
        wanted.mergeOperator = .append
        _ = try run(database, wanted)
        let operands = database.contents.withLock { $0.operands }
        #expect(operands.count == 400)
        #expect(operands[..<200].allSatisfy { $0.operand.count == 8 && $0.operand[2...].allZero })
        #expect(operands[200...].allSatisfy { $0.operand.count == 100 })
        let space = Set((0..<200).map { key($0) })
        #expect(operands.allSatisfy { space.contains($0.key) })
        #expect(Set(operands.map(\.key)).count > 50)
    }

    @Test func deleterangeDeletesAHundredKeysAtATime() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(database, options([.fillseq, .deleterange], count: 1000))
        #expect(reports.map(\.operations) == [1000, 10])
        let ranges = database.contents.withLock { $0.deletedRanges }
        let starts = (0..<UInt64(1000)).map { key($0) }
        for range in ranges {
            let start = try #require(starts.firstIndex(of: range.start))
            #expect(range.end == key(UInt64(start) + 100))
        }
        #expect(database.contents.withLock { $0.pairs.count } < 1000)
        #expect(try run(database, options([.deleterange], count: 7)).map(\.operations) == [1])
    }

    @Test func multireadrandomCountsKeysAndReadsBatches() throws {
        let database = FakeBenchmarkDatabase()
        var wanted = options([.fillseq, .multireadrandom], count: 95)
        let report = try run(database, wanted)[1]
        #expect(report.operations == 95 && report.found == 95)
        let sizes = database.contents.withLock { $0.batches.map(\.count) }
        #expect(sizes == [Int](repeating: 10, count: 9) + [5])
        wanted.workloads = [.multireadrandom]
        wanted.batchKeys = 50
        _ = try run(database, wanted)
        #expect(database.contents.withLock { $0.batches.suffix(2).map(\.count) } == [50, 45])
    }

    @Test func prefixscanReadsTenPairsOfAPrefix() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(database, options([.fillseq, .prefixscan], count: 261))
        #expect(reports[1].operations == 261 && reports[1].found == 261)
        let (prefixes, nexts) = database.contents.withLock { ($0.prefixes, $0.nexts) }
        // 261 keys have two prefixes: 256 of the first, five of the second.
        let short = prefixes.count { $0 == [0, 0, 0, 0, 0, 0, 1] }
        #expect(prefixes.allSatisfy { $0.count == 7 } && short < 40)
        #expect(nexts == (261 - short) * 10 + short * 5)
    }

    @Test func fillsyncSyncsAThousandthOfTheWrites() throws {
        let database = FakeBenchmarkDatabase()
        var wanted = options([.fillsync, .fillseq], count: 3000)
        #expect(try run(database, wanted).map(\.operations) == [3, 3000])
        let syncs = database.contents.withLock { $0.syncs }
        #expect(syncs.map(\.always) == [true, false] && syncs.map(\.puts) == [0, 3])
        // Nothing to change where every write is synced anyway.
        wanted.syncsLog = true
        _ = try run(database, wanted)
        #expect(database.contents.withLock { $0.syncs.count } == 2)
    }

    /// Every workload on the engine itself.
    @Test func theEngineRunsEveryWorkload() throws {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("martlet-bench-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var wanted = options(BenchmarkWorkload.allCases, count: 400)
        wanted.directory = directory
        let database = try EngineBenchmarkBinding.open(wanted)
        var reports: [BenchmarkReport] = []
        try EngineBenchmark(database, wanted).run { reports.append($0) }
        try database.close()
        #expect(reports.map(\.workload) == BenchmarkWorkload.allCases)
        let found = Dictionary(uniqueKeysWithValues: reports.map { ($0.workload, $0.found) })
        #expect((1...400).contains(found[.multireadrandom] ?? 0) && found[.readmissing] == 0)
        #expect((1...400).contains(found[.prefixscan] ?? 0))
        #expect(reports.allSatisfy { $0.operations > 0 })
    }

    @Test func anErrorEndsTheRun() {
        let database = FakeBenchmarkDatabase()
        database.contents.withLock { $0.failsPuts = true }
        #expect(throws: FakeBenchmarkDatabase.Refused.self) {
            try run(database, options([.fillrandom, .readrandom], threads: 2))
        }
        #expect(database.contents.withLock { $0.getKeys.isEmpty })
    }

    @Test func reportsHaveTheFixedFields() throws {
        let database = FakeBenchmarkDatabase()
        let report = try #require(try run(database, options([.fillseq])).first)
        let read = try JSONSerialization.jsonObject(with: Data(report.json.utf8))
        let object = try #require(read as? [String: Any])
        #expect(
            Set(object.keys) == [
                "workload", "ops", "seconds", "ops_per_sec", "p50_us", "p99_us", "p999_us",
                "max_us", "stalls_above_50ms", "flushed_bytes", "compacted_bytes", "live_bytes",
                "bytes_written", "bytes_read", "found",
            ])
        #expect(object["workload"] as? String == "fillseq")
        #expect(object["ops"] as? Int == 200)
        #expect(object["flushed_bytes"] as? Int == 3200 && object["live_bytes"] as? Int == 200)
    }

    @Test func withoutTimesARunOnlyCounts() throws {
        let database = FakeBenchmarkDatabase()
        var wanted = options([.fillseq, .readrandom, .multireadrandom])
        wanted.timesOperations = false
        let reports = try run(database, wanted)
        #expect(reports.map(\.operations) == [200, 200, 200])
        #expect(reports.allSatisfy { $0.latency == nil && $0.seconds > 0 })
        #expect(!reports[0].json.contains("_us") && !reports[0].line.contains("p50"))
    }

    @Test func aStallIsLongerThanFiftyMilliseconds() {
        var first = LatencyRecorder()
        var second = LatencyRecorder()
        first.record(50_000_000)
        second.record(50_000_001)
        #expect(first.stalls == 0 && second.stalls == 1)
        first.merge(second)
        #expect(first.stalls == 1 && abs(first.maxMicroseconds - 50_000) < 100)
    }

    @Test func theWriterBesideReadersKeepsItsRate() throws {
        let database = FakeBenchmarkDatabase()
        var wanted = options([.fillseq, .readwhilewriting], count: 5000)
        // A write of 116 bytes a minute: at most the first.
        wanted.writeRate = 2
        _ = try run(database, wanted)
        #expect((5000...5001).contains(database.contents.withLock { $0.putKeys.count }))
    }

    @Test func whatIsNoOperationOfAThreadRunsOnce() throws {
        let database = FakeBenchmarkDatabase()
        let reports = try run(
            database, options([.compact, .waitforcompaction, .xxh3], count: 50, threads: 3))
        #expect(reports.map(\.operations) == [1, 1, 150])
        #expect(reports[2].found == 150)
        #expect(database.contents.withLock { $0.waits } == 1)
    }

    @Test func filtersAreBuiltOverAllKeysAndKnowHalfOfWhatIsAsked() throws {
        let reports = try run(
            FakeBenchmarkDatabase(), options([.filterbuild, .filterquery], count: 3000, threads: 2))
        #expect(reports.map(\.operations) == [6000, 6000])
        // Ten bits a key and not much more; one absent key in a thousand passes.
        #expect((7_500...8_400).contains(reports[0].found))
        #expect((3000...3030).contains(reports[1].found))
    }

    @Test func percentilesComeFromAllThreads() {
        var first = LatencyRecorder()
        var second = LatencyRecorder()
        for _ in 0..<99 { first.record(1000) }
        second.record(5_000_000)
        first.merge(second)
        #expect(abs(first.microseconds(50) - 1) < 0.01)
        #expect(abs(first.microseconds(99.9) - 5000) < 10)
    }
}

extension Collection<UInt8> {
    fileprivate var allZero: Bool { allSatisfy { $0 == 0 } }
}
