// Handing leadership over: no new proposals, bring the target up to date, then order it to campaign
// at once. Given up after an election timeout; the leader then goes on as before.
import Engine

extension RaftCore {
    /// A second order for the same target changes nothing; one for another replaces the first; one
    /// for this member, or for nobody who could lead, only takes back what was ordered before.
    mutating func startTransfer(to target: MemberID, _ out: inout [RaftAction]) {
        guard role == .leader, transfer?.target != target else { return }
        transfer = nil
        guard target != id, let place = place(of: target), members[place].isVoter else { return }
        transfer = (target, now + configuration.electionTimeout.lowerBound)
        orderTransferIfReady(&out)
        if members[place].match < log.last { sendAppend(place, &out) }
    }

    /// The target has the whole log: it wins if it asks now.
    mutating func orderTransferIfReady(_ out: inout [RaftAction]) {
        guard role == .leader, let target = transfer?.target, let place = place(of: target),
            members[place].match == log.last
        else { return }
        send(.timeoutNow(term: term), to: target, &out)
    }
}
