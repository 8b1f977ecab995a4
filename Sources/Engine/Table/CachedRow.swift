// Memory of one cached row: the newest version of a key in one table, with what the row cache keeps
// beside it. It is a `CachedBlock` with a slot of its own, so readers pin it as they pin blocks and
// let go of it without a lock (`PinnedVersion`).
//
// A row is pinned under the lock of its shard only. So one that is found without pins under that
// lock has no readers, and none can come.

import Synchronization

/// A CachedBlock whose bytes are:
///   0 BlockSlot, with this block in it    8 address of the next row of its bucket; 0: none
///   16 address of what points to it: the bucket, or `next` of the row before
///   24 number of the table                32 trailer
///   40 length of the key u32              48 key, value
struct CachedRow: CacheItem, @unchecked Sendable {
    private static let headerBytes = 48
    private let block: CachedBlock

    /// A new row in no bucket, with a copy of key and value.
    init(
        _ key: UnsafeRawBufferPointer, table: UInt64, trailer: Trailer,
        value: UnsafeRawBufferPointer
    ) {
        block = CachedBlock(length: CachedRow.headerBytes + key.count + value.count)
        raw.initializeMemory(as: UInt8.self, repeating: 0, count: CachedRow.headerBytes)
        raw.storeBytes(of: table, toByteOffset: 24, as: UInt64.self)
        raw.storeBytes(of: trailer.rawValue, toByteOffset: 32, as: UInt64.self)
        raw.storeBytes(of: UInt32(key.count), toByteOffset: 40, as: UInt32.self)
        let payload = UnsafeMutableRawBufferPointer(
            rebasing: block.writable[CachedRow.headerBytes...])
        payload.copyMemory(from: key)
        UnsafeMutableRawBufferPointer(rebasing: payload[key.count...]).copyMemory(from: value)
        block.slot = slot
        slot.install(block)
        slot.unpin()
    }

    private var raw: UnsafeMutableRawPointer { block.base + CachedBlock.headerBytes }
    private var slot: BlockSlot { BlockSlot(raw) }

    @inline(__always)
    private var keyLength: Int { Int(raw.load(fromByteOffset: 40, as: UInt32.self)) }

    private var payload: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: block.canonical[CachedRow.headerBytes...])
    }

    /// Whether it is the row of `key` in `table`.
    @inline(__always)
    func isOf(_ key: UnsafeRawBufferPointer, _ table: UInt64) -> Bool {
        guard raw.load(fromByteOffset: 24, as: UInt64.self) == table, keyLength == key.count else {
            return false
        }
        return areEqual(UnsafeRawBufferPointer(rebasing: payload[..<keyLength]), key)
    }

    /// Pins it; nil if it has absurdly many readers. Under the shard's lock.
    @inline(__always)
    func pin() -> PinnedBlock? { slot.pin().map { PinnedBlock($0, in: slot) } }

    /// The version that `pinned`, which `pin` returned, keeps.
    @inline(__always)
    func version(_ pinned: PinnedBlock) -> PinnedVersion {
        PinnedVersion(
            trailer: Trailer(rawValue: raw.load(fromByteOffset: 32, as: UInt64.self)),
            value: UnsafeRawBufferPointer(rebasing: payload[keyLength...]), pinned: pinned)
    }

    /// Frees a row that is in no bucket.
    func deallocate() { block.deallocate() }
}

// MARK: Its place, under the shard's lock

extension CachedRow {
    /// The row at the head of a bucket or behind another row.
    @inline(__always)
    init?(at address: UInt) {
        guard let base = UnsafeMutableRawPointer(bitPattern: address) else { return nil }
        block = CachedBlock(base)
    }

    @inline(__always)
    var next: CachedRow? { CachedRow(at: nextWord.pointee) }

    private var nextWord: UnsafeMutablePointer<UInt> {
        (raw + 8).assumingMemoryBound(to: UInt.self)
    }

    private var previousWord: UnsafeMutablePointer<UInt>? {
        get { UnsafeMutablePointer(bitPattern: raw.load(fromByteOffset: 16, as: UInt.self)) }
        nonmutating set {
            raw.storeBytes(of: UInt(bitPattern: newValue), toByteOffset: 16, as: UInt.self)
        }
    }

    /// Puts it at the head of a bucket.
    func enter(_ bucket: UnsafeMutablePointer<UInt>) {
        nextWord.pointee = bucket.pointee
        next?.previousWord = nextWord
        previousWord = bucket
        bucket.pointee = UInt(bitPattern: block.base)
    }

    private func leaveBucket() {
        next?.previousWord = previousWord
        previousWord?.pointee = nextWord.pointee
    }

    /// Its block, with what the allocator adds. The cache counts the places in the queues.
    var footprint: Int { (CachedBlock.headerBytes + block.length + 8 + 15) & ~15 }

    var frequency: Int {
        get { block.frequency }
        nonmutating set { block.frequency = newValue }
    }

    var place: Int {
        get { block.place }
        nonmutating set { block.place = newValue }
    }

    /// Takes it out of its bucket and frees it, unless it is pinned.
    func discard() -> Bool {
        guard slot.takeUnpinned() != nil else { return false }
        leaveBucket()
        block.deallocate()
        return true
    }
}
