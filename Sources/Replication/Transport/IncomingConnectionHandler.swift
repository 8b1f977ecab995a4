// The accepting end of a connection: waits for a hello from a member that it can believe, answers
// with its own, and from then on decodes messages and hands over all that a read brought at once.
// Anything malformed ends this connection and no other.
import Engine
import NIOCore
import NIOSSL
import Synchronization

final class IncomingConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum Phase {
        case securing
        case awaitingHello(PeerIdentity)
        case open(MemberID, PeerLane)
        case closing
    }

    private let transport: PeerTransport
    private var assembler: FrameAssembler
    private var phase = Phase.securing
    private var channel: (any Channel)?
    private var address = "an unknown address"
    /// The address without its port: one stranger is one stranger.
    private var host = ""
    private var deadline: Scheduled<Void>?
    private var isPaused = false

    init(transport: PeerTransport) {
        self.transport = transport
        assembler = FrameAssembler(limits: transport.configuration.limits)
    }

    func handlerAdded(context: ChannelHandlerContext) { channel = context.channel }
    func handlerRemoved(context: ChannelHandlerContext) { channel = nil }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        host = channel.remoteAddress?.ipAddress ?? "unknown"
        address = "\(host):\(channel.remoteAddress?.port ?? 0)"
        guard transport.accepted(channel) else {
            phase = .closing
            return context.close(promise: nil)
        }
        let limit = transport.configuration.handshakeTimeoutMilliseconds
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(limit)) {
            self.end("refused a connection from \(self.address): no hello within \(limit) ms")
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        switch phase {
        case .securing, .awaitingHello:
            logEnd("the peer at \(address) closed the connection before its hello")
        case .open, .closing: break
        }
        phase = .closing
        transport.gone(context.channel)
        context.fireChannelInactive()
    }

    /// See `OutgoingConnectionHandler.chainVerified`.
    func chainVerified(_ certificate: NIOSSLCertificate) {
        guard case .securing = phase else { return }
        do throws(Refusal) {
            let peer = try PeerSecurity.identity(of: certificate)
            try transport.judge(peer, expected: nil)
            phase = .awaitingHello(peer)
        } catch {
            refuse(error)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .closing = phase { return }
        let buffer = unwrapInboundIn(data)
        transport.counters.bytesReceived.add(buffer.readableBytes, ordering: .relaxed)
        buffer.withUnsafeReadableBytes { assembler.append($0) }
        var messages: [PeerMessage] = []
        var violation: DecodingError?
        do throws(DecodingError) { try readFrames(into: &messages) } catch { violation = error }
        if case .open(let member, _) = phase, !messages.isEmpty {
            transport.counters.messagesReceived.add(messages.count, ordering: .relaxed)
            transport.delegate?.peerMessagesReceived(messages, from: member)
            pauseIfFull(member)
        }
        if let violation { refuse(Refusal(.protocolViolation, violation.what)) }
    }

    /// Reads no more while the receiver has too much of this member's: TCP then holds it back, and
    /// what it wants to send waits on its own side.
    private func pauseIfFull(_ member: MemberID) {
        guard let channel, !isPaused, let delegate = transport.delegate,
            !delegate.takesMessages(of: member)
        else { return }
        isPaused = true
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        transport.logRepeated(
            "node \(member) sends faster than this node takes: its messages wait",
            sameAs: "waits", key: "flood \(member)")
        waitForRoom(member, channel)
    }

    private func waitForRoom(_ member: MemberID, _ channel: any Channel) {
        let delay = TimeAmount.milliseconds(IncomingConnectionHandler.pauseMilliseconds)
        channel.eventLoop.assumeIsolated().scheduleTask(in: delay) {
            guard let delegate = self.transport.delegate, case .open = self.phase else { return }
            guard delegate.takesMessages(of: member) else {
                return self.waitForRoom(member, channel)
            }
            self.isPaused = false
            try? channel.syncOptions?.setOption(.autoRead, value: true)
        }
    }

    private static let pauseMilliseconds: Int64 = 2

    private func readFrames(into messages: inout [PeerMessage]) throws(DecodingError) {
        while let frame = try assembler.next() {
            switch phase {
            case .closing: return
            case .securing: throw DecodingError("a frame before the certificate was verified")
            case .awaitingHello(let certificate): try greet(frame, certificate)
            case .open:
                if frame.type == .refusal {
                    try endRefused(frame)
                } else {
                    messages.append(
                        try assembler.withPayload(of: frame) {
                            bytes throws(DecodingError) in
                            try MessageCodec.decode(frame.type, bytes)
                        })
                }
            }
        }
    }

    private func greet(_ frame: FrameAssembler.Frame, _ certificate: PeerIdentity)
        throws(DecodingError)
    {
        if frame.type == .refusal { return try endRefused(frame) }
        let hello = try assembler.withPayload(of: frame, Hello.init(decoding:))
        guard let channel else { return }
        do throws(Refusal) {
            try transport.admit(hello, certificate: certificate, channel: channel)
        } catch { return refuse(error) }
        deadline?.cancel()
        phase = .open(hello.sender, hello.lane)
        assembler.isOpen = true
        let answer = transport.hello(to: hello.sender, lane: hello.lane)
        channel.writeAndFlush(ByteBuffer(bytes: answer.encodedFrame()), promise: nil)
    }

    private func endRefused(_ frame: FrameAssembler.Frame) throws(DecodingError) {
        let refusal = try assembler.withPayload(of: frame, Refusal.init(decoding:))
        end("the peer at \(address) refused this node: \(refusal)")
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch phase {
        case .securing, .awaitingHello:
            let what = error is IOError ? "lost" : "refused"
            end("\(what) a connection from \(address): \(describeNetworkError(error))")
        case .open(let member, let lane):
            end("the connection of node \(member) (\(lane)) broke: \(describeNetworkError(error))")
        case .closing: context.close(promise: nil)
        }
    }

    /// `PeerTransport.cutOff`, or `accepted`.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is PeerTransport.TooManyStrangers { return endUnlessKnown() }
        guard let refusal = event as? Refusal else {
            return context.fireUserInboundEventTriggered(event)
        }
        if case .closing = phase { return }
        refuse(refusal)
    }

    private func refuse(_ refusal: Refusal) {
        var who = "a connection from \(address)"
        if case .open(let member, let lane) = phase {
            who = "what node \(member) sent from \(address) (\(lane))"
        }
        phase = .closing
        transport.counters.refused.add(1, ordering: .relaxed)
        logEnd("refused \(who): \(refusal)")
        guard let channel else { return }
        channel.writeAndFlush(ByteBuffer(bytes: refusal.encodedFrame())).whenComplete { _ in
            channel.close(promise: nil)
        }
    }

    private func endUnlessKnown() {
        if case .open = phase { return }
        end(
            "closed the connection from \(address): too many connections without a hello, and this"
                + " was the oldest")
    }

    private func end(_ line: String) {
        if case .closing = phase { return }
        phase = .closing
        logEnd(line)
        channel?.close(promise: nil)
    }

    /// The port changes with every try, so it is not part of what makes a line new.
    private func logEnd(_ line: String) {
        let text = line.replacing(address, with: host)
        transport.logRepeated(line, sameAs: text, key: "incoming \(text)")
    }
}
