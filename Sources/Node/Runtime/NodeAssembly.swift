// Builds the parts of a node from its configuration, in the order in which they start: the data
// directory, loops, the administrative listener, the replica with its files and peers, the client
// listener.
import Engine
import Logging
import NIOCore
import NIOPosix
import Replication

enum NodeAssembly {
    static func components(
        _ configuration: NodeConfiguration, fatal: FatalReport, logger: Logger
    ) throws -> [any NodeComponent] {
        let eventLoops = MultiThreadedEventLoopGroup.singleton
        let directory = DirectoryComponent(configuration, logger: logger)
        let loops = NodeEventLoops(clientThreads: configuration.client.threads)
        let replica = ReplicaComponent(
            configuration, directory: directory, loops: loops, fatal: fatal, logger: logger)
        let surface = NodeSurface(configuration, replica: replica, fatal: fatal)
        return [
            directory,
            loops,
            AdministrationServer(
                host: configuration.listen.host, port: configuration.listen.httpPort,
                source: surface, eventLoops: eventLoops, logger: logger),
            replica,
            ClientComponent(
                configuration, replica: replica, surface: surface, loops: loops, logger: logger),
        ]
    }
}
