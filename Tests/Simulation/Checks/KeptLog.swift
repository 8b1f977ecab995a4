// What a node's log was when its process ended, and what the next process may find on the same
// disk: all that a returned sync covered, lost or not, and nothing that was taken back since.
import Engine
import Replication

package struct KeptLog: Sendable {
    /// Everything up to here was durable, and not about to be taken back.
    package var durable: LogIndex
    /// Nothing above it was ever written, or it was taken back.
    package var last: LogIndex
    package var runs: [TermRun]
    /// Of these entries `runs` only guess.
    package var holes: [LogHole]
    /// Gone with the hard state: what was taken back may come again, and is taken back again before
    /// this node has a vote.
    package var hasForgottenCuts = false

    package init(durable: LogIndex, last: LogIndex, runs: [TermRun], holes: [LogHole] = []) {
        self.durable = durable
        self.last = last
        self.runs = runs
        self.holes = holes
    }

    package init(_ replica: Replica) {
        // The replica's own view is the lower one: it has decided on cuts that the log has yet to
        // perform.
        let log = replica.log
        durable = replica.status().durable
        last = log.last.index
        runs = log.termRuns
        holes = log.holes
    }

    /// What is wrong with a log that ends at `found`; nil if nothing is. An entry that was lost
    /// counts as long as the log knows that it was there.
    package func flaw(endingAt found: Position) -> String? {
        if found.index < durable {
            return "ends at \(found.index) though all through \(durable) was durable"
        }
        guard !hasForgottenCuts else { return nil }
        if found.index > last {
            return "ends at \(found.index), above its last entry \(last)"
        }
        // Without a checksum the entry is lost, and its term a guess.
        guard found.checksum != .zero,
            !holes.contains(where: { $0.lower <= found.index && found.index <= $0.upper }),
            let run = runs.last(where: { $0.first <= found.index })
        else { return nil }
        if run.term == found.term { return nil }
        return "ends with entry \(found.index) of term \(found.term), taken back for one of term "
            + "\(run.term)"
    }
}
