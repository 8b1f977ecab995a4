// What a node's runtime decides by itself.
import Engine
import Replication
import Testing

@Suite struct ReplicaRuntimeTests {
    private func status(_ others: [MemberStatus]) -> ReplicaStatus {
        let own = MemberStatus(id: MemberID(1), role: "leader", match: LogIndex(9), lag: 0)
        return ReplicaStatus(
            node: MemberID(1), role: "leader", term: Term(2), leader: MemberID(1),
            commit: LogIndex(9), durable: LogIndex(9), applied: LogIndex(9), frontier: .zero,
            stateRoot: .zero, members: [own] + others)
    }

    private func member(
        _ id: UInt64, _ match: UInt64, role: String = "follower", isActive: Bool = true
    ) -> MemberStatus {
        MemberStatus(
            id: MemberID(id), role: role, match: LogIndex(match), lag: 9 - match,
            isActive: isActive)
    }

    /// A member that died a moment ago may have all of the log.
    @Test func leadershipGoesToALivingVoter() {
        let members = [
            member(2, 9, isActive: false), member(3, 7), member(4, 8),
            member(5, 9, role: "learner"),
        ]
        #expect(ReplicaRuntime.successor(status(members)) == MemberID(4))
        #expect(ReplicaRuntime.successor(status([member(2, 9, isActive: false)])) == nil)
        #expect(ReplicaRuntime.successor(status([])) == nil)
    }
}
