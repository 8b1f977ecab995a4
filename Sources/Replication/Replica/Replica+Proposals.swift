// Group commit: proposals that waited go into one entry, up to a megabyte; at most a few entries
// are on their way before the next must gather more, so that groups grow under load.
import Engine

/// A batch that waits to become part of an entry.
struct WaitingProposal {
    var batch: WriteBatch
    var term: Term
    var completion: @Sendable (ProposalOutcome) -> Void
}

/// Proposals in the log whose outcome is not known, in the order of their entries.
struct ProposalTable {
    private struct Open {
        var index: LogIndex
        var term: Term
        var deadline: UInt64?
        var completions: [@Sendable (ProposalOutcome) -> Void]
    }

    private var open: [Open] = []
    private var head = 0

    var entriesInFlight: Int { open.count - head }

    mutating func add(
        _ index: LogIndex, _ term: Term, _ completions: [@Sendable (ProposalOutcome) -> Void]
    ) {
        open.append(Open(index: index, term: term, completions: completions))
    }

    /// The entry at this position was applied here.
    mutating func applied(_ position: Position) {
        while head < open.count, open[head].index <= position.index {
            let item = open[head]
            head += 1
            let outcome: ProposalOutcome =
                item.index == position.index && item.term == position.term
                ? .applied(position)
                : .notApplied(reason: "another leader's entry took its place")
            for completion in item.completions { completion(outcome) }
        }
        compact()
    }

    /// A new leader removed everything above `index`.
    mutating func truncate(after index: LogIndex) {
        while open.count > head, let last = open.last, last.index > index {
            open.removeLast()
            for completion in last.completions {
                completion(.notApplied(reason: "a new leader replaced it before it was committed"))
            }
        }
        compact()
    }

    mutating func leadershipLost(deadline: UInt64) {
        for at in head..<open.count where open[at].deadline == nil {
            open[at].deadline = deadline
        }
    }

    /// Gives up on entries that stayed undecided too long after leadership was lost.
    mutating func expire(now: UInt64) {
        while head < open.count, let deadline = open[head].deadline, deadline <= now {
            finish(open[head])
            head += 1
        }
        compact()
    }

    mutating func failAll() {
        while head < open.count {
            finish(open[head])
            head += 1
        }
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

extension Replica {
    /// Entries on their way above which a new one waits to gather more.
    private static let entriesInFlightMax = 2
    /// Gathered bytes at which a new entry goes out at once.
    private static let eagerBytes = 256 << 10

    /// Makes entries from what waits and hands them to consensus.
    func propose() {
        guard waitingHead < waitingProposals.count, !hasFailed else { return }
        while waitingHead < waitingProposals.count {
            guard openProposals.entriesInFlight < Replica.entriesInFlightMax || waitingIsEager(),
                core.role != .leader || core.canPropose(bytes: Limits.groupBytes)
            else { return }
            proposeGroup()
        }
        waitingProposals.removeAll(keepingCapacity: true)
        waitingHead = 0
    }

    private func waitingIsEager() -> Bool {
        var bytes = 0
        for proposal in waitingProposals[waitingHead...] {
            bytes += proposal.batch.byteCount
            if bytes >= Replica.eagerBytes { return true }
        }
        return false
    }

    /// One entry from the proposals in front of the queue.
    private func proposeGroup() {
        var group = WriteBatch()
        var completions: [@Sendable (ProposalOutcome) -> Void] = []
        while waitingHead < waitingProposals.count {
            let proposal = waitingProposals[waitingHead]
            if let refusal = refusal(of: proposal) {
                waitingHead += 1
                proposal.completion(refusal)
                continue
            }
            if !group.isEmpty, group.byteCount + proposal.batch.byteCount > Limits.groupBytes {
                break
            }
            waitingHead += 1
            group.append(proposal.batch)
            completions.append(proposal.completion)
        }
        guard !group.isEmpty else { return }
        let distance = tail.nextSequence.rawValue - store.horizon.rawValue
        let entry = make(.write, group.payload(horizonDistance: distance))
        openProposals.add(entry.index, entry.term, completions)
        step(.propose([entry]))
    }

    private func refusal(of proposal: WaitingProposal) -> ProposalOutcome? {
        guard core.evaluableTerm(applied: store.applied) == proposal.term else {
            return .notApplied(reason: "this node does not lead any more")
        }
        return nil
    }

    func refuseWaitingProposals(_ reason: String) {
        for proposal in waitingProposals[waitingHead...] {
            proposal.completion(.notApplied(reason: reason))
        }
        waitingProposals.removeAll(keepingCapacity: true)
        waitingHead = 0
    }

    /// The machine did not take entries that were made for it: leadership ended in between.
    func dropped(_ entries: [Entry]) {
        guard let first = entries.first else { return }
        openProposals.truncate(after: first.index - 1)
    }

    func failProposals() {
        refuseWaitingProposals("the node is stopping")
        openProposals.failAll()
    }
}
