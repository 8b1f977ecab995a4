// Which peer's manifest a member takes whose own is lost. Peers agree wherever they have been; if
// they do not, one of them is wrong and does not know it yet, and only a majority may decide.
import Engine

package enum DonorChoice {
    /// The member whose manifest reaches furthest; if some contradict each other, the one that
    /// reaches furthest of those that more than half of `members` support. Nil if there is none.
    package static func choose(_ states: [MemberID: ManifestState], members: Int) -> MemberID? {
        let furthestFirst = states.sorted {
            let (left, right) = ($0.value.flushed.position.index, $1.value.flushed.position.index)
            return left != right ? left > right : $0.key < $1.key
        }
        let supporters = furthestFirst.map { candidate in
            states.values.count { !contradict(candidate.value, $0) }
        }
        let isUnanimous = supporters.allSatisfy { $0 == states.count }
        return zip(furthestFirst, supporters).first { isUnanimous || $0.1 * 2 > members }?.0.key
    }

    /// At the last frontier that both have passed.
    private static func contradict(_ one: ManifestState, _ other: ManifestState) -> Bool {
        let frontier = min(one.frontier, other.frontier)
        guard let left = one.root(at: frontier), let right = other.root(at: frontier) else {
            return false
        }
        return left != right
    }
}
