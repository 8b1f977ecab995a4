// Group commit: proposals that waited go into one entry, up to a megabyte; at most a few entries
// are on their way to a quorum before the next must gather more, so that groups grow under load.
import Engine

/// A batch that waits to become part of an entry.
struct WaitingProposal {
    var batch: WriteBatch
    var term: Term
    var completion: @Sendable (ProposalOutcome) -> Void
}

extension Replica {
    /// Entries on their way above which a new one waits to gather more.
    private static let entriesInFlightMax: UInt64 = 2
    /// Gathered bytes at which a new entry goes out at once.
    private static let eagerBytes = 256 << 10

    /// Makes entries from what waits and hands them to consensus.
    func propose() {
        guard waitingHead < waitingProposals.count, !hasFailed else { return }
        while waitingHead < waitingProposals.count {
            guard entriesInFlight < Replica.entriesInFlightMax || waitingIsEager(),
                core.role != .leader || core.canPropose(bytes: nextEntryBytes())
            else { return }
            proposeGroup()
        }
        waitingProposals.removeAll(keepingCapacity: true)
        waitingHead = 0
    }

    /// Not committed yet. What is committed and not applied is no reason to wait: the next entry's
    /// way to the disks begins before this turn applies them.
    private var entriesInFlight: UInt64 {
        let last = tail.position.index
        return last > core.commitIndex ? last - core.commitIndex : 0
    }

    /// At most so large is the next entry: a group, or a proposal that is larger by itself. Asked
    /// before the entry is made: one that consensus dropped in the middle of a term would leave
    /// later proposals resting on effects that never were.
    private func nextEntryBytes() -> Int {
        let first = waitingProposals[waitingHead].batch.byteCount
        return max(Limits.groupBytes, first) + Replica.entryOverheadBytes
    }

    /// More than the header of an entry and of its payload.
    private static let entryOverheadBytes = 1 << 10

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
        let distance = tail.nextSequence.rawValue - store.horizon(at: leaderClock()).rawValue
        let entry = make(.write, group.payload(horizonDistance: distance))
        openProposals.add(entry.index, entry.term, completions)
        step(.propose([entry]))
    }

    private func refusal(of proposal: WaitingProposal) -> ProposalOutcome? {
        guard evaluableTerm == proposal.term else {
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

    func failProposals() {
        refuseWaitingProposals("the node is stopping")
        openProposals.failAll()
    }
}
