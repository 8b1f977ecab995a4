// Clean blocks from the other members, over the bulk connections: each is asked in turn until one
// gives bytes or the deadline passes. The healer verifies what comes.
import Engine

final class PeerRepairSource: RepairSource {
    private weak let runtime: ReplicaRuntime?
    private let peers: [MemberID]

    init(runtime: ReplicaRuntime, peers: [MemberID]) {
        self.runtime = runtime
        self.peers = peers
    }

    func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64
    ) -> RepairedBlock? {
        guard let runtime else { return nil }
        let until = runtime.monotonicMilliseconds + deadline
        for member in peers {
            let now = runtime.monotonicMilliseconds
            guard now < until else { return nil }
            let request: FetchRequest =
                ordinal == .leaves
                ? .leaves(table: table, digest: digest)
                : .block(table: table, digest: digest, ordinal: ordinal)
            if case .bytes(let bytes) = runtime.ask(request, of: member, deadline: until - now) {
                return RepairedBlock(bytes: bytes, donor: member)
            }
        }
        return nil
    }

    func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
    {
        guard let runtime else { return nil }
        let until = runtime.monotonicMilliseconds + deadline
        for member in peers {
            let time = runtime.monotonicMilliseconds
            guard time < until else { return nil }
            let request = FetchRequest.read(key: key, index: index, now: now)
            if case .value(let value) = runtime.ask(request, of: member, deadline: until - time) {
                return RemoteRead(value: value)
            }
        }
        return nil
    }
}
