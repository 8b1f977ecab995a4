// The embedded product: one log, one store, a quorum of one. The same log and the same apply path
// as a replicated node, without a server.
//
// Threads: any thread may read and write. Writers group: the first to come commits for all that
// wait behind it, with one append and one sync. Flush, compaction and healing run on a small pool
// and report back under the commit lock.
import Synchronization

public struct DatabaseOptions: Sendable {
    /// `.always` syncs every group before it is acknowledged; `.never` leaves that to the system,
    /// so a power cut may lose the newest writes (never older ones, never their order).
    public enum Sync: Sendable {
        case always
        case never
    }

    public var sync = Sync.always
    /// Shapes of segments and tables, logged when the database is made. A later open keeps what is
    /// logged, whatever is set here, and tells `report` of each that differs; of `functions` each
    /// open's own count.
    public var settings = LoggedSettings()
    public var store = StoreOptions()
    /// Threads for flush, compaction and healing: at least one, at most 256.
    public var backgroundThreads = 2
    /// False applies writes without a log: what was not flushed is lost with the process, unless
    /// it closes the database. For benchmarks and rebuildable data.
    public var usesLog = true
    /// Bytes of log files that are kept for `changes`, counted from the newest and in whole
    /// segments: to keep any history it has to exceed the active segment and those that wait for
    /// their flush. What recovery needs is kept in any case.
    public var retainLogBytes: UInt64 = 0
    /// What an open does about torn, damaged and missing files.
    public var recovery = RecoveryMode.normal
    /// Keys of the files; nil leaves them plain. New files are written in the current epoch, those
    /// of others are rewritten in the background.
    public var encryption: EncryptionKeys?
    /// Told what an operator should know: damage found, work that failed and is tried again. From
    /// any thread; must not call the database.
    public var report: (@Sendable (String) -> Void)?

    /// Operators of your own for `merge`, ids from 256 up. Register them at every open: without one
    /// its operands stay, but their keys cannot be read.
    public var mergeOperators: [any MergeOperator] {
        get { store.mergeOperators }
        set { store.mergeOperators = newValue }
    }
    /// Filters that `settings.functions.compactionFilter` may name. One that is named there is
    /// called by every compaction from then on.
    public var compactionFilters: [any CompactionFilter] {
        get { store.compactionFilters }
        set { store.compactionFilters = newValue }
    }

    private static let backgroundThreadsMax = 256

    public init() {}

    /// With the registered operators in the settings, for jobs to fold by.
    func namingFunctions() throws(EngineError) -> DatabaseOptions {
        let registry = try FunctionRegistry(
            mergeOperators: mergeOperators, compactionFilters: compactionFilters)
        if let wanted = settings.functions.compactionFilter, registry.filter(wanted) == nil {
            throw .invalid(reason: "compaction filter \(wanted) is not registered")
        }
        var named = self
        named.settings.functions.mergeOperators = registry.mergeOperators.references
        return named
    }

    /// What is logged is applied, now and at every later open: so before.
    func check() throws(EngineError) {
        guard backgroundThreads <= DatabaseOptions.backgroundThreadsMax else {
            throw .invalid(
                reason: "backgroundThreads is \(backgroundThreads), above "
                    + "\(DatabaseOptions.backgroundThreadsMax)")
        }
        try store.check()
        let result = settings.encoded().withUnsafeBytes { bytes -> Result<Void, EngineError> in
            do throws(DecodingError) {
                _ = try LoggedSettings(decoding: bytes)
                return .success(())
            } catch {
                return .failure(.invalid(reason: "settings: \(error)"))
            }
        }
        try result.get()
    }
}

public final class Database: @unchecked Sendable {
    // Unchecked: the parts are constant and safe from any thread, but for the lock's file.
    package let store: Store
    let order: EmbeddedOrder
    let gate: AccessGate
    let environment: DatabaseEnvironment
    private let pool: ThreadPool?
    /// Nil from the first `close` on.
    private let lockFile: Mutex<(any FileLock)?>
    /// Opens once others may open the directory.
    private let closed = Latch()

