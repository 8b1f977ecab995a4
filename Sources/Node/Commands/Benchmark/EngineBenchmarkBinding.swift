// Binds the workloads to the embedded engine.
import Engine
import Synchronization

enum EngineBenchmarkBinding {
    static func open(_ options: BenchmarkOptions) throws -> any BenchmarkDatabase {
        var engine = DatabaseOptions()
        engine.sync = options.syncsLog ? .always : .never
        engine.usesLog = options.usesLog
        engine.store.cacheBytes = Int(clamping: options.cacheBytes)
        engine.store.compression = options.compression == .lz4 ? .lz4 : .none
        return EngineUnderTest(try Database.open(options.directory, options: engine))
    }
}

private final class EngineUnderTest: BenchmarkDatabase {
    private let database: Database
    private let written: UInt64
    private let read: UInt64

    init(_ database: Database) {
        self.database = database
        let start = ProcessIO.read()
        written = start.written
        read = start.read
    }

    func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws {
        try database.put(key, value)
    }

    func delete(_ key: UnsafeRawBufferPointer) throws { try database.delete(key) }

    func get(_ key: UnsafeRawBufferPointer, into value: inout [UInt8]) throws -> Bool {
        guard let found = try database.get(key) else { return false }
        value = found
        return true
    }

    func makeIterator() throws -> any BenchmarkIterator {
        IteratorUnderTest(database.makeIterator())
    }

    func flush() throws { try database.flush() }
    func compact() throws { try database.compactAll() }
    var bytesWritten: UInt64 { ProcessIO.read().written - written + database.mappedLogBytes }
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
