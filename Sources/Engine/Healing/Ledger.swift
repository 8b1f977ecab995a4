// The record of every heal: what was damaged, where the clean bytes came from, how it ended. Kept
// on disk, the newest rows in memory.
//
// File `ledger` (docs/formats/ledger.md): appended; rewritten with its newest rows when it has
// grown large and when an open finds a damaged record in it. Rows that end a case are synced.
import Synchronization

public struct LedgerRow: Hashable, Sendable {
    public enum State: UInt8, Sendable, CaseIterable {
        case detected = 1
        case fetching = 2
        case healedLocal = 3
        case healedLog = 4
        case healedReplica = 5
        case irreparable = 6

        public var name: String {
            switch self {
            case .detected: return "detected"
            case .fetching: return "fetching"
            case .healedLocal: return "healed-local"
            case .healedLog: return "healed-log"
            case .healedReplica: return "healed-replica"
            case .irreparable: return "irreparable"
            }
        }
    }

    /// Milliseconds since 1970.
    public var time: UInt64
    /// Relative to the node's data directory.
    public var file: String
    /// Blocks that were damaged; empty for a whole file.
    public var blocks: [UInt32]
    public var reason: String
    /// "local", "log", "replica" or "".
    public var source: String
    /// The member that gave the bytes; 0 for none.
    public var peer: UInt64
    public var bytesFetched: UInt64
    public var durationMilliseconds: UInt64
    public var state: State
    /// Words for a person: the error of a failed heal.
    public var detail: String

    public init(
        time: UInt64, file: String, blocks: [UInt32], reason: String, source: String = "",
        peer: UInt64 = 0, bytesFetched: UInt64 = 0, durationMilliseconds: UInt64 = 0,
        state: State, detail: String = ""
    ) {
        self.time = time
        self.file = file
        self.blocks = blocks
        self.reason = reason
        self.source = source
        self.peer = peer
        self.bytesFetched = bytesFetched
        self.durationMilliseconds = durationMilliseconds
        self.state = state
        self.detail = detail
    }

    /// Cut to what the file takes.
    fileprivate var bounded: LedgerRow {
        var row = self
        row.file = LedgerRow.clip(file)
        row.reason = LedgerRow.clip(reason)
        row.source = LedgerRow.clip(source)
        row.detail = LedgerRow.clip(detail)
        if blocks.count > Ledger.blocksMax {
            row.blocks = Array(blocks.prefix(Ledger.blocksMax))
            row.detail = LedgerRow.clip("\(blocks.count) blocks in all; \(detail)")
        }
        return row
    }

    private static let textBytesMax = 1_024

    private static func clip(_ text: String) -> String {
        text.utf8.count <= textBytesMax
            ? text : String(decoding: text.utf8.prefix(textBytesMax), as: UTF8.self)
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(time)
        writer.writePrefixed(file)
        writer.writeVarint(UInt64(blocks.count))
        for block in blocks { writer.write(block) }
        writer.writePrefixed(reason)
        writer.writePrefixed(source)
        writer.write(peer)
        writer.write(bytesFetched)
        writer.write(durationMilliseconds)
        writer.write(state.rawValue)
        writer.writePrefixed(detail)
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        time = try reader.read(UInt64.self)
        file = try reader.readPrefixedString()
        let count = try reader.readVarint(atMost: UInt64(reader.remaining / 4), "a block count")
        blocks = []
        for _ in 0..<count { blocks.append(try reader.read(UInt32.self)) }
        reason = try reader.readPrefixedString()
        source = try reader.readPrefixedString()
        peer = try reader.read(UInt64.self)
        bytesFetched = try reader.read(UInt64.self)
        durationMilliseconds = try reader.read(UInt64.self)
        guard let state = State(rawValue: try reader.read(UInt8.self)) else {
            throw DecodingError("a ledger state")
        }
        self.state = state
        detail = try reader.readPrefixedString()
    }
}

