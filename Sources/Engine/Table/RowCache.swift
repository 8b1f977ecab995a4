// The cache of single rows, if there is one: of keys that are read often among others that are not,
// it keeps the bytes of the row instead of the whole block around it. It is asked before index and
// block; bounded in bytes; sharded; what leaves is decided by S3-FIFO (`S3FIFO`).
//
// A row is the newest version of a key in one opening of one table. Tables never change and numbers
// of openings are never given twice, so no write makes a row wrong: it ages out when nobody reads
// its table any more. What newer tables, memtables and range tombstones say of the key is for the
// read to find out, as if the row lay in its block.
//
// A shard's lock covers its buckets and queues. No I/O and no copying happens under it: a found row
// is pinned (`CachedRow`), and a new one is made before the lock is taken.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class RowCache: @unchecked Sendable {
    // Unchecked: the memory of the shards never moves, and what is in one is behind its lock.
    package let capacity: Int
    /// Key and value of a longer row are not kept: it saves little against its block, and a few of
    /// them would push out many.
    package let rowBytesMax: Int
    private let shards: UnsafeMutablePointer<Mutex<RowShard>>
    private let shardCount: Int
    private let limitNow: Atomic<Int>

    /// A shard for each so many bytes of capacity.
    private static let shardBytes = 256 << 10
    private static let shardsMax = 64

    /// `capacity` in bytes, over all shards, what finds the rows included.
    package init(capacity: Int) {
        invariant(capacity > 0, "a row cache of \(capacity) bytes")
        self.capacity = capacity
        let wanted = min(max(capacity / RowCache.shardBytes, 1), RowCache.shardsMax)
        shardCount = wanted.powerOfTwoAtMost
        rowBytesMax = min(capacity / shardCount / 16, 4096)
        limitNow = Atomic(capacity)
        shards = .allocate(capacity: shardCount)
        for number in 0..<shardCount {
            (shards + number).initialize(to: Mutex(RowShard(capacity: capacity / shardCount)))
        }
    }

    deinit {
        shards.deinitialize(count: shardCount)
        shards.deallocate()
    }

    /// What it may hold now, `capacity` at most.
    package var limit: Int { limitNow.load(ordering: .relaxed) }

    /// Makes it hold less than its capacity, or as much again. What is too much leaves at once; an
    /// eighth of the capacity stays.
    package func setLimit(_ bytes: Int) {
        let wanted = min(max(bytes, capacity / 8), capacity)
        let before = limitNow.exchange(wanted, ordering: .relaxed)
        guard wanted < before else { return }
        for number in 0..<shardCount {
            shards[number].withLock { $0.shrink(to: wanted / shardCount) }
        }
    }

    /// What it holds, and how it was of use.
    package var use: RowCacheUse {
        var use = RowCacheUse(bytes: 0, limitBytes: limit, hits: 0, misses: 0)
        for number in 0..<shardCount {
            shards[number].withLock { shard in
                use.bytes += shard.bytes
                use.hits += shard.hits
                use.misses += shard.misses
            }
        }
        return use
    }

    /// Where the row of a key with `hash` (`Checksum.hash64`) in `table` belongs, and the hash of
    /// both.
    @inline(__always)
    private func home(_ hash: UInt64, _ table: UInt64) -> (shard: Int, hash: UInt64) {
        let both = hash ^ (table &* 0x9e37_79b9_7f4a_7c15)
        // Buckets go by the low bits.
        return (Int(truncatingIfNeeded: both >> 32) & (shardCount - 1), both)
    }

    /// The newest version of `key` in the table with that number (`BlockCache.admitTable`), if it
    /// is here; pinned.
    func find(_ key: UnsafeRawBufferPointer, hash: UInt64, table: UInt64) -> PinnedVersion? {
        let (shard, hash) = home(hash, table)
        let found = shards[shard].withLock { $0.pin(key, hash: hash, table: table) }
        return found.map { $0.row.version($0.pinned) }
    }

    /// Whether `find` would find it now. Counts neither as hit nor as miss.
    func contains(_ key: UnsafeRawBufferPointer, hash: UInt64, table: UInt64) -> Bool {
        let (shard, hash) = home(hash, table)
        return shards[shard].withLock { $0.row(key, hash: hash, table: table) != nil }
    }

    /// Keeps a copy of the newest version of `key` in that table, unless it is too long.
    func insert(
        _ key: UnsafeRawBufferPointer, hash: UInt64, table: UInt64, trailer: Trailer,
        value: UnsafeRawBufferPointer
    ) {
        guard key.count + value.count <= rowBytesMax else { return }
        let row = CachedRow(key, table: table, trailer: trailer, value: value)
        let (shard, hash) = home(hash, table)
        let limit = limit / shardCount
        let isTaken = shards[shard].withLock { shard in
            // Another reader may have been first.
            guard shard.row(key, hash: hash, table: table) == nil else { return false }
            shard.insert(row, hash: hash, limit: limit)
            return true
        }
        if !isTaken { row.deallocate() }
    }
}

