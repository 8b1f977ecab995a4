// Workloads on one filter, in memory: what building and asking it takes, without tables and blocks.
import Engine

extension EngineBenchmark {
    private static let filterBits = 10
    /// More would not stay in the processor's caches.
    private static let filterKeysMax = 1_000_000
    /// Between two readings of the clock, which take as long as a query.
    private static let queriesPerLap = 1_000

    private static func hashes(_ count: Int, seed: UInt64) -> [UInt64] {
        var random = BenchmarkRandom(seed: seed)
        return (0..<count).map { _ in random.next() }
    }

    func buildFilter(seed: UInt64) -> LatencyRecorder {
        var recorder = newRecorder()
        let hashes = EngineBenchmark.hashes(options.count, seed: seed)
        let start = monotonicNanoseconds()
        let bytes = BurrFilter.encode(hashes, bits: EngineBenchmark.filterBits)
        recorder.record(monotonicNanoseconds() - start, operations: options.count)
        recorder.found = UInt64(bytes.count)
        return recorder
    }

    private var filterKeys: Int { min(options.count, EngineBenchmark.filterKeysMax) }

    func makeFilter() throws -> ResidentFilter {
        let hashes = EngineBenchmark.hashes(filterKeys, seed: options.seed)
        let bytes = BurrFilter.encode(hashes, bits: EngineBenchmark.filterBits)
        return try bytes.withUnsafeBytes { try ResidentFilter(decoding: $0) }
    }

    /// By turns a hash of the filter and one that is not.
    func query(_ filter: ResidentFilter, seed: UInt64) -> LatencyRecorder {
        var recorder = newRecorder()
        var present = BenchmarkRandom(seed: options.seed)
        var absent = BenchmarkRandom(seed: ~seed)
        var left = options.count
        var untilFirst = filterKeys
        var last = monotonicNanoseconds()
        while left > 0 {
            let lap = min(left, EngineBenchmark.queriesPerLap)
            for number in 0..<lap {
                var hash = absent.next()
                if number % 2 == 0 {
                    if untilFirst == 0 {
                        present = BenchmarkRandom(seed: options.seed)
                        untilFirst = filterKeys
                    }
                    untilFirst -= 1
                    hash = present.next()
                }
                if filter.mayContain(hash) { recorder.found += 1 }
            }
            left -= lap
            recorder.lap(&last, operations: lap)
        }
        return recorder
    }
}
