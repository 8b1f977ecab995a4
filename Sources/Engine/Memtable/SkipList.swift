// A skiplist of versions with one writer and lock-free readers. Order: user key ascending, then
// trailer descending.
//
// A node is immutable once linked; links are published with release stores and followed with
// acquire loads, bottom level first, so a reader sees a node whole or not at all. Nodes are raw
// arena memory (no ARC, no removal): they live until the list goes, and whoever reads keeps the
// Memtable that owns the list.
//
// A link carries the key prefix of the node it leads to. A search is a chain of cache misses, one
// for each node it touches; with the prefix at hand it touches only nodes that it moves to, and
// none to learn that it must go down. The prefix of a link is a hint, stored before the address
// and not in one atomic step with it: a reader that pairs a newer prefix with an older address
// goes down a level early, or checks the node's own prefix when it gets there; the last step on
// the bottom level always compares nodes. Half of the nodes of a level rise to the next: that
// makes more levels, but fewer nodes visited.
//
// Keys that begin alike (`user:0000017`) would all have one prefix. A list may be told what most of
// them begin with; its prefixes are of what follows. Any number that never falls from a key to a
// greater one would do: those that begin otherwise have the least or the greatest there is.
//
// Node, at an 8-byte aligned address; links lie in front of it, so that the level of a link is its
// distance and the height need not be stored:
//   -16 × (level + 1)  address of the next node of that level, then its prefix
//   0   prefix: 8 bytes of the key, big-endian, zero-padded     8   trailer
//   16  key length u32       20  value length u32              24  key, then value

import CEngineShims
import Synchronization

package struct SkipListNode {
    package static let headerBytes = 24
    package static let linkBytes = 16
    let base: UnsafeMutableRawPointer

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inline(__always) var prefix: UInt64 { base.load(as: UInt64.self) }
    @inline(__always) var trailer: UInt64 { base.load(fromByteOffset: 8, as: UInt64.self) }
    @inline(__always) var keyLength: Int {
        Int(base.load(fromByteOffset: 16, as: UInt32.self))
    }
    @inline(__always) var valueLength: Int {
        Int(base.load(fromByteOffset: 20, as: UInt32.self))
    }
    @inline(__always) var key: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + SkipListNode.headerBytes, count: keyLength)
    }
    @inline(__always) var value: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: base + SkipListNode.headerBytes + keyLength, count: valueLength)
    }

    /// Address word of a link; the prefix word follows it.
    @inline(__always)
    private func link(_ level: Int) -> UnsafeMutablePointer<Atomic<UInt>> {
        (base - SkipListNode.linkBytes * (level + 1)).assumingMemoryBound(to: Atomic<UInt>.self)
    }

    @inline(__always)
    private func linkPrefix(_ level: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (base - SkipListNode.linkBytes * (level + 1) + 8)
            .assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    @inline(__always)
    func next(_ level: Int) -> SkipListNode? {
        let word = link(level).pointee.load(ordering: .acquiring)
        return UnsafeMutableRawPointer(bitPattern: word).map { SkipListNode($0) }
    }

    /// The prefix of the next node, most likely; a hint.
    @inline(__always)
    func nextPrefix(_ level: Int) -> UInt64 {
        linkPrefix(level).pointee.load(ordering: .relaxed)
    }

    /// Before the node is published: its link is a copy of `other`'s, or leads nowhere.
    @inline(__always)
    func initializeNext(_ level: Int, like other: SkipListNode?) {
        let address = other?.link(level).pointee.load(ordering: .relaxed) ?? 0
        let prefix = other?.nextPrefix(level) ?? 0
        link(level).initialize(to: Atomic(address))
        linkPrefix(level).initialize(to: Atomic(prefix))
    }

    @inline(__always)
    func publishNext(_ level: Int, _ node: SkipListNode, _ prefix: UInt64) {
        linkPrefix(level).pointee.store(prefix, ordering: .relaxed)
        link(level).pointee.store(UInt(bitPattern: node.base), ordering: .releasing)
    }

    /// Whether this node sorts before (key, trailer); `prefix` is the list's for the key.
    @inline(__always)
    func isBefore(_ prefix: UInt64, _ key: UnsafeRawBufferPointer, _ trailer: UInt64) -> Bool {
        let own = self.prefix
        if own != prefix { return own < prefix }
        let order = compareKeys(self.key, key)
        return order != 0 ? order < 0 : self.trailer > trailer
    }
}

/// The first eight bytes of a key as a number that sorts like them; zeros stand for missing ones.
@inline(__always)
package func keyPrefix(_ key: UnsafeRawBufferPointer) -> UInt64 {
    if key.count >= 8 { return UInt64(bigEndian: key.loadUnaligned(as: UInt64.self)) }
    var prefix: UInt64 = 0
    for byte in key { prefix = prefix << 8 | UInt64(byte) }
    return key.isEmpty ? 0 : prefix << UInt64(8 * (8 - key.count))
}

