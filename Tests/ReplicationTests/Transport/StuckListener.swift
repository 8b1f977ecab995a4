// A member that accepts connections, answers the hello, and never reads again.
import Engine
import NIOCore
import NIOPosix
import NIOSSL
import Replication

final class StuckListener: Sendable {
    private let server: any Channel
    private let accepted: Recorder<any Channel>

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        var assembler = FrameAssembler(limits: FrameLimits())

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            unwrapInboundIn(data).withUnsafeReadableBytes { assembler.append($0) }
            guard let frame = try? assembler.next(),
                let hello = try? assembler.withPayload(of: frame, Hello.init(decoding:))
            else { return }
            let answer = Hello(
                cluster: hello.cluster, group: hello.group, sender: hello.receiver,
                receiver: hello.sender, lane: hello.lane, bootCounter: 1, nonce: 1)
            context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
            context.channel.writeAndFlush(
                ByteBuffer(bytes: answer.encodedFrame()), promise: nil)
        }
    }

    private init(_ server: any Channel, _ accepted: Recorder<any Channel>) {
        self.server = server
        self.accepted = accepted
    }

    var port: Int { server.localAddress?.port ?? 0 }

    static func start() async throws -> StuckListener {
        let files = TestAuthority.shared.leaf("alpha-2")
        let tls = try NIOSSLContext(
            configuration: .makeServerConfigurationWithMTLS(
                certificateChain: try NIOSSLCertificate.fromPEMFile(files.certificate)
                    .map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: files.key, format: .pem)),
                trustRoots: .file(TestAuthority.shared.authority)))
        let accepted = Recorder<any Channel>()
        let server = try await ServerBootstrap(group: testGroup)
            .childChannelInitializer { channel in
                accepted.record(channel)
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([
                        NIOSSLServerHandler(context: tls), Handler(),
                    ])
                }
            }.bind(host: "127.0.0.1", port: 0).get()
        return StuckListener(server, accepted)
    }

    /// Breaks every connection and stops listening.
    func close() {
        server.close(promise: nil)
        for channel in accepted.elements { channel.close(promise: nil) }
    }
}
