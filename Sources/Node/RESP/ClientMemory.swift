// What the clients of a node may make it hold: one count of bytes for unexecuted input and one for
// replies that are not taken, each over all event loops. Sessions report every change of what they
// hold; whoever is about to produce more looks at `isFull` first. What is over a limit is given
// back by closing the clients that hold more than their share (`ClientLoop.relieve`), so that one
// greedy client never costs a modest one its connection.
//
// Invariant: each holder takes back exactly what it added, so the count of an idle node is zero.
import NIOCore
import Synchronization

package final class ClientMemory: Sendable {
    package let limit: Int
    private let total = Atomic<Int>(0)
    private let holders = Atomic<Int>(0)

    package init(limit: Int) { self.limit = limit }

    package var bytes: Int { total.load(ordering: .relaxed) }
    package var isFull: Bool { bytes >= limit }

    /// What each would have if all that hold something held the same. If the limit is exceeded,
    /// somebody holds more.
    package var fairShare: Int { limit / max(1, holders.load(ordering: .relaxed)) }

    /// What one client holds went from `old` to `new` bytes.
    package func change(from old: Int, to new: Int) {
        guard old != new else { return }
        if (old == 0) != (new == 0) { holders.add(old == 0 ? 1 : -1, ordering: .relaxed) }
        add(new - old)
    }

    /// Bytes on their way to a client that counts as a holder, or from one.
    package func add(_ bytes: Int) { total.add(bytes, ordering: .relaxed) }
}

/// Asks all event loops of a node to relieve a full `ClientMemory`: who holds too much may be
/// served by another loop than the one that notices.
final class ClientRelief: Sendable {
    private let loops = Mutex<[@Sendable () -> Void]>([])

    func add(_ ask: @escaping @Sendable () -> Void) { loops.withLock { $0.append(ask) } }

    func ask() {
        for ask in loops.withLock({ $0 }) { ask() }
    }
}

/// How far a client is with taking its replies. Owned by its session.
struct OutputProgress {
    /// Bytes in buffers that the channel still holds.
    private(set) var pending = 0
    /// When the client last took something, or was first given something to take.
    private(set) var lastTaken: NIODeadline
    private var written = 0
    private var taken = 0

    init(now: NIODeadline) { lastTaken = now }

    mutating func wrote(_ bytes: Int, now: NIODeadline) {
        if pending == 0 { lastTaken = now }
        pending += bytes
        written += bytes
    }

    /// The client took something that the channel never held.
    mutating func passed(now: NIODeadline) { lastTaken = now }

    /// A buffer was taken whole.
    mutating func released(_ bytes: Int, now: NIODeadline) {
        pending -= bytes
        taken = max(taken, written - pending)
        lastTaken = now
    }

    /// Takes note of part of a buffer; `buffered` bytes are not taken.
    mutating func look(buffered: Int, now: NIODeadline) {
        guard written - buffered > taken else { return }
        taken = written - buffered
        lastTaken = now
    }
}
