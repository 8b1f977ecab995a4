// Point reads of a table with a row cache: the row is asked for first, and kept when its block had
// to be loaded. Rows of blocks that are in the cache anyway are not copied: one that is read often
// gets its turn when the block has left.

extension TableReader {
    /// As `find`, where there is a row cache.
    @inline(never)
    func findByRow(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        // A resident filter is asked first, for absent keys have no rows. A partition may have to
        // be loaded, which the row makes needless.
        if filterIndex == nil {
            guard mayContain(key, hash: hash, io: io) else { return nil }
        }
        if let rows, isNewest(sequence) {
            let row = rows._withUnsafeGuaranteedRef {
                $0.find(key, hash: hash, table: cacheNumber)
            }
            if let row { return row }
        }
        if filterIndex != nil {
            guard mayContain(key, hash: hash, io: io) else { return nil }
        }
        let ordinal = try blockOrdinal(key, Trailer.seek(sequence), io: io)
        guard ordinal < dataCount else { return nil }
        return try findKeepingRow(key, hash: hash, at: sequence, in: ordinal, io: io)
    }

    /// As `find` in a block, where there is a row cache.
    @inline(never)
    func findKeepingRow(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber, in ordinal: Int,
        io: ReadIO
    ) throws(EngineError) -> PinnedVersion? {
        let wasCached = BlockSlot(slots + ordinal * BlockSlot.bytes).isOccupied
        let found = try search(key, hash: hash, at: sequence, in: ordinal, io: io)
        guard let rows, let found, !wasCached, isNewest(sequence) else { return found }
        // Who meets an operand reads the versions below it, too.
        guard found.trailer.kind != .merge else { return found }
        rows._withUnsafeGuaranteedRef {
            $0.insert(
                key, hash: hash, table: cacheNumber, trailer: found.trailer, value: found.value)
        }
        return found
    }

    /// Whether a read at `sequence` will be answered by the row cache.
    func hasRow(
        _ key: UnsafeRawBufferPointer, hash: UInt64, at sequence: SequenceNumber
    ) -> Bool {
        guard let rows, isNewest(sequence) else { return false }
        return rows._withUnsafeGuaranteedRef {
            $0.contains(key, hash: hash, table: cacheNumber)
        }
    }

    /// Whether a read at `sequence` sees the newest version of every key.
    @inline(__always)
    private func isNewest(_ sequence: SequenceNumber) -> Bool { sequence >= record.largestSequence }
}
