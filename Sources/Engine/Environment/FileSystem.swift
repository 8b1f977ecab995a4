// Every access to files goes through these two protocols. `POSIXFileSystem` is the real one;
// `MemoryFileSystem` keeps files in memory and can lose unsynced writes, tear, flip and fail, so
// that one thread and one seed can rehearse what disks do. Existentials are fine here: calls are
// made at I/O granularity, never per key.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package enum OpenMode: Sendable {
    /// Existing file, reading only.
    case read
    /// Existing file, reading and writing.
    case write
    /// New file for reading and writing; fails if it exists.
    case create
    /// Existing or new file for reading and writing.
    case createOrWrite
}

/// An open file. All calls are positional and safe from any thread. Closed when released.
package protocol File: AnyObject, Sendable {
    var path: String { get }

    /// Reads up to `buffer.count` bytes at `offset`; fewer only at the end of the file.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int

    /// As `read`, but from the medium: past the page cache (O_DIRECT, else the range is dropped
    /// from the cache first). What a heal or a scrub must use, since a cached page proves nothing.
    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int

    /// Writes all of `bytes` at `offset`, growing the file if needed. Durable only after `sync`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError)

    /// fdatasync: everything written so far, and the file's size, survive a power cut. After a
    /// throw the state of unsynced data is unknown; the caller must stop acknowledging for good.
    func sync() throws(FileError)

    func size() throws(FileError) -> UInt64
    func truncate(to size: UInt64) throws(FileError)

    /// Maps the first `size` bytes for shared writing; the file is grown to `size`. Only for the
    /// unsynced log. The mapping lives until the returned object is released.
    func map(size: Int) throws(FileError) -> any FileMapping
}

package protocol FileMapping: AnyObject, Sendable {
    var bytes: UnsafeMutableRawBufferPointer { get }
}

/// Holds a lock until released.
package protocol FileLock: AnyObject, Sendable {}

package protocol FileSystem: AnyObject, Sendable {
    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File
    /// Creates the directory and its missing parents; no error if it exists.
    func createDirectory(_ path: String) throws(FileError)
    /// Names (not paths) in the directory, sorted.
    func list(_ directory: String) throws(FileError) -> [String]
    func exists(_ path: String) -> Bool
    /// Replaces `to` if it exists. Durable only after `syncDirectory`.
    func rename(_ from: String, to: String) throws(FileError)
    func unlink(_ path: String) throws(FileError)
    /// Gives a file a second name, `to`, which must be free. Not every file system can, nor between
    /// two of them. Durable only after `syncDirectory`.
    func link(_ from: String, to: String) throws(FileError)
    /// Makes creations, renames and unlinks in the directory durable.
    func syncDirectory(_ directory: String) throws(FileError)
    /// Exclusive lock on `path`, created if missing; nil if somebody else holds it.
    func lock(_ path: String) throws(FileError) -> (any FileLock)?
    /// Bytes that may still be written to the file system that holds `path`.
    func freeBytes(_ path: String) throws(FileError) -> UInt64
    /// Size of the file system that holds `path`; `.max` where nobody knows.
    func totalBytes(_ path: String) throws(FileError) -> UInt64
}

extension FileSystem {
    package func totalBytes(_ path: String) throws(FileError) -> UInt64 { .max }

    /// The whole file, at most `limit` bytes of it.
    package func readAll(_ path: String, limit: UInt64) throws(FileError) -> [UInt8] {
        let file = try open(path, .read)
        let size = try file.size()
        guard size <= limit else {
            throw FileError(operation: "read", path: path, code: EFBIG)
        }
        return try file.readBytes(at: 0, count: Int(size))
    }

    /// A second name where the file system can give one, else a synced copy. For files that nobody
    /// changes any more.
    package func linkOrCopy(_ from: String, to: String) throws(FileError) {
        do throws(FileError) {
            return try link(from, to: to)
        } catch {
            guard error.isLinkUnsupported else { throw error }
        }
        try copy(from, to: to)
    }

    /// A synced copy in the new file `to`; whatever is there is replaced.
    package func copy(_ from: String, to: String) throws(FileError) {
        if exists(to) { try unlink(to) }
        let source = try open(from, .read)
        let size = try source.size()
        let copy = try open(to, .create)
        var offset: UInt64 = 0
        while offset < size {
            let count = Int(min(size - offset, 1 << 20))
            try copy.writeAll(try source.readBytes(at: offset, count: count), at: offset)
            offset += UInt64(count)
        }
        try copy.sync()
    }

    /// Replaces `path` so that a crash leaves the old or the new content: write beside it, fsync,
    /// rename, fsync the directory.
    package func replace(_ path: String, with bytes: [UInt8]) throws(FileError) {
        let temporary = path + ".new"
        if exists(temporary) { try unlink(temporary) }
        let file = try open(temporary, .create)
        try file.writeAll(bytes, at: 0)
        try file.sync()
        try rename(temporary, to: path)
        try syncDirectory(parentDirectory(of: path))
    }
}

extension File {
    /// Up to `count` bytes at `offset`, as an array; shorter at the end of the file.
    package func readBytes(at offset: UInt64, count: Int, fromMedium: Bool = false)
        throws(FileError) -> [UInt8]
    {
        var bytes = [UInt8](repeating: 0, count: count)
        var failure: FileError?
        let got = bytes.withUnsafeMutableBytes { buffer -> Int in
            do throws(FileError) {
                return fromMedium
                    ? try readFromMedium(at: offset, into: buffer)
                    : try read(at: offset, into: buffer)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        bytes.removeLast(count - got)
        return bytes
    }

    package func writeAll(_ bytes: [UInt8], at offset: UInt64) throws(FileError) {
        var failure: FileError?
        bytes.withUnsafeBytes { buffer in
            do throws(FileError) { try write(buffer, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// The part of `path` before its last slash; "." without one.
package func parentDirectory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