struct SkipList: ~Copyable {
    static let maxHeight = 20

    let head: SkipListNode
    /// What most keys begin with.
    private let common: UnsafeMutableRawBufferPointer
    /// What only the writer touches lies behind a pointer: readers never race with its fields.
    private let writer: UnsafeMutablePointer<Writer>

    private struct Writer: ~Copyable {
        var arena = Arena()
        var random: UInt64 = 0x2545_f491_4f6c_dd1d
        /// The last node of each level (or the head), for appends in order.
        let tails: UnsafeMutablePointer<SkipListNode>
        /// Where an insert stands on each level while it runs.
        let splice: UnsafeMutablePointer<SkipListNode>
    }

    /// `common`: what most keys begin with, as far as anybody knows.
    init(common: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) {
        self.common = .allocate(byteCount: common.count, alignment: 8)
        self.common.copyBytes(from: common)
        var arena = Arena()
        let links = SkipListNode.linkBytes * SkipList.maxHeight
        let head = SkipListNode(arena.allocate(links + SkipListNode.headerBytes) + links)
        head.base.initializeMemory(
            as: UInt8.self, repeating: 0, count: SkipListNode.headerBytes)
        for level in 0..<SkipList.maxHeight { head.initializeNext(level, like: nil) }
        let tails = UnsafeMutablePointer<SkipListNode>.allocate(capacity: SkipList.maxHeight)
        let splice = UnsafeMutablePointer<SkipListNode>.allocate(capacity: SkipList.maxHeight)
        tails.initialize(repeating: head, count: SkipList.maxHeight)
        splice.initialize(repeating: head, count: SkipList.maxHeight)
        self.head = head
        writer = .allocate(capacity: 1)
        writer.initialize(to: Writer(arena: arena, tails: tails, splice: splice))
    }

    deinit {
        common.deallocate()
        writer.pointee.tails.deallocate()
        writer.pointee.splice.deallocate()
        writer.deinitialize(count: 1)
        writer.deallocate()
    }

    var first: SkipListNode? { head.next(0) }
    /// Bytes of nodes, and of the chunks they lie in. Writer only.
    var usedBytes: Int { writer.pointee.arena.usedBytes }
    var reservedBytes: Int { writer.pointee.arena.reservedBytes }

    @inline(__always)
    private func prefix(_ key: UnsafeRawBufferPointer) -> UInt64 {
        common.isEmpty ? keyPrefix(key) : prefixBehindCommon(key)
    }

    private func prefixBehindCommon(_ key: UnsafeRawBufferPointer) -> UInt64 {
        let head = UnsafeRawBufferPointer(rebasing: key.prefix(common.count))
        let order = compareKeys(head, UnsafeRawBufferPointer(common))
        if order != 0 { return order < 0 ? 0 : .max }
        return keyPrefix(UnsafeRawBufferPointer(rebasing: key[common.count...]))
    }

    /// Brings most of what inserts of `keys` will touch into the cache: searches for all of them go
    /// a step each in turn, so that they wait for memory together and not one after the other.
    func approach(_ keys: UnsafeBufferPointer<UnsafeRawBufferPointer>) {
        withUnsafeTemporaryAllocation(of: Approach.self, capacity: keys.count) { searches in
            for place in keys.indices {
                let search = Approach(node: head, prefix: prefix(keys[place]))
                searches.initializeElement(at: place, to: search)
            }
            var isMoving = true
            while isMoving {
                isMoving = false
                for place in keys.indices where searches[place].step() { isMoving = true }
            }
        }
    }

    /// A search that stands still between two steps. By prefixes alone: where they are equal it
    /// goes down, which may be too early.
    private struct Approach {
        var node: SkipListNode
        let prefix: UInt64
        var level = SkipList.maxHeight - 1

        /// Moves to the next node that it has to touch; false at the end.
        @inline(__always)
        mutating func step() -> Bool {
            while level >= 0 {
                let next = node.nextPrefix(level)
                if next <= prefix, let found = node.next(level) {
                    if next < prefix {
                        node = found
                        martlet_prefetch(found.base - SkipListNode.linkBytes * (level + 1))
                        return true
                    }
                    martlet_prefetch(found.base)
                }
                level -= 1
            }
            return false
        }
    }

    /// How many bytes all keys begin with alike; 0 if there are no two of them.
    func commonBytes() -> Int {
        guard let first, let last = lastNode() else { return 0 }
        var count = 0
        let (low, high) = (first.key, last.key)
        if compareKeys(low, high) == 0 { return 0 }
        while count < low.count, count < high.count, low[count] == high[count] { count += 1 }
        return count
    }

