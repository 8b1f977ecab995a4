// Newtypes for every number that names something, so that an index is never taken for a
// sequence or a term. Arithmetic is checked: overflow is a logic error and traps.

/// A 64-bit counter that names positions in one space: indexes, terms, sequences.
public protocol CounterIdentifier: Hashable, Comparable, Sendable, CustomStringConvertible {
    var rawValue: UInt64 { get }
    init(_ rawValue: UInt64)
}

extension CounterIdentifier {
    @inlinable
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    @inlinable
    public static func + (left: Self, right: UInt64) -> Self { Self(left.rawValue + right) }
    @inlinable
    public static func - (left: Self, right: UInt64) -> Self { Self(left.rawValue - right) }
    @inlinable
    public static func += (left: inout Self, right: UInt64) { left = left + right }
    /// The distance from `right` up to `left`; traps if `right` is the larger.
    @inlinable
    public static func - (left: Self, right: Self) -> UInt64 { left.rawValue - right.rawValue }
    public var description: String { String(rawValue) }
}

/// Place of an entry in the log. The first entry has index 1; 0 is "before the log".
public struct LogIndex: CounterIdentifier {
    public let rawValue: UInt64
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = LogIndex(0)
    /// Never used, nor is any above it: decoders refuse them, so arithmetic cannot overflow.
    package static let limit = LogIndex(1 << 62)
}

/// Leadership period. Embedded databases use one term for each open.
public struct Term: CounterIdentifier {
    public let rawValue: UInt64
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = Term(0)
    /// As `LogIndex.limit`.
    package static let limit = Term(1 << 62)
}

/// Order of one effect (one put, one delete, …) among all. The first has 1; 56 bits are used.
public struct SequenceNumber: CounterIdentifier {
    public let rawValue: UInt64
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = SequenceNumber(0)
    public static let max = SequenceNumber((1 << 56) - 1)
}

/// A member of a cluster. 0 names nobody.
public struct MemberID: CounterIdentifier {
    public let rawValue: UInt64
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static let none = MemberID(0)
}

/// Place of a block in its table, in file order. Canonical bytes name blocks by it.
public struct BlockOrdinal: Hashable, Comparable, Sendable {
    public let rawValue: UInt32
    @inlinable
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    @inlinable
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// Milliseconds since 1970 on the clock that entries carry; decides expiry, never order.
public typealias ClockMilliseconds = UInt64

/// An entry by content: equal positions mean equal logs up to there (the log is a hash chain).
public struct Position: Hashable, Sendable {
    public var term: Term
    public var index: LogIndex
    public var checksum: Digest128

    public init(term: Term, index: LogIndex, checksum: Digest128) {
        self.term = term
        self.index = index
        self.checksum = checksum
    }
}

/// What made a table: a flush of a log segment or a compaction job; and whether it is one of keys,
/// or a blob file, which holds long values of keys.
public enum TableKind: UInt8, Sendable, Hashable {
    case flush = 0x66  // "f"
    case compaction = 0x63  // "c"
    /// Values that a flush separated from their keys.
    case flushBlob = 0x62  // "b"
    /// Values that a compaction job collected from other blob files.
    case compactionBlob = 0x67  // "g"

    @inline(__always)
    public var isBlob: Bool { self == .flushBlob || self == .compactionBlob }

    /// Of the blob files that work of this kind writes.
    package var blob: TableKind { isFlush ? .flushBlob : .compactionBlob }

    /// Made by a flush, and not by a job.
    package var isFlush: Bool { self == .flush || self == .flushBlob }
}

/// Name of a table's content, equal on every replica. `index` is the segment's last entry for a
/// flush and the `compact` entry for a job.
public struct TableID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var index: LogIndex
    public var kind: TableKind
    public var ordinal: UInt32

    public init(index: LogIndex, kind: TableKind, ordinal: UInt32) {
        self.index = index
        self.kind = kind
        self.ordinal = ordinal
    }

    public static func < (left: TableID, right: TableID) -> Bool {
        if left.index != right.index { return left.index < right.index }
        if left.kind != right.kind { return left.kind.rawValue < right.kind.rawValue }
        return left.ordinal < right.ordinal
    }

    /// `<index, 16 hex>-<kind><ordinal>`, the stem of the table's file name.
    public var description: String {
        let letter = Unicode.Scalar(kind.rawValue)
        return "\(hex16(index.rawValue))-\(letter)\(ordinal)"
    }

    /// Reads back `description`; nil if `text` is not one.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.count == 16,
            let index = UInt64(parts[0], radix: 16),
            let letter = parts[1].utf8.first, let kind = TableKind(rawValue: letter),
            let ordinal = UInt32(parts[1].dropFirst())
        else { return nil }
        self.init(index: LogIndex(index), kind: kind, ordinal: ordinal)
        guard description == text else { return nil }
    }
}

/// Sixteen lower-case hexadecimal digits.
public func hex16(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
}
