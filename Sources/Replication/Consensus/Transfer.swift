// Handing leadership over: no new proposals, bring the target up to date, then order it to campaign
// at once. Given up after an election timeout; the leader then goes on as before.
import Engine

/// When handing over may be tried again. An attempt that fails costs an election timeout without
/// proposals, so each pause is twice the one before.
struct HandoverPause: Sendable {
    var until: UInt64 = 0
    private var length = RaftConfiguration.firstHandoverDelay

    /// An attempt begins.
    mutating func begin(_ now: UInt64) {
        until = now + length
        length = min(2 * length, RaftConfiguration.longestHandoverDelay)
    }
}

extension RaftCore {
    /// Whoever does not lead passes the order on. Without a leader there is nothing to hand over.
    mutating func orderTransfer(to target: MemberID, _ out: inout [RaftAction]) {
        if role == .leader { return startTransfer(to: target, &out) }
        guard leader != .none else { return }
        send(.transfer(term: term, to: target), to: leader, &out)
    }

    /// The order of another member; it goes no further, and not into another leadership. While it
    /// is tried no proposals are taken, so it has to be likely to succeed, waits for what is under
    /// way, and is not tried again soon.
    mutating func receiveTransfer(
        to target: MemberID, in orderTerm: Term, _ out: inout [RaftAction]
    ) {
        guard role == .leader, orderTerm == term, transfer == nil, now >= orderPause.until,
            let place = place(of: target), members[place].isVoter, isHeard(members[place])
        else { return }
        orderPause.begin(now)
        startTransfer(to: target, &out)
    }

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
        orderCampaign(target, &out)
    }

    private mutating func orderCampaign(_ target: MemberID, _ out: inout [RaftAction]) {
        hasOrderedCampaign = true
        send(.timeoutNow(term: term), to: target, &out)
    }

    /// Something came from it lately: it can be handed to.
    func isHeard(_ member: Progress) -> Bool {
        now - member.lastHeard < configuration.electionTimeout.lowerBound
    }

    /// This leader goes, and there is no time to bring anybody up to date: whoever of the voters
    /// has the most of its log and was heard lately campaigns at once.
    /// False if there is nobody.
    @discardableResult
    mutating func orderSuccessor(_ out: inout [RaftAction]) -> Bool {
        var best: Progress?
        for member in members where member.isVoter && member.id != id {
            guard isHeard(member) else { continue }
            if best.map({ $0.match < member.match }) ?? true { best = member }
        }
        guard let best, best.match >= commitIndex else { return false }
        orderCampaign(best.id, &out)
        return true
    }
}
