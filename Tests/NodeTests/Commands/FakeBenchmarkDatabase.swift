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
        var compactions = 0
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

    func get(_ key: UnsafeRawBufferPointer, into value: inout [UInt8]) throws -> Bool {
        let found = contents.withLock { contents in
            contents.getKeys.append(Array(key))
            return contents.pairs[Array(key)]
        }
        value = found ?? []
        return found != nil
    }

    func makeIterator() throws -> any BenchmarkIterator {
        let pairs = contents.withLock { contents in
            contents.pairs.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        }
        return Iterator(pairs) { [self] key in contents.withLock { $0.seekKeys.append(key) } }
    }

    func flush() throws {}
    func compact() throws { contents.withLock { $0.compactions += 1 } }
    var bytesWritten: UInt64 {
        contents.withLock { UInt64($0.putKeys.reduce(0) { $0 + $1.count }) }
    }
    var bytesRead: UInt64 { contents.withLock { UInt64($0.getKeys.count) * 7 } }
    func close() throws {}

    private final class Iterator: BenchmarkIterator {
        private let pairs: [(key: [UInt8], value: [UInt8])]
        private let onSeek: ([UInt8]) -> Void
        private let keyBuffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 256, alignment: 8)
        private var place = 0

        init(_ pairs: [(key: [UInt8], value: [UInt8])], onSeek: @escaping ([UInt8]) -> Void) {
            self.pairs = pairs
            self.onSeek = onSeek
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
        func next() throws { place += 1 }
    }
}
