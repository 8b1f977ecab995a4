// Answers a peer that needs this node's clean bytes. Donors verify what they send; what they hold
// damaged, too, is "unavailable". Called on threads that may block.
import Engine

package enum RepairServer {
    package static func answer(_ request: FetchRequest, replica: Replica) -> FetchReply {
        let store = replica.store
        switch request {
        case .block(let table, let digest, let ordinal):
            return bytes(store.donateBlock(table, digest: digest, ordinal: ordinal))
        case .leaves(let table, let digest):
            return bytes(store.donateBlock(table, digest: digest, ordinal: .leaves))
        case .entry(let index, let checksum): return entry(index, checksum, replica)
        case .manifest:
            return .bytes(store.manifest.encoded())
        case .read(let key, let index, let now): return read(key, index, now, store)
        }
    }

    private static func bytes(_ found: [UInt8]?) -> FetchReply {
        found.map { .bytes($0) } ?? .unavailable("not here, or damaged here, too")
    }

    /// By content; with a checksum of zero, whatever is committed at that index.
    private static func entry(_ index: LogIndex, _ checksum: Digest128, _ replica: Replica)
        -> FetchReply
    {
        let isUnnamed = checksum == .zero
        if isUnnamed, replica.store.applied < index { return .unavailable("not committed here") }
        do throws(EngineError) {
            guard let entry = try replica.log.entries(from: index, maxBytes: 1).first,
                entry.index == index, isUnnamed || entry.header.checksum == checksum
            else { return .unavailable("another entry is at that index here") }
            return .bytes(entry.encoded)
        } catch {
            return .unavailable("\(error)")
        }
    }

    /// A read for a member that lost a block: only from a state at least as new as it asks for.
    private static func read(
        _ key: [UInt8], _ index: LogIndex, _ now: ClockMilliseconds, _ store: Store
    ) -> FetchReply {
        guard store.applied >= index else { return .unavailable("behind that index") }
        do throws(EngineError) {
            return .value(try store.getHere(key, now: now, io: .blocking))
        } catch {
            return .unavailable("\(error)")
        }
    }
}
