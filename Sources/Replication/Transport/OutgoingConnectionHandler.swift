// The dialling end of a connection: hello once the peer's certificate is accepted, then nothing
// comes back but the peer's hello, and at the end perhaps a refusal.
import Engine
import NIOCore
import NIOSSL
import Synchronization

final class OutgoingConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum Phase {
        case securing
        case helloSent(PeerIdentity)
        case open
        case closing
    }

    private let link: OutgoingLink
    private let attempt: Int
    private let transport: PeerTransport
    private var assembler: FrameAssembler
    private var phase = Phase.securing
    private var channel: (any Channel)?

    init(link: OutgoingLink, attempt: Int) {
        self.link = link
        self.attempt = attempt
        transport = link.transport
        assembler = FrameAssembler(limits: transport.configuration.limits)
    }

    func handlerAdded(context: ChannelHandlerContext) { channel = context.channel }
    func handlerRemoved(context: ChannelHandlerContext) { channel = nil }

    /// The additional-verification hook: the chain holds, now who is it? TLS is let through even if
    /// the answer is wrong, but only to tell the peer why; no frame of its is read then. (Failing
    /// the hook would close the connection without a word.) What is written here leaves when the
    /// handshake is complete.
    func chainVerified(_ certificate: NIOSSLCertificate) {
        guard case .securing = phase else { return }
        do throws(Refusal) {
            let peer = try PeerSecurity.identity(of: certificate)
            try transport.judge(peer, expected: link.member)
            phase = .helloSent(peer)
            let hello = transport.hello(to: link.member, lane: link.lane)
            channel?.writeAndFlush(ByteBuffer(bytes: hello.encodedFrame()), promise: nil)
        } catch {
            refuse(error)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .closing = phase { return }
        unwrapInboundIn(data).withUnsafeReadableBytes { assembler.append($0) }
        do throws(DecodingError) {
            while let frame = try assembler.next() {
                try handle(frame)
                if case .closing = phase { return }
            }
        } catch {
            refuse(Refusal(.protocolViolation, error.what))
        }
    }

    private func handle(_ frame: FrameAssembler.Frame) throws(DecodingError) {
        switch (frame.type, phase) {
        case (.refusal, _):
            let refusal = try assembler.withPayload(of: frame, Refusal.init(decoding:))
            end("it refused this node: \(refusal)")
        case (.hello, .helloSent(let certificate)):
            let hello = try assembler.withPayload(of: frame, Hello.init(decoding:))
            do throws(Refusal) {
                try transport.judge(
                    hello, certificate: certificate, expected: link.member, lane: link.lane)
            } catch { return refuse(error) }
            phase = .open
            if let channel { link.opened(attempt, channel) }
        default:
            throw DecodingError("a frame of type \(frame.type) on a connection that this node made")
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { link.writabilityChanged(attempt) }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        link.noteEnd(attempt, describeNetworkError(error))
        context.close(promise: nil)
    }

    private func refuse(_ refusal: Refusal) {
        phase = .closing
        transport.counters.refused.add(1, ordering: .relaxed)
        link.noteEnd(attempt, "this node refused it: \(refusal)")
        closeAfterWriting(refusal)
    }

    private func closeAfterWriting(_ refusal: Refusal) {
        guard let channel else { return }
        channel.writeAndFlush(ByteBuffer(bytes: refusal.encodedFrame())).whenComplete { _ in
            channel.close(promise: nil)
        }
    }

    private func end(_ reason: String) {
        phase = .closing
        link.noteEnd(attempt, reason)
        channel?.close(promise: nil)
    }
}
