// What one process sees of its node's disk. A process that was killed touches the disk no more: its
// objects may live on for a while in the test's memory, and a table handle that is released then
// must not unlink a file of the next process. Also notes which sync was whose.
import Engine
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// One call of `sync` or `syncDirectory`, by its number on the disk.
package struct SyncRecord {
    package var number: Int
    package var path: String
    package var time: UInt64

    /// What it is for, by the file's place.
    package var kind: String {
        switch path {
        case let path where path.contains("/log/spare"): return "spare"
        case let path where path.hasSuffix(".seg"): return "append"
        case let path where path.hasSuffix("/log"): return "log names"
        case let path where path.hasSuffix(".sst"): return "table"
        case let path where path.hasSuffix("/sst"): return "table names"
        case let path where path.contains("MANIFEST") && !path.hasSuffix("mirror"):
            return "manifest"
        default: return "other"
        }
    }
}

package final class ProcessFiles: FileSystem {
    private let disk: MemoryFileSystem
    private let clock: @Sendable () -> UInt64
    private let isDead = Atomic(false)
    private let noted = Mutex<[SyncRecord]>([])

    package init(_ disk: MemoryFileSystem, clock: @escaping @Sendable () -> UInt64) {
        self.disk = disk
        self.clock = clock
    }

    package func kill() { isDead.store(true, ordering: .relaxed) }

    package var syncs: [SyncRecord] { noted.withLock { $0 } }

    fileprivate func note(_ path: String) {
        if isDead.load(ordering: .relaxed) { return }
        noted.withLock {
            $0.append(SyncRecord(number: disk.syncCount + 1, path: path, time: clock()))
        }
    }

    private func check(_ operation: String, _ path: String) throws(FileError) {
        if isDead.load(ordering: .relaxed) {
            throw FileError(operation: operation, path: path, code: EIO)
        }
    }

    package func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        try check("open", path)
        return ProcessFile(try disk.open(path, mode), self)
    }

    package func createDirectory(_ path: String) throws(FileError) {
        try check("mkdir", path)
        try disk.createDirectory(path)
    }

    package func list(_ directory: String) throws(FileError) -> [String] {
        try check("opendir", directory)
        return try disk.list(directory)
    }

    package func exists(_ path: String) -> Bool {
        !isDead.load(ordering: .relaxed) && disk.exists(path)
    }

    package func rename(_ from: String, to: String) throws(FileError) {
        try check("rename", from)
        try disk.rename(from, to: to)
    }

    package func link(_ from: String, to: String) throws(FileError) {
        try check("link", from)
        try disk.link(from, to: to)
    }

    package func unlink(_ path: String) throws(FileError) {
        try check("unlink", path)
        try disk.unlink(path)
    }

    package func syncDirectory(_ directory: String) throws(FileError) {
        try check("fsync", directory)
        note(directory)
        try disk.syncDirectory(directory)
    }

    package func lock(_ path: String) throws(FileError) -> (any FileLock)? {
        try check("flock", path)
        return try disk.lock(path)
    }

    package func freeBytes(_ path: String) throws(FileError) -> UInt64 {
        try check("statfs", path)
        return try disk.freeBytes(path)
    }
}

/// An open file whose syncs are noted.
private final class ProcessFile: WrappedFile {
    let file: any File
    private let owner: ProcessFiles

    init(_ file: any File, _ owner: ProcessFiles) {
        self.file = file
        self.owner = owner
    }

    func sync() throws(FileError) {
        owner.note(file.path)
        try file.sync()
    }
}
