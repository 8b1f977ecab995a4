// Socket options and bootstraps of peer connections.
import Engine
import NIOCore
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum PeerSockets {
    /// Bytes that a connection's own buffers may hold before it counts as not writable.
    private static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(
        low: 64 << 10, high: 256 << 10)
    private static let receiveAllocator = AdaptiveRecvByteBufferAllocator(
        minimum: 1024, initial: 8192, maximum: 256 << 10)
    /// A peer that vanished does not say so. Data that nobody acknowledges breaks a connection
    /// after this time, so that a returning peer is dialled at once and not when TCP tries again.
    private static let unacknowledgedMilliseconds = 5000

    private static var options: [(ChannelOptions.Types.SocketOption, Int)] {
        var options: [(ChannelOptions.Types.SocketOption, Int)] = [
            (ChannelOptions.Types.SocketOption(level: .tcp, name: .tcp_nodelay), 1),
            (ChannelOptions.Types.SocketOption(level: .socket, name: .so_keepalive), 1),
        ]
        #if os(Linux)
            for (name, value) in [
                (TCP_KEEPIDLE, 10), (TCP_KEEPINTVL, 5), (TCP_KEEPCNT, 3),
                (TCP_USER_TIMEOUT, unacknowledgedMilliseconds),
            ] {
                options.append(
                    (
                        ChannelOptions.Types.SocketOption(
                            level: .tcp, name: NIOBSDSocket.Option(rawValue: name)), value
                    ))
            }
        #endif
        return options
    }

    static func dial(
        _ address: PeerAddress, on loop: any EventLoop, configuration: PeerTransportConfiguration,
        setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        var bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(.milliseconds(configuration.connectTimeoutMilliseconds))
            .channelOption(.writeBufferWaterMark, value: waterMark)
            .channelOption(.recvAllocator, value: receiveAllocator)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try setUp(channel) }
            }
        for (option, value) in options { bootstrap = bootstrap.channelOption(option, value: value) }
        return bootstrap.connect(host: address.host, port: address.port)
    }

    static func listen(
        _ configuration: PeerTransportConfiguration, on group: any EventLoopGroup,
        setUp: @escaping @Sendable (any Channel) throws -> Void
    ) -> EventLoopFuture<any Channel> {
        var bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.recvAllocator, value: receiveAllocator)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try setUp(channel) }
            }
        for (option, value) in options {
            bootstrap = bootstrap.childChannelOption(option, value: value)
        }
        return bootstrap.bind(host: configuration.listenHost, port: configuration.listenPort)
    }
}
