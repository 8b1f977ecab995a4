// What peers will say of this node's certificate: a TLS handshake of the node with itself, in
// memory, by the library and with the settings that members use. One end presents the certificate
// as a server, the other as a client; each is verified by the other.
import NIOCore
import NIOEmbedded
import NIOSSL

enum CertificateRehearsal {
    /// What the ends say, if they do not take each other's certificate; nil if they do.
    static func refusal(client: NIOSSLContext, server: NIOSSLContext) throws -> String? {
        let dialling = End()
        let accepting = End()
        defer {
            dialling.close()
            accepting.close()
        }
        try accepting.start(NIOSSLServerHandler(context: server))
        try dialling.start(NIOSSLClientHandler(context: client, serverHostname: nil))
        while dialling.flush(to: accepting) || accepting.flush(to: dialling) {}
        if dialling.isHeard, accepting.isHeard { return nil }
        let said = (dialling.errors + accepting.errors).joined(separator: "; ")
        return said.isEmpty ? "the handshake does not end" : said
    }

    private final class End: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let channel = EmbeddedChannel()
        /// The other end took the handshake as done, and so did this one.
        private(set) var isHeard = false
        private(set) var errors: [String] = []

        func start(_ tls: NIOSSLHandler) throws {
            try channel.pipeline.syncOperations.addHandlers([tls, self])
            try channel.connect(to: SocketAddress(unixDomainSocketPath: "memory")).wait()
            // Leaves when the handshake is done.
            channel.writeAndFlush(ByteBuffer(bytes: [0]), promise: nil)
        }

        /// Whether there was anything.
        func flush(to other: End) -> Bool {
            var isMoved = false
            while let bytes = try? channel.readOutbound(as: ByteBuffer.self) {
                // What the other end makes of it comes to its `errorCaught`.
                _ = try? other.channel.writeInbound(bytes)
                isMoved = true
            }
            return isMoved
        }

        /// Not `finish`, which would wait for a goodbye of the other end: the time for that is over
        /// at once.
        func close() {
            channel.close(promise: nil)
            channel.embeddedEventLoop.advanceTime(by: .hours(1))
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { isHeard = true }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            errors.append(String(describing: error).replacing("\n", with: " "))
        }
    }
}
