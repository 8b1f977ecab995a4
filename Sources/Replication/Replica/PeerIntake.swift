// How much of each member's messages waits for the replica's turn. A member that sends faster than
// turns take is not read until they have caught up, so that it costs bounded memory and delays the
// others' messages by no more than what is let in.
import Engine
import Synchronization

final class PeerIntake: Sendable {
    /// What a member may have waiting before it is not read any more.
    private static let messagesMax = 4096
    private static let bytesMax = 64 << 20

    private struct Load {
        var messages = 0
        var bytes = 0
    }

    private struct State {
        var waiting: [MemberID: Load] = [:]
        /// Of `waiting`, what came before the turn that runs.
        var taken: [MemberID: Load] = [:]
    }

    private let state = Mutex(State())

    /// They were put where the next turn finds them.
    func add(_ messages: [PeerMessage], from member: MemberID) {
        let bytes = messages.reduce(0) { $0 + MessageCodec.estimatedBytes(of: $1) }
        state.withLock { state in
            state.waiting[member, default: Load()].messages += messages.count
            state.waiting[member, default: Load()].bytes += bytes
        }
    }

    /// A turn begins, which takes everything that was added before.
    func turnBegins() { state.withLock { $0.taken = $0.waiting } }

    func turnEnded() {
        state.withLock { state in
            for (member, load) in state.taken {
                state.waiting[member]?.messages -= load.messages
                state.waiting[member]?.bytes -= load.bytes
                if state.waiting[member]?.messages == 0 { state.waiting[member] = nil }
            }
            state.taken.removeAll(keepingCapacity: true)
        }
    }

    func hasRoom(for member: MemberID) -> Bool {
        let load = state.withLock { $0.waiting[member] } ?? Load()
        return load.messages < PeerIntake.messagesMax && load.bytes < PeerIntake.bytesMax
    }
}
