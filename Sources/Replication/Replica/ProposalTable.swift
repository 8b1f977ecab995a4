// What clients wait for: proposals in the log whose outcome is not known, in the order of their
// entries. Pure, but that it calls completions. "Not applied" is said only when another entry was
// applied in the place: a client may then try again, and it must not happen twice.
import Engine

package struct ProposalTable {
    private struct Open {
        var index: LogIndex
        var term: Term
        var deadline: UInt64?
        var completions: [@Sendable (ProposalOutcome) -> Void]
    }

    private var open: [Open] = []
    private var head = 0
    /// Another leader's entries took their places here, which decides nothing yet: a third leader
    /// may bring them back. What is applied in their place decides.
    private var displaced: [Open] = []

    package init() {}

    package var entriesInFlight: Int { open.count - head }

    package mutating func add(
        _ index: LogIndex, _ term: Term, _ completions: [@Sendable (ProposalOutcome) -> Void]
    ) {
        open.append(Open(index: index, term: term, completions: completions))
    }

    /// The entry at this position was applied here.
    package mutating func applied(_ position: Position) {
        while head < open.count, open[head].index <= position.index {
            let item = open[head]
            head += 1
            decide(item, position)
        }
        compact()
        guard !displaced.isEmpty else { return }
        for item in displaced where item.index <= position.index { decide(item, position) }
        displaced.removeAll { $0.index <= position.index }
    }

    private func decide(_ item: Open, _ position: Position) {
        let outcome: ProposalOutcome =
            item.index == position.index && item.term == position.term
            ? .applied(position)
            : .notApplied(reason: "another leader's entry took its place")
        for completion in item.completions { completion(outcome) }
    }

    /// A new leader removed everything above `index` here. Until something is applied in its place,
    /// or `deadline`, the outcome is open.
    package mutating func displace(after index: LogIndex, deadline: UInt64) {
        while open.count > head, var last = open.last, last.index > index {
            open.removeLast()
            last.deadline = min(last.deadline ?? deadline, deadline)
            displaced.append(last)
        }
        compact()
    }

    /// Entries above `index` never reached consensus.
    package mutating func withdraw(after index: LogIndex) {
        while open.count > head, let last = open.last, last.index > index {
            open.removeLast()
            for completion in last.completions {
                completion(.notApplied(reason: "leadership ended before it was proposed"))
            }
        }
        compact()
    }

    package mutating func leadershipLost(deadline: UInt64) {
        for at in head..<open.count where open[at].deadline == nil {
            open[at].deadline = deadline
        }
    }

    /// Gives up on entries that stayed undecided too long after leadership was lost.
    package mutating func expire(now: UInt64) {
        while head < open.count, let deadline = open[head].deadline, deadline <= now {
            finish(open[head])
            head += 1
        }
        compact()
        guard !displaced.isEmpty else { return }
        let isOver: (Open) -> Bool = { ($0.deadline ?? .max) <= now }
        for item in displaced where isOver(item) { finish(item) }
        displaced.removeAll(where: isOver)
    }

    package mutating func failAll() {
        for item in displaced + open[head...] { finish(item) }
        displaced.removeAll()
        head = open.count
        compact()
    }

    private func finish(_ item: Open) {
        for completion in item.completions {
            completion(.unknown(term: item.term, index: item.index))
        }
    }

    private mutating func compact() {
        if head == open.count {
            open.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 256 {
            open.removeFirst(head)
            head = 0
        }
    }
}
