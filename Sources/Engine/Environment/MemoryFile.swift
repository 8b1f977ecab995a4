// An open file of `MemoryFileSystem`. A power cut makes every handle that was open dead: what a
// lost process held must not reach the files of the next one.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class MemoryFile: File, @unchecked Sendable {
    // Unchecked: `inode` is touched only under the file system's lock.
    let path: String
    private let fileSystem: MemoryFileSystem
    private let inode: MemoryInode
    private let generation: Int
    private let isWritable: Bool

    init(
        path: String, inode: MemoryInode, generation: Int, isWritable: Bool,
        fileSystem: MemoryFileSystem
    ) {
        self.path = path
        self.inode = inode
        self.generation = generation
        self.isWritable = isWritable
        self.fileSystem = fileSystem
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    {
        try read(at: offset, into: buffer, fromMedium: false)
    }

    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    {
        try read(at: offset, into: buffer, fromMedium: true)
    }

    private func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, fromMedium: Bool
    ) throws(FileError) -> Int {
        try locked("read") { () throws(FileError) in
            guard let count = inode.read(at: offset, into: buffer, fromMedium: fromMedium) else {
                throw FileError(operation: "read", path: path, code: EIO)
            }
            return count
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try locked("write") { () throws(FileError) in
            let end = try fileSystem.reserve(
                inode, end: offset, adding: bytes.count, path, isWritable)
            inode.write(bytes, at: end - bytes.count)
        }
    }

    func sync() throws(FileError) {
        try locked("fdatasync") { () throws(FileError) in
            switch try fileSystem.nextSync(path) {
            case .performed: inode.sync()
            case .skipped: return
            case .failed:
                inode.failSync()
                throw FileError(operation: "fdatasync", path: path, code: EIO)
            }
        }
    }

    func size() throws(FileError) -> UInt64 {
        try locked("fstat") { () throws(FileError) in UInt64(inode.size) }
    }

    func truncate(to size: UInt64) throws(FileError) {
        try locked("ftruncate") { () throws(FileError) in
            let end = try fileSystem.reserve(inode, end: size, adding: 0, path, isWritable)
            inode.truncate(to: end)
        }
    }

    func map(size: Int) throws(FileError) -> any FileMapping {
        try locked("mmap") { () throws(FileError) in
            guard size > 0 else { throw FileError(operation: "mmap", path: path, code: EINVAL) }
            let end = try fileSystem.reserve(
                inode, end: UInt64(size), adding: 0, path, isWritable)
            return MemoryMapping(inode, size: end, fileSystem: fileSystem)
        }
    }

    private func locked<R>(_ operation: String, _ body: () throws(FileError) -> R)
        throws(FileError) -> R
    {
        try fileSystem.lock.withLock { () throws(FileError) in
            guard generation == fileSystem.generation else {
                throw FileError(operation: operation, path: path, code: EIO)
            }
            return try body()
        }
    }
}

/// Memory that stands for the first part of a file. Only the newest mapping of a file is live;
/// stores through an older one are lost.
final class MemoryMapping: FileMapping, @unchecked Sendable {
    // Unchecked: the address never changes; who stores where is the mapping's user's business.
    let bytes: UnsafeMutableRawBufferPointer
    private let inode: MemoryInode
    private let fileSystem: MemoryFileSystem

    /// The caller holds the file system's lock.
    init(_ inode: MemoryInode, size: Int, fileSystem: MemoryFileSystem) {
        self.inode = inode
        self.fileSystem = fileSystem
        bytes = .allocate(byteCount: size, alignment: 4096)
        inode.attach(bytes)
    }

    deinit {
        fileSystem.lock.withLock { inode.detach(bytes) }
        bytes.deallocate()
    }
}
