// Counts of a transport since its start, for metrics and tests.
import Engine
import Synchronization

/// A reading of the counters.
package struct PeerTransportCounts: Sendable, Hashable {
    package var messagesSent = 0
    package var bytesSent = 0
    /// Writes to sockets: messages sent in a burst share one.
    package var flushes = 0
    package var messagesReceived = 0
    package var bytesReceived = 0
    package var controlDropped = 0
    package var bulkDropped = 0
    package var urgentDropped = 0
    /// Connections that this side refused.
    package var refused = 0
}

final class PeerCounters: Sendable {
    let messagesSent = Atomic(0)
    let bytesSent = Atomic(0)
    let flushes = Atomic(0)
    let messagesReceived = Atomic(0)
    let bytesReceived = Atomic(0)
    let refused = Atomic(0)
    private let controlDropped = Atomic(0)
    private let bulkDropped = Atomic(0)
    private let urgentDropped = Atomic(0)

    func countDropped(_ lane: PeerLane, _ count: Int = 1) {
        switch lane {
        case .control: controlDropped.add(count, ordering: .relaxed)
        case .bulk: bulkDropped.add(count, ordering: .relaxed)
        case .urgent: urgentDropped.add(count, ordering: .relaxed)
        }
    }

    func read() -> PeerTransportCounts {
        PeerTransportCounts(
            messagesSent: messagesSent.load(ordering: .relaxed),
            bytesSent: bytesSent.load(ordering: .relaxed),
            flushes: flushes.load(ordering: .relaxed),
            messagesReceived: messagesReceived.load(ordering: .relaxed),
            bytesReceived: bytesReceived.load(ordering: .relaxed),
            controlDropped: controlDropped.load(ordering: .relaxed),
            bulkDropped: bulkDropped.load(ordering: .relaxed),
            urgentDropped: urgentDropped.load(ordering: .relaxed),
            refused: refused.load(ordering: .relaxed))
    }
}
