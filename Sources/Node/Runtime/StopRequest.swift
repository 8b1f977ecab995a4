// A request to stop that is no signal: `martlet dev` holds the other end of its nodes' standard
// input, so that they end with it even if it is killed.
import Glibc
import Synchronization

package final class StopRequest: Sendable {
    private struct State {
        var handler: (@Sendable () -> Void)?
        var isRequested = false
    }

    private let state = Mutex(State())

    package init() {}

    package func request() {
        let handler = state.withLock { state in
            state.isRequested = true
            return state.handler
        }
        handler?()
    }

    func setHandler(_ handler: @escaping @Sendable () -> Void) {
        let isLate = state.withLock { state in
            state.handler = handler
            return state.isRequested
        }
        if isLate { handler() }
    }

    /// Requests the stop when standard input ends. The thread lives until then.
    package func requestAtEndOfInput() {
        startThread(name: "stdin") { [self] in
            var byte: UInt8 = 0
            while true {
                let got = read(0, &byte, 1)
                if got > 0 || (got < 0 && errno == EINTR) { continue }
                return request()
            }
        }
    }
}
