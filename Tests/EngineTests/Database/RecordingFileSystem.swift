// Writes down what is synced, in order, and tells of each new file: which sync of a run is for
// what; and which files are mapped.
import Engine

final class RecordingFileSystem: FileSystem, @unchecked Sendable {
    // Unchecked: one test's thread uses it.
    struct Sync: Equatable {
        /// As `MemoryFileSystem` counts it.
        var number: Int
        var path: String
        /// Of a directory: the names that are new since its last sync.
        var names: Set<String>?
    }

    let base: MemoryFileSystem
    private(set) var syncs: [Sync] = []
    /// Files that were mapped.
    private(set) var mapped: [String] = []
    /// Called before a file is created.
    var onCreate: ((String) -> Void)?
    /// Called before a file gets another name.
    var onRename: ((_ from: String, _ to: String) -> Void)?
    /// Names that no sync of their directory covers.
    private var names: [String: Set<String>] = [:]

    init(_ base: MemoryFileSystem) { self.base = base }

    private func name(_ path: String) {
        let name = String(path.split(separator: "/").last ?? "")
        names[parentDirectory(of: path), default: []].insert(name)
    }

    fileprivate func record(_ path: String) {
        syncs.append(Sync(number: base.syncCount + 1, path: path))
    }

    fileprivate func recordMapping(_ path: String) { mapped.append(path) }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        if mode == .create { onCreate?(path) }
        if !base.exists(path) { name(path) }
        return RecordingFile(try base.open(path, mode), self)
    }
    func createDirectory(_ path: String) throws(FileError) { try base.createDirectory(path) }
    func list(_ directory: String) throws(FileError) -> [String] { try base.list(directory) }
    func exists(_ path: String) -> Bool { base.exists(path) }
    func rename(_ from: String, to: String) throws(FileError) {
        onRename?(from, to)
        name(to)
        try base.rename(from, to: to)
    }
    func unlink(_ path: String) throws(FileError) { try base.unlink(path) }
    func link(_ from: String, to: String) throws(FileError) {
        name(to)
        try base.link(from, to: to)
    }
    func syncDirectory(_ directory: String) throws(FileError) {
        let new = names.removeValue(forKey: directory) ?? []
        syncs.append(Sync(number: base.syncCount + 1, path: directory, names: new))
        try base.syncDirectory(directory)
    }
    func lock(_ path: String) throws(FileError) -> (any FileLock)? { try base.lock(path) }
    func freeBytes(_ path: String) throws(FileError) -> UInt64 { try base.freeBytes(path) }
}

private final class RecordingFile: File {
    private let base: any File
    private let owner: RecordingFileSystem
    var path: String { base.path }

    init(_ base: any File, _ owner: RecordingFileSystem) {
        self.base = base
        self.owner = owner
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    { try base.read(at: offset, into: buffer) }
    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    { try base.readFromMedium(at: offset, into: buffer) }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try base.write(bytes, at: offset)
    }
    func sync() throws(FileError) {
        owner.record(path)
        try base.sync()
    }
    func size() throws(FileError) -> UInt64 { try base.size() }
    func truncate(to size: UInt64) throws(FileError) { try base.truncate(to: size) }
    func map(size: Int) throws(FileError) -> any FileMapping {
        owner.recordMapping(path)
        return try base.map(size: size)
    }
}