/// What the row cache takes in memory, and how often it was of use since the open.
public struct RowCacheUse: Sendable, Equatable {
    /// Rows, and what finds and orders them.
    public var bytes: Int
    /// What it may hold now.
    public var limitBytes: Int
    /// Reads of a table that it answered.
    public var hits: UInt64
    /// Reads of a table that it was asked for in vain.
    public var misses: UInt64
}

/// A share of the cache. All of it is for who holds the lock.
private struct RowShard: ~Copyable, @unchecked Sendable {
    // Unchecked: the buckets are its own.
    /// Addresses of the first rows; 0: none.
    private let buckets: UnsafeMutablePointer<UInt>
    private let bucketCount: Int
    private var queues = S3FIFO<CachedRow>()
    private(set) var hits: UInt64 = 0
    private(set) var misses: UInt64 = 0

    /// Short rows take about this, so there are about as many buckets as rows at most.
    private static let bytesPerBucket = 256
    private static let bucketsMax = 1 << 22

    init(capacity: Int) {
        let wanted = min(max(capacity / RowShard.bytesPerBucket, 1), RowShard.bucketsMax)
        bucketCount = wanted.powerOfTwoAtMost
        // Touched page by page as rows come.
        guard let memory = calloc(bucketCount, MemoryLayout<UInt>.stride) else {
            brokenInvariant("out of memory for the buckets of a row cache")
        }
        buckets = memory.bindMemory(to: UInt.self, capacity: bucketCount)
    }

    deinit {
        var queues = queues
        queues.evict(downTo: 0)
        invariant(queues.count == 0, "a row is pinned while its cache ends")
        free(buckets)
    }

    /// All that it takes.
    var bytes: Int { queues.usedBytes + bookkeepingBytes }

    private var bookkeepingBytes: Int {
        bucketCount * MemoryLayout<UInt>.stride + queues.ghostBytes + queues.placesBytes
    }

    private func budget(_ limit: Int) -> Int { max(limit - bookkeepingBytes, 0) }

    @inline(__always)
    private func bucket(_ hash: UInt64) -> UnsafeMutablePointer<UInt> {
        buckets + Int(truncatingIfNeeded: hash) & (bucketCount - 1)
    }

    @inline(__always)
    func row(_ key: UnsafeRawBufferPointer, hash: UInt64, table: UInt64) -> CachedRow? {
        var next = CachedRow(at: bucket(hash).pointee)
        while let row = next {
            if row.isOf(key, table) { return row }
            next = row.next
        }
        return nil
    }

    @inline(__always)
    mutating func pin(_ key: UnsafeRawBufferPointer, hash: UInt64, table: UInt64)
        -> (row: CachedRow, pinned: PinnedBlock)?
    {
        guard let row = row(key, hash: hash, table: table), let pinned = row.pin() else {
            misses += 1
            return nil
        }
        hits += 1
        return (row, pinned)
    }

    /// Takes a row of which there is none here, and lets others go for it; or it, at once.
    mutating func insert(_ row: CachedRow, hash: UInt64, limit: Int) {
        row.enter(bucket(hash))
        queues.insert(
            row, fingerprint: UInt32(truncatingIfNeeded: hash), budget: budget(limit))
        fit(limit)
    }

    /// Twice: what the queues keep for more rows, and to remember those that left, may have grown
    /// before and by the first time.
    private mutating func fit(_ limit: Int) {
        queues.evict(downTo: budget(limit))
        queues.evict(downTo: budget(limit))
    }

    mutating func shrink(to limit: Int) {
        fit(limit)
        // The queues do not shrink: those of many rows would leave no room for the few that may
        // stay, so it begins anew.
        guard bookkeepingBytes > limit / 2 else { return }
        queues.evict(downTo: 0)
        if queues.count == 0 { queues = S3FIFO() }
    }
}

extension Int {
    /// Of a positive number.
    fileprivate var powerOfTwoAtMost: Int { 1 << (Int.bitWidth - 1 - leadingZeroBitCount) }
}