    init(_ order: EmbeddedOrder, pool: ThreadPool?, lockFile: any FileLock) {
        store = order.store
        self.order = order
        gate = order.gate
        environment = order.environment
        self.pool = pool
        self.lockFile = Mutex(lockFile)
    }

    /// Closes. Whoever wants to know of errors calls `close`.
    deinit { try? close() }

    // MARK: writing

    /// Applies the batch, whole or not at all. Returns when it is as durable as `sync` promises.
    /// After `.busy` or a lack of space it was not applied, and a retry may succeed.
    public func write(_ batch: WriteBatch) throws(EngineError) {
        guard !batch.isEmpty else { return try gate.check() }
        try order.commit(batch)
    }

    public func put(_ key: [UInt8], _ value: [UInt8]) throws(EngineError) {
        var batch = WriteBatch()
        batch.put(key, value)
        try write(batch)
    }

    /// A put that turns into a tombstone when the clock reaches `expiry` (absolute milliseconds).
    public func put(_ key: [UInt8], _ value: [UInt8], expiry: ClockMilliseconds)
        throws(EngineError)
    {
        var batch = WriteBatch()
        batch.put(key, value, expiry: expiry)
        try write(batch)
    }

    public func delete(_ key: [UInt8]) throws(EngineError) {
        var batch = WriteBatch()
        batch.delete(key)
        try write(batch)
    }

    /// Deletes a key that was put at most once since it was last deleted so: see
    /// `WriteBatch.singleDelete`.
    public func singleDelete(_ key: [UInt8]) throws(EngineError) {
        var batch = WriteBatch()
        batch.singleDelete(key)
        try write(batch)
    }

    /// Changes the value of `key` by `operand`, without reading it: see `WriteBatch.merge`.
    public func merge(_ key: [UInt8], _ operand: [UInt8], by mergeOperator: MergeOperatorID)
        throws(EngineError)
    {
        var batch = WriteBatch()
        batch.merge(key, operand, by: mergeOperator)
        try write(batch)
    }

    /// Deletes every key that begins with `prefix`; an empty one means all keys.
    public func deletePrefix(_ prefix: [UInt8]) throws(EngineError) {
        var batch = WriteBatch()
        batch.deletePrefix(prefix)
        try write(batch)
    }

    /// Deletes every key in `[start, end)`; a nil end reaches to the last key.
    public func deleteRange(_ start: [UInt8], _ end: [UInt8]?) throws(EngineError) {
        var batch = WriteBatch()
        batch.deleteRange(start, end)
        try write(batch)
    }

    // MARK: reading

    /// What reads judge expiry by. Not before the newest write that was applied: what has expired
    /// does not come back when the system's clock steps back.
    func readClock() -> ClockMilliseconds { max(environment.wall(), store.clock) }

    /// The newest value of `key`; nil if there is none.
    public func get(_ key: [UInt8]) throws(EngineError) -> [UInt8]? {
        try gate.check()
        return try store.get(key, clock: { readClock() }, io: .blocking)?.value
    }

    /// The newest values of `keys`, all as of one moment, in their order; nil where there is none.
    /// Faster than as many calls of `get`.
    public func multiGet(_ keys: [[UInt8]]) throws(EngineError) -> [[UInt8]?] {
        try gate.check()
        return try store.withView { (view, sequence) throws(EngineError) in
            try view.multiGet(keys, at: sequence, now: readClock(), io: .blocking)
                .map { $0?.value }
        }
    }

    /// Up to `limit` pairs of `span` in key order, or in reverse.
    public func scan(_ span: KeySpan, reverse: Bool = false, limit: Int = .max)
        throws(EngineError) -> [(key: [UInt8], value: LiveValue)]
    {
        try gate.check()
        return try store.scan(
            span, reverse: reverse, limit: limit, limitBytes: .max, now: readClock())
    }

    /// False only if no key begins with `prefix`; then nothing was read but filters. Answers are
    /// sharp where the settings have a prefix extractor that finds a prefix in `prefix`.
    public func mayContainPrefix(_ prefix: [UInt8]) throws(EngineError) -> Bool {
        try gate.check()
        return try store.pin().view.mayContainPrefix(prefix, io: .blocking)
    }

