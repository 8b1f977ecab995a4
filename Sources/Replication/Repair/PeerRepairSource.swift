// Clean blocks from the other members, over the bulk connections: each is asked in turn until one
// gives what is proven or the time is over. A member that does not answer takes no more than its
// share of the time.
import Engine

final class PeerRepairSource: RepairSource {
    private weak let runtime: ReplicaRuntime?
    private let peers: [MemberID]

    init(runtime: ReplicaRuntime, peers: [MemberID]) {
        self.runtime = runtime
        self.peers = peers
    }

    func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64,
        isProven: (RepairedBlock) -> Bool
    ) -> RepairedBlock? {
        let request: FetchRequest =
            ordinal == .leaves
            ? .leaves(table: table, digest: digest)
            : .block(table: table, digest: digest, ordinal: ordinal)
        return askEach(request, deadline: deadline) { reply, member in
            guard case .bytes(let bytes) = reply else { return nil }
            let block = RepairedBlock(bytes: bytes, donor: member)
            return isProven(block) ? block : nil
        }
    }

    func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
    {
        askEach(.read(key: key, index: index, now: now), deadline: deadline) { reply, _ in
            guard case .value(let value) = reply else { return nil }
            return RemoteRead(value: value)
        }
    }

    /// The first answer that `take` accepts.
    private func askEach<Answer>(
        _ request: FetchRequest, deadline: UInt64,
        take: (FetchReply, MemberID) -> Answer?
    ) -> Answer? {
        guard let runtime else { return nil }
        let until = runtime.monotonicMilliseconds + deadline
        for (place, member) in peers.enumerated() {
            let now = runtime.monotonicMilliseconds
            guard now < until else { return nil }
            let share = (until - now) / UInt64(peers.count - place)
            if let reply = runtime.ask(request, of: member, deadline: max(share, 1)),
                let answer = take(reply, member)
            {
                return answer
            }
        }
        return nil
    }
}
