// The client edge of this node: the evaluator, the pool for reads that need the disk, the RESP
// listener.
import Engine
import Logging
import NIOCore
import Replication
import Synchronization

package final class ClientComponent: NodeComponent {
    package let name = "clients"
    private let configuration: NodeConfiguration
    private let replica: ReplicaComponent
    private let surface: NodeSurface
    private let loops: NodeEventLoops
    private let logger: Logger
    private let running = Mutex<Running?>(nil)

    private struct Running: Sendable {
        var listener: RESPListener
        var pools: Pools
    }

    private struct Pools: Sendable {
        var evaluator: Evaluator
        var readPool: ThreadPool
        var evaluatorPool: ThreadPool

        /// What other members forward until this node has given up its leadership is sent back.
        func stop() async {
            await withCheckedContinuation { (closed: CheckedContinuation<Void, Never>) in
                evaluator.close { closed.resume() }
            }
            evaluatorPool.stop()
            readPool.stop()
        }
    }

    package init(
        _ configuration: NodeConfiguration, replica: ReplicaComponent, surface: NodeSurface,
        loops: NodeEventLoops, logger: Logger
    ) {
        self.configuration = configuration
        self.replica = replica
        self.surface = surface
        self.loops = loops
        self.logger = logger
    }

    package func start() async throws {
        guard let service = replica.replica, let loops = loops.clients else {
            throw NodeFailure(.software, "clients cannot be served before the replica runs")
        }
        let readPool = ThreadPool(name: "martlet-read", threads: 4)
        let evaluatorPool = ThreadPool(name: "martlet-eval", threads: 1)
        let evaluator = Evaluator(service: service, settings: settings) { work in
            evaluatorPool.submit(.flush, work)
        }
        let environment = SessionEnvironment(
            service: service, evaluator: evaluator, settings: settings, admin: surface
        ) { work in
            readPool.submit(.flush, work)
        }
        let pools = Pools(
            evaluator: evaluator, readPool: readPool, evaluatorPool: evaluatorPool)
        do {
            let listener = try await RESPListener.start(
                host: configuration.listen.host, port: configuration.listen.respPort,
                group: loops, environment: environment
            ).get()
            logger.notice("serving clients", metadata: ["address": "\(listener.address)"])
            surface.attach(environment)
            running.withLock { $0 = Running(listener: listener, pools: pools) }
        } catch {
            await pools.stop()
            guard error is IOError else { throw error }
            throw NodeFailure(
                binding: "listen.resp-port", host: configuration.listen.host,
                port: configuration.listen.respPort, error)
        }
    }

    package func stop() async {
        let stopped = running.withLock { running in
            defer { running = nil }
            return running
        }
        guard let stopped else { return }
        try? await stopped.listener.stop(grace: .seconds(2)).get()
        surface.attach(nil)
        await stopped.pools.stop()
    }

    private var settings: RESPSettings {
        var settings = RESPSettings()
        let client = configuration.client
        settings.valueBytes = Int(clamping: client.valueBytesMax)
        settings.clientsMax = client.connectionsMax
        settings.pipelineCommands = client.pipelineCommandsMax
        settings.pipelineBytes = Int(clamping: client.pipelineBytesMax)
        settings.inputBytes = Int(clamping: client.inputBytesMax)
        settings.outputBytes = Int(clamping: client.outputBytesMax)
        settings.outputTotalBytes = Int(clamping: client.outputTotalBytesMax)
        settings.stalenessMilliseconds = client.stalenessMilliseconds
        return settings
    }
}
