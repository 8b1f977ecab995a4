// Workloads whose operations touch more than one version each: merges, range deletes, batches of
// gets, scans of a prefix. And digests, which touch a block.
import Engine

extension EngineBenchmark {
    /// Keys that one operation of `deleterange` deletes: db_bench's width of a range tombstone.
    package static let rangeKeys = 100
    /// Pairs that one operation of `prefixscan` reads at most.
    package static let scanPairs = 10

    /// Bytes that one operation of `xxh3` digests.
    package static let blockBytes = 4096

    func digestBlocks(seed: UInt64) -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        let block = random.nextText(EngineBenchmark.blockBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<options.count {
            if Digest128(of: block) != .zero { recorder.found += 1 }
            recorder.lap(&last)
        }
        return recorder
    }

    func merge(seed: UInt64) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var values = BenchmarkValues(valueBytes: options.valueBytes, seed: seed)
        var key = BenchmarkKey(count: options.keyBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<options.count {
            key.set(random.next(below: UInt64(options.count)))
            switch options.mergeOperator {
            case .int64Add:
                let operand = random.next(below: 1000).littleEndian
                try withUnsafeBytes(of: operand) { operand in
                    try key.bytes.withUnsafeBytes { try database.merge($0, operand) }
                }
            case .append:
                try values.withNext { operand in
                    try key.bytes.withUnsafeBytes { try database.merge($0, operand) }
                }
            }
            recorder.lap(&last)
        }
        return recorder
    }

    func deleteRanges(seed: UInt64) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var start = BenchmarkKey(count: options.keyBytes)
        var end = BenchmarkKey(count: options.keyBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<max(options.count / EngineBenchmark.rangeKeys, 1) {
            let number = random.next(below: UInt64(options.count))
            start.set(number)
            end.set(number + UInt64(EngineBenchmark.rangeKeys))
            try start.bytes.withUnsafeBytes { start in
                try end.bytes.withUnsafeBytes { try database.deleteRange(start, $0) }
            }
            recorder.lap(&last)
        }
        return recorder
    }

    func readBatches(seed: UInt64) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        let key = BenchmarkKey(count: options.keyBytes).bytes
        var left = options.count
        // Rewritten in place, as db_bench does.
        var batch = [[UInt8]](repeating: key, count: min(options.batchKeys, left))
        var last = monotonicNanoseconds()
        while left > 0 {
            if left < batch.count { batch.removeLast(batch.count - left) }
            for place in batch.indices {
                BenchmarkKey.set(
                    random.next(below: UInt64(options.count), skew: options.readSkew),
                    in: &batch[place])
            }
            recorder.found += UInt64(try database.getMany(batch))
            left -= batch.count
            recorder.lap(&last, operations: batch.count)
        }
        return recorder
    }

    func scanPrefixes(seed: UInt64) throws -> LatencyRecorder {
        var recorder = newRecorder()
        var random = BenchmarkRandom(seed: seed)
        var key = BenchmarkKey(count: options.keyBytes)
        var last = monotonicNanoseconds()
        for _ in 0..<options.count {
            key.set(random.next(below: UInt64(options.count)))
            let iterator = try key.bytes.withUnsafeBytes { bytes in
                try database.makeIterator(prefix: UnsafeRawBufferPointer(rebasing: bytes[..<7]))
            }
            try iterator.seekToFirst()
            var left = EngineBenchmark.scanPairs
            var bytes = 0
            while left > 0, iterator.isValid {
                bytes += iterator.key.count + iterator.value.count
                try iterator.next()
                left -= 1
            }
            if bytes > 0 { recorder.found += 1 }
            recorder.lap(&last)
        }
        return recorder
    }
}
