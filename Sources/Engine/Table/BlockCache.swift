// The cache of decoded data blocks, shared by all tables. Bounded in bytes; sharded; what leaves is
// decided by S3-FIFO (`S3FIFO`).
//
// The cache has no lookup table: every open table has a slot per block (BlockSlot), found by
// ordinal. The cache knows which slots are occupied and empties them when space is short. A hit
// counts itself in the block and takes no lock. A shard's lock covers its queues only; no I/O,
// decoding or copying happens under it.
//
// What open tables keep decoded all the time (indexes, filters, leaf lists, slots) is charged too:
// it leaves less for blocks, though never less than an eighth of the capacity. Its owner may
// lower the limit for a time (`setLimit`), down to the same eighth.

import Synchronization

package final class BlockCache: Sendable {
    package let capacity: Int
    /// Single rows of tables that were opened with this cache, by the numbers that it gave them;
    /// nil if there are none but in their blocks.
    package let rows: RowCache?
    private let shards: [Shard]
    private let limitNow: Atomic<Int>
    private let charged = Atomic<Int>(0)
    private let lastTable = Atomic<UInt64>(0)

    private final class Shard: Sendable {
        let queues = Mutex(S3FIFO<CachedBlock>())
    }

    /// `capacity` in bytes, over all shards. `rows` serves it alone.
    package init(capacity: Int, shards: Int = 16, rows: RowCache? = nil) {
        invariant(capacity >= 0 && shards > 0, "a block cache of \(capacity) bytes")
        self.capacity = capacity
        self.rows = rows
        limitNow = Atomic(capacity)
        self.shards = (0..<shards).map { _ in Shard() }
    }

    /// What it may hold now, `capacity` at most.
    package var limit: Int { limitNow.load(ordering: .relaxed) }

    /// Makes it hold less than its capacity, or as much again. What is too much leaves at once; an
    /// eighth of the capacity stays for blocks.
    package func setLimit(_ bytes: Int) {
        let before = limitNow.exchange(min(bytes, capacity), ordering: .relaxed)
        guard bytes < before else { return }
        let budget = shardBudget
        for shard in shards { shard.queues.withLock { $0.evict(downTo: budget) } }
    }

    /// Bytes of cached data blocks.
    package var usedBytes: Int { sum { $0.usedBytes } }

    /// Cached blocks, what is remembered of those that left, and what open tables keep decoded.
    package var residentBytes: Int {
        sum { $0.usedBytes + $0.ghostBytes } + charged.load(ordering: .relaxed)
    }

    private func sum(_ bytes: (S3FIFO<CachedBlock>) -> Int) -> Int {
        shards.reduce(0) { sum, shard in sum + shard.queues.withLock { bytes($0) } }
    }

    /// Counts memory that an open table holds outside the cache; negative when it lets go.
    func charge(_ bytes: Int) { charged.wrappingAdd(bytes, ordering: .relaxed) }

    /// A number for a table that was opened, never given twice: by it and its ordinal a block is
    /// known again after it left, whatever its slot's memory is used for by then.
    func admitTable() -> UInt64 {
        lastTable.wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// Where block `index` of an open table belongs, and its fingerprint.
    private func home(_ table: UInt64, _ index: Int) -> (shard: Shard, fingerprint: UInt32) {
        // The finalizer of SplitMix64: no two of 2^32 tables and blocks have one hash.
        var hash = table << 32 ^ UInt64(index)
        hash = (hash ^ hash >> 30) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ hash >> 27) &* 0x94d0_49bb_1331_11eb
        hash ^= hash >> 31
        let shard = shards[Int((hash >> 32) % UInt64(shards.count))]
        return (shard, UInt32(truncatingIfNeeded: hash))
    }

    private var shardBudget: Int {
        let left = limit - charged.load(ordering: .relaxed)
        return max(left, capacity / 8) / shards.count
    }

    /// Puts a private block into its slot, the one with `index` of `table` (`admitTable`), and
    /// returns what is there then, pinned: that block, or the one that another reader installed
    /// first (ours is freed).
    func install(_ block: CachedBlock, in slot: BlockSlot, table: UInt64, index: Int)
        -> PinnedBlock
    {
        let budget = shardBudget
        let (shard, fingerprint) = home(table, index)
        return shard.queues.withLock { queues in
            if slot.isOccupied {
                guard let present = slot.pin() else { return PinnedBlock(block, in: nil) }
                block.deallocate()
                return PinnedBlock(present, in: slot)
            }
            block.slot = slot
            slot.install(block)
            queues.insert(block, fingerprint: fingerprint, budget: budget)
            return PinnedBlock(block, in: slot)
        }
    }

    /// Frees the blocks of a table that nobody reads any more.
    func removeAll(_ slots: UnsafeMutableRawPointer, count: Int, table: UInt64) {
        for index in 0..<count {
            let slot = BlockSlot(slots + index * BlockSlot.bytes)
            guard slot.isOccupied else { continue }
            home(table, index).shard.queues.withLock { queues in
                // Another table's eviction may have emptied it before the lock was taken.
                guard slot.isOccupied else { return }
                guard let block = slot.takeUnpinned() else {
                    brokenInvariant("a block is pinned while its table closes")
                }
                queues.remove(block)
                block.deallocate()
            }
        }
    }
}
