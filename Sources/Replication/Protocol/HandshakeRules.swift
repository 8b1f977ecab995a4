// Who may talk to this member. Pure: certificates and hellos go in, a refusal or nothing comes out.
// Remembers each member's newest start, so that an older one, or a clone, is refused. The transport
// keeps one for all its connections, behind its lock.
import Engine

package struct HandshakeRules: Sendable {
    /// One start of a member's process.
    package struct Boot: Sendable, Hashable {
        package var counter: UInt64
        package var nonce: UInt64
        package init(counter: UInt64, nonce: UInt64) {
            self.counter = counter
            self.nonce = nonce
        }
    }

    private let identity: PeerIdentity
    private let group: UInt32
    private let boot: Boot
    /// The other members.
    package var members: Set<MemberID>
    private var newest: [MemberID: Boot]
    /// When a member's newest start was taken, if this member has seen it begin.
    private var takenAt: [MemberID: UInt64] = [:]
    /// A start costs a durable write on the thread of the replica: no more than one of each member
    /// is taken in so many milliseconds.
    package static let startIntervalMilliseconds: UInt64 = 1_000

    package init(
        identity: PeerIdentity, group: UInt32, boot: Boot, members: Set<MemberID>,
        newest: [MemberID: Boot] = [:]
    ) {
        self.newest = newest
        self.identity = identity
        self.group = group
        self.boot = boot
        self.members = members
    }

    /// What this member says first.
    package func hello(to receiver: MemberID, lane: PeerLane) -> Hello {
        Hello(
            cluster: identity.cluster, group: group, sender: identity.node, receiver: receiver,
            lane: lane, bootCounter: boot.counter, nonce: boot.nonce)
    }

    /// Judges a peer by its certificate alone, whose chain is verified already. `expected` is the
    /// member that was dialled, nil on an accepted connection.
    package func judge(_ peer: PeerIdentity, expected: MemberID?) throws(Refusal) {
        guard peer.cluster == identity.cluster else {
            throw Refusal(
                .differentCluster,
                "the certificate is of cluster \(peer.cluster), this is \(identity)")
        }
        try judge(member: peer.node, expected: expected)
    }

    private func judge(member: MemberID, expected: MemberID?) throws(Refusal) {
        guard member != identity.node else {
            throw Refusal(
                .sameIdentity, "the peer has the same node id as \(identity): ids must differ")
        }
        guard members.contains(member) else {
            throw Refusal(.unknownMember, "node \(member) is not a member known to \(identity)")
        }
        if let expected, expected != member {
            throw Refusal(
                .misdirected, "\(identity) looked for node \(expected) and found node \(member)")
        }
    }

    /// Judges a peer's hello; `certificate` was accepted by `judge(_:expected:)`. `lane` is the one
    /// dialled for, nil on an accepted connection; `now` is monotonic, in milliseconds. Remembers
    /// the peer's start if it is accepted.
    package mutating func judge(
        _ hello: Hello, certificate: PeerIdentity, expected: MemberID?, lane: PeerLane?,
        now: UInt64
    ) throws(Refusal) {
        let supported = Hello.supportedVersions
        guard hello.versions.overlaps(supported) else {
            throw Refusal(
                .unsupportedVersion,
                "the peer speaks protocol \(text(hello.versions)), \(identity) \(text(supported))")
        }
        guard hello.cluster == identity.cluster else {
            throw Refusal(
                .differentCluster, "the peer is of cluster \(hello.cluster), this is \(identity)")
        }
        guard hello.group == group else {
            throw Refusal(
                .differentGroup, "the peer is of group \(hello.group), \(identity) of \(group)")
        }
        guard hello.sender == certificate.node else {
            throw Refusal(
                .certificateMismatch,
                "the peer says it is node \(hello.sender), its certificate says \(certificate)")
        }
        try judge(member: hello.sender, expected: expected)
        guard hello.receiver == identity.node else {
            throw Refusal(
                .misdirected,
                "node \(hello.sender) looked for node \(hello.receiver), "
                    + "this is \(identity): check the addresses")
        }
        if let lane, lane != hello.lane {
            throw Refusal(.protocolViolation, "the peer answered for the lane \(hello.lane)")
        }
        try admit(hello.boot, of: hello.sender, now)
    }

    private mutating func admit(_ boot: Boot, of member: MemberID, _ now: UInt64) throws(Refusal) {
        guard boot != newest[member] else { return }
        if let known = newest[member] {
            guard boot.counter >= known.counter else {
                throw Refusal(
                    .staleBoot,
                    "node \(member) is at start \(boot.counter), but start \(known.counter) of it "
                        + "was seen: an old copy of its data, a new disk, or a second process "
                        + "with its id; if its data was lost, start it once with --rejoin")
            }
            guard boot.counter > known.counter else {
                throw Refusal(
                    .clone,
                    "another process runs as node \(member) at start \(boot.counter), or its data "
                        + "was lost; then start it once with --rejoin")
            }
        }
        if let last = takenAt[member], now < last + HandshakeRules.startIntervalMilliseconds {
            throw Refusal(
                .tooManyStarts,
                "node \(member) has started again within a second: start \(boot.counter) is taken "
                    + "when that is over")
        }
        takenAt[member] = now
        newest[member] = boot
    }

    private func text(_ versions: ClosedRange<UInt16>) -> String {
        versions.count == 1
            ? "\(versions.lowerBound)" : "\(versions.lowerBound) to \(versions.upperBound)"
    }
}
