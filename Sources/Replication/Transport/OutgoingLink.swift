// One lane to one peer: dials, says hello, sends, and dials again when the connection breaks. A
// link carries messages one way only; answers come on the peer's own links. Everything but `send`
// runs on the link's event loop.
import Engine
import NIOCore
import NIOPosix
import NIOSSL

// @unchecked: the mutable fields are touched on `loop` only; the queue has a lock of its own.
final class OutgoingLink: @unchecked Sendable {
    private enum Phase {
        case waiting(Scheduled<Void>?)
        case dialing
        case open(any Channel)
        case stopped
    }

    let member: MemberID
    let lane: PeerLane
    let transport: PeerTransport
    private let loop: any EventLoop
    private let queue: OutgoingQueue

    private var address: PeerAddress
    private var phase = Phase.waiting(nil)
    /// Tells the connection of now from an earlier one whose end is reported late.
    private var attempt = 0
    private var channel: (any Channel)?
    private var openedAt: NIODeadline?
    private var endReason: String?
    /// Set while the socket takes nothing.
    private var stall: Scheduled<Void>?
    private var backoff: ReconnectBackoff
    private var writer: OutgoingWriter

    init(
        address: PeerAddress, lane: PeerLane, transport: PeerTransport, loop: any EventLoop,
        seed: UInt64
    ) {
        member = address.member
        self.address = address
        self.lane = lane
        self.transport = transport
        self.loop = loop
        queue = OutgoingQueue(limitBytes: transport.configuration.maxQueuedBytes(lane))
        backoff = ReconnectBackoff(seed: seed)
        writer = OutgoingWriter(
            queue: queue, limits: transport.configuration.limits, counters: transport.counters,
            lane: lane)
    }

    var queuedBytes: Int { queue.queuedBytes }

    /// Any thread.
    func send(_ message: PeerMessage, completion: OutgoingQueue.Completion?) -> Bool {
        let item = OutgoingQueue.Item(
            message: message, bytes: MessageCodec.estimatedBytes(of: message),
            completion: completion)
        switch queue.add(item) {
        case .queued: return true
        case .wakesDrain:
            loop.execute { self.drain() }
            return true
        case .refused(let failure):
            transport.counters.countDropped(lane)
            completion?(failure)
            return false
        }
    }

    // MARK: Dialling

    /// Any thread.
    func start() { loop.execute { self.dial() } }

    /// The peer has just reached this member, so it is likely to be reachable. Any thread.
    func peerIsReachable() {
        loop.execute {
            guard case .waiting(let retry?) = self.phase else { return }
            retry.cancel()
            self.dial()
        }
    }

    /// Any thread.
    func move(to address: PeerAddress) {
        loop.execute {
            guard self.address != address else { return }
            self.address = address
            self.endReason = self.endReason ?? "the member's address has changed"
            self.channel?.close(promise: nil)
        }
    }

    /// Any thread. The future is done when the connection is gone.
    func stop() -> EventLoopFuture<Void> {
        loop.flatSubmit {
            if case .waiting(let retry?) = self.phase { retry.cancel() }
            let wasOpen = self.isOpen
            self.stall?.cancel()
            self.phase = .stopped
            self.attempt += 1
            self.writer.abandon(self.queue.close(.stopped), .stopped)
            if wasOpen { self.transport.linkClosed(self) }
            guard let channel = self.channel else { return self.loop.makeSucceededVoidFuture() }
            self.channel = nil
            channel.close(promise: nil)
            return channel.closeFuture
        }
    }

    private var isOpen: Bool {
        if case .open = phase { return true }
        return false
    }

    private func dial() {
        guard case .waiting = phase else { return }
        phase = .dialing
        attempt += 1
        endReason = nil
        queue.hold()
        let attempt = attempt
        guard let security = transport.security else {
            return ended(attempt, "the transport is not started")
        }
        PeerSockets.dial(
            address, on: loop, configuration: transport.configuration
        ) { channel in
            let handler = OutgoingConnectionHandler(link: self, attempt: attempt)
            let tls = try NIOSSLClientHandler._makeSSLClientHandler(
                context: security.client, serverHostname: nil,
                additionalPeerCertificateVerificationCallback: { certificate, channel in
                    handler.chainVerified(certificate)
                    return channel.eventLoop.makeSucceededVoidFuture()
                })
            try channel.pipeline.syncOperations.addHandlers([tls, handler])
        }.whenComplete { self.dialed(attempt, $0) }
    }

    private func dialed(_ attempt: Int, _ result: Result<any Channel, any Error>) {
        switch result {
        case .failure(let error): ended(attempt, "cannot connect: \(describeNetworkError(error))")
        case .success(let channel):
            guard attempt == self.attempt else { return channel.close(promise: nil) }
            self.channel = channel
            channel.closeFuture.whenComplete { _ in self.ended(attempt, "the connection was closed")
            }
            let limit = transport.configuration.handshakeTimeoutMilliseconds
            loop.scheduleTask(in: .milliseconds(limit)) {
                guard attempt == self.attempt, case .dialing = self.phase else { return }
                self.noteEnd(attempt, "no hello within \(limit) ms")
                channel.close(promise: nil)
            }
        }
    }

    // MARK: What the connection reports, on the loop

    /// Both sides accepted each other.
    func opened(_ attempt: Int, _ channel: any Channel) {
        // A hello that comes when the connection is being closed comes too late.
        guard attempt == self.attempt, case .dialing = phase, endReason == nil else { return }
        phase = .open(channel)
        openedAt = .now()
        transport.linkOpened(self, address)
        queue.open()
        drain()
    }

    /// Remembers why the connection is about to end; the first reason counts.
    func noteEnd(_ attempt: Int, _ reason: String) {
        guard attempt == self.attempt else { return }
        endReason = endReason ?? reason
    }

    func writabilityChanged(_ attempt: Int) {
        guard attempt == self.attempt else { return }
        stall?.cancel()
        stall = nil
        drain()
    }

    /// The socket is full: time runs until it takes something.
    private func watchStall(_ channel: any Channel) {
        guard stall == nil, !channel.isWritable else { return }
        let limit = transport.configuration.stallTimeoutMilliseconds
        let attempt = attempt
        stall = loop.scheduleTask(in: .milliseconds(limit)) {
            guard attempt == self.attempt else { return }
            let what = "node \(self.member) has read nothing for \(limit) ms"
            self.noteEnd(attempt, what)
            // Nothing more fits on this connection. The member's own still carry the reason.
            self.transport.cutOff(self.member, Refusal(.notReading, what))
            channel.close(promise: nil)
        }
    }

    private func ended(_ attempt: Int, _ fallback: String) {
        guard attempt == self.attempt else { return }
        let wasOpen = isOpen
        if let openedAt, NIODeadline.now() - openedAt >= .seconds(1) { backoff.reset() }
        openedAt = nil
        stall?.cancel()
        stall = nil
        channel = nil
        self.attempt += 1
        writer.abandon(queue.close(.notConnected), .notConnected)
        let delay = TimeAmount.milliseconds(Int64(backoff.next()))
        phase = .waiting(loop.scheduleTask(in: delay) { self.dial() })
        transport.linkEnded(self, address, reason: endReason ?? fallback, wasOpen: wasOpen)
        if wasOpen { transport.linkClosed(self) }
    }

    private func drain() {
        guard case .open(let channel) = phase else { return }
        if writer.write(to: channel) { loop.execute { self.drain() } }
        watchStall(channel)
    }
}
