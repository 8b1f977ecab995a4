// What `martlet bench engine` needs of an engine. `EngineBenchmarkBinding` binds the real one;
// tests run the workloads on a sorted map in memory. Keys and values are borrowed for the call.

import Engine

package protocol BenchmarkDatabase: AnyObject, Sendable {
    func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws
    func delete(_ key: UnsafeRawBufferPointer) throws
    /// Changes what `key` has by `operand`, by the operator of the options, without reading it.
    func merge(_ key: UnsafeRawBufferPointer, _ operand: UnsafeRawBufferPointer) throws
    /// Deletes every key from `start` on that is below `end`.
    func deleteRange(_ start: UnsafeRawBufferPointer, _ end: UnsafeRawBufferPointer) throws
    /// Length of what `key` has, which is not copied: nor is it by db_bench. Nil if it has nothing.
    func get(_ key: UnsafeRawBufferPointer) throws -> Int?
    /// Looks all of `keys` up in one state; how many of them have a value.
    func getMany(_ keys: [[UInt8]]) throws -> Int
    /// A view of the state as of now.
    func makeIterator() throws -> any BenchmarkIterator
    /// As `makeIterator`, over the keys that begin with `prefix`.
    func makeIterator(prefix: UnsafeRawBufferPointer) throws -> any BenchmarkIterator
    /// From now on each write is synced before it returns, or only if the options say so. Not while
    /// others use the database; what is cached is lost.
    func setSync(_ always: Bool) throws
    /// Moves what is in memory to tables; returns when it is there.
    func flush() throws
    /// Merges everything into the last level; returns when it is done.
    func compact() throws
    /// Returns when no flush or compaction is under way or due.
    func waitForCompaction() throws
    /// Bytes of tables that flushes and compactions wrote since the open, and of those in use.
    var storage: StorageUse { get }
    /// Bytes handed to files since the open: log, tables, manifest.
    var bytesWritten: UInt64 { get }
    /// Bytes taken from files since the open.
    var bytesRead: UInt64 { get }
    func close() throws
}

package protocol BenchmarkIterator: AnyObject {
    var isValid: Bool { get }
    /// Borrowed until the next move; only while valid.
    var key: UnsafeRawBufferPointer { get }
    /// Borrowed until the next move; only while valid.
    var value: UnsafeRawBufferPointer { get }
    func seekToFirst() throws
    /// The first key at or after `key`.
    func seek(_ key: UnsafeRawBufferPointer) throws
    func next() throws
}

/// What a run is about; every field is a flag.
package struct BenchmarkOptions: Sendable, Equatable {
    package var directory = ""
    package var workloads: [BenchmarkWorkload] = []
    /// Keys of the key space, and operations of each thread.
    package var count = 1_000_000
    package var keyBytes = 16
    package var valueBytes = 100
    package var threads = 1
    /// Keys of a batch of `multireadrandom`.
    package var batchKeys = 10
    package var mergeOperator = BenchmarkMergeOperator.int64Add
    package var cacheBytes: UInt64 = 8 << 20
    /// 0: no row cache.
    package var rowCacheBytes: UInt64 = 0
    /// How unequal the keys are that reads choose (`BenchmarkRandom.next(below:skew:)`).
    package var readSkew = 0.0
    package var compression = CompressionPolicy.none
    /// Values of so many bytes go to blob files; 0 keeps all with their keys.
    package var blobThreshold: UInt32 = 0
    package var isEncrypted = false
    package var usesLog = true
    package var syncsLog = false
    /// Bytes of keys and values a second that the writer beside `readwhilewriting` writes; 0 for
    /// what it can.
    package var writeRate: UInt64 = 0
    package var seed: UInt64 = 301
    /// Whether every operation is timed, at the cost of its rate; db_bench's --histogram.
    package var timesOperations = true

    package init() {}
}

/// What `mergerandom` merges by.
package enum BenchmarkMergeOperator: String, Sendable, CaseIterable {
    /// Operands are integers of eight bytes.
    case int64Add = "int64-add"
    /// Operands are values of the size that the options give.
    case append
}

/// The workloads of RocksDB's db_bench that we run, under its names where it has them, and what
/// one operation is. `EngineBenchmarkTests` holds them to it.
package enum BenchmarkWorkload: String, Sendable, CaseIterable {
    /// Puts the keys in order.
    case fillseq
    /// Puts random keys.
    case fillrandom
    /// Puts random keys, each synced. A thousandth of the operations, on a thousandth of the keys.
    case fillsync
    /// As `fillrandom`.
    case overwrite
    /// Merges an operand into random keys.
    case mergerandom
    /// Deletes 100 keys in a row from a random one on. A hundredth of the operations, which delete
    /// as many keys as there are.
    case deleterange
    /// Merges all tables into the last level.
    case compact
    /// Waits until no flush or compaction is under way or due.
    case waitforcompaction
    /// Gets random keys.
    case readrandom
    /// Gets random keys, a batch of them in one state. Operations are keys; latency is a batch's.
    case multireadrandom
    /// Gets keys that are not there.
    case readmissing
    /// Seeks random keys, each with an iterator of its own.
    case seekrandom
    /// Seeks the first key with a random prefix and reads up to ten that have it. The prefix is the
    /// key's number without its last byte, so up to 256 keys share one.
    case prefixscan
    /// Reads pairs in order.
    case readseq
    /// As `readrandom`, beside one more thread that writes.
    case readwhilewriting
    /// Builds a ribbon filter of ten bits over as many random hashes as there are operations, at
    /// once. Touches no file.
    case filterbuild
    /// Asks a ribbon filter of ten bits, over a million hashes at most, for hashes of which half
    /// are in it; latency is of a thousand. Touches no file.
    case filterquery
    /// Digests 4 KiB: what a block costs besides its checksum when it is made or loaded. Touches no
    /// file.
    case xxh3
}
