// Traffic between members: TLS over TCP, messages in frames. For every ordered pair of members and
// every lane there is one connection: the sender of messages makes it, and messages flow on it one
// way. An answer goes out on a connection that the answering member made. So no member waits for
// another's choice of connection, and no lane waits for what another carries.
//
// `send` is safe from any thread, never blocks, and drops when a lane's queue is full: consensus
// repeats itself, and requests have deadlines. Detecting a silent peer is the consensus's business.
import Engine
import Logging
import NIOCore
import NIOSSL
import Synchronization

package final class PeerTransport: Sendable {
    private struct LaneKey: Hashable {
        var member: MemberID
        var lane: PeerLane
    }

    private struct Incoming {
        var channel: any Channel
        /// Of the member that made it.
        var boot: HandshakeRules.Boot
    }

    private enum Phase {
        case idle
        case running
        case stopped
    }

    private struct State: ~Copyable {
        var phase = Phase.idle
        var rules: HandshakeRules
        var security: PeerSecurity?
        var server: (any Channel)?
        var links: [LaneKey: OutgoingLink] = [:]
        /// Every accepted connection that is not closed; those of members are in `incoming` too.
        var accepted: [ObjectIdentifier: any Channel] = [:]
        /// Those that did not say hello yet, the oldest first.
        var unknown: [any Channel] = []
        var incoming: [LaneKey: Incoming] = [:]
        var throttle = LogThrottle()
    }

    package let configuration: PeerTransportConfiguration
    let counters = PeerCounters()
    private let eventLoopGroup: any EventLoopGroup
    private let logger: Logger
    weak let delegate: (any PeerTransportDelegate)?
    private let state: Mutex<State>

    package init(
        _ configuration: PeerTransportConfiguration, eventLoopGroup: any EventLoopGroup,
        logger: Logger, delegate: any PeerTransportDelegate
    ) {
        self.configuration = configuration
        self.eventLoopGroup = eventLoopGroup
        self.logger = logger
        self.delegate = delegate
        state = Mutex(
            State(
                rules: HandshakeRules(
                    identity: configuration.identity, group: configuration.group,
                    boot: HandshakeRules.Boot(
                        counter: configuration.bootCounter, nonce: configuration.nonce),
                    members: Set(configuration.peers.map(\.member)),
                    newest: configuration.boots?.all ?? [:])))
    }

    // MARK: Start and stop

    /// Loads the certificates, listens, and starts to dial every peer.
    package func start() async throws(PeerTransportError) {
        try configuration.validate()
        let security = try PeerSecurity(configuration)
        let mayStart = state.withLock { state in
            guard state.phase == .idle else { return false }
            state.phase = .running
            state.security = security
            return true
        }
        guard mayStart else { throw .stopped }
        let server = try await listen()
        let isRunning = state.withLock { state in
            guard state.phase == .running else { return false }
            state.server = server
            return true
        }
        guard isRunning else {
            server.close(promise: nil)
            throw .stopped
        }
        logger.info("listening for peers on \(configuration.listenHost):\(localPort ?? 0)")
        try setPeers(configuration.peers)
    }

    private func listen() async throws(PeerTransportError) -> any Channel {
        do {
            return try await PeerSockets.listen(configuration, on: eventLoopGroup) { channel in
                try self.setUpIncoming(channel)
            }.get()
        } catch {
            state.withLock { $0.phase = .stopped }
            throw .bind(
                address: "\(configuration.listenHost):\(configuration.listenPort)",
                reason: describeNetworkError(error))
        }
    }

    private func setUpIncoming(_ channel: any Channel) throws {
        guard let security else { throw PeerTransportError.stopped }
        let handler = IncomingConnectionHandler(transport: self)
        let tls = NIOSSLServerHandler._makeSSLServerHandler(
            context: security.server,
            additionalPeerCertificateVerificationCallback: { certificate, channel in
                handler.chainVerified(certificate)
                return channel.eventLoop.makeSucceededVoidFuture()
            })
        try channel.pipeline.syncOperations.addHandlers([tls, handler])
    }

    /// Closes everything and waits until it is closed. Needed before the transport is let go.
    package func stop() async {
        let (server, accepted, links) = state.withLock { state in
            state.phase = .stopped
            state.security = nil
            let taken = (state.server, Array(state.accepted.values), Array(state.links.values))
            state.server = nil
            state.links = [:]
            return taken
        }
        var closing = links.map { $0.stop() }
        for channel in accepted + [server].compactMap({ $0 }) {
            channel.close(promise: nil)
            closing.append(channel.closeFuture)
        }
        for future in closing { _ = try? await future.get() }
    }

    /// The port that the listener got.
    package var localPort: Int? { state.withLock { $0.server }?.localAddress?.port }

    /// Reads the certificate files again; connections made from now on use them.
    package func reloadCertificates() throws(PeerTransportError) {
        let security = try PeerSecurity(configuration)
        state.withLock { if $0.phase == .running { $0.security = security } }
    }

    /// The other members from now on; connections with those not named are closed. Has no effect
    /// before the start, which takes the configuration's peers.
    package func setPeers(_ peers: [PeerAddress]) throws(PeerTransportError) {
        try PeerTransportConfiguration.validate(peers: peers, node: configuration.node)
        let members = Set(peers.map(\.member))
        var added: [OutgoingLink] = []
        var kept: [(OutgoingLink, PeerAddress)] = []
        var removed: [OutgoingLink] = []
        var cut: [any Channel] = []
        state.withLock { state in
            guard state.phase == .running else { return }
            state.rules.members = members
            removed = state.links.values.filter { !members.contains($0.member) }
            state.links = state.links.filter { members.contains($0.key.member) }
            cut = state.incoming.filter { !members.contains($0.key.member) }.map(\.value.channel)
            for peer in peers {
                for lane in PeerLane.allCases {
                    let key = LaneKey(member: peer.member, lane: lane)
                    if let link = state.links[key] {
                        kept.append((link, peer))
                    } else {
                        let link = makeLink(peer, lane)
                        state.links[key] = link
                        added.append(link)
                    }
                }
            }
        }
        for link in removed { _ = link.stop() }
        for channel in cut { channel.close(promise: nil) }
        for (link, address) in kept { link.move(to: address) }
        for link in added { link.start() }
    }

    private func makeLink(_ peer: PeerAddress, _ lane: PeerLane) -> OutgoingLink {
        OutgoingLink(
            address: peer, lane: lane, transport: self, loop: eventLoopGroup.next(),
            seed: configuration.nonce ^ peer.member.rawValue << 8 ^ UInt64(lane.rawValue))
    }

    // MARK: Sending

    /// Queues a message on its lane to `member`. False if it was dropped at once (it is counted).
    /// `completion` is called exactly once: with nil when the message was handed to the socket, or
    /// with why it was not; on an event loop, or in here if it is dropped at once.
    @discardableResult
    package func send(
        _ message: PeerMessage, to member: MemberID,
        completion: (@Sendable (PeerSendFailure?) -> Void)? = nil
    ) -> Bool {
        let key = LaneKey(member: member, lane: message.lane)
        guard let link = state.withLock({ $0.links[key] }) else {
            counters.countDropped(message.lane)
            completion?(.unknownMember)
            return false
        }
        return link.send(message, completion: completion)
    }

    /// Ends the connections that a member made, and tells it why. It may connect again: whoever
    /// goes on as before is cut off again, after a wait that doubles.
    package func cutOff(_ member: MemberID, _ refusal: Refusal) {
        let channels = state.withLock { state in
            state.incoming.filter { $0.key.member == member }.map(\.value.channel)
        }
        for channel in channels { channel.pipeline.fireUserInboundEventTriggered(refusal) }
    }

    package var counts: PeerTransportCounts { counters.read() }

    /// Bytes that wait for a lane of a member.
    package func queuedBytes(to member: MemberID, lane: PeerLane) -> Int {
        state.withLock { $0.links[LaneKey(member: member, lane: lane)] }?.queuedBytes ?? 0
    }

    // MARK: For connections

    var security: PeerSecurity? { state.withLock { $0.security } }

    func hello(to member: MemberID, lane: PeerLane) -> Hello {
        state.withLock { $0.rules.hello(to: member, lane: lane) }
    }

    func judge(_ peer: PeerIdentity, expected: MemberID?) throws(Refusal) {
        try state.withLock { state throws(Refusal) in
            try state.rules.judge(peer, expected: expected)
        }
    }

    func judge(
        _ hello: Hello, certificate: PeerIdentity, expected: MemberID?, lane: PeerLane?
    ) throws(Refusal) {
        try state.withLock { state throws(Refusal) in
            try state.rules.judge(
                hello, certificate: certificate, expected: expected, lane: lane,
                now: monotonicMilliseconds())
        }
        remember(hello)
    }

    /// Once per start of a member, and those are rare by the rules: it may wait for the disk.
    private func remember(_ hello: Hello) {
        do throws(FileError) {
            try configuration.boots?.remember(hello.boot, of: hello.sender)
        } catch {
            logger.error("the start of node \(hello.sender) cannot be remembered: \(error)")
        }
    }

    /// A connection came in; false if this transport does not run any more. If too many did not say
    /// hello yet, the oldest of them has to go.
    func accepted(_ channel: any Channel) -> Bool {
        let (isTaken, oldest) = state.withLock { state -> (Bool, (any Channel)?) in
            guard state.phase == .running else { return (false, nil) }
            let isFull = state.unknown.count >= configuration.maxUnknownConnections
            let oldest = isFull && !state.unknown.isEmpty ? state.unknown.removeFirst() : nil
            state.accepted[ObjectIdentifier(channel)] = channel
            state.unknown.append(channel)
            return (true, oldest)
        }
        oldest?.pipeline.fireUserInboundEventTriggered(TooManyStrangers())
        return isTaken
    }

    /// Tells a connection that it has to go for a newer one.
    struct TooManyStrangers: Sendable {}

    /// A member's hello on an accepted connection. It replaces an earlier connection of that member
    /// and lane, which the member has given up even if nobody told this side, and all that an
    /// earlier start of it made: what those still bring was said by a process that is gone, and may
    /// have forgotten it.
    func admit(_ hello: Hello, certificate: PeerIdentity, channel: any Channel) throws(Refusal) {
        let key = LaneKey(member: hello.sender, lane: hello.lane)
        let (outdated, link) = try state.withLock { state throws(Refusal) in
            try state.rules.judge(
                hello, certificate: certificate, expected: nil, lane: nil,
                now: monotonicMilliseconds())
            state.unknown.removeAll { $0 === channel }
            let outdated = state.incoming.filter {
                $0.key == key || $0.key.member == key.member && $0.value.boot != hello.boot
            }
            for gone in outdated.keys { state.incoming[gone] = nil }
            state.incoming[key] = Incoming(channel: channel, boot: hello.boot)
            return (outdated, state.links[key])
        }
        remember(hello)
        for (gone, connection) in outdated {
            connection.channel.close(promise: nil)
            delegate?.peerDisconnected(gone.member, lane: gone.lane, direction: .incoming)
        }
        delegate?.peerConnected(hello.sender, lane: hello.lane, direction: .incoming)
        link?.peerIsReachable()
    }

    /// An accepted connection is closed.
    func gone(_ channel: any Channel) {
        let key = state.withLock { state -> LaneKey? in
            state.accepted[ObjectIdentifier(channel)] = nil
            state.unknown.removeAll { $0 === channel }
            let key = state.incoming.first { $0.value.channel === channel }?.key
            if let key { state.incoming[key] = nil }
            return key
        }
        if let key {
            delegate?.peerDisconnected(key.member, lane: key.lane, direction: .incoming)
        }
    }

    func linkOpened(_ link: OutgoingLink, _ address: PeerAddress) {
        state.withLock { $0.throttle.forget("outgoing \(link.member) \(link.lane)") }
        logger.info(
            "connected to node \(link.member) (\(link.lane)) at \(address.host):\(address.port)")
        delegate?.peerConnected(link.member, lane: link.lane, direction: .outgoing)
    }

    func linkClosed(_ link: OutgoingLink) {
        delegate?.peerDisconnected(link.member, lane: link.lane, direction: .outgoing)
    }

    func linkEnded(_ link: OutgoingLink, _ address: PeerAddress, reason: String, wasOpen: Bool) {
        let what = wasOpen ? "lost the connection to" : "no connection to"
        let peer = "node \(link.member) (\(link.lane)) at \(address.host):\(address.port)"
        let line = "\(what) \(peer): \(reason)"
        logRepeated(line, sameAs: line, key: "outgoing \(link.member) \(link.lane)")
    }

    /// Logs a line that may come once a second for days. `sameAs` says when it is no news.
    func logRepeated(_ line: String, sameAs text: String, key: String) {
        let now = NIODeadline.now().uptimeNanoseconds / 1_000_000
        let heldBack = state.withLock { $0.throttle.admit(text, key: key, now: now) }
        guard let heldBack else { return }
        let suffix = heldBack == 0 ? "" : " (and \(heldBack) times since the last such line)"
        logger.warning("\(line)\(suffix)")
    }
}