    /// Links copies of all entries of `other`, which begin behind all of this list's. Writer only.
    func append(_ other: borrowing SkipList) {
        var node = other.first
        while let entry = node {
            insert(entry.key, entry.trailer, entry.value)
            node = entry.next(0)
        }
    }

    /// Links a copy of the entry. Only the writer calls this. The pair (key, trailer) must be new:
    /// sequences are never given twice.
    func insert(
        _ key: UnsafeRawBufferPointer, _ trailer: UInt64, _ value: UnsafeRawBufferPointer
    ) {
        let prefix = prefix(key)
        let height = randomHeight()
        let node = makeNode(height, prefix, key, trailer, value)
        let tails = writer.pointee.tails
        let last = tails[0]
        let appends = last.base == head.base || last.isBefore(prefix, key, trailer)
        if !appends { findSplice(prefix, key, trailer) }
        let before = appends ? tails : writer.pointee.splice
        for level in 0..<height {
            node.initializeNext(level, like: appends ? nil : before[level])
        }
        for level in 0..<height {
            let previous = before[level]
            previous.publishNext(level, node, prefix)
            if tails[level].base == previous.base { tails[level] = node }
        }
    }

    private func makeNode(
        _ height: Int, _ prefix: UInt64, _ key: UnsafeRawBufferPointer, _ trailer: UInt64,
        _ value: UnsafeRawBufferPointer
    ) -> SkipListNode {
        let links = SkipListNode.linkBytes * height
        let size = links + SkipListNode.headerBytes + key.count + value.count
        let base = writer.pointee.arena.allocate(size) + links
        base.storeBytes(of: prefix, as: UInt64.self)
        base.storeBytes(of: trailer, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: UInt32(key.count), toByteOffset: 16, as: UInt32.self)
        base.storeBytes(of: UInt32(value.count), toByteOffset: 20, as: UInt32.self)
        let bytes = base + SkipListNode.headerBytes
        if let source = key.baseAddress { bytes.copyMemory(from: source, byteCount: key.count) }
        if let source = value.baseAddress {
            (bytes + key.count).copyMemory(from: source, byteCount: value.count)
        }
        return SkipListNode(base)
    }

    private func randomHeight() -> Int {
        var random = writer.pointee.random
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        writer.pointee.random = random
        // The number of heads before the first tail.
        return min((random >> 20).trailingZeroBitCount + 1, SkipList.maxHeight)
    }

    private func findSplice(_ prefix: UInt64, _ key: UnsafeRawBufferPointer, _ trailer: UInt64) {
        let splice = writer.pointee.splice
        var node = head
        var beyond: UnsafeMutableRawPointer?
        for level in stride(from: SkipList.maxHeight - 1, through: 0, by: -1) {
            node = SkipList.advance(from: node, level, prefix, key, trailer, &beyond)
            splice[level] = node
        }
    }

    /// The last node before (key, trailer), or the head. Any thread.
    func nodeBefore(_ key: UnsafeRawBufferPointer, _ trailer: UInt64) -> SkipListNode {
        nodeBefore(prefix(key), key, trailer)
    }

    @inline(__always)
    private func nodeBefore(
        _ prefix: UInt64, _ key: UnsafeRawBufferPointer, _ trailer: UInt64
    ) -> SkipListNode {
        var node = head
        var beyond: UnsafeMutableRawPointer?
        for level in stride(from: SkipList.maxHeight - 1, through: 0, by: -1) {
            node = SkipList.advance(from: node, level, prefix, key, trailer, &beyond)
        }
        return node
    }

    /// Moves along `level` to the last node before (key, trailer). `beyond` is a node known to lie
    /// behind it, found on the level above.
    @inline(__always)
    private static func advance(
        from start: SkipListNode, _ level: Int, _ prefix: UInt64, _ key: UnsafeRawBufferPointer,
        _ trailer: UInt64, _ beyond: inout UnsafeMutableRawPointer?
    ) -> SkipListNode {
        var node = start
        while let next = node.next(level), next.base != beyond {
            if node.nextPrefix(level) > prefix { break }
            guard next.isBefore(prefix, key, trailer) else {
                beyond = next.base
                break
            }
            node = next
        }
        return node
    }

    /// The first node at or after (key, trailer). Any thread.
    func nodeAtOrAfter(_ key: UnsafeRawBufferPointer, _ trailer: UInt64) -> SkipListNode? {
        // A node linked behind `nodeBefore`'s result meanwhile may sort before the target too.
        let prefix = prefix(key)
        var node = nodeBefore(prefix, key, trailer).next(0)
        while let current = node, current.isBefore(prefix, key, trailer) { node = current.next(0) }
        return node
    }

    /// The last node; nil if the list is empty. Any thread.
    func lastNode() -> SkipListNode? {
        var node = head
        for level in stride(from: SkipList.maxHeight - 1, through: 0, by: -1) {
            while let next = node.next(level) { node = next }
        }
        return node.base == head.base ? nil : node
    }
}
