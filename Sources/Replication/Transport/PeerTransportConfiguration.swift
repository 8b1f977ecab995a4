// What the peer transport is told at its start, what can be wrong with it, and what it tells back.
import Engine

/// Where a member's peer listener is.
package struct PeerAddress: Sendable, Hashable {
    package var member: MemberID
    package var host: String
    package var port: Int

    package init(member: MemberID, host: String, port: Int) {
        self.member = member
        self.host = host
        self.port = port
    }
}

package struct PeerTransportConfiguration: Sendable {
    package var cluster: String
    package var node: MemberID
    package var group: UInt32
    package var listenHost: String
    /// 0 takes any free port; `PeerTransport.localPort` tells which.
    package var listenPort: Int
    /// The other members.
    package var peers: [PeerAddress]
    /// PEM files: this node's certificate (and intermediates), its key, the cluster's CA.
    package var certificatePath: String
    package var keyPath: String
    package var authorityPath: String
    /// Which start of this node this is; members refuse an older one.
    package var bootCounter: UInt64
    /// Drawn at random by this start. Also seeds the jitter of reconnects.
    package var nonce: UInt64
    /// A lane to one peer takes messages while it holds less than this, so it holds at most this
    /// and one message.
    package var maxQueuedControlBytes = 32 << 20
    package var maxQueuedBulkBytes = 64 << 20
    package var maxQueuedUrgentBytes = 1 << 20
    package var limits = FrameLimits()
    package var connectTimeoutMilliseconds: Int64 = 2000
    /// From the TCP connection to the accepted hello.
    package var handshakeTimeoutMilliseconds: Int64 = 5000
    /// A peer that has taken nothing for so long, while its socket's buffers are full, is cut off:
    /// what waits for it only grows old.
    package var stallTimeoutMilliseconds: Int64 = 4000
    /// Accepted connections whose hello is still missing. One more closes the oldest: strangers
    /// that say nothing cannot keep a member from connecting.
    package var maxUnknownConnections = 128
    /// Where members' starts are remembered; nil forgets them with this process.
    package var boots: PeerBoots?

    package init(
        cluster: String, node: MemberID, group: UInt32, listenHost: String, listenPort: Int,
        peers: [PeerAddress], certificatePath: String, keyPath: String, authorityPath: String,
        bootCounter: UInt64, nonce: UInt64
    ) {
        self.cluster = cluster
        self.node = node
        self.group = group
        self.listenHost = listenHost
        self.listenPort = listenPort
        self.peers = peers
        self.certificatePath = certificatePath
        self.keyPath = keyPath
        self.authorityPath = authorityPath
        self.bootCounter = bootCounter
        self.nonce = nonce
    }

    var identity: PeerIdentity { PeerIdentity(cluster: cluster, node: node) }

    func maxQueuedBytes(_ lane: PeerLane) -> Int {
        switch lane {
        case .control: maxQueuedControlBytes
        case .bulk: maxQueuedBulkBytes
        case .urgent: maxQueuedUrgentBytes
        }
    }

    func validate() throws(PeerTransportError) {
        guard PeerIdentity.isValid(cluster: cluster) else {
            throw .configuration(
                "the cluster name \"\(cluster)\" must be 1 to \(PeerIdentity.clusterBytes) "
                    + "letters, digits, dots, hyphens or underscores")
        }
        guard node != .none else { throw .configuration("a node id must not be 0") }
        try PeerTransportConfiguration.validate(peers: peers, node: node)
    }

    static func validate(peers: [PeerAddress], node: MemberID) throws(PeerTransportError) {
        guard peers.count < Limits.members else {
            throw .configuration("\(peers.count + 1) members, the limit is \(Limits.members)")
        }
        guard Set(peers.map(\.member)).count == peers.count else {
            throw .configuration("two peers have the same id")
        }
        for peer in peers {
            guard peer.member != node, peer.member != .none else {
                throw .configuration("node \(node) cannot have a peer with the id \(peer.member)")
            }
            guard (1...65535).contains(peer.port), !peer.host.isEmpty else {
                throw .configuration(
                    "\"\(peer.host):\(peer.port)\" is no address for node \(peer.member)")
            }
        }
    }
}

package enum PeerTransportError: Error, Sendable, Hashable, CustomStringConvertible {
    case configuration(String)
    /// A certificate or key file cannot be used.
    case certificate(path: String, reason: String)
    case bind(address: String, reason: String)
    case stopped

    package var description: String {
        switch self {
        case .configuration(let reason): return reason
        case .certificate(let path, let reason): return "\(path): \(reason)"
        case .bind(let address, let reason): return "cannot listen on \(address): \(reason)"
        case .stopped: return "the peer transport is stopped"
        }
    }
}

/// Why a message was not handed to the network.
package enum PeerSendFailure: Error, Sendable, Hashable {
    case unknownMember
    /// No connection, nor one being made; or it broke, or could not be made, before any of the
    /// message was written.
    case notConnected
    case queueFull
    /// The connection broke before all of the message was written. What was written may have
    /// arrived.
    case disconnected
    case unsendable(String)
    case stopped
}

/// Who made a connection. Messages go out on `outgoing` ones and come in on `incoming` ones.
package enum PeerDirection: UInt8, Sendable {
    case outgoing
    case incoming
}

/// Told what arrives. Called on event-loop threads, which it must not hold up: hand over and
/// return. Calls about one connection come in order; calls about different ones may come at the
/// same time.
package protocol PeerTransportDelegate: AnyObject, Sendable {
    /// Everything whole that one read brought, in order.
    func peerMessagesReceived(_ messages: [PeerMessage], from member: MemberID)
    /// False while too much of the member's waits: its connections are not read then, and this is
    /// asked again soon.
    func takesMessages(of member: MemberID) -> Bool
    /// Both sides accepted each other. For `outgoing`: `send` now reaches the member.
    func peerConnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection)
    /// What was queued or under way is lost. For `incoming`: answers may be lost.
    func peerDisconnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection)
}
