// What `martlet bench engine` needs of an engine. `EngineBenchmarkBinding` binds the real one;
// tests run the workloads on a sorted map in memory. Keys and values are borrowed for the call.

package protocol BenchmarkDatabase: AnyObject, Sendable {
    func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws
    func delete(_ key: UnsafeRawBufferPointer) throws
    /// Replaces `value` by what `key` has; false if it has nothing.
    func get(_ key: UnsafeRawBufferPointer, into value: inout [UInt8]) throws -> Bool
    /// A view of the state as of now.
    func makeIterator() throws -> any BenchmarkIterator
    /// Moves what is in memory to tables; returns when it is there.
    func flush() throws
    /// Merges everything into the last level; returns when it is done.
    func compact() throws
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
    package var cacheBytes: UInt64 = 8 << 20
    package var compression = NodeConfiguration.Compression.none
    package var usesLog = true
    package var syncsLog = false
    package var seed: UInt64 = 301

    package init() {}
}

/// The workloads of RocksDB's db_bench that we run, under its names.
package enum BenchmarkWorkload: String, Sendable, CaseIterable {
    case fillseq
    case fillrandom
    case overwrite
    case compact
    case readrandom
    case readmissing
    case seekrandom
    case readseq
    case readwhilewriting
}
