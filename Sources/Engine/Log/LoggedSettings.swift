// Settings that shape bytes must be the same on every replica, so they are entries of the log. A
// segment and its flush use those in force before the segment's first entry.

/// The settings that the log carries. The defaults hold from the log's first entry on.
public struct LoggedSettings: Hashable, Sendable {
    /// Payload bytes that end a segment.
    public var segmentBytes: UInt64 = 64 << 20
    /// Canonical bytes at which a data block is cut.
    public var blockBytes: UInt32 = 4096
    /// Which filters tables get.
    public var filter = FilterPolicy()
    /// Functions of the embedding program that compactions use.
    public var functions = JobFunctionNames()

    public init() {}

    static let format: UInt16 = 2
    /// As `format`, with the names of functions behind it; never without any.
    static let functionsFormat: UInt16 = 3

    /// The budget of `filter` as bits per key; 0 writes no filter.
    public var filterBitsPerKey: UInt32 {
        get {
            guard case .bitsPerKey(let bits) = filter.budget else {
                return UInt32(filter.budget.bits(filter.kind))
            }
            return bits
        }
        set { filter.budget = .bitsPerKey(newValue) }
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 96)
        writer.write(
            functions.isEmpty ? LoggedSettings.format : LoggedSettings.functionsFormat)
        writer.write(segmentBytes)
        writer.write(blockBytes)
        filter.encode(into: &writer)
        if !functions.isEmpty { functions.encode(into: &writer) }
        return writer.bytes
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == LoggedSettings.format || format == LoggedSettings.functionsFormat else {
            throw DecodingError("settings format \(format) is not supported")
        }
        segmentBytes = try reader.read(UInt64.self)
        blockBytes = try reader.read(UInt32.self)
        filter = try FilterPolicy(&reader)
        guard (4 << 10...4 << 30).contains(segmentBytes),
            (256...1 << 20).contains(blockBytes)
        else { throw DecodingError("a setting is out of its range") }
        guard format == LoggedSettings.functionsFormat else { return }
        functions = try JobFunctionNames(&reader)
        guard !functions.isEmpty else { throw DecodingError("settings that name no function") }
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("settings")
    }
}

/// One member of the cluster, as the log records it.
public struct Member: Hashable, Sendable {
    public var id: MemberID
    /// host:port of its peer listener.
    public var peerAddress: String
    /// host:port of its client listener, for redirects.
    public var clientAddress: String
    public var isVoter: Bool

    public init(id: MemberID, peerAddress: String, clientAddress: String, isVoter: Bool = true) {
        self.id = id
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
        self.isVoter = isVoter
    }
}

/// The members, sorted by id. A `membership` entry holds all of them and acts when applied.
public struct Membership: Hashable, Sendable {
    public private(set) var members: [Member]

    public init(_ members: [Member] = []) {
        self.members = members.sorted { $0.id < $1.id }
    }

    public var voters: [MemberID] { members.filter(\.isVoter).map(\.id) }
    public func member(_ id: MemberID) -> Member? { members.first { $0.id == id } }

    static let format: UInt16 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Membership.format)
        writer.writeVarint(UInt64(members.count))
        for member in members {
            writer.write(member.id.rawValue)
            writer.writePrefixed(member.peerAddress)
            writer.writePrefixed(member.clientAddress)
            writer.write(UInt8(member.isVoter ? 1 : 0))
        }
        return writer.bytes
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == Membership.format else {
            throw DecodingError("membership format \(format) is not supported")
        }
        let count = try reader.readVarint(atMost: UInt64(Limits.members), "a member count")
        var members: [Member] = []
        for _ in 0..<count {
            let id = MemberID(try reader.read(UInt64.self))
            let peer = try reader.readPrefixedString(atMost: 512)
            let client = try reader.readPrefixedString(atMost: 512)
            let voter = try reader.read(UInt8.self)
            guard voter <= 1, id != .none else { throw DecodingError("a member is malformed") }
            if let last = members.last, last.id >= id {
                throw DecodingError("members are not in order")
            }
            members.append(
                Member(
                    id: id, peerAddress: peer, clientAddress: client, isVoter: voter == 1))
        }
        self.members = members
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a membership")
    }
}
