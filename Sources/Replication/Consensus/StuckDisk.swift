// A disk that takes no more: heartbeats go on, so nobody would replace the leader, and yet nothing
// that needs its log is ever durable. It gives up, and does not ask to lead before its disk moves.
import Engine

extension RaftCore {
    /// Something waits for the disk, and the disk has finished nothing for too long.
    var isDiskStuck: Bool {
        !unsynced.isEmpty && now >= diskMovedAt + configuration.diskPatience
    }

    /// Leadership goes to whoever can take it; with nobody there, this member goes on.
    mutating func abdicateIfStuck(_ out: inout [RaftAction]) {
        guard isDiskStuck, orderSuccessor(&out) else { return }
        becomeFollower(term, leader: .none, &out)
    }
}
