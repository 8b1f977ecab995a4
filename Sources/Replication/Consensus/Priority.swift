// A preferred leader: whoever else leads hands over to it, as soon as it is heard and up to date.
import Engine

extension RaftCore {
    /// The first attempt waits until the term has settled; one that failed is not repeated soon,
    /// since proposals are refused meanwhile.
    mutating func handOverIfPreferred(_ out: inout [RaftAction]) {
        let preferred = configuration.preferredLeader
        guard preferred != .none, preferred != id, transfer == nil, now >= preferencePause.until,
            hasCommittedInTerm, let place = place(of: preferred)
        else { return }
        let member = members[place]
        guard member.mode == .replicate, member.match >= commitIndex, isHeard(member) else {
            return
        }
        preferencePause.begin(now)
        startTransfer(to: preferred, &out)
    }
}
