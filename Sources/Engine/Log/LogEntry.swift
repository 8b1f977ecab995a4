// The canonical entry: made once by a leader, then stored and forwarded verbatim by everybody. Its
// bytes are the same on every disk and on every wire. Layout (little-endian, 84 bytes, then the
// payload):
//
//   0 checksum u128 (XXH3-128 of bytes 16... of header and payload)   16 previous u128
//   32 group u32   36 term u64   44 index u64   52 firstSequence u64   60 clock u64   68 commit u64
//   76 length u32 (of the payload)   80 kind u8   81 flags u8   82 format u16

public enum EntryKind: UInt8, Sendable {
    case noop = 1
    case write = 2
    /// Puts in key order.
    case bulk = 3
    case rotate = 4
    case seal = 5
    case compact = 6
    case compacted = 7
    case cancelled = 8
    /// Reserved, rejected by this build.
    case excise = 9
    case membership = 10
    case settings = 11
}

public struct EntryHeader: Hashable, Sendable {
    public static let size = 84
    public static let format: UInt16 = 1

    public var checksum: Digest128
    /// Checksum of the entry before; for the first, the hash of cluster and group id.
    public var previous: Digest128
    public var group: UInt32
    public var term: Term
    public var index: LogIndex
    /// Sequence of this entry's first effect; for an entry without effects, the next free one.
    public var firstSequence: SequenceNumber
    public var clock: ClockMilliseconds
    /// The leader's commit index when it made the entry.
    public var commit: LogIndex
    public var length: UInt32
    public var kind: EntryKind
    public var flags: UInt8
}

/// An entry as its bytes and its parsed header. The bytes are shared, never copied, on the way from
/// proposal to log, wire and memtable.
public struct Entry: Sendable {
    public let header: EntryHeader
    /// Header and payload, verbatim.
    public let encoded: [UInt8]

    @inlinable public var index: LogIndex { header.index }
    @inlinable public var term: Term { header.term }
    public var position: Position {
        Position(term: header.term, index: header.index, checksum: header.checksum)
    }
    public var payloadCount: Int { encoded.count - EntryHeader.size }

    @inline(__always)
    public func withPayload<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R)
        throws(E) -> R
    {
        try encoded.span.bytes.withUnsafeBytes { (all) throws(E) in
            try body(UnsafeRawBufferPointer(rebasing: all[EntryHeader.size...]))
        }
    }

    /// Makes and seals a new entry.
    public init(
        kind: EntryKind, payload: [UInt8], previous: Digest128, group: UInt32, term: Term,
        index: LogIndex, firstSequence: SequenceNumber, clock: ClockMilliseconds, commit: LogIndex
    ) {
        self.init(
            kind: kind, payloadBytes: payload.count, previous: previous, group: group, term: term,
            index: index, firstSequence: firstSequence, clock: clock, commit: commit
        ) { $0.copyBytes(from: payload) }
    }

    /// As above, of a payload that `fill` writes where it belongs.
    init(
        kind: EntryKind, payloadBytes: Int, previous: Digest128, group: UInt32, term: Term,
        index: LogIndex, firstSequence: SequenceNumber, clock: ClockMilliseconds,
        commit: LogIndex, fill: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        invariant(payloadBytes <= Limits.entryPayloadBytes, "an entry's payload is too long")
        var header = EntryHeader(
            checksum: .zero, previous: previous, group: group, term: term, index: index,
            firstSequence: firstSequence, clock: clock, commit: commit,
            length: UInt32(payloadBytes), kind: kind, flags: 0)
        let size = EntryHeader.size + payloadBytes
        encoded = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            let all = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: size)
            header.encodeWithoutChecksum(into: all)
            fill(UnsafeMutableRawBufferPointer(rebasing: all[EntryHeader.size...]))
            let sealed = UnsafeRawBufferPointer(
                rebasing: all[EntryHeader.checksumBytes...])
            header.checksum = Digest128(of: sealed)
            all.storeBytes(of: header.checksum.low.littleEndian, as: UInt64.self)
            all.storeBytes(
                of: header.checksum.high.littleEndian, toByteOffset: 8, as: UInt64.self)
            count = size
        }
        self.header = header
    }

    /// Takes over stored or received bytes: exactly one entry, its checksum verified. The payload's
    /// own structure is judged by `EntryValidation`.
    public init(decoding encoded: [UInt8]) throws(DecodingError) {
        self.header = try EntryHeader(verifying: encoded)
        self.encoded = encoded
    }
}

