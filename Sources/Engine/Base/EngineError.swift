// The engine's typed errors: what is wrong, with which thing, and what to do about it.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A failed file operation. `code` is the errno.
public struct FileError: Error, Hashable, Sendable, CustomStringConvertible {
    public var operation: String
    public var path: String
    public var code: Int32

    public init(operation: String, path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    public var description: String {
        "\(operation) \(path): \(String(cString: strerror(code))) (errno \(code))"
    }

    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }
    /// The process, or the whole system, may open no more files.
    public var isOutOfDescriptors: Bool { code == EMFILE || code == ENFILE }
    /// Something has run out that others may give back: nothing is damaged, and the same call may
    /// succeed later.
    public var isShortage: Bool { isNoSpace || isOutOfDescriptors }
    public var isNotFound: Bool { code == ENOENT }
    /// The file cannot have another name there: another file system, or one that has no links, or
    /// too many of this file.
    var isLinkUnsupported: Bool {
        [EXDEV, EPERM, EMLINK, ENOSYS, ENOTSUP, EOPNOTSUPP].contains(code)
    }
}

/// A block by its place in the data: what heals, and what an error names.
public struct BlockAddress: Hashable, Sendable, CustomStringConvertible {
    public var table: TableID
    public var ordinal: BlockOrdinal

    public init(table: TableID, ordinal: BlockOrdinal) {
        self.table = table
        self.ordinal = ordinal
    }

    public var description: String {
        ordinal == .leaves
            ? "the leaf list of table \(table)" : "block \(ordinal.rawValue) of table \(table)"
    }
}

public enum EngineError: Error, Sendable, CustomStringConvertible {
    /// The operating system refused.
    case file(FileError)
    /// Bytes on disk are not what was written. `file` is a path, or a name within the directory of
    /// the data; where nobody knows any more which file it was, it says what was read.
    ///
    /// `offset` is the byte of `file` at which what is damaged starts: a header, a frame of the
    /// log, a block, a record, as it is stored there. Where another copy tells which byte is
    /// wrong, it is that byte; of log entries that are lost it is where the first of them stood,
    /// right behind the sound one before it. If several things are wrong, it is that of the first
    /// in `reason` that has a place; of an entry that is of another history, where it stands. Nil
    /// for what has none: the file is missing or cannot be read, or its parts are sound and
    /// contradict each other or another file.
    case corrupt(file: String, offset: UInt64? = nil, reason: String)
    /// A block is unreadable here and no replica supplied it in time. Never "not found". What is
    /// wrong with a file of this node is said with its path and the byte at which the block starts.
    case blockLost(BlockAddress, reason: String)
    /// A whole table file is unusable (missing, unreadable header) and nobody supplied it.
    case tableLost(TableID, reason: String)
    /// A cache-only read would have to touch the disk: ask again with `.blocking`.
    case wouldBlock
    /// A limit was exceeded: `what` names it, with the limit's value.
    case limit(what: String, value: UInt64, limit: UInt64)
    /// Somebody else has the directory open.
    case locked(path: String)
    /// The directory belongs to another cluster or node, or to a format that this build cannot
    /// read.
    case identity(reason: String)
    /// The file is encrypted with a node key of this epoch, and the key given for it is another
    /// (or, with `isMissing`, none is given). Nothing is damaged, and nothing was changed.
    case wrongKey(epoch: UInt32, file: String, isMissing: Bool)
    /// A sync failed earlier: nothing more is acknowledged until the database is opened anew.
    case poisoned(reason: String)
    /// The log has a hole at this index that only a peer can fill.
    case logHole(LogIndex)
    /// An entry that this node no longer keeps.
    case logTrimmed(first: LogIndex)
    /// Writes are refused because memory is full of unflushed data; retry is safe.
    case busy(reason: String)
    /// A write is refused before the disk is full, so that compaction can still make room. Nothing
    /// was applied, and a retry may succeed once there is space. Deletes are taken for longer.
    case lowSpace(path: String, free: UInt64, bound: UInt64)
    case closed
    /// A read as of a sequence whose versions are garbage already; `oldest` can be read still.
    case historyGone(oldest: SequenceNumber)
    /// The log starts behind the sequence; a stream of changes may come after `oldest` at the
    /// earliest.
    case changesGone(oldest: SequenceNumber)
    /// Something that a transaction read was written before it committed: nothing was applied, and
    /// the transaction may be run again.
    case conflict(key: [UInt8])
    /// No merge operator of this id is registered with this database.
    case mergeOperatorUnknown(MergeOperatorID)
    /// A request that can never succeed as given.
    case invalid(reason: String)

