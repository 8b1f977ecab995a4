// What a table reader asks when a block of its file is unreadable, and what it tells about damage
// that it can read around. The implementation (parity, replicas, hints) lives with healing.

extension BlockOrdinal {
    /// Names the leaf list of a table whose block count is not known yet, because the leaf list is
    /// what would tell it. Donors accept it wherever they take an ordinal.
    public static let leaves = BlockOrdinal(UInt32.max)
}

package protocol BlockMender: AnyObject, Sendable {
    /// Right canonical bytes of the block, or throws `.blockLost`. The caller verifies them
    /// against `expected` (nil only if the caller does not know the digest). Called on a thread
    /// that may block, with no locks held.
    func mend(
        _ address: BlockAddress, record: TableRecord, expected: Digest128?, reason: String
    ) throws(EngineError) -> [UInt8]

    /// Damage that cost no read: a filter (answers "maybe" meanwhile), the block map, the file
    /// header, the footer. `block` is nil for what is not a block. Worth a heal, nothing more.
    func noteDamage(_ table: TableID, block: BlockOrdinal?, reason: String)

    /// The table's file is not there, or cannot be opened.
    func noteMissing(_ table: TableID)
}

extension BlockMender {
    package func noteDamage(_ table: TableID, block: BlockOrdinal?, reason: String) {}
    package func noteMissing(_ table: TableID) {}
}
