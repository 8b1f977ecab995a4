// The names of `MemoryFileSystem`: which file each path means now, and the changes since the last
// `syncDirectory`, of which a power cut keeps any subset. A rename is atomic: it happens whole or
// not at all, but may survive the loss of the creation before it.
//
// Guarded by the lock of the file system that holds it.

struct MemoryTree {
    private var files: [String: MemoryInode] = [:]
    /// What the medium has; `changes` lead from here to `files`.
    private var durableFiles: [String: MemoryInode] = [:]
    private var changes: [Change] = []
    /// Created durably, never removed.
    private var directories: Set<String> = [".", "/"]

    private struct Change {
        enum Kind {
            case link, unlink
            case rename(from: String)
        }
        var kind: Kind
        var path: String
        var inode: MemoryInode
        /// Where it is made durable: a rename by either of two.
        var directories: [String]

        init(_ kind: Kind, _ path: String, _ inode: MemoryInode) {
            self.kind = kind
            self.path = path
            self.inode = inode
            directories = [MemoryTree.parent(path)]
            if case .rename(let from) = kind { directories.append(MemoryTree.parent(from)) }
        }

        func apply(to files: inout [String: MemoryInode]) {
            switch kind {
            case .link: files[path] = inode
            case .unlink: if files[path] === inode { files[path] = nil }
            case .rename(let from):
                // After a power cut the file may stand under an older name than `from`.
                let names =
                    files[from] === inode ? [from] : files.keys.filter { files[$0] === inode }
                for name in names { files[name] = nil }
                files[path] = inode
            }
        }
    }

    // MARK: Looking up

    func file(_ path: String) -> MemoryInode? { files[MemoryTree.normal(path)] }

    func hasDirectory(_ path: String) -> Bool { directories.contains(MemoryTree.normal(path)) }

    func names(in directory: String) -> [String] {
        let directory = MemoryTree.normal(directory)
        let paths = Array(files.keys) + directories.filter { $0 != directory && $0 != "/" }
        return paths.filter { $0 != "." && MemoryTree.parent($0) == directory }
            .map { String($0.split(separator: "/").last ?? "") }
            .sorted()
    }

    var usedBytes: UInt64 { files.values.reduce(0) { $0 + UInt64($1.size) } }

    // MARK: Changing

    mutating func addDirectory(_ path: String) {
        var path = MemoryTree.normal(path)
        while directories.insert(path).inserted { path = MemoryTree.parent(path) }
    }

    mutating func link(_ path: String, _ inode: MemoryInode) { change(.link, path, inode) }

    mutating func unlink(_ path: String, _ inode: MemoryInode) { change(.unlink, path, inode) }

    mutating func rename(_ from: String, _ to: String, _ inode: MemoryInode) {
        guard MemoryTree.normal(from) != MemoryTree.normal(to) else { return }
        change(.rename(from: MemoryTree.normal(from)), to, inode)
    }

    private mutating func change(_ kind: Change.Kind, _ path: String, _ inode: MemoryInode) {
        let change = Change(kind, MemoryTree.normal(path), inode)
        change.apply(to: &files)
        changes.append(change)
    }

    // MARK: Durability

    mutating func syncDirectory(_ directory: String) {
        let directory = MemoryTree.normal(directory)
        var waiting: [Change] = []
        for change in changes {
            guard change.directories.contains(directory) else {
                waiting.append(change)
                continue
            }
            change.apply(to: &durableFiles)
            // Its file is named durably now: what came before is no news any more.
            if case .rename = change.kind { waiting.removeAll { $0.inode === change.inode } }
        }
        changes = waiting
    }

    /// The tree as a power cut now may leave it, with copies of the files.
    func afterPowerCut(_ random: inout SeededRandom) -> MemoryTree {
        var survivors = durableFiles
        for change in changes where random.oneIn(2) {
            change.apply(to: &survivors)
        }
        var tree = MemoryTree()
        tree.directories = directories
        // In the order of names, so that the seed decides the outcome.
        for (path, inode) in survivors.sorted(by: { $0.key < $1.key }) {
            tree.files[path] = inode.afterPowerCut(&random)
        }
        tree.durableFiles = tree.files
        return tree
    }

    // MARK: Paths

    private static func normal(_ path: String) -> String {
        var path = Substring(path)
        while path.hasPrefix("./") { path = path.dropFirst(2) }
        while path.count > 1, path.hasSuffix("/") { path = path.dropLast() }
        return path.isEmpty ? "." : String(path)
    }

    private static func parent(_ path: String) -> String { parentDirectory(of: path) }
}
