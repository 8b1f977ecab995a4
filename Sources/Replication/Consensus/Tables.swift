// Members whose log begins where a leader's has ended: they take the tables of others, as of some
// applied index, and the log from there on. Choosing donors and moving files is the driver's; the
// leader pauses appends meanwhile, and learns of the success by an acknowledgement like any other.
import Engine

extension RaftCore {
    mutating func askForTables(_ place: Int, _ out: inout [RaftAction]) {
        members[place].becomeTables()
        out.append(.needsTables(members[place].id))
    }

    /// A transfer of tables to the member ended without success: it is asked how far it reaches.
    mutating func tablesFailed(_ member: MemberID, _ out: inout [RaftAction]) {
        guard role == .leader, let place = place(of: member), members[place].mode == .tables else {
            return
        }
        members[place].becomeProbe(next: log.last + 1)
        sendAppend(place, &out)
    }

    /// Everything through `base` is applied here, from tables, and the driver's log goes on behind
    /// it: with what it held, if its entry at `base` is that one, else empty.
    mutating func installedTables(
        _ base: LogIndex, _ baseTerm: Term, _ new: RaftMembers, _ out: inout [RaftAction]
    ) {
        // Older than what is committed here: nothing of it is new.
        guard role != .leader, base > commitIndex, base.rawValue < RaftConfiguration.counterLimit,
            baseTerm.rawValue < RaftConfiguration.counterLimit
        else { return }
        // Nobody leads in a term before that of an entry it holds.
        if baseTerm > term { becomeFollower(baseTerm, leader: .none, &out) }
        if log.term(at: base) != baseTerm {
            log = RaftLog(base: base, baseTerm: baseTerm)
            unsynced = UnsyncedAppends()
            durableIndex = base
            matchedIndex = base
            pending.truncated(after: .zero)
        }
        matchedIndex = max(matchedIndex, base)
        commitIndex = base
        durableIndex = max(durableIndex, base)
        setMembers(new, &out)
        pending.noteApplied(base)
        if role == .follower { acknowledge(&out) }
    }
}
