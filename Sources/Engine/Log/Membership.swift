// Who belongs to the group. A `membership` entry holds all of it and acts when it is applied.
//
// A change of more than one voter goes through a *joint* membership: from its entry on everything
// needs a majority of the old voters and one of the new. A second entry leaves it. Without this,
// members that apply the change at different times could form two majorities without a member in
// common.

/// One member of the cluster, as the log records it.
public struct Member: Hashable, Sendable {
    public var id: MemberID
    /// host:port of its peer listener.
    public var peerAddress: String
    /// host:port of its client listener, for redirects.
    public var clientAddress: String
    /// Votes. In a joint membership: among the new voters.
    public var isVoter: Bool
    /// In a joint membership: among the old voters.
    public var wasVoter = false
    /// Is no member any more once the joint membership is left; only an old voter that is no new
    /// one can be. Other old voters that are no new ones become learners then.
    public var isLeaving = false

    public init(id: MemberID, peerAddress: String, clientAddress: String, isVoter: Bool = true) {
        self.id = id
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
        self.isVoter = isVoter
    }

    /// Counts in one of the majorities, at least.
    public var votes: Bool { isVoter || wasVoter }
}

/// The members, sorted by id.
public struct Membership: Hashable, Sendable {
    /// Who ends a joint membership.
    public enum Leave: UInt8, Sendable {
        /// The leader, as soon as it has applied it.
        case automatic = 1
        /// An operator.
        case explicit = 2
    }

    public private(set) var members: [Member]
    /// Nil unless this is a joint membership.
    public private(set) var leave: Leave?

    public init(_ members: [Member] = []) {
        self.members = members.sorted { $0.id < $1.id }
        for place in self.members.indices {
            self.members[place].wasVoter = false
            self.members[place].isLeaving = false
        }
    }

    /// Everybody who votes, of both majorities in a joint membership.
    public var voters: [MemberID] { members.filter(\.votes).map(\.id) }
    public var learners: [MemberID] { members.filter { !$0.votes }.map(\.id) }
    public func member(_ id: MemberID) -> Member? { members.first { $0.id == id } }

    // MARK: Changes

    /// The membership to log next on the way to `target`: itself if at most one voter comes or
    /// goes, else the joint one, which `left()` ends. Call it on a membership that is not joint.
    public func step(toward target: Membership, leave: Leave = .automatic) -> Membership {
        invariant(self.leave == nil, "a joint membership is left before the next change")
        let isOld = Set(voters)
        if isOld.symmetricDifference(target.voters).count <= 1 { return target }
        var joint = target
        joint.leave = leave
        for place in joint.members.indices {
            joint.members[place].wasVoter = isOld.contains(joint.members[place].id)
        }
        for var member in members where member.isVoter && target.member(member.id) == nil {
            member.isVoter = false
            member.wasVoter = true
            member.isLeaving = true
            joint.members.append(member)
        }
        joint.members.sort { $0.id < $1.id }
        return joint
    }

    /// What follows a joint membership; itself if it is none.
    public func left() -> Membership { Membership(members.filter { !$0.isLeaving }) }

    // MARK: Coding

    /// A membership that is not joint keeps the first format.
    private enum Format {
        static let plain: UInt16 = 1
        static let joint: UInt16 = 2
    }

    private enum Flag {
        static let voter: UInt8 = 1
        static let old: UInt8 = 2
        static let leaving: UInt8 = 4
        static let all: UInt8 = 7
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(leave == nil ? Format.plain : Format.joint)
        if let leave { writer.write(leave.rawValue) }
        writer.writeVarint(UInt64(members.count))
        for member in members {
            writer.write(member.id.rawValue)
            writer.writePrefixed(member.peerAddress)
            writer.writePrefixed(member.clientAddress)
            var flags = member.isVoter ? Flag.voter : 0
            if member.wasVoter { flags |= Flag.old }
            if member.isLeaving { flags |= Flag.leaving }
            writer.write(flags)
        }
        return writer.bytes
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        switch format {
        case Format.plain: leave = nil
        case Format.joint:
            leave = Leave(rawValue: try reader.read(UInt8.self))
            guard leave != nil else { throw DecodingError("a way to leave a membership") }
        default: throw DecodingError("membership format \(format) is not supported")
        }
        let allowed = format == Format.plain ? Flag.voter : Flag.all
        let count = try reader.readVarint(atMost: UInt64(Limits.members), "a member count")
        members = []
        for _ in 0..<count {
            let member = try Membership.readMember(&reader, allowed: allowed)
            if let last = members.last, last.id >= member.id {
                throw DecodingError("members are not in order")
            }
            members.append(member)
        }
        guard leave == nil || members.contains(where: \.wasVoter) else {
            throw DecodingError("a joint membership without old voters")
        }
    }

    private static func readMember(_ reader: inout ByteReader, allowed: UInt8)
        throws(DecodingError) -> Member
    {
        let id = MemberID(try reader.read(UInt64.self))
        let peer = try reader.readPrefixedString(atMost: 512)
        let client = try reader.readPrefixedString(atMost: 512)
        let flags = try reader.read(UInt8.self)
        guard flags & ~allowed == 0, id != .none else {
            throw DecodingError("a member is malformed")
        }
        var member = Member(
            id: id, peerAddress: peer, clientAddress: client, isVoter: flags & Flag.voter != 0)
        member.wasVoter = flags & Flag.old != 0
        member.isLeaving = flags & Flag.leaving != 0
        guard !member.isLeaving || (member.wasVoter && !member.isVoter) else {
            throw DecodingError("a member leaves that is no old voter, or stays one")
        }
        return member
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a membership")
    }
}
