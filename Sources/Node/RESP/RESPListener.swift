// The socket that Redis clients connect to. Binds, gives each accepted connection a session on its
// event loop, and stops in order: no new connections, then every session answers what it has
// received, then what is left is closed.
import NIOCore
import NIOPosix

package final class RESPListener: Sendable {
    /// Where it listens; the port that the system chose if 0 was asked for.
    package let address: SocketAddress
    private let channel: any Channel
    private let loops: [ClientLoop]
    private let group: any EventLoopGroup

    private init(
        channel: any Channel, address: SocketAddress, loops: [ClientLoop], group: any EventLoopGroup
    ) {
        self.channel = channel
        self.address = address
        self.loops = loops
        self.group = group
    }

    /// Binds and listens. `group`'s loops serve the clients.
    package static func start(
        host: String, port: Int, group: any EventLoopGroup, environment: SessionEnvironment
    ) -> EventLoopFuture<RESPListener> {
        var loops: [ClientLoop] = []
        for eventLoop in group.makeIterator() {
            loops.append(ClientLoop(eventLoop: eventLoop, environment: environment))
        }
        let all = loops
        return ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            // Sessions ask for input when they have room.
            .childChannelOption(.autoRead, value: false)
            // A channel keeps as many buffers of up to 64 KiB as it reads at a time.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            // What a client does not take stays here, where it is counted, and not in the kernel:
            // only what is on its way, and so much more.
            .childChannelOption(unsentLowWater, value: 512 << 10)
            // A client that has sent everything may close its side and still read the answers.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let loop = all.first(where: { $0.eventLoop === channel.eventLoop }) else {
                        throw ChannelError.operationUnsupported
                    }
                    try channel.pipeline.syncOperations.addHandler(Session(loop: loop))
                }
            }
            .bind(host: host, port: port)
            .flatMapThrowing { channel in
                guard let address = channel.localAddress else {
                    throw ChannelError.unknownLocalAddress
                }
                return RESPListener(channel: channel, address: address, loops: all, group: group)
            }
    }

    /// TCP_NOTSENT_LOWAT, which the C library's module does not name.
    private static let unsentLowWater = ChannelOptions.Types.SocketOption(
        level: .tcp, name: NIOBSDSocket.Option(rawValue: 25))

    /// Stops listening and lets the sessions finish for at most `grace`. The group must outlive the
    /// future.
    package func stop(grace: TimeAmount) -> EventLoopFuture<Void> {
        let anyLoop = group.next()
        let loops = loops
        let closed = channel.close().flatMapError { _ in anyLoop.makeSucceededVoidFuture() }
        let drained = closed.hop(to: anyLoop).flatMap {
            EventLoopFuture.andAllComplete(
                loops.map { loop in loop.eventLoop.flatSubmit { loop.drain() } }, on: anyLoop)
        }
        let timer = anyLoop.scheduleTask(in: grace) {
            for loop in loops { loop.eventLoop.execute { loop.closeAll() } }
        }
        drained.whenComplete { _ in timer.cancel() }
        return drained
    }
}
