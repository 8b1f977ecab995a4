// A version of a key: user key, sequence, kind. Sources sort by user key ascending (bytewise),
// then sequence descending, so the newest version of a key comes first.

/// What a version does. Raw values are part of the formats. Range deletes have their own block and
/// never stand among point entries.
public enum ValueKind: UInt8, Sendable {
    case put = 1
    case delete = 2
    /// A put whose value starts with the expiry (u64 little-endian, absolute milliseconds).
    /// Expired, it is a tombstone.
    case expiringPut = 3
    /// An operand: the id of its merge operator (u16), then what the operator folds.
    case merge = 4
    /// A delete of a key that was put at most once since its last single delete: where it meets
    /// that put in a flush or a compaction, both go.
    case singleDelete = 5
    /// A put whose value, and maybe expiry, lives in a blob file: where that is (`BlobReference`).
    /// Only tables hold such; a flush or a job makes them.
    case blobReference = 6

    /// Whether it says "nothing here", whatever the clock. An expired put does, too.
    @inline(__always)
    public var isDelete: Bool { self == .delete || self == .singleDelete }
}

/// SequenceNumber (56 bits) and kind (8 bits) in one word; larger is newer.
package struct Trailer: Hashable, Comparable, Sendable {
    package let rawValue: UInt64
    @inline(__always)
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    @inline(__always)
    package init(_ sequence: SequenceNumber, _ kind: ValueKind) {
        rawValue = sequence.rawValue << 8 | UInt64(kind.rawValue)
    }
    @inline(__always) package var sequence: SequenceNumber { SequenceNumber(rawValue >> 8) }
    /// Nil for a kind that this build does not know; decoders reject such entries.
    @inline(__always) package var kind: ValueKind? {
        ValueKind(rawValue: UInt8(truncatingIfNeeded: rawValue))
    }
    @inline(__always)
    package static func < (left: Trailer, right: Trailer) -> Bool {
        left.rawValue < right.rawValue
    }
    /// Sorts before every version at or below `sequence`, whatever its kind.
    @inline(__always)
    package static func seek(_ sequence: SequenceNumber) -> Trailer {
        Trailer(rawValue: sequence.rawValue << 8 | 0xff)
    }
}

/// A range of user keys, `start` included and `end` not; a nil end means "to the last key".
public struct KeySpan: Hashable, Sendable {
    public var start: [UInt8]
    public var end: [UInt8]?

    public init(start: [UInt8], end: [UInt8]?) {
        self.start = start
        self.end = end
    }

    /// The span that holds exactly the keys from `smallest` to `largest`, both included.
    public init(smallest: [UInt8], largest: [UInt8]) {
        self.init(start: smallest, end: largest + [0])
    }

    public static let everything = KeySpan(start: [], end: nil)

    /// Every key that begins with `prefix`.
    public static func prefix(_ prefix: [UInt8]) -> KeySpan {
        // The next string that does not begin with it: the last byte that can grow does, what is
        // behind it goes. Of a prefix of 0xff alone there is none.
        var end = prefix
        while end.last == 0xff { end.removeLast() }
        guard let last = end.popLast() else { return KeySpan(start: prefix, end: nil) }
        return KeySpan(start: prefix, end: end + [last + 1])
    }

    /// What lies between two neighbours of `boundaries`, which are in order: part 0 is below the
    /// first, and the last part above all.
    package static func part(_ number: Int, of boundaries: [[UInt8]]) -> KeySpan {
        KeySpan(
            start: number == 0 ? [] : boundaries[number - 1],
            end: number < boundaries.count ? boundaries[number] : nil)
    }

    public var isEmpty: Bool {
        guard let end else { return false }
        return !start.isKeyBefore(end)
    }

    public func contains(_ key: [UInt8]) -> Bool {
        if key.isKeyBefore(start) { return false }
        guard let end else { return true }
        return key.isKeyBefore(end)
    }

    public func overlaps(_ other: KeySpan) -> Bool {
        let startsBeforeOtherEnds = other.end.map { start.isKeyBefore($0) } ?? true
        let otherStartsBeforeEnd = end.map { other.start.isKeyBefore($0) } ?? true
        return startsBeforeOtherEnds && otherStartsBeforeEnd && !isEmpty && !other.isEmpty
    }

    /// The smallest span that holds both.
    public func union(_ other: KeySpan) -> KeySpan {
        let first = other.start.isKeyBefore(start) ? other.start : start
        guard let end, let otherEnd = other.end else { return KeySpan(start: first, end: nil) }
        return KeySpan(start: first, end: end.isKeyBefore(otherEnd) ? otherEnd : end)
    }
}

/// "Every version of a key in `span` with a sequence below mine is deleted."
package struct RangeTombstone: Hashable, Sendable {
    package var span: KeySpan
    package var sequence: SequenceNumber

    package init(span: KeySpan, sequence: SequenceNumber) {
        self.span = span
        self.sequence = sequence
    }
}
