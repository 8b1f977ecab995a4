// The state roots of two members differ at one frontier, though both are a function of the same
// log: one of them is wrong, by a bug or by memory that does not hold what it is given. Neither can
// tell which, so each asks all others, and counts. Pure.
import Engine

package struct StateDispute {
    package enum Verdict: Equatable {
        /// Most voters agree on another state than this member: these.
        case thisOne(against: [MemberID])
        /// Most voters agree with this member; these do not.
        case others([MemberID])
        /// Not enough of them answered, or have passed that frontier and still know its root.
        case open
    }

    package let frontier: LogIndex
    private var unanswered: Set<MemberID>
    private var roots: [MemberID: Digest128] = [:]

    package init(at frontier: LogIndex, asked: [MemberID]) {
        self.frontier = frontier
        unanswered = Set(asked)
    }

    package var isComplete: Bool { unanswered.isEmpty }

    /// What `member` had at the frontier; nil if it does not know or did not answer.
    package mutating func answered(_ root: Digest128?, by member: MemberID) {
        guard unanswered.remove(member) != nil else { return }
        roots[member] = root
    }

    package func verdict(own root: Digest128, of member: MemberID, voters: [MemberID]) -> Verdict {
        var all = roots
        all[member] = root
        let holders = Dictionary(grouping: voters.filter { all[$0] != nil }) { all[$0] }
        guard let most = holders.first(where: { $0.value.count * 2 > voters.count }) else {
            return .open
        }
        guard most.key == root else { return .thisOne(against: most.value.sorted()) }
        return .others(holders.filter { $0.key != root }.flatMap(\.value).sorted())
    }
}
