// A file system in memory that behaves as badly as disks do, and replays it from a seed: power cuts
// keep any subset of what was not synced, syncs fail and lie afterwards, bits flip, reads fail,
// space runs out. Deterministic as long as one thread drives it; safe from many.
//
// Strict where POSIX is silent: a name is durable only after `syncDirectory` of its directory, and
// a file's size only after its `sync`. Used by tests and by the simulated cluster.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class MemoryFileSystem: FileSystem, @unchecked Sendable {
    // Unchecked: everything below is touched only under `lock`.
    let lock = PlainLock()
    private var tree = MemoryTree()
    private var random: SeededRandom
    /// Counts power cuts; handles of an older generation are dead.
    private(set) var generation = 0
    private var lockedPaths: Set<String> = []
    private var syncCalls = 0
    private var skippedSyncs: Set<Int> = []
    private var syncFailures: [SyncFailure] = []
    private var capacityBytes = UInt64.max
    private var operationsLeft: Int?
    private var operations = 0

    private enum SyncFailure: Equatable {
        case any
        case path(String)
    }

    package init(seed: UInt64) { random = SeededRandom(seed: seed) }

    private init(tree: MemoryTree, random: SeededRandom) {
        self.tree = tree
        self.random = random
    }

    // MARK: FileSystem

    package func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        try lock.withLock { () throws(FileError) in
            let inode: MemoryInode
            if let found = tree.file(path) {
                guard mode != .create else { throw error("open", path, EEXIST) }
                inode = found
            } else {
                guard mode == .create || mode == .createOrWrite else {
                    throw error("open", path, ENOENT)
                }
                guard tree.hasDirectory(parentDirectory(of: path)) else {
                    throw error("open", path, ENOENT)
                }
                try spend("open", path)
                inode = MemoryInode()
                tree.link(path, inode)
            }
            return MemoryFile(
                path: path, inode: inode, generation: generation, isWritable: mode != .read,
                fileSystem: self)
        }
    }

    /// Durable when it returns, as the protocol's real implementation has it.
    package func createDirectory(_ path: String) throws(FileError) {
        lock.withLock { tree.addDirectory(path) }
    }

    package func list(_ directory: String) throws(FileError) -> [String] {
        try lock.withLock { () throws(FileError) in
            guard tree.hasDirectory(directory) else { throw error("opendir", directory, ENOENT) }
            return tree.names(in: directory)
        }
    }

    package func exists(_ path: String) -> Bool {
        lock.withLock { tree.file(path) != nil || tree.hasDirectory(path) }
    }

    package func rename(_ from: String, to: String) throws(FileError) {
        try lock.withLock { () throws(FileError) in
            guard let inode = tree.file(from) else { throw error("rename", from, ENOENT) }
            guard tree.hasDirectory(parentDirectory(of: to)) else {
                throw error("rename", to, ENOENT)
            }
            try spend("rename", from)
            tree.rename(from, to, inode)
        }
    }

    package func unlink(_ path: String) throws(FileError) {
        try lock.withLock { () throws(FileError) in
            guard let inode = tree.file(path) else { throw error("unlink", path, ENOENT) }
            try spend("unlink", path)
            tree.unlink(path, inode)
        }
    }

    package func link(_ from: String, to: String) throws(FileError) {
        try lock.withLock { () throws(FileError) in
            guard let inode = tree.file(from) else { throw error("link", from, ENOENT) }
            guard tree.file(to) == nil else { throw error("link", to, EEXIST) }
            guard tree.hasDirectory(parentDirectory(of: to)) else {
                throw error("link", to, ENOENT)
            }
            try spend("link", from)
            tree.link(to, inode)
        }
    }

    package func syncDirectory(_ directory: String) throws(FileError) {
        try lock.withLock { () throws(FileError) in
            guard tree.hasDirectory(directory) else { throw error("open", directory, ENOENT) }
            switch try nextSync(directory) {
            case .performed: tree.syncDirectory(directory)
            case .skipped: return
            case .failed:
                throw error("fsync", directory, EIO)
            }
        }
    }

    package func lock(_ path: String) throws(FileError) -> (any FileLock)? {
        _ = try open(path, .createOrWrite)
        return lock.withLock {
            guard lockedPaths.insert(path).inserted else { return nil }
            return MemoryFileLock(path, generation, self)
        }
    }

    package func freeBytes(_ path: String) throws(FileError) -> UInt64 {
        lock.withLock { capacityBytes - min(capacityBytes, tree.usedBytes) }
    }

    package func totalBytes(_ path: String) throws(FileError) -> UInt64 {
        lock.withLock { capacityBytes }
    }

    fileprivate func unlock(_ path: String, _ generation: Int) {
        lock.withLock {
            if generation == self.generation { lockedPaths.remove(path) }
        }
    }

    // MARK: What open files ask (under the lock)

    enum SyncOutcome { case performed, skipped, failed }

    func nextSync(_ path: String) throws(FileError) -> SyncOutcome {
        try spend("fsync", path)
        syncCalls += 1
        if skippedSyncs.contains(syncCalls) { return .skipped }
        let place = syncFailures.firstIndex { $0 == .any || $0 == .path(path) }
        guard let place else { return .performed }
        syncFailures.remove(at: place)
        return .failed
    }

    /// Checks that the file may be changed up to `end + count`, which it returns.
    func reserve(
        _ inode: MemoryInode, end: UInt64, adding count: Int, _ path: String, _ isWritable: Bool
    ) throws(FileError) -> Int {
        guard isWritable else { throw error("write", path, EBADF) }
        try spend("write", path)
        guard end < 1 << 40 else { throw error("write", path, EFBIG) }
        let size = Int(end) + count
        let growth = UInt64(max(size - inode.size, 0))
        guard growth == 0 || growth <= capacityBytes - min(capacityBytes, tree.usedBytes) else {
            throw error("write", path, ENOSPC)
        }
        return size
    }

    /// Counts a change and refuses it once the process is to have stopped.
    private func spend(_ operation: String, _ path: String) throws(FileError) {
        if let left = operationsLeft {
            guard left > 0 else { throw error(operation, path, EIO) }
            operationsLeft = left - 1
        }
        operations += 1
    }

    private func error(_ operation: String, _ path: String, _ code: Int32) -> FileError {
        FileError(operation: operation, path: path, code: code)
    }
}

