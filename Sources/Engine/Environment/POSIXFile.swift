// One open descriptor. Every call is positional, so any thread may use the file at any time; the
// descriptor closes with the last reference. Interrupted and partial transfers are continued here,
// so callers see whole reads and writes only.
import CEngineShims
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class POSIXFile: File {
    let path: String
    private let descriptor: Int32
    /// A second descriptor with O_DIRECT, opened at the first read from the medium; -1 before that,
    /// -2 where the file system has no O_DIRECT.
    private let directDescriptor = Mutex<Int32>(-1)

    init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit {
        let direct = directDescriptor.withLock { $0 }
        if direct >= 0 { close(direct) }
        close(descriptor)
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    {
        try readFully(descriptor, at: try checkedOffset(offset, buffer.count), into: buffer)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        guard let base = bytes.baseAddress else { return }
        let start = try checkedOffset(offset, bytes.count)
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, base + done, bytes.count - done, start + off_t(done))
            if count > 0 {
                done += count
            } else if count == 0 || errno != EINTR {
                throw count == 0
                    ? FileError(operation: "write", path: path, code: EIO)
                    : posixError("write", path)
            }
        }
    }

    func sync() throws(FileError) {
        while fdatasync(descriptor) != 0 {
            guard errno == EINTR else { throw posixError("fdatasync", path) }
        }
    }

    func size() throws(FileError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw posixError("fstat", path) }
        return UInt64(status.st_size)
    }

    func truncate(to size: UInt64) throws(FileError) {
        let length = try checkedOffset(size, 0)
        while ftruncate(descriptor, length) != 0 {
            guard errno == EINTR else { throw posixError("ftruncate", path) }
        }
    }

    /// The blocks are allocated first: a store into a hole of a full disk would be a signal, not an
    /// error.
    func map(size: Int) throws(FileError) -> any FileMapping {
        guard size > 0 else { throw FileError(operation: "mmap", path: path, code: EINVAL) }
        var code: Int32
        repeat { code = posix_fallocate(descriptor, 0, off_t(size)) } while code == EINTR
        guard code == 0 else { throw FileError(operation: "fallocate", path: path, code: code) }
        let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw posixError("mmap", path) }
        return POSIXMapping(UnsafeMutableRawBufferPointer(start: address, count: size))
    }

    /// Rejects what would not fit into `off_t`, so that arithmetic on it below cannot overflow.
    private func checkedOffset(_ offset: UInt64, _ count: Int) throws(FileError) -> off_t {
        guard offset <= UInt64(off_t.max) - UInt64(count) else {
            throw FileError(operation: "seek", path: path, code: EFBIG)
        }
        return off_t(offset)
    }

    private func readFully(
        _ descriptor: Int32, at start: off_t, into buffer: UnsafeMutableRawBufferPointer
    ) throws(FileError) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, base + done, buffer.count - done, start + off_t(done))
            if count > 0 {
                done += count
            } else if count == 0 {
                break
            } else if errno != EINTR {
                throw posixError("read", path)
            }
        }
        return done
    }
}

// MARK: - Reading past the page cache

extension POSIXFile {
    /// Alignment of offset, length and memory that satisfies O_DIRECT on every common device.
    private static let directAlignment = 4096

    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    {
        guard buffer.count > 0 else { return 0 }
        let start = try checkedOffset(offset, buffer.count + 2 * POSIXFile.directAlignment)
        if let descriptor = openDirect() {
            do {
                return try readDirect(descriptor, at: start, into: buffer)
            } catch {
                // Some file systems accept the flag and refuse the read.
                guard error.code == EINVAL else { throw error }
            }
        }
        // Only clean pages can be dropped. A failure to drop is a failure to prove anything.
        try sync()
        let code = martlet_drop_cache(descriptor, start, off_t(buffer.count))
        guard code == 0 else { throw FileError(operation: "fadvise", path: path, code: code) }
        return try readFully(descriptor, at: start, into: buffer)
    }

    private func openDirect() -> Int32? {
        directDescriptor.withLock { direct in
            if direct == -1 {
                // By descriptor, not by name: the file may have been renamed or unlinked since.
                let opened = martlet_open("/proc/self/fd/\(descriptor)", O_RDONLY, 0, 1)
                direct = opened >= 0 ? opened : -2
            }
            return direct >= 0 ? direct : nil
        }
    }

    private func readDirect(
        _ direct: Int32, at start: off_t, into buffer: UnsafeMutableRawBufferPointer
    ) throws(FileError) -> Int {
        let alignment = POSIXFile.directAlignment
        let skipped = Int(start) % alignment
        let alignedCount = (skipped + buffer.count + alignment - 1) / alignment * alignment
        let memory = UnsafeMutableRawBufferPointer.allocate(
            byteCount: alignedCount, alignment: alignment)
        defer { memory.deallocate() }
        let got = try readFully(direct, at: start - off_t(skipped), into: memory)
        let usable = min(max(got - skipped, 0), buffer.count)
        buffer.copyMemory(
            from: UnsafeRawBufferPointer(rebasing: memory[skipped..<(skipped + usable)]))
        return usable
    }
}

private final class POSIXMapping: FileMapping, @unchecked Sendable {
    // Unchecked: the address never changes; who stores where is the mapping's user's business.
    let bytes: UnsafeMutableRawBufferPointer
    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }
    deinit { munmap(bytes.baseAddress, bytes.count) }
}
