// The real file system: system calls behind the `FileSystem` protocol. Stateless, so one instance
// may serve any number of threads and databases. Open files are in `POSIXFile.swift`.
//
// Used by `serve`, the embedded database and the command line tools; tests use it where the
// kernel's own behaviour matters (mapping, O_DIRECT, locks).
import CEngineShims

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class POSIXFileSystem: FileSystem {
    package init() {}

    package func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        let flags: Int32 =
            switch mode {
            case .read: O_RDONLY
            case .write: O_RDWR
            case .create: O_RDWR | O_CREAT | O_EXCL
            case .createOrWrite: O_RDWR | O_CREAT
            }
        let descriptor = martlet_open(path, flags, 0o644, 0)
        guard descriptor >= 0 else { throw posixError("open", path) }
        return POSIXFile(descriptor: descriptor, path: path)
    }

    /// Durable when it returns: the parents of what it made are synced here, because a directory
    /// whose own name is lost takes every synced file in it along. Also if it is there: whoever
    /// made it may have died before the sync.
    package func createDirectory(_ path: String) throws(FileError) {
        if mkdir(path, 0o755) == 0 {
            try syncDirectory(parentDirectory(of: path))
            return
        }
        switch errno {
        case EEXIST: try syncDirectory(parentDirectory(of: path))
        case ENOENT:
            let parent = parentDirectory(of: path)
            guard parent != path, parent != "." else { throw posixError("mkdir", path) }
            try createDirectory(parent)
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
                throw posixError("mkdir", path)
            }
            try syncDirectory(parent)
        default: throw posixError("mkdir", path)
        }
    }

    package func list(_ directory: String) throws(FileError) -> [String] {
        guard let stream = opendir(directory) else { throw posixError("opendir", directory) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(
                    to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)
                ) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw posixError("readdir", directory) }
        return names.sorted()
    }

    package func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package func rename(_ from: String, to: String) throws(FileError) {
        // The module's own name would be found first without the qualification.
        #if canImport(Glibc)
            let result = Glibc.rename(from, to)
        #else
            let result = Musl.rename(from, to)
        #endif
        guard result == 0 else { throw posixError("rename", from) }
    }

    package func unlink(_ path: String) throws(FileError) {
        #if canImport(Glibc)
            let result = Glibc.unlink(path)
        #else
            let result = Musl.unlink(path)
        #endif
        guard result == 0 else { throw posixError("unlink", path) }
    }

    package func link(_ from: String, to: String) throws(FileError) {
        #if canImport(Glibc)
            let result = Glibc.link(from, to)
        #else
            let result = Musl.link(from, to)
        #endif
        guard result == 0 else { throw posixError("link", from) }
    }

    package func syncDirectory(_ directory: String) throws(FileError) {
        let descriptor = martlet_open(directory, O_RDONLY | O_DIRECTORY, 0, 0)
        guard descriptor >= 0 else { throw posixError("open", directory) }
        defer { close(descriptor) }
        while fsync(descriptor) != 0 {
            guard errno == EINTR else { throw posixError("fsync", directory) }
        }
    }

    package func lock(_ path: String) throws(FileError) -> (any FileLock)? {
        let descriptor = martlet_open(path, O_RDWR | O_CREAT, 0o644, 0)
        guard descriptor >= 0 else { throw posixError("open", path) }
        let code = martlet_lock_file(descriptor)
        if code == 0 { return POSIXFileLock(descriptor: descriptor) }
        close(descriptor)
        if code == EWOULDBLOCK { return nil }
        throw FileError(operation: "flock", path: path, code: code)
    }

    package func freeBytes(_ path: String) throws(FileError) -> UInt64 {
        try blocks(path) { $0.f_bavail }
    }

    package func totalBytes(_ path: String) throws(FileError) -> UInt64 {
        try blocks(path) { $0.f_blocks }
    }

    private func blocks(_ path: String, _ count: (statvfs) -> fsblkcnt_t) throws(FileError)
        -> UInt64
    {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw posixError("statvfs", path) }
        let (bytes, isOverflow) = UInt64(count(status))
            .multipliedReportingOverflow(by: UInt64(status.f_frsize))
        return isOverflow ? .max : bytes
    }
}

/// The lock dies with the descriptor, hence with the process at the latest.
private final class POSIXFileLock: FileLock {
    private let descriptor: Int32
    init(descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
}

/// The failure that errno describes right now.
func posixError(_ operation: String, _ path: String) -> FileError {
    FileError(operation: operation, path: path, code: errno)
}