// MARK: - Faults

extension MemoryFileSystem {
    /// Takes the power away: each sector and each directory change that was not synced survives or
    /// not, in any order. Open files are dead afterwards and locks are free.
    package func powerCut() {
        lock.withLock {
            tree = tree.afterPowerCut(&random)
            forgetProcess()
        }
    }

    /// Ends the process but not the power: what was written stays in the page cache, clean where a
    /// failed sync left it so. Open files are dead afterwards and locks are free.
    package func restart() { lock.withLock { forgetProcess() } }

    private func forgetProcess() {
        generation += 1
        lockedPaths = []
        operationsLeft = nil
    }

    /// Lets `count` more changes (creations, writes, truncations, renames, unlinks, syncs) happen,
    /// then fails all of them until `powerCut` or `restart`: a crash between any two steps.
    package func stop(after count: Int) { lock.withLock { operationsLeft = count } }

    /// Changes so far, in the sense of `stop`.
    package var operationCount: Int { lock.withLock { operations } }

    /// A copy as a power cut now might leave it; this one goes on untouched.
    package func snapshotAfterPowerCut() -> MemoryFileSystem {
        lock.withLock {
            var fork = random.fork()
            let copy = tree.afterPowerCut(&fork)
            return MemoryFileSystem(tree: copy, random: fork)
        }
    }

    /// The next sync of `path` (a file or a directory; nil: of anything) throws EIO. A file's pages
    /// are marked clean, no later sync writes them, and the next power cut loses them. A
    /// directory's changes wait for the next sync: names go through a journal, which does not
    /// forget.
    package func failNextSync(_ path: String? = nil) {
        lock.withLock { syncFailures.append(path.map { .path($0) } ?? .any) }
    }

    /// Flips bits of one byte. With `onMedium` false only the page cache is wrong: a read from the
    /// medium finds the right byte.
    package func flip(_ path: String, _ offset: UInt64, mask: UInt8 = 1, onMedium: Bool = true) {
        lock.withLock {
            tree.file(path)?.flip(at: Int(offset), mask: mask, onMedium: onMedium)
        }
    }

    /// As if the writes of this range had never reached the medium: it reads as zeros.
    package func tear(_ path: String, _ range: Range<UInt64>) {
        lock.withLock {
            guard let inode = tree.file(path) else { return }
            for offset in range where offset < UInt64(inode.size) {
                let byte = inode.byte(at: Int(offset))
                if byte != 0 { inode.flip(at: Int(offset), mask: byte, onMedium: true) }
            }
        }
    }

    /// Reads that touch the range throw EIO; an empty list of ranges ends that.
    package func failReads(_ path: String, _ ranges: [Range<UInt64>]) {
        lock.withLock { tree.file(path)?.setUnreadable(ranges) }
    }

    /// Bytes that all files together may have; growing beyond throws ENOSPC.
    package var capacity: UInt64 {
        get { lock.withLock { capacityBytes } }
        set { lock.withLock { capacityBytes = newValue } }
    }

    /// Bytes that all files together have.
    package var usedBytes: UInt64 { lock.withLock { tree.usedBytes } }

    /// Calls of `sync` and `syncDirectory` that return without doing anything; the first call has
    /// number 1. So a test proves that each of them is needed.
    package var skipSync: Set<Int> {
        get { lock.withLock { skippedSyncs } }
        set { lock.withLock { skippedSyncs = newValue } }
    }

    /// Calls of `sync` and `syncDirectory` so far.
    package var syncCount: Int { lock.withLock { syncCalls } }
}

private final class MemoryFileLock: FileLock, @unchecked Sendable {
    // Unchecked: all fields are constants.
    private let path: String
    private let generation: Int
    private let fileSystem: MemoryFileSystem

    init(_ path: String, _ generation: Int, _ fileSystem: MemoryFileSystem) {
        self.path = path
        self.generation = generation
        self.fileSystem = fileSystem
    }

    deinit { fileSystem.unlock(path, generation) }
}
