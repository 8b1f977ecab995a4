// A position in a memtable's skiplist, without its sorted runs. Safe beside the writer: it may or
// may not see what is inserted meanwhile; visibility is decided by sequence above.

import CEngineShims

package final class MemtableCursor: EntryCursor {
    private let memtable: Memtable
    private var node: SkipListNode?

    package init(_ memtable: Memtable) { self.memtable = memtable }

    package var isValid: Bool { node != nil }

    @inline(__always)
    private var place: SkipListNode {
        guard let node else { brokenInvariant("an invalid memtable cursor was read") }
        return node
    }

    package var key: UnsafeRawBufferPointer { place.key }
    package var trailer: Trailer { Trailer(rawValue: place.trailer) }
    package var value: UnsafeRawBufferPointer { place.value }

    package func seekToFirst() { node = memtable.list.pointee.first }
    package func seekToLast() { node = memtable.list.pointee.lastNode() }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) {
        node = memtable.list.pointee.nodeAtOrAfter(key, trailer.rawValue)
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) {
        moveBefore(key, .max)
    }

    package func next() {
        node = place.next(0)
        // A flush walks nodes in key order, which is random order in memory: fetch the one after
        // this while the caller works on this one.
        if let following = node?.next(0) { martlet_prefetch(following.base) }
    }

    package func previous() { moveBefore(place.key, place.trailer) }

    private func moveBefore(_ key: UnsafeRawBufferPointer, _ trailer: UInt64) {
        let list = memtable.list
        let found = list.pointee.nodeBefore(key, trailer)
        node = found.base == list.pointee.head.base ? nil : found
    }
}
