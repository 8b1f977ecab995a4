// Questions to peers that a thread waits for: blocks, entries, manifests, remote reads.
import Engine
import Synchronization

final class PeerFetches: Sendable {
    private struct State {
        var transport: PeerTransport?
        var table = RequestTable<Waiter>(firstID: 1)
    }

    /// One waiting thread.
    private final class Waiter: @unchecked Sendable {
        private let monitor = Monitor()
        private var reply: FetchReply?
        private var isDone = false

        func finish(_ reply: FetchReply?) {
            monitor.lock()
            if !isDone {
                self.reply = reply
                isDone = true
                monitor.broadcast()
            }
            monitor.unlock()
        }

        func wait(until deadline: UInt64) -> FetchReply? {
            monitor.lock()
            defer { monitor.unlock() }
            while !isDone {
                guard monotonicMilliseconds() < deadline else { return nil }
                monitor.wait(until: deadline)
            }
            return reply
        }
    }

    private let state = Mutex(State())

    func start(transport: PeerTransport) {
        state.withLock {
            $0.transport = transport
            $0.table = RequestTable(firstID: transport.configuration.nonce | 1)
        }
    }

    /// Blocks until the answer, the deadline (milliseconds from now) or the connection's end.
    func ask(_ request: FetchRequest, of member: MemberID, deadline: UInt64) -> FetchReply? {
        let until = monotonicMilliseconds() + deadline
        let waiter = Waiter()
        let (id, transport) = state.withLock { state in
            (state.table.add(to: member, deadline: until, waiter), state.transport)
        }
        guard let transport, transport.send(.fetch(id, request), to: member) else {
            _ = state.withLock { $0.table.cancel(id) }
            return nil
        }
        return waiter.wait(until: until)
    }

    func answered(_ id: RequestID, by member: MemberID, _ reply: FetchReply) {
        state.withLock { $0.table.answered(id, by: member) }?.finish(reply)
    }

    func lost(_ member: MemberID) {
        for waiter in state.withLock({ $0.table.failAll(of: member) }) { waiter.finish(nil) }
    }

    func expire(now: UInt64) {
        for waiter in state.withLock({ $0.table.expire(now: now) }) { waiter.finish(nil) }
    }

    func failAll() {
        for waiter in state.withLock({ $0.table.failAll() }) { waiter.finish(nil) }
    }
}
