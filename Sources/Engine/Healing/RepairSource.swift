// Where clean bytes come from when this node's are damaged: the other replicas. Implemented over
// the peer protocol by Replication and directly by the simulated cluster; an embedded database has
// none.

package protocol RepairSource: AnyObject, Sendable {
    /// Canonical bytes of one block of the table with this digest (`.leaves`: its leaf list), from
    /// any replica that has it clean. Blocks the calling thread until `deadline` (milliseconds from
    /// now) at most. What `isProven` refuses is not returned: the next replica is asked.
    func block(
        _ table: TableID, digest: Digest128, ordinal: BlockOrdinal, deadline: UInt64,
        isProven: (RepairedBlock) -> Bool
    ) -> RepairedBlock?

    /// What a replica answers for `key` from a state that has applied `index` at least; nil if none
    /// could in time. The last resort of a read whose block nobody has.
    func read(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds, deadline: UInt64)
        -> RemoteRead?
}

/// A peer's answer to a read; `value` is nil where there is none.
package struct RemoteRead: Sendable {
    package var value: LiveValue?
    package init(value: LiveValue?) { self.value = value }
}

package struct RepairedBlock: Sendable {
    package var bytes: [UInt8]
    package var donor: MemberID

    package init(bytes: [UInt8], donor: MemberID) {
        self.bytes = bytes
        self.donor = donor
    }
}
