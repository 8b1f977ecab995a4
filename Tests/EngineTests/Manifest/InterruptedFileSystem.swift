// A file system whose process dies at the n-th change it makes: that change and all later ones
// fail. With `MemoryFileSystem.powerCut` behind it, every place to crash at can be visited.
import Engine

final class InterruptedFileSystem: FileSystem, @unchecked Sendable {
    // Unchecked: one test's thread uses it.
    let base: MemoryFileSystem
    private(set) var changes = 0
    private let lastChange: Int
    private let hasLinks: Bool

    init(_ base: MemoryFileSystem, diesAt change: Int = .max, hasLinks: Bool = true) {
        self.base = base
        lastChange = change
        self.hasLinks = hasLinks
    }

    fileprivate func change(_ operation: String, _ path: String) throws(FileError) {
        changes += 1
        guard changes < lastChange else {
            throw FileError(operation: operation, path: path, code: 5)
        }
    }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        if mode == .create { try change("open", path) }
        return InterruptedFile(try base.open(path, mode), self)
    }
    func createDirectory(_ path: String) throws(FileError) { try base.createDirectory(path) }
    func list(_ directory: String) throws(FileError) -> [String] { try base.list(directory) }
    func exists(_ path: String) -> Bool { base.exists(path) }
    func rename(_ from: String, to: String) throws(FileError) {
        try change("rename", from)
        try base.rename(from, to: to)
    }
    func link(_ from: String, to: String) throws(FileError) {
        try change("link", from)
        guard hasLinks else { throw FileError(operation: "link", path: from, code: 1) }
        try base.link(from, to: to)
    }
    func unlink(_ path: String) throws(FileError) {
        try change("unlink", path)
        try base.unlink(path)
    }
    func syncDirectory(_ directory: String) throws(FileError) {
        try change("fsync", directory)
        try base.syncDirectory(directory)
    }
    func lock(_ path: String) throws(FileError) -> (any FileLock)? { try base.lock(path) }
    func freeBytes(_ path: String) throws(FileError) -> UInt64 { try base.freeBytes(path) }
}

private final class InterruptedFile: WrappedFile {
    let file: any File
    private let owner: InterruptedFileSystem

    init(_ file: any File, _ owner: InterruptedFileSystem) {
        self.file = file
        self.owner = owner
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try owner.change("write", path)
        try file.write(bytes, at: offset)
    }

    func sync() throws(FileError) {
        try owner.change("fsync", path)
        try file.sync()
    }

    func truncate(to size: UInt64) throws(FileError) {
        try owner.change("truncate", path)
        try file.truncate(to: size)
    }
}
