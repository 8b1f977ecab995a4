// Memory of one decoded block, with what the cache keeps beside it; and the slot that points to
// it. Raw memory: a point read touches no reference count but the slot's pin.
//
// A slot is one atomic word: the address of the block in the low 48 bits, pins in the high 16. A
// reader pins by adding one to the pins; if the address it then sees is not zero, the block stays
// until the pin is taken back, because only a slot without pins may be emptied. Installing and
// emptying happen under the lock of the slot's cache shard; pins never take a lock. The types here
// are Sendable (unchecked) on the strength of that protocol.

import CEngineShims
import Synchronization

/// A block in memory:
///   0 slot address (0: private to one reader)   8 canonical length u32   12 hits, 0...3, u32
///   16 place in its shard's queues u32          32 canonical bytes
struct CachedBlock: CacheItem, @unchecked Sendable {
    static let headerBytes = 32
    let base: UnsafeMutableRawPointer

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    /// A new private block with room for `length` canonical bytes.
    init(length: Int) {
        base = .allocate(byteCount: CachedBlock.headerBytes + length, alignment: 16)
        base.storeBytes(of: 0, as: UInt.self)
        base.storeBytes(of: UInt32(length), toByteOffset: 8, as: UInt32.self)
        hits.initialize(to: Atomic(0))
        place = 0
    }

    func deallocate() { base.deallocate() }

    @inline(__always) var length: Int {
        Int(base.load(fromByteOffset: 8, as: UInt32.self))
    }
    /// What the block costs in memory, its place in the queues included.
    var footprint: Int { CachedBlock.headerBytes + length + S3FIFO<CachedBlock>.placeBytes }

    @inline(__always) var bytes: UnsafeRawPointer {
        UnsafeRawPointer(base + CachedBlock.headerBytes)
    }
    @inline(__always) var canonical: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes, count: length)
    }
    var writable: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base + CachedBlock.headerBytes, count: length)
    }

    /// Has the CPU fetch what a binary search touches first, all at once: each of its steps waits
    /// for the one before.
    @inline(__always)
    func prefetchSteps() {
        let quarter = length / 4
        martlet_prefetch(bytes + 64)
        martlet_prefetch(bytes + quarter)
        martlet_prefetch(bytes + 2 * quarter)
        martlet_prefetch(bytes + 3 * quarter)
    }

    @inline(__always)
    private var hits: UnsafeMutablePointer<Atomic<UInt32>> {
        (base + 12).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Counts a hit; writes nothing once the count is at its cap. Two at once may count as one,
    /// which is cheaper than an exact count and good enough.
    @inline(__always)
    func noteHit() {
        let count = hits.pointee.load(ordering: .relaxed)
        if count < UInt32(CacheFrequency.max) {
            hits.pointee.store(count + 1, ordering: .relaxed)
        }
    }

    var frequency: Int {
        get { Int(hits.pointee.load(ordering: .relaxed)) }
        nonmutating set { hits.pointee.store(UInt32(newValue), ordering: .relaxed) }
    }

    /// Guarded by the shard's lock, like `slot`.
    var place: Int {
        get { Int(base.load(fromByteOffset: 16, as: UInt32.self)) }
        nonmutating set {
            base.storeBytes(of: UInt32(newValue), toByteOffset: 16, as: UInt32.self)
        }
    }

    /// Empties its slot and frees it, unless it is pinned. Under the shard's lock.
    func discard() -> Bool {
        guard slot?.takeUnpinned() != nil else { return false }
        deallocate()
        return true
    }

    var slot: BlockSlot? {
        get { UnsafeMutableRawPointer(bitPattern: base.load(as: UInt.self)).map { BlockSlot($0) } }
        nonmutating set {
            base.storeBytes(of: newValue.map { UInt(bitPattern: $0.word) } ?? 0, as: UInt.self)
        }
    }
}

struct BlockSlot: @unchecked Sendable {
    static let bytes = 8
    private static let addressMask: UInt = (1 << 48) - 1
    private static let onePin: UInt = 1 << 48
    /// Pins beyond this are refused, so that those in flight can never carry out of the word.
    private static let pinsMax: UInt = 0xf000

    let word: UnsafeMutablePointer<Atomic<UInt>>

    @inline(__always)
    init(_ raw: UnsafeMutableRawPointer) {
        word = raw.assumingMemoryBound(to: Atomic<UInt>.self)
    }

    @inline(__always)
    private static func block(_ word: UInt) -> CachedBlock? {
        UnsafeMutableRawPointer(bitPattern: word & addressMask).map { CachedBlock($0) }
    }

    /// Has the CPU fetch the start of the block: its header, tags and offsets. It is not pinned, so
    /// it may be gone by now; a fetch of what is gone is harmless.
    @inline(__always)
    func prefetch() {
        let address = word.pointee.load(ordering: .relaxed) & BlockSlot.addressMask
        guard let base = UnsafeRawPointer(bitPattern: address) else { return }
        martlet_prefetch(base)
        martlet_prefetch(base + 64)
    }

    /// Pins and returns the block; nil if there is none (or it has absurdly many readers).
    @inline(__always)
    func pin() -> CachedBlock? {
        if word.pointee.load(ordering: .relaxed) & BlockSlot.addressMask == 0 { return nil }
        let (old, _) = word.pointee.wrappingAdd(BlockSlot.onePin, ordering: .acquiring)
        if let block = BlockSlot.block(old), old >> 48 < BlockSlot.pinsMax {
            block.noteHit()
            return block
        }
        unpin()
        return nil
    }

    @inline(__always)
    func unpin() {
        word.pointee.wrappingSubtract(BlockSlot.onePin, ordering: .releasing)
    }

    /// Whether a block is in the slot; changes only under the shard's lock. Acquires: who finds the
    /// slot empty without the lock may free its memory, which another thread emptied.
    var isOccupied: Bool {
        word.pointee.load(ordering: .acquiring) & BlockSlot.addressMask != 0
    }

    /// Puts `block` into the empty slot, pinned once. Under the shard's lock.
    func install(_ block: CachedBlock) {
        let address = UInt(bitPattern: block.base)
        invariant(address & ~BlockSlot.addressMask == 0, "an address above 48 bits")
        // Readers in the middle of a failing pin may be counted in the word: add, do not store.
        word.pointee.wrappingAdd(address &+ BlockSlot.onePin, ordering: .releasing)
    }

    /// Empties the slot if nobody has it pinned. Under the shard's lock.
    func takeUnpinned() -> CachedBlock? {
        let current = word.pointee.load(ordering: .relaxed)
        guard let block = BlockSlot.block(current), current >> 48 == 0 else { return nil }
        let (exchanged, _) = word.pointee.compareExchange(
            expected: current, desired: 0, ordering: .acquiringAndReleasing)
        return exchanged ? block : nil
    }
}

/// A block that stays in memory until `release`.
struct PinnedBlock: @unchecked Sendable {
    let block: CachedBlock
    /// Nil for a private block.
    private let slot: BlockSlot?

    @inline(__always)
    init(_ block: CachedBlock, in slot: BlockSlot?) {
        self.block = block
        self.slot = slot
    }

    @inline(__always)
    func release() {
        if let slot { slot.unpin() } else { block.deallocate() }
    }
}
