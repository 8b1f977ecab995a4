// Questions that wait for an answer: forwarded commands, read indexes, fetches. Pure: it holds
// completions and hands them back, it never calls one. Every request leaves exactly once: answered,
// expired, or failed with its peer. Used by the replica on its own thread.
import Engine

package struct RequestTable<Completion> {
    private struct Pending {
        var peer: MemberID
        var deadline: UInt64
        var completion: Completion
    }

    private var pending: [RequestID: Pending] = [:]
    /// Heap by (deadline, id). An answered request stays in it until its deadline or `compact`.
    private var deadlines: [(deadline: UInt64, id: RequestID)] = []
    private var nextID: RequestID

    /// Answers to questions of an earlier process must match none of this one: start at a number
    /// that the boot drew at random.
    package init(firstID: RequestID) { nextID = firstID }

    package var count: Int { pending.count }
    package var isEmpty: Bool { pending.isEmpty }

    /// `deadline` is on the clock of `expire(now:)`.
    package mutating func add(to peer: MemberID, deadline: UInt64, _ completion: Completion)
        -> RequestID
    {
        let id = nextID
        nextID &+= 1
        pending[id] = Pending(peer: peer, deadline: deadline, completion: completion)
        pushDeadline(deadline, id)
        return id
    }

    /// The completion that an answer from `peer` is for; nil if nobody waits (any more), or if that
    /// member was not the one asked.
    package mutating func answered(_ id: RequestID, by peer: MemberID) -> Completion? {
        guard let request = pending[id], request.peer == peer else { return nil }
        pending[id] = nil
        compactIfSparse()
        return request.completion
    }

    /// Takes back a question that could not be sent.
    package mutating func cancel(_ id: RequestID) -> Completion? {
        let completion = pending.removeValue(forKey: id)?.completion
        compactIfSparse()
        return completion
    }

    /// Completions whose deadline is at or before `now`, earliest first.
    package mutating func expire(now: UInt64) -> [Completion] {
        var expired: [Completion] = []
        while let first = deadlines.first, first.deadline <= now {
            popDeadline()
            if let request = pending.removeValue(forKey: first.id) {
                expired.append(request.completion)
            }
        }
        return expired
    }

    /// Completions of everything that was asked of `peer`, oldest first.
    package mutating func failAll(of peer: MemberID) -> [Completion] {
        let ids = pending.compactMap { $0.value.peer == peer ? $0.key : nil }.sorted()
        let failed = ids.compactMap { pending.removeValue(forKey: $0)?.completion }
        compactIfSparse()
        return failed
    }

    /// Nobody but `peer` is expected to answer any more: what was asked of others waits until
    /// `deadline` at most.
    package mutating func hasten(exceptOf peer: MemberID, deadline: UInt64) {
        let late = pending.filter { $0.value.peer != peer && $0.value.deadline > deadline }
        for id in late.keys.sorted() {
            pending[id]?.deadline = deadline
            pushDeadline(deadline, id)
        }
    }

    /// Every completion, oldest first.
    package mutating func failAll() -> [Completion] {
        let failed = pending.sorted { $0.key < $1.key }.map(\.value.completion)
        pending.removeAll()
        deadlines.removeAll()
        return failed
    }

    /// The earliest deadline that may matter; nil if nothing waits.
    package var nextDeadline: UInt64? { pending.isEmpty ? nil : deadlines.first?.deadline }

    // MARK: Heap

    private mutating func pushDeadline(_ deadline: UInt64, _ id: RequestID) {
        deadlines.append((deadline, id))
        var child = deadlines.count - 1
        while child > 0, deadlines[child] < deadlines[(child - 1) / 2] {
            deadlines.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func popDeadline() {
        deadlines.swapAt(0, deadlines.count - 1)
        deadlines.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < deadlines.count && deadlines[child] < deadlines[least] {
                least = child
            }
            guard least != parent else { return }
            deadlines.swapAt(parent, least)
            parent = least
        }
    }

    /// Keeps the heap within a constant factor of what waits.
    private mutating func compactIfSparse() {
        guard deadlines.count > 64, deadlines.count > 4 * pending.count else { return }
        // A sorted array is a heap.
        deadlines = pending.map { ($0.value.deadline, $0.key) }.sorted { $0 < $1 }
    }
}