    /// Sequence of the newest write that readers see. Each effect of a batch takes one.
    public var sequence: SequenceNumber { store.pin().sequence }

    /// Pins what is visible now.
    public func snapshot() -> Snapshot { Snapshot(self) }

    /// Pins what was visible when `sequence` was the newest. Throws `.historyGone` if versions that
    /// it saw may be garbage already: `options.store.historyWindowMilliseconds` says for how long
    /// they are kept.
    public func snapshot(asOf sequence: SequenceNumber) throws(EngineError) -> Snapshot {
        try gate.check()
        return try Snapshot(self, asOf: sequence)
    }

    // MARK: transactions

    /// Begins an optimistic transaction at what is visible now.
    public func begin() throws(EngineError) -> Transaction {
        try gate.check()
        return Transaction(self)
    }

    /// Runs `body` in a transaction and commits it; after a conflict again, `attempts` times in
    /// all. Whatever `body` throws ends it, with nothing written.
    public func transact<Value>(
        attempts: Int = 16, _ body: (Transaction) throws -> Value
    ) throws -> Value {
        var left = attempts
        while true {
            let transaction = try begin()
            let value = try body(transaction)
            left -= 1
            do throws(EngineError) {
                try transaction.commit()
                return value
            } catch {
                guard case .conflict = error, left > 0 else { throw error }
            }
        }
    }

    // MARK: maintenance

    /// Ends the current segment and waits until everything written before is in tables.
    public func flush() throws(EngineError) { try order.flush() }

    /// Merges everything into the deepest level, and waits for it. What is there already is written
    /// anew, whether or not anything in it is garbage by now: nobody knows before it is read. So
    /// each call costs as much as the database is large. What a compaction under way writes is not
    /// written once more.
    public func compactAll() throws(EngineError) { try order.compact(.everything) }

    /// Merges everything of `span` into the deepest level that holds some of it, and waits for it.
    /// Tables that reach into the span are merged whole, and as by `compactAll`.
    public func compact(_ span: KeySpan) throws(EngineError) {
        guard !span.isEmpty else { return try gate.check() }
        try order.compact(span)
    }

    /// Waits until no flush or compaction is under way or due.
    public func awaitIdle() throws(EngineError) { try order.awaitIdle() }

    /// Bytes of the log that `sync: .never` stored without a call of the system.
    package var mappedLogBytes: UInt64 { order.mappedLogBytes }

    /// Makes a copy of the database in the new directory `path`, as of a moment during the call,
    /// that opens by itself. Tables are shared by hard links where the file system can, else
    /// copied; writes go on meanwhile. After an error the directory is incomplete and does not
    /// open: remove it.
    public func checkpoint(to path: String) throws(EngineError) {
        try gate.check()
        try Checkpoint.write(try order.flushedState(), to: path)
    }

    /// What memtables and caches take now.
    public var memoryUse: MemoryUse { store.memoryUse }

    /// What flushes and compactions wrote since the open, and what the tables take now.
    public var storageUse: StorageUse { order.storageUse }

    /// Tables as the manifest has them now, blob files among them.
    public func tables() -> [TableRecord] { order.tables() }

    /// Finishes running work and closes. Later calls throw `.closed`, those of snapshots, too. The
    /// directory may be opened again when it returns, or throws: then some of what was written
    /// without a sync may be lost. Of several callers the first closes; the others wait for it, and
    /// do not hear of its errors.
    public func close() throws(EngineError) {
        var lock = lockFile.withLock { $0.take() }
        guard lock != nil else {
            while closed.wait() != .opened {}
            return
        }
        defer {
            if let pool {
                pool.stop()
                // Reads may go on for a moment. Jobs of another's runner may, and are to end well.
                store.healer.endRecords()
            }
            // Let go before anybody is told.
            lock = nil
            closed.open()
        }
        do throws(EngineError) {
            if !order.options.usesLog { try order.flush() }
        } catch {
            try order.close()
            throw error
        }
        try order.close()
    }
}
