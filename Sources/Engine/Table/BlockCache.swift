// The cache of decoded data blocks, shared by all tables. Bounded in bytes; sharded; second-chance
// (CLOCK) eviction, where a block counts as used only once it was asked for again, so that one scan
// does not push out what is read often.
//
// The cache has no lookup table: every open table has a slot per block (BlockSlot), found by
// ordinal. The cache knows which slots are occupied and empties them when space is short. A shard's
// lock covers its ring only; no I/O, decoding or copying happens under it.
//
// What open tables keep decoded all the time (indexes, filters, leaf lists, slots) is charged too:
// it leaves less for blocks, though never less than an eighth of the capacity.

import Synchronization

package final class BlockCache: Sendable {
    package let capacity: Int
    private let shards: [Shard]
    private let charged = Atomic<Int>(0)

    private final class Shard: Sendable {
        let ring = Mutex(Ring())
    }

    // Sendable though it holds pointers: only touched under its shard's lock.
    fileprivate struct Ring: @unchecked Sendable {
        var blocks: [CachedBlock?] = []
        var holes: [Int] = []
        var hand = 0
        var usedBytes = 0
    }

    /// `capacity` in bytes, over all shards.
    package init(capacity: Int, shards: Int = 16) {
        invariant(capacity >= 0 && shards > 0, "a block cache of \(capacity) bytes")
        self.capacity = capacity
        self.shards = (0..<shards).map { _ in Shard() }
    }

    /// Bytes of cached data blocks.
    package var usedBytes: Int {
        shards.reduce(0) { sum, shard in sum + shard.ring.withLock { $0.usedBytes } }
    }

    /// Cached blocks plus what open tables keep decoded.
    package var residentBytes: Int { usedBytes + charged.load(ordering: .relaxed) }

    /// Counts memory that an open table holds outside the cache; negative when it lets go.
    func charge(_ bytes: Int) { charged.wrappingAdd(bytes, ordering: .relaxed) }

    private func shard(of slot: BlockSlot) -> Shard {
        let address = UInt64(UInt(bitPattern: slot.word)) >> 3
        let hash = (address &* 0x9e37_79b9_7f4a_7c15) >> 40
        return shards[Int(hash % UInt64(shards.count))]
    }

    private var shardBudget: Int {
        let left = capacity - charged.load(ordering: .relaxed)
        return max(left, capacity / 8) / shards.count
    }

    /// Puts a private block into its slot and returns what is there then, pinned: that block, or
    /// the one that another reader installed first (ours is freed).
    func install(_ block: CachedBlock, in slot: BlockSlot) -> PinnedBlock {
        let budget = shardBudget
        return shard(of: slot).ring.withLock { ring in
            if slot.isOccupied {
                guard let present = slot.pin() else { return PinnedBlock(block, in: nil) }
                block.deallocate()
                return PinnedBlock(present, in: slot)
            }
            block.slot = slot
            slot.install(block)
            ring.insert(block)
            ring.evict(downTo: budget)
            return PinnedBlock(block, in: slot)
        }
    }

    /// Frees the blocks of a table that nobody reads any more.
    func removeAll(_ slots: UnsafeMutableRawPointer, count: Int) {
        for index in 0..<count {
            let slot = BlockSlot(slots + index * BlockSlot.bytes)
            guard slot.isOccupied else { continue }
            shard(of: slot).ring.withLock { ring in
                // Another table's eviction may have emptied it before the lock was taken.
                guard slot.isOccupied else { return }
                guard let block = slot.takeUnpinned() else {
                    brokenInvariant("a block is pinned while its table closes")
                }
                ring.remove(block)
            }
        }
    }
}

extension BlockCache.Ring {
    /// A new block takes a hole the hand has left behind it, so the hand reaches it last.
    fileprivate mutating func insert(_ block: CachedBlock) {
        if let hole = holes.popLast() {
            blocks[hole] = block
            block.ringIndex = hole
        } else {
            block.ringIndex = blocks.count
            blocks.append(block)
        }
        usedBytes += block.footprint
    }

    fileprivate mutating func remove(_ block: CachedBlock) {
        usedBytes -= block.footprint
        blocks[block.ringIndex] = nil
        holes.append(block.ringIndex)
        block.deallocate()
    }

    /// Moves the hand until the blocks fit or two rounds have found nothing more to free (all
    /// pinned); then the cache is over its bound until readers let go.
    fileprivate mutating func evict(downTo budget: Int) {
        var steps = 2 * blocks.count
        while usedBytes > budget, steps > 0 {
            steps -= 1
            if hand >= blocks.count { hand = 0 }
            let place = hand
            hand += 1
            guard let block = blocks[place], let slot = block.slot else { continue }
            if block.takeUsed() { continue }
            if let freed = slot.takeUnpinned() { remove(freed) }
        }
    }
}