    /// Of a sound file in a format that this build does not know: to take it for a damaged one
    /// would be to write over it.
    static func unsupported(version: UInt16, of file: String) -> EngineError {
        .identity(reason: "\(file) has format version \(version), which this build cannot read")
    }

    /// The disk, or this user's share of it, is full, or so nearly full that writes are refused.
    public var isNoSpace: Bool {
        if case .lowSpace = self { return true }
        guard case .file(let error) = self else { return false }
        return error.isNoSpace
    }

    /// The operating system refused for want of space or of descriptors: see
    /// `FileError.isShortage`.
    public var isShortage: Bool {
        guard case .file(let error) = self else { return isNoSpace }
        return error.isShortage
    }

    public var description: String {
        switch self {
        case .file(let error): return error.description
        case .corrupt(let file, let offset, let reason):
            let place = offset.map { " at byte \($0)" } ?? ""
            return "\(file) is damaged\(place): \(reason)"
        case .blockLost(let address, let reason): return "\(address) is lost: \(reason)"
        case .tableLost(let table, let reason): return "table \(table) is lost: \(reason)"
        case .wouldBlock: return "the read needs the disk"
        case .limit(let what, let value, let limit):
            return "\(what) is \(value), above the limit of \(limit)"
        case .locked(let path):
            return "\(path) is in use by another process; stop it or choose another directory"
        case .identity(let reason): return reason
        case .wrongKey(let epoch, let file, isMissing: true):
            return "\(file) is encrypted, and there is no key for epoch \(epoch); give it together "
                + "with the current one"
        case .wrongKey(let epoch, let file, isMissing: false):
            return "wrong key for epoch \(epoch): \(file) was encrypted with another one"
        case .poisoned(let reason):
            return "a sync failed (\(reason)); nothing is acknowledged until a new open"
        case .logHole(let index): return "log entry \(index) is damaged here; a peer must supply it"
        case .logTrimmed(let first): return "the log starts at entry \(first) here"
        case .busy(let reason): return reason
        case .lowSpace(let path, let free, let bound):
            return "the file system of \(path) has \(free) bytes left, below the \(bound) that are "
                + "kept for flushes and compaction: free space there, or delete data"
        case .closed: return "the database is closed"
        case .historyGone(let oldest):
            return "the oldest sequence that can still be read is \(oldest); "
                + "a longer history window would keep more"
        case .changesGone(let oldest):
            return "the log holds what was written after \(oldest); take a snapshot and follow "
                + "from its sequence"
        case .conflict(let key):
            return "key \(EngineError.shown(key)) was written since the transaction read it; "
                + "run it again"
        case .mergeOperatorUnknown(let id):
            return "merge operator \(id) is unknown; register it in the options"
        case .invalid(let reason): return reason
        }
    }

    /// A key for people: as text where it is plain, and not too much of it.
    private static func shown(_ key: [UInt8]) -> String {
        let isText = key.allSatisfy { (0x20..<0x7f).contains($0) }
        guard isText else { return "with \(key.count) bytes" }
        let head = String(decoding: key.prefix(64), as: UTF8.self)
        return key.count > 64 ? "'\(head)…'" : "'\(head)'"
    }
}
