import Engine
import Node
import Synchronization

/// A sorted map in memory that also counts what the workloads ask of it.
final class FakeBenchmarkDatabase: BenchmarkDatabase {
    struct Contents {
        var pairs: [[UInt8]: [UInt8]] = [:]
        /// Keys of `put` in order.
        var putKeys: [[UInt8]] = []
        var getKeys: [[UInt8]] = []
        var seekKeys: [[UInt8]] = []
        /// Of `merge`, in order.
        var operands: [(key: [UInt8], operand: [UInt8])] = []
        var deletedRanges: [(start: [UInt8], end: [UInt8])] = []
        var batches: [[[UInt8]]] = []
        var prefixes: [[UInt8]] = []
        /// Calls of `setSync`, with the number of puts before.
        var syncs: [(always: Bool, puts: Int)] = []
        var nexts = 0
        var compactions = 0
        var waits = 0
        var failsPuts = false
    }

    struct Refused: Error {}

    let contents = Mutex(Contents())

    func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws {
        try contents.withLock { contents in
            if contents.failsPuts { throw Refused() }
            contents.pairs[Array(key)] = Array(value)
            contents.putKeys.append(Array(key))
        }
    }

    func delete(_ key: UnsafeRawBufferPointer) throws {
        contents.withLock { _ = $0.pairs.removeValue(forKey: Array(key)) }
    }

    func get(_ key: UnsafeRawBufferPointer) throws -> Int? {
        contents.withLock { contents in
            contents.getKeys.append(Array(key))
            return contents.pairs[Array(key)]?.count
        }
    }

    func merge(_ key: UnsafeRawBufferPointer, _ operand: UnsafeRawBufferPointer) throws {
        contents.withLock { $0.operands.append((Array(key), Array(operand))) }
    }

    func deleteRange(_ start: UnsafeRawBufferPointer, _ end: UnsafeRawBufferPointer) throws {
        contents.withLock { contents in
            let (start, end) = (Array(start), Array(end))
            contents.deletedRanges.append((start, end))
            contents.pairs = contents.pairs.filter { key, _ in
                key.lexicographicallyPrecedes(start) || !key.lexicographicallyPrecedes(end)
            }
        }
    }

    func getMany(_ keys: [[UInt8]]) throws -> Int {
        contents.withLock { contents in
            contents.batches.append(keys)
            return keys.count { contents.pairs[$0] != nil }
        }
    }

    func makeIterator() throws -> any BenchmarkIterator { iterator { _ in true } }

    func makeIterator(prefix: UnsafeRawBufferPointer) throws -> any BenchmarkIterator {
        let wanted = Array(prefix)
        contents.withLock { $0.prefixes.append(wanted) }
        return iterator { $0.starts(with: wanted) }
    }

    private func iterator(_ isShown: ([UInt8]) -> Bool) -> Iterator {
        let pairs = contents.withLock { contents in
            contents.pairs.filter { isShown($0.key) }
                .sorted { $0.key.lexicographicallyPrecedes($1.key) }
        }
        return Iterator(
            pairs, onSeek: { [self] key in contents.withLock { $0.seekKeys.append(key) } },
            onNext: { [self] in contents.withLock { $0.nexts += 1 } })
    }

    func setSync(_ always: Bool) throws {
        contents.withLock { $0.syncs.append((always, $0.putKeys.count)) }
    }

    func flush() throws {}
    func compact() throws { contents.withLock { $0.compactions += 1 } }
    func waitForCompaction() throws { contents.withLock { $0.waits += 1 } }
    var storage: StorageUse {
        var use = StorageUse()
        use.flushedBytes = bytesWritten
        use.liveBytes = contents.withLock { UInt64($0.pairs.count) }
        return use
    }
    var bytesWritten: UInt64 {
        contents.withLock { UInt64($0.putKeys.reduce(0) { $0 + $1.count }) }
    }
    var bytesRead: UInt64 { contents.withLock { UInt64($0.getKeys.count) * 7 } }
    func close() throws {}

    private final class Iterator: BenchmarkIterator {
        private let pairs: [(key: [UInt8], value: [UInt8])]
        private let onSeek: ([UInt8]) -> Void
        private let onNext: () -> Void
        private let keyBuffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 256, alignment: 8)
        private var place = 0

        init(
            _ pairs: [(key: [UInt8], value: [UInt8])], onSeek: @escaping ([UInt8]) -> Void,
            onNext: @escaping () -> Void
        ) {
            self.pairs = pairs
            self.onSeek = onSeek
            self.onNext = onNext
        }

        deinit { keyBuffer.deallocate() }

        var isValid: Bool { place < pairs.count }
        var key: UnsafeRawBufferPointer {
            keyBuffer.copyBytes(from: pairs[place].key)
            return UnsafeRawBufferPointer(rebasing: keyBuffer[..<pairs[place].key.count])
        }
        var value: UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: keyBuffer[..<min(256, pairs[place].value.count)])
        }
        func seekToFirst() throws { place = 0 }
        func seek(_ key: UnsafeRawBufferPointer) throws {
            onSeek(Array(key))
            let wanted = Array(key)
            place =
                pairs.firstIndex { !$0.key.lexicographicallyPrecedes(wanted) } ?? pairs.count
        }
        func next() throws {
            place += 1
            onNext()
        }
    }
}
