// Messages that wait for one lane of one peer. Any thread adds, the lane's event loop takes.
// Bounded in bytes: a peer that stops reading costs at most the bound and one message.
import Engine
import Synchronization

final class OutgoingQueue: Sendable {
    /// Called once: nil when all bytes were handed to the socket.
    typealias Completion = @Sendable (PeerSendFailure?) -> Void

    struct Item: Sendable {
        var message: PeerMessage
        var bytes: Int
        var completion: Completion?
    }

    enum Admission {
        case refused(PeerSendFailure)
        case queued
        /// Queued, and the caller has to schedule a drain.
        case wakesDrain
    }

    private enum Gate {
        /// Nobody to talk to: messages would only grow old.
        case closed(PeerSendFailure)
        /// A connection is being made.
        case holding
        case open
    }

    private struct State {
        var gate = Gate.closed(.notConnected)
        var items: [Item] = []
        /// Of `items` and of what was taken and is not written yet.
        var bytes = 0
        var isDrainScheduled = false
    }

    private let limitBytes: Int
    private let state = Mutex(State())

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    func add(_ item: Item) -> Admission {
        state.withLock { state in
            if case .closed(let failure) = state.gate { return .refused(failure) }
            // Judged before the message is added, so that one above the limit can pass at all.
            guard state.bytes < limitBytes else { return .refused(.queueFull) }
            state.items.append(item)
            state.bytes += item.bytes
            guard case .open = state.gate, !state.isDrainScheduled else { return .queued }
            state.isDrainScheduled = true
            return .wakesDrain
        }
    }

    /// Everything that waits; later additions wake a new drain.
    func takeAll() -> [Item] {
        state.withLock { state in
            state.isDrainScheduled = false
            var taken: [Item] = []
            swap(&taken, &state.items)
            return taken
        }
    }

    /// Taken messages of `bytes` are written (or dropped).
    func release(bytes: Int) { state.withLock { $0.bytes -= bytes } }

    func hold() { state.withLock { $0.gate = .holding } }

    func open() { state.withLock { $0.gate = .open } }

    /// Refuses further messages and gives back those that wait. What was taken counts no more.
    func close(_ failure: PeerSendFailure) -> [Item] {
        state.withLock { state in
            state.gate = .closed(failure)
            state.bytes = 0
            state.isDrainScheduled = false
            var dropped: [Item] = []
            swap(&dropped, &state.items)
            return dropped
        }
    }

    var queuedBytes: Int { state.withLock { $0.bytes } }
}