extension EntryHeader {
    fileprivate static let checksumBytes = 16

    /// All of the header but its checksum, which follows from what is behind it.
    fileprivate func encodeWithoutChecksum(into bytes: UnsafeMutableRawBufferPointer) {
        bytes.storeBytes(of: previous.low.littleEndian, toByteOffset: 16, as: UInt64.self)
        bytes.storeBytes(of: previous.high.littleEndian, toByteOffset: 24, as: UInt64.self)
        bytes.storeBytes(of: group.littleEndian, toByteOffset: 32, as: UInt32.self)
        bytes.storeBytes(of: term.rawValue.littleEndian, toByteOffset: 36, as: UInt64.self)
        bytes.storeBytes(of: index.rawValue.littleEndian, toByteOffset: 44, as: UInt64.self)
        bytes.storeBytes(
            of: firstSequence.rawValue.littleEndian, toByteOffset: 52, as: UInt64.self)
        bytes.storeBytes(of: clock.littleEndian, toByteOffset: 60, as: UInt64.self)
        bytes.storeBytes(of: commit.rawValue.littleEndian, toByteOffset: 68, as: UInt64.self)
        bytes.storeBytes(of: length.littleEndian, toByteOffset: 76, as: UInt32.self)
        bytes.storeBytes(of: kind.rawValue, toByteOffset: 80, as: UInt8.self)
        bytes.storeBytes(of: flags, toByteOffset: 81, as: UInt8.self)
        bytes.storeBytes(of: EntryHeader.format.littleEndian, toByteOffset: 82, as: UInt16.self)
    }

    /// Parses a header without judging its checksum: for readers that must learn the length first.
    package init(parsing bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        checksum = try reader.readDigest()
        previous = try reader.readDigest()
        group = try reader.read(UInt32.self)
        term = try reader.readTerm()
        index = try reader.readLogIndex()
        firstSequence = try reader.readSequence()
        clock = try reader.read(UInt64.self)
        commit = try reader.readLogIndex()
        length = try reader.read(UInt32.self)
        let rawKind = try reader.read(UInt8.self)
        guard let kind = EntryKind(rawValue: rawKind) else {
            throw DecodingError("entry kind \(rawKind) is unknown")
        }
        self.kind = kind
        flags = try reader.read(UInt8.self)
        let format = try reader.read(UInt16.self)
        guard format == EntryHeader.format else {
            throw DecodingError("entry format \(format) is not supported")
        }
        guard flags == 0 else { throw DecodingError("entry flags \(flags) are unknown") }
        guard Int(length) <= Limits.entryPayloadBytes else {
            throw DecodingError("an entry of \(length) bytes is above the limit")
        }
    }

    /// Parses and verifies exactly one whole entry.
    package init(verifying encoded: [UInt8]) throws(DecodingError) {
        var failure: DecodingError?
        var header: EntryHeader?
        encoded.withUnsafeBytes { bytes in
            do throws(DecodingError) {
                let parsed = try EntryHeader(parsing: bytes)
                guard bytes.count == EntryHeader.size + Int(parsed.length) else {
                    throw DecodingError("entry length does not match")
                }
                let actual = Digest128(of: UnsafeRawBufferPointer(rebasing: bytes[16...]))
                guard actual == parsed.checksum else {
                    throw DecodingError("entry checksum does not match")
                }
                header = parsed
            } catch { failure = error }
        }
        if let failure { throw failure }
        guard let header else { throw DecodingError("entry is empty") }
        self = header
    }
}

/// What the first entry's `previous` holds: it ties the log to its cluster and group.
public func logGenesis(cluster: String, group: UInt32) -> Digest128 {
    var writer = ByteWriter()
    writer.writePrefixed("martlet log")
    writer.writePrefixed(cluster)
    writer.write(group)
    return Digest128(of: writer.bytes)
}
