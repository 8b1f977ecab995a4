// The event loops that serve clients. A component of its own, because answers of the replica come
// back to them for as long as it runs: they start before it and end after it.
import NIOCore
import NIOPosix
import Synchronization

package final class ClientEventLoops: NodeComponent {
    package let name = "client-loops"
    private let count: Int
    private let loops = Mutex<MultiThreadedEventLoopGroup?>(nil)

    package init(count: Int) { self.count = count }

    /// Nil unless started.
    var group: (any EventLoopGroup)? { loops.withLock { $0 } }

    package func start() async throws {
        loops.withLock { $0 = MultiThreadedEventLoopGroup(numberOfThreads: count) }
    }

    package func stop() async {
        let stopped = loops.withLock { loops in
            defer { loops = nil }
            return loops
        }
        try? await stopped?.shutdownGracefully()
    }
}
