// A binary heap over the current entries of several sources: which of them comes next. Pure; it
// knows keys and trailers, not cursors. The order is total (key, then newest version, then the
// source's number), so that equal inputs merge equally everywhere. Used by `MergingCursor`.

package struct MergeHeap: ~Copyable {
    /// The entry that a source stands on; key and value stay the source's until it moves.
    package struct Head {
        package let key: UnsafeRawBufferPointer
        package let trailer: Trailer
        package let value: UnsafeRawBufferPointer
        /// First eight bytes of the key, big-endian: most comparisons end here.
        fileprivate let prefix: UInt64
        package let source: Int

        @inline(__always)
        package init(_ entry: CursorEntry, source: Int) {
            key = entry.key
            trailer = entry.trailer
            value = entry.value
            prefix = keyPrefix(entry.key)
            self.source = source
        }
    }

    /// Whether the last entry comes first.
    package private(set) var isReversed = false
    // Plain memory: an array would be checked for sharing and bounds with every entry of a merge.
    private let heads: UnsafeMutablePointer<Head>
    private let capacity: Int
    private var count = 0

    /// Room for one entry of each of `capacity` sources.
    package init(capacity: Int) {
        self.capacity = capacity
        heads = .allocate(capacity: max(capacity, 1))
    }

    deinit { heads.deallocate() }

    @inline(__always) package var isEmpty: Bool { count == 0 }
    /// The entry that comes next; only while not empty.
    @inline(__always) package var top: Head { heads[0] }

    package mutating func removeAll(reversed: Bool) {
        count = 0
        isReversed = reversed
    }

    package mutating func insert(_ head: Head) {
        invariant(count < capacity, "a source is in the heap twice")
        var child = count
        count += 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard MergeHeap.precedes(head, heads[parent], isReversed) else { break }
            heads[child] = heads[parent]
            child = parent
        }
        heads[child] = head
    }

    /// The top source moved on to `head`, which sinks from the root to where it belongs.
    @inline(__always)
    package mutating func replaceTop(_ head: Head) {
        let reversed = isReversed
        var hole = 0
        while true {
            var child = 2 * hole + 1
            guard child < count else { break }
            if child + 1 < count, MergeHeap.precedes(heads[child + 1], heads[child], reversed) {
                child += 1
            }
            guard MergeHeap.precedes(heads[child], head, reversed) else { break }
            heads[hole] = heads[child]
            hole = child
        }
        heads[hole] = head
    }

    /// The top source ended.
    package mutating func removeTop() {
        count -= 1
        if count > 0 { replaceTop(heads[count]) }
    }

    @inline(__always)
    private static func precedes(_ left: Head, _ right: Head, _ reversed: Bool) -> Bool {
        isInOrder(left, right) != reversed
    }

    /// Whether `left` comes before `right`; two sources are never equal.
    @inline(__always)
    private static func isInOrder(_ left: Head, _ right: Head) -> Bool {
        if left.prefix != right.prefix { return left.prefix < right.prefix }
        let order = compareKeys(left.key, right.key)
        if order != 0 { return order < 0 }
        if left.trailer != right.trailer { return left.trailer > right.trailer }
        return left.source < right.source
    }
}
