// What a member says that cannot be true, by what this member knows: no fault of disks, clocks or
// the network brings it about. It changes nothing here; the driver cuts the member off and tells
// both sides why. Whoever lies within what could be true is not found out.
import Engine

package enum Contradiction: Sendable, Equatable {
    /// It acknowledges entries that this leader does not have.
    case acknowledges(LogIndex, last: LogIndex)
    /// It answers a round of heartbeats that was not sent.
    case answers(round: UInt64, latest: UInt64)
    /// It leads in a term that another leads.
    case leads(Term, leader: MemberID)
    /// It orders to campaign in a term that another leads.
    case orders(Term, leader: MemberID)
    /// Its entries do not follow one another, or are of terms that no leader of its term can have.
    case entries(after: LogIndex)
    /// Its entry at this index is another than the one that is committed here.
    case committed(LogIndex)
    /// Its term is so far ahead that no elections lead there: taken over, it would use up all terms
    /// that there are.
    case jumps(to: Term)
}

extension Contradiction: CustomStringConvertible {
    package var description: String {
        switch self {
        case .acknowledges(let index, let last):
            "it acknowledges entry \(index), the leader's log ends at \(last)"
        case .answers(let round, let latest):
            "it answers heartbeat round \(round), the latest was \(latest)"
        case .leads(let term, let leader):
            "it claims to lead in term \(term), which node \(leader) leads"
        case .orders(let term, let leader):
            "it orders to campaign in term \(term), which node \(leader) leads"
        case .entries(let index): "the terms behind entry \(index) are out of order"
        case .committed(let index): "another entry \(index) is committed here"
        case .jumps(let term): "term \(term) is further ahead than elections lead"
        }
    }
}
