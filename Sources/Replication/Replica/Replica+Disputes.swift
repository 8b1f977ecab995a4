// State roots that differ. Every member that meets another root asks all connected voters for their
// manifests. Whoever is outvoted sets its own aside and stops: its next start takes a peer's, as if
// the manifest had been lost, and heals the tables that it lacks.
import Engine

/// A dispute while members are asked, with what they gave.
struct OpenDispute {
    var votes: StateDispute
    var states: [MemberID: ManifestState] = [:]
}

extension Replica {
    /// Before this node asks again: at least, and if the others did not settle it.
    private static let disputePauseMilliseconds: UInt64 = 5_000
    private static let undecidedPauseMilliseconds: UInt64 = 30_000
    /// Who is wrong needs time to see it and to start again.
    private static let verdictPauseMilliseconds: UInt64 = 60_000

    func settleDispute() {
        let now = environment.monotonicMilliseconds
        guard let frontier = store.dispute, dispute == nil, now >= nextDispute else { return }
        let peers = voters.filter { $0 != options.node && connected.contains($0) }
        guard !peers.isEmpty else { return }
        nextDispute = now + Replica.disputePauseMilliseconds
        dispute = OpenDispute(votes: StateDispute(at: frontier, asked: peers))
        for peer in peers {
            environment.fetch(.manifest, of: peer) { [weak self] reply in
                self?.post(.manifestFetched(peer, reply))
            }
        }
    }

    func manifestFetched(_ reply: FetchReply?, of member: MemberID) {
        guard var open = dispute else { return }
        let state = manifest(in: reply, of: member)
        open.states[member] = state
        open.votes.answered(state?.root(at: open.votes.frontier), by: member)
        dispute = open
        guard open.votes.isComplete else { return }
        dispute = nil
        let own = store.manifest
        guard let root = own.root(at: open.votes.frontier) else {
            // Too long ago. If it is still so, the next report tells.
            store.dispute = nil
            return
        }
        switch open.votes.verdict(own: root, of: options.node, voters: voters) {
        case .thisOne(let against):
            let witness = against.compactMap { open.states[$0] }.first {
                $0.frontier == own.frontier
            }
            yield(at: open.votes.frontier, witness.flatMap { own.firstDifference(from: $0) })
        case .others(let wrong): accuse(wrong, at: open.votes.frontier)
        case .open:
            nextDispute =
                environment.monotonicMilliseconds + Replica.undecidedPauseMilliseconds
            environment.note(
                .warning(
                    "which state root at entry \(open.votes.frontier) is wrong is not known: no "
                        + "majority agrees on one; the members are asked again"))
        }
    }

    private func manifest(in reply: FetchReply?, of member: MemberID) -> ManifestState? {
        guard case .bytes(let bytes) = reply else { return nil }
        do throws(DecodingError) { return try ManifestState(decoding: bytes) } catch {
            environment.note(.warning("the manifest of member \(member) is malformed: \(error)"))
            return nil
        }
    }

    private func accuse(_ wrong: [MemberID], at frontier: LogIndex) {
        store.dispute = nil
        nextDispute = environment.monotonicMilliseconds + Replica.verdictPauseMilliseconds
        // Whoever it was, it may have been healed meanwhile.
        guard !wrong.isEmpty else { return }
        let who = wrong.map(\.description).joined(separator: ", ")
        environment.note(
            .divergence(
                "the state root of member \(who) at entry \(frontier) is wrong: most members "
                    + "agree on another"))
    }

    /// Nothing wrong is served any longer than it takes to find out.
    private func yield(at frontier: LogIndex, _ difference: String?) {
        let text =
            "the state root at entry \(frontier) is not that of most members"
            + (difference.map { " (\($0))" } ?? "")
        do throws(EngineError) { try store.setManifestAside() } catch {
            // An edit is on its way: after it.
            if case .busy = error { return }
            environment.note(.divergence(text))
            // What is left of it is found wrong again with the next start.
            return fail("\(text); the manifest cannot be set aside: \(error)")
        }
        environment.note(.divergence(text))
        fail("\(text); the manifest is in quarantine/, and the next start takes a peer's")
    }
}
