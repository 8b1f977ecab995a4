// The second level of a large index. An index beyond the shape's bound is cut into partitions,
// which live in the block cache like data and are loaded when a read needs them: what a table keeps
// in memory does not grow with all of its blocks, a table opens without reading all of its index,
// and a lost block of it costs the keys of one partition.
//
// A partition is a data block (DataBlock.swift), so that it is searched as it lies: its keys are
// the separators of consecutive data blocks, its values empty and its tags zero. The trailer of
// entry i is that of the separator; where that is 0 it is a put at sequence 0, behind which nothing
// sorts.
//
// An index has one level as long as that is small: two levels for every table cost a point read
// more than half again (trap 21 of the list in docs/ARCHITECTURE.md).

/// The canonical blocks of an index.
struct IndexBlocks {
    /// In order; empty if one level does.
    var partitions: [[UInt8]] = []
    var index: [UInt8] = []
}

enum IndexPartition {
    /// Canonical bytes at which a partition is cut, where the bound of one level is not smaller.
    static let bytesMax = 4 << 10

    static func storedTrailer(_ trailer: UInt64) -> Trailer {
        trailer == 0 ? Trailer(.zero, .put) : Trailer(rawValue: trailer)
    }
}

extension IndexBuilder {
    /// One block if it has at most `bytesMax` bytes, else two levels.
    func finish(atMost bytesMax: Int) -> IndexBlocks {
        let whole = encoded()
        if whole.count <= bytesMax { return IndexBlocks(index: [UInt8](whole.bytes)) }
        var blocks = IndexBlocks()
        var upper = IndexBuilder()
        var partition = DataBlockBuilder()
        var canonical = RawBuffer(capacity: 2 * IndexPartition.bytesMax)
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        let cut = min(IndexPartition.bytesMax, bytesMax)
        for number in 0..<count {
            let separator = key(number)
            partition.add(
                separator, hash: 0, IndexPartition.storedTrailer(trailer(number)), empty)
            let isLast = number + 1 == count
            guard isLast || partition.length(adding: key(number + 1), empty) > cut else { continue }
            upper.add(separator, trailer: trailer(number), blocks: partition.count)
            partition.finish(into: &canonical)
            blocks.partitions.append([UInt8](canonical.bytes))
        }
        let top = upper.encoded()
        blocks.index = [UInt8](top.bytes)
        return blocks
    }
}

extension TableReader {
    /// As `blockOrdinal`, where the index is not in memory or has two levels.
    @inline(never)
    func searchIndex(_ key: UnsafeRawBufferPointer, _ seek: Trailer, io: ReadIO)
        throws(EngineError) -> Int
    {
        let index = try self.index(io)
        let found = index.find(key, seek)
        if leafList.indexPartitions.isEmpty { return found }
        guard found < index.count else { return dataCount }
        let blocks = index.blocks(of: found)
        let partition = try pinIndexPartition(found, of: blocks.count, io)
        defer { partition.release() }
        // Behind the last separator of a partition the next one starts.
        return blocks.lowerBound + DataBlock(partition.block.bytes).lowerBound(key, seek)
    }

    /// Partition `number`, which holds `count` separators. A damaged one is asked of the mender.
    private func pinIndexPartition(_ number: Int, of count: Int, _ io: ReadIO)
        throws(EngineError) -> PinnedBlock
    {
        let index = dataCount + leafList.filterPartitions.count + number
        let slot = BlockSlot(slots + index * BlockSlot.bytes)
        if let block = slot.pin() { return PinnedBlock(block, in: slot) }
        if io == .cacheOnly { throw .wouldBlock }
        let ordinal = BlockOrdinal(UInt32(leafList.indexPartitions.lowerBound + number))
        let block = try loadBlock(ordinal, mending: true)
        do throws(DecodingError) {
            try DataBlockFormat.validate(block.canonical)
            guard DataBlock(block.bytes).count == count else {
                throw DecodingError("the index promises \(count) entries")
            }
        } catch {
            block.deallocate()
            throw malformed(ordinal, error)
        }
        return cache.install(block, in: slot, table: cacheNumber, index: index)
    }
}
