// A part of a running node that opens something: the store, the peer transport, the RESP listener,
// the HTTP listener. The runtime starts them in order and stops them in reverse.
import Synchronization

package protocol NodeComponent: AnyObject, Sendable {
    /// For logs.
    var name: String { get }

    /// Returns once it serves: files are open, the port is bound. After a throw nothing is left.
    func start() async throws

    /// Returns once nothing of it runs any more. Called once after each successful start.
    func stop() async

    /// Reads again what may change while it runs, and logs how that went. At any time.
    func reload() async
}

extension NodeComponent {
    package func reload() async {}
}

/// Where any part of a node, on any thread, says that the process must end: a failed sync, for one.
/// The first report counts.
package final class FatalReport: Sendable {
    private struct State {
        var failure: NodeFailure?
        var waiters: [CheckedContinuation<NodeFailure?, Never>] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    private let onFailure: @Sendable (NodeFailure) -> Void

    /// `onFailure` is called with the first report, on the thread that makes it.
    package init(onFailure: @escaping @Sendable (NodeFailure) -> Void = { _ in }) {
        self.onFailure = onFailure
    }

    package func report(_ failure: NodeFailure) {
        let isFirst = state.withLock { state in
            guard state.failure == nil else { return false }
            state.failure = failure
            return true
        }
        guard isFirst else { return }
        onFailure(failure)
        finish { _ in }
    }

    /// Releases the waiters without a failure.
    package func close() { finish { $0.isClosed = true } }

    package var isClosed: Bool { state.withLock { $0.isClosed || $0.failure != nil } }
    package var failure: NodeFailure? { state.withLock { $0.failure } }

    /// The failure as soon as there is one; nil after `close`.
    package func wait() async -> NodeFailure? {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.failure != nil || state.isClosed { return true }
                state.waiters.append(continuation)
                return false
            }
            if isDone { continuation.resume(returning: failure) }
        }
    }

    private func finish(_ change: (inout State) -> Void) {
        let (waiters, failure) = state.withLock { state in
            change(&state)
            defer { state.waiters = [] }
            return (state.waiters, state.failure)
        }
        for waiter in waiters { waiter.resume(returning: failure) }
    }
}