package final class Ledger: Sendable {
    private struct State {
        var rows: [LedgerRow] = []
        /// Nil while the file cannot be opened: rows are kept in memory alone.
        var file: (any File)?
        var end: UInt64 = 0
        var rewriteAt = Ledger.rewriteBytes
        var isEnded = false
    }

    private let fileSystem: any FileSystem
    private let path: String
    private let state: Mutex<State>

    private static let version: UInt8 = 1
    private static let recordBytesMax = 1 << 16
    /// Rows that are kept.
    package static let rowsMax = 10_000
    /// The file is rewritten at this size, with its newest rows in at most half of it.
    package static let rewriteBytes: UInt64 = 16 << 20
    /// Blocks listed in one row.
    package static let blocksMax = 1_000

    /// Opens or creates the file. What cannot be read of it is lost, and without space rows are
    /// kept in memory until there is some: a ledger stops no node.
    package init(_ fileSystem: any FileSystem, path: String) throws(EngineError) {
        self.fileSystem = fileSystem
        self.path = path
        var state = State()
        do throws(FileError) {
            if Ledger.load(fileSystem, path, &state) == nil {
                state.file = try fileSystem.open(path, .write)
            } else {
                try Ledger.rewrite(fileSystem, path, &state)
            }
        } catch {
            guard error.isNoSpace else { throw .file(error) }
        }
        self.state = Mutex(state)
    }

    /// Newest first.
    package func rows(limit: Int = .max) -> [LedgerRow] {
        state.withLock { Array($0.rows.suffix(limit).reversed()) }
    }

    /// No row is added any more.
    func end() {
        state.withLock { state in
            state.isEnded = true
            state.file = nil
        }
    }

    /// Adds a row; a heal does not fail for its record. With `sync` it is durable, unless the disk
    /// refuses.
    package func append(_ row: LedgerRow, sync: Bool) {
        let row = row.bounded
        let record = Ledger.record(row)
        let file = state.withLock { state -> (any File)? in
            guard !state.isEnded else { return nil }
            state.rows.append(row)
            if state.rows.count > Ledger.rowsMax + Ledger.rowsMax / 8 {
                state.rows.removeFirst(state.rows.count - Ledger.rowsMax)
            }
            append(record, &state)
            return state.file
        }
        guard sync, let file else { return }
        do throws(FileError) { try file.sync() } catch {}
    }

    // MARK: the file

    private func append(_ record: [UInt8], _ state: inout State) {
        do throws(FileError) {
            if let file = state.file {
                try file.writeAll(record, at: state.end)
                state.end += UInt64(record.count)
            }
            if state.file == nil || state.end > state.rewriteAt {
                try Ledger.rewrite(fileSystem, path, &state)
            }
        } catch {
            // Not before it has grown as much again.
            state.rewriteAt = state.end + Ledger.rewriteBytes
        }
    }

    private static func record(_ row: LedgerRow) -> [UInt8] {
        var body = ByteWriter()
        body.write(version)
        row.encode(into: &body)
        return RecordFrames.framed(body.bytes)
    }

    /// The first row of the file that cannot be read; a file that is not there has none.
    static func damage(_ fileSystem: any FileSystem, path: String) -> FileDamage? {
        var state = State()
        return fileSystem.exists(path) ? load(fileSystem, path, &state) : nil
    }

    /// Nil if the file was read whole.
    private static func load(_ fileSystem: any FileSystem, _ path: String, _ state: inout State)
        -> FileDamage?
    {
        var rows: [LedgerRow] = []
        let (damage, end) = RecordFrames.read(fileSystem, path, limit: recordBytesMax) {
            (body) throws(DecodingError) in
            guard try body.read(UInt8.self) == version else {
                throw DecodingError("a ledger row's version")
            }
            let row = try LedgerRow(&body)
            try body.expectEnd("a ledger row")
            rows.append(row)
        }
        state.rows = Array(rows.suffix(rowsMax))
        state.end = end
        return damage
    }

    /// Replaces the file by its newest rows.
    private static func rewrite(
        _ fileSystem: any FileSystem, _ path: String, _ state: inout State
    ) throws(FileError) {
        var records: [[UInt8]] = []
        var bytes: UInt64 = 0
        for row in state.rows.suffix(rowsMax).reversed() {
            let record = record(row)
            bytes += UInt64(record.count)
            if bytes > rewriteBytes / 2 { break }
            records.append(record)
        }
        let content = Array(records.reversed().joined())
        // Whatever fails: what is appended to a file that lost its name is lost.
        state.file = nil
        try fileSystem.replace(path, with: content)
        state.file = try fileSystem.open(path, .write)
        state.end = UInt64(content.count)
        state.rewriteAt = rewriteBytes
    }
}
