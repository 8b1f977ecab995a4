// Binds the workloads to the embedded engine.
import Engine
import Synchronization

package enum EngineBenchmarkBinding {
    package static func open(_ options: BenchmarkOptions) throws -> any BenchmarkDatabase {
        var engine = DatabaseOptions()
        engine.sync = options.syncsLog ? .always : .never
        engine.usesLog = options.usesLog
        engine.store.cacheBytes = Int(clamping: options.cacheBytes)
        engine.store.rowCacheBytes = Int(clamping: options.rowCacheBytes)
        engine.store.compression = options.compression
        engine.settings.blobThreshold = options.blobThreshold
        engine.report = { ProcessExit.report($0) }
        if options.isEncrypted {
            let key = try EncryptionKey([UInt8](repeating: 0x6d, count: EncryptionKey.byteCount))
            engine.encryption = try EncryptionKeys(current: 1, keys: [1: key])
        }
        return try EngineUnderTest(options, engine)
    }
}

private final class EngineUnderTest: BenchmarkDatabase, @unchecked Sendable {
    // Unchecked: what is not constant changes in `setSync` only, while nobody else is here.
    private let options: BenchmarkOptions
    private let engine: DatabaseOptions
    private let mergeOperator: MergeOperatorID
    private var database: Database
    /// Of databases that `setSync` closed.
    private var mappedLogBytes: UInt64 = 0
    private var closedStorage = StorageUse()
    private let written: UInt64
    private let read: UInt64

    init(_ options: BenchmarkOptions, _ engine: DatabaseOptions) throws {
        self.options = options
        self.engine = engine
        mergeOperator = options.mergeOperator == .append ? .append : .int64Add
        database = try Database.open(options.directory, options: engine)
        let start = ProcessIO.read()
        written = start.written
        read = start.read
    }

    func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws {
        try database.put(key, value)
    }

    func delete(_ key: UnsafeRawBufferPointer) throws { try database.delete(key) }

    func merge(_ key: UnsafeRawBufferPointer, _ operand: UnsafeRawBufferPointer) throws {
        try database.merge([UInt8](key), [UInt8](operand), by: mergeOperator)
    }

    func deleteRange(_ start: UnsafeRawBufferPointer, _ end: UnsafeRawBufferPointer) throws {
        try database.deleteRange([UInt8](start), [UInt8](end))
    }

    func getMany(_ keys: [[UInt8]]) throws -> Int {
        var found = 0
        try database.withValues(of: keys) { if $0 != nil { found += 1 } }
        return found
    }

    func get(_ key: UnsafeRawBufferPointer) throws -> Int? {
        var length = 0
        return try database.withValue(of: key) { length = $0.count } ? length : nil
    }

    func makeIterator() throws -> any BenchmarkIterator {
        IteratorUnderTest(database.makeIterator())
    }

    func makeIterator(prefix: UnsafeRawBufferPointer) throws -> any BenchmarkIterator {
        IteratorUnderTest(database.makeIterator(.prefix([UInt8](prefix))))
    }

    func setSync(_ always: Bool) throws {
        mappedLogBytes += database.mappedLogBytes
        closedStorage = storage
        try database.close()
        var changed = engine
        if always { changed.sync = .always }
        database = try Database.open(options.directory, options: changed)
    }

    func flush() throws { try database.flush() }
    func compact() throws { try database.compactAll() }
    func waitForCompaction() throws { try database.awaitIdle() }
    var storage: StorageUse {
        var use = database.storageUse
        use.flushedBytes += closedStorage.flushedBytes
        use.compactedBytes += closedStorage.compactedBytes
        return use
    }
    var bytesWritten: UInt64 {
        ProcessIO.read().written - written + mappedLogBytes + database.mappedLogBytes
    }
    var bytesRead: UInt64 { ProcessIO.read().read - read }
    func close() throws { try database.close() }
}

private final class IteratorUnderTest: BenchmarkIterator {
    private let iterator: VisibleIterator

    init(_ iterator: VisibleIterator) { self.iterator = iterator }

    var isValid: Bool { iterator.isValid }
    var key: UnsafeRawBufferPointer { iterator.key }
    var value: UnsafeRawBufferPointer { iterator.value }
    func seekToFirst() throws { try iterator.seekToFirst() }

    func seek(_ key: UnsafeRawBufferPointer) throws { try iterator.seek(key) }
    func next() throws { try iterator.next() }
}

/// What this process has handed to the system and taken from it, by the kernel's own count, less
/// these looks at it. Stores into the mapped log are not in it.
enum ProcessIO {
    private static let looked = Atomic<UInt64>(0)

    static func read() -> (written: UInt64, read: UInt64) {
        var written: UInt64 = 0
        var read: UInt64 = 0
        guard let bytes = try? SmallFile.read("/proc/self/io", limit: 4096) else { return (0, 0) }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: " ")
            guard parts.count == 2, let value = UInt64(parts[1]) else { continue }
            if parts[0] == "wchar:" { written = value }
            if parts[0] == "rchar:" { read = value }
        }
        // This look itself counts from the next one on.
        let before = looked.add(UInt64(bytes.count), ordering: .relaxed).oldValue
        return (written, read - min(read, before))
    }
}
