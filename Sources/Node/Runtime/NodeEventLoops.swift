// The event loops of a node: those that serve clients, and the one on which the replica has its
// turns and talks with its peers. A component of its own, because answers of the replica come back
// to the clients' loops for as long as it runs: they start before it and end after it.
//
// On a machine of one or two processors one loop does both, unless `client.threads` asks for more.
// A write then costs two hand-overs between threads less, and what many clients ask for at a time
// goes into fewer entries. On larger ones what clients ask for never holds up a heartbeat.
import NIOCore
import NIOPosix
import Synchronization

package final class NodeEventLoops: NodeComponent {
    package let name = "event-loops"
    /// 0: the replica's loop serves clients.
    package let clientThreads: Int
    private let running = Mutex<Loops?>(nil)

    private struct Loops {
        var clients: MultiThreadedEventLoopGroup
        /// Nil if it is one of the clients'.
        var replica: MultiThreadedEventLoopGroup?
    }

    /// `wanted`: of the setting; 0 leaves it to the machine.
    package init(clientThreads wanted: Int, processors: Int = System.coreCount) {
        clientThreads = wanted > 0 ? wanted : processors > 2 ? 2 : 0
    }

    /// Nil unless started.
    package var clients: (any EventLoopGroup)? { running.withLock { $0?.clients } }
    /// Nil unless started.
    package var replica: (any EventLoop)? {
        running.withLock { running in running.map { ($0.replica ?? $0.clients).next() } }
    }

    package func start() async throws {
        let loops = Loops(
            clients: MultiThreadedEventLoopGroup(numberOfThreads: max(1, clientThreads)),
            replica: clientThreads > 0 ? MultiThreadedEventLoopGroup(numberOfThreads: 1) : nil)
        running.withLock { $0 = loops }
    }

    package func stop() async {
        let stopped = running.withLock { running in
            defer { running = nil }
            return running
        }
        try? await stopped?.clients.shutdownGracefully()
        try? await stopped?.replica?.shutdownGracefully()
    }
}
