// A load on a cluster from start to end: event loops, their workers, one report.
import NIOCore
import NIOPosix

package enum ClusterLoad {
    /// Blocks until the load has ended; not for a thread of an event loop.
    package static func run(_ options: LoadOptions) throws -> LoadReport {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: options.threads)
        defer { group.shutdownGracefully { _ in } }
        let addresses = try options.endpoints.map {
            try SocketAddress.makeAddressResolvingHost($0.host, port: $0.port)
        }
        let workers = (0..<options.threads).map {
            LoadWorker(options, addresses: addresses, loop: group.next(), share: $0)
        }
        for worker in workers { try worker.connect().wait() }
        let start = monotonicNanoseconds()
        let running = workers.map { $0.run(start: start) }
        var total = LoadReport()
        for future in running {
            let report = try future.wait()
            total.merge(report)
            total.seconds = max(total.seconds, report.seconds)
        }
        return total
    }
}
