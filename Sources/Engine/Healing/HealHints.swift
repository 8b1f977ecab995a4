// What is known to be damaged and not mended yet: a deduplicated, ordered set, persisted so that a
// restart goes on where it was. Recording says whether the hint was new and is not synced (a scrub
// finds again what a crash forgot). A hint goes only after its heal succeeded.
//
// File `hints` (docs/formats/hints.md): adds and removals, rewritten at open and when it has grown.
import Synchronization

package struct HealHint: Hashable, Sendable {
    package enum Reason: UInt8, Sendable, CaseIterable {
        /// Mended in place by parity.
        case corrected = 1
        /// Unreadable here.
        case lost = 2
        /// Readable, and not what the log says.
        case divergent = 3
        /// The file is not there.
        case missing = 4
        /// Sound, and encrypted with a key of another epoch than new files, or plain while they
        /// are encrypted.
        case oldKey = 5

        package var name: String {
            switch self {
            case .corrected: return "corrected"
            case .lost: return "lost"
            case .divergent: return "divergent"
            case .missing: return "missing"
            case .oldKey: return "old-key"
            }
        }
    }

    package var table: TableID
    package var reason: Reason
    package var blocks: Set<BlockOrdinal>
    /// Tries that failed, and when the next may start (monotonic milliseconds).
    package var failures = 0
    package var notBefore: UInt64 = 0

    package init(table: TableID, reason: Reason, blocks: Set<BlockOrdinal> = []) {
        self.table = table
        self.reason = reason
        self.blocks = blocks
    }
}

/// Pure: which tables need a heal, and which comes next.
package struct HealPlan: Sendable {
    private var order: [TableID] = []
    private var hints: [TableID: HealHint] = [:]

    package init() {}

    package var all: [HealHint] { order.compactMap { hints[$0] } }
    package var isEmpty: Bool { order.isEmpty }

    /// What a report of damage adds to what is known.
    package enum Novelty: Sendable {
        case nothing
        case block
        case table
    }

    /// Blocks listed for one table; a heal looks at all of them anyway.
    package static let blocksMax = 4_096

    package mutating func add(_ table: TableID, _ reason: HealHint.Reason, _ block: BlockOrdinal?)
        -> Novelty
    {
        guard let known = hints[table] else {
            hints[table] = HealHint(
                table: table, reason: reason, blocks: block.map { [$0] } ?? [])
            order.append(table)
            return .table
        }
        if known.reason == .oldKey, reason != .oldKey {
            // Damage is news, and does not wait for what changes of key had to wait for.
            hints[table] = HealHint(
                table: table, reason: reason, blocks: block.map { [$0] } ?? [])
            return .table
        }
        guard let block, known.blocks.count < HealPlan.blocksMax,
            hints[table]?.blocks.insert(block).inserted == true
        else { return .nothing }
        return .block
    }

    package func hint(_ table: TableID) -> HealHint? { hints[table] }

    package mutating func remove(_ table: TableID) {
        hints[table] = nil
        order.removeAll { $0 == table }
    }

    /// The oldest hint that is due and not in `busy`; damage before changes of key.
    package func next(now: UInt64, busy: Set<TableID>) -> HealHint? {
        var rotation: HealHint?
        for table in order where !busy.contains(table) {
            guard let hint = hints[table], hint.notBefore <= now else { continue }
            if hint.reason != .oldKey { return hint }
            if rotation == nil { rotation = hint }
        }
        return rotation
    }

    /// When the first of those is due that are not in `busy` and wait for their time.
    package func nextTry(after now: UInt64, busy: Set<TableID>) -> UInt64? {
        hints.values.lazy.filter { $0.notBefore > now && !busy.contains($0.table) }
            .map(\.notBefore).min()
    }

    /// A heal failed: tried again later, with a back-off from one second to five minutes. Returns
    /// how often it failed; 0 if the table is not known.
    package mutating func failed(_ table: TableID, now: UInt64) -> Int {
        guard var hint = hints[table] else { return 0 }
        hint.failures += 1
        let shift = UInt64(min(hint.failures - 1, 9))
        hint.notBefore = now &+ min(1_000 << shift, 300_000)
        hints[table] = hint
        return hint.failures
    }
}

