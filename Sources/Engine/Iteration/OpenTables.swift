// Opens tables for their handles and bounds how many files are open at once: past the limit the
// ones not used lately are closed (a clock with a second chance, so that a read costs one relaxed
// load and no shared lock). Cursors keep the readers they use, so the bound is soft by those.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What is open of a table while it is: its handle's, and known to the clock that closes tables,
/// which does not hold the handle.
package final class OpenTable: Sendable {
    let reference: SharedReference<TableReader>
    private let wasUsed = Atomic<Bool>(false)

    init(_ reader: TableReader?) { reference = SharedReference(reader) }

    package var reader: TableReader? { reference.retained }

    /// Lets the reader go; the next use of the table opens another.
    package func close() {
        wasUsed.store(false, ordering: .relaxed)
        reference.replace(with: nil)
    }

    /// The table stays open for longer.
    @inline(__always)
    func noteUse() {
        if !wasUsed.load(ordering: .relaxed) { wasUsed.store(true, ordering: .relaxed) }
    }

    /// Whether it was used since the last call: the second chance of the clock.
    func takeUse() -> Bool { wasUsed.exchange(false, ordering: .relaxed) }
}

package final class OpenTables: TableSource, @unchecked Sendable {
    // Unchecked: `clock` is touched under `lock` alone; the rest never changes.
    private let fileSystem: any FileSystem
    private let directory: String
    private let cache: BlockCache
    private let mender: (any BlockMender)?
    private let keys: KeyRing
    private let limit: Int
    private let lock = PlainLock()
    private var clock = Clock()

    private struct Clock {
        var tables: [OpenTable] = []
        var hand = 0
    }

    /// `directory` holds the tables; `limit` is how many of them may be open.
    package init(
        _ fileSystem: any FileSystem, directory: String, cache: BlockCache,
        mender: (any BlockMender)? = nil, keys: KeyRing = .plain, limit: Int = 512
    ) {
        self.fileSystem = fileSystem
        self.directory = directory
        self.cache = cache
        self.mender = mender
        self.keys = keys
        self.limit = max(limit, 1)
    }

    package func noteOpen(_ table: OpenTable) {
        let closing = lock.withLock { admit(table) }
        for other in closing { other.close() }
    }

    /// A file that is missing or another table's counts as one whose every block is damaged, if
    /// anybody may mend them.
    package func openReader(_ handle: TableHandle, mending: Bool) throws(EngineError)
        -> TableReader
    {
        let path = "\(directory)/\(handle.fileName)"
        do throws(EngineError) {
            return try reader(over: try openFile(handle, path), handle, mending: mending)
        } catch {
            guard mending, let mender, case .tableLost(_, let reason) = error else { throw error }
            if fileSystem.exists(path) {
                mender.noteDamage(handle.id, block: nil, reason: reason)
            } else {
                mender.noteMissing(handle.id)
            }
            return try reader(over: AbsentFile(path: path), handle, mending: true)
        }
    }

    private func reader(over file: any File, _ handle: TableHandle, mending: Bool)
        throws(EngineError) -> TableReader
    {
        try TableReader.open(
            file: file, record: handle.record, cache: cache, mender: mender, mendsLeaves: mending,
            keys: keys)
    }

    private func openFile(_ handle: TableHandle, _ path: String) throws(EngineError) -> any File {
        do throws(FileError) {
            return try fileSystem.open(path, .read)
        } catch {
            // Running out of descriptors or memory says nothing about the table.
            guard error.isNotFound || error.isMediumError else { throw .file(error) }
            throw .tableLost(handle.id, reason: error.description)
        }
    }

    /// Tables that are known to be open, those of released handles among them.
    package var openCount: Int { lock.withLock { clock.tables.count } }

    /// Adds `table` and takes out what must close for it.
    private func admit(_ table: OpenTable) -> [OpenTable] {
        var closing: [OpenTable] = []
        // Two rounds at most: the first may only take second chances away.
        var steps = 2 * clock.tables.count
        while clock.tables.count >= limit, steps > 0 {
            steps -= 1
            if clock.hand >= clock.tables.count { clock.hand = 0 }
            let candidate = clock.tables[clock.hand]
            if candidate.takeUse() {
                clock.hand += 1
            } else {
                closing.append(candidate)
                clock.tables.swapRemove(at: clock.hand)
            }
        }
        clock.tables.append(table)
        return closing
    }
}

extension FileError {
    fileprivate var isMediumError: Bool { code == EIO }
}

extension Array {
    /// Removes an element, and moves the last one to its place.
    fileprivate mutating func swapRemove(at index: Int) {
        swapAt(index, count - 1)
        removeLast()
    }
}