/// The plan with its file. Any thread.
package final class HealHints: Sendable {
    private struct State {
        var plan = HealPlan()
        /// Nil while the file cannot be opened: hints are kept in memory alone.
        var file: (any File)?
        var end: UInt64 = 0
        var rewriteAt: UInt64 = 0
        var busy: Set<TableID> = []
        var isEnded = false
    }

    private let fileSystem: any FileSystem
    private let path: String
    private let state: Mutex<State>

    private static let version: UInt8 = 1
    private static let recordBytesMax = 64
    /// The file is rewritten at this size, or at twice what its hints need.
    package static let rewriteBytes: UInt64 = 64 << 10
    private static let wholeTable = UInt32.max

    private enum Operation: UInt8 {
        case add = 1
        case done = 2
    }

    /// Opens or creates the file. Records that are damaged are passed over (a scrub finds the
    /// damage again), and so is a file that cannot be read. Without space for it hints are kept in
    /// memory until there is some: a full disk must not keep a node from opening.
    package init(_ fileSystem: any FileSystem, path: String) throws(EngineError) {
        self.fileSystem = fileSystem
        self.path = path
        var state = State()
        _ = HealHints.load(fileSystem, path, into: &state.plan)
        do throws(FileError) {
            try HealHints.rewrite(fileSystem, path, &state)
        } catch {
            guard error.isNoSpace else { throw .file(error) }
        }
        self.state = Mutex(state)
    }

    /// The first record of the file that cannot be read; a file that is not there has none.
    static func damage(_ fileSystem: any FileSystem, path: String) -> FileDamage? {
        var plan = HealPlan()
        return fileSystem.exists(path) ? load(fileSystem, path, into: &plan) : nil
    }

    /// Nil if the file was read whole.
    private static func load(
        _ fileSystem: any FileSystem, _ path: String, into plan: inout HealPlan
    ) -> FileDamage? {
        RecordFrames.read(fileSystem, path, limit: recordBytesMax) {
            (body) throws(DecodingError) in
            try replay(&body, into: &plan)
        }.damage
    }

    /// Nothing is new, due or written any more.
    func end() {
        state.withLock { state in
            state.isEnded = true
            state.file = nil
        }
    }

    /// Records damage; says what of it was not known.
    @discardableResult
    package func add(_ table: TableID, _ reason: HealHint.Reason, _ block: BlockOrdinal?)
        -> HealPlan.Novelty
    {
        state.withLock { state in
            guard !state.isEnded else { return .nothing }
            let novelty = state.plan.add(table, reason, block)
            guard novelty != .nothing else { return novelty }
            append(HealHints.record(.add, table, reason, block), &state)
            return novelty
        }
    }

    /// The heal succeeded, or the table is not needed any more.
    package func done(_ table: TableID) {
        state.withLock { state in
            state.busy.remove(table)
            guard let hint = state.plan.hint(table) else { return }
            state.plan.remove(table)
            append(HealHints.record(.done, table, hint.reason, nil), &state)
        }
    }

    /// Returns how often the table's heal has failed since this process started.
    @discardableResult
    package func failed(_ table: TableID, now: UInt64) -> Int {
        state.withLock { state in
            state.busy.remove(table)
            return state.plan.failed(table, now: now)
        }
    }

    /// Takes the next due hint for healing; `done` or `failed` gives it back.
    package func take(now: UInt64) -> HealHint? {
        state.withLock { state in
            guard !state.isEnded, let hint = state.plan.next(now: now, busy: state.busy) else {
                return nil
            }
            state.busy.insert(hint.table)
            return hint
        }
    }

    /// Whether `take` would find work.
    package func hasDue(now: UInt64) -> Bool {
        state.withLock { $0.plan.next(now: now, busy: $0.busy) != nil }
    }

    /// As `HealPlan.nextTry`.
    func nextTry(after now: UInt64) -> UInt64? {
        state.withLock { $0.plan.nextTry(after: now, busy: $0.busy) }
    }

    package func hint(_ table: TableID) -> HealHint? {
        state.withLock { $0.plan.hint(table) }
    }

    package var all: [HealHint] { state.withLock { $0.plan.all } }

    /// Tables with damage that waits for a heal.
    var damaged: [TableID] {
        state.withLock { state in
            state.plan.all.filter { $0.reason != .oldKey && $0.reason != .corrected }.map(\.table)
        }
    }

    // MARK: the file

    /// A lost write here loses a hint, never data: the error is not worth failing a read for.
    private func append(_ record: [UInt8], _ state: inout State) {
        guard !state.isEnded else { return }
        do throws(FileError) {
            if let file = state.file {
                try file.writeAll(record, at: state.end)
                state.end += UInt64(record.count)
            }
            if state.file == nil || state.end > state.rewriteAt {
                try HealHints.rewrite(fileSystem, path, &state)
            }
        } catch {
            // Not before it has grown as much again.
            state.rewriteAt = state.end * 2
        }
    }

    /// Replaces the file by what is known now.
    private static func rewrite(
        _ fileSystem: any FileSystem, _ path: String, _ state: inout State
    ) throws(FileError) {
        var writer = ByteWriter()
        for hint in state.plan.all {
            let blocks = hint.blocks.isEmpty ? [nil] : hint.blocks.sorted().map(Optional.init)
            for block in blocks {
                writer.write(raw: record(.add, hint.table, hint.reason, block))
            }
        }
        // Whatever fails: what is appended to a file that lost its name is lost.
        state.file = nil
        try fileSystem.replace(path, with: writer.bytes)
        state.file = try fileSystem.open(path, .write)
        state.end = UInt64(writer.count)
        state.rewriteAt = max(rewriteBytes, state.end * 2)
    }

    private static func record(
        _ operation: Operation, _ table: TableID, _ reason: HealHint.Reason, _ block: BlockOrdinal?
    ) -> [UInt8] {
        var body = ByteWriter()
        body.write(version)
        body.write(operation.rawValue)
        table.encode(into: &body)
        body.write(reason.rawValue)
        body.write(block?.rawValue ?? wholeTable)
        return RecordFrames.framed(body.bytes)
    }

    private static func replay(_ body: inout ByteReader, into plan: inout HealPlan)
        throws(DecodingError)
    {
        guard try body.read(UInt8.self) == version else { throw DecodingError("a hint's version") }
        guard let operation = Operation(rawValue: try body.read(UInt8.self)) else {
            throw DecodingError("a hint's operation")
        }
        let table = try TableID(&body)
        guard let reason = HealHint.Reason(rawValue: try body.read(UInt8.self)) else {
            throw DecodingError("a hint's reason")
        }
        let block = try body.read(UInt32.self)
        try body.expectEnd("a hint")
        switch operation {
        case .add: _ = plan.add(table, reason, block == wholeTable ? nil : BlockOrdinal(block))
        case .done: plan.remove(table)
        }
    }
}
