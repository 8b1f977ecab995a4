// Several sources as one: entries of all children in order, forward and in reverse, with the
// direction changed at any entry.
//
// Invariant while valid, forward: the top child stands on the current entry and every other on its
// first entry behind it (or has ended); in reverse: on its last entry before it. After a throw the
// cursor is invalid until it is sought again. One thread at a time.

package final class MergingCursor: EntryCursor {
    private let children: [any EntryCursor]
    @exclusivity(unchecked) private var heap: MergeHeap

    // Private with package getters: the compiler then proves that accesses do not overlap, instead
    // of checking it at run time for every entry.
    private var valid = false
    private var currentKey = UnsafeRawBufferPointer(start: nil, count: 0)
    private var currentTrailer = Trailer(rawValue: 0)
    private var currentValue = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The child that stands on the current entry.
    private var top = 0

    /// Children in any order; of two equal entries the earlier child's comes first.
    package init(_ children: [any EntryCursor]) {
        self.children = children
        heap = MergeHeap(capacity: children.count)
    }

    /// The cheapest cursor over `children`: one needs no merging.
    package static func over(_ children: [any EntryCursor]) -> any EntryCursor {
        children.count == 1 ? children[0] : MergingCursor(children)
    }

    package var isValid: Bool { valid }
    package var key: UnsafeRawBufferPointer { currentKey }
    package var trailer: Trailer { currentTrailer }
    package var value: UnsafeRawBufferPointer { currentValue }

    package func seekToFirst() throws(EngineError) {
        valid = false
        for child in children { try child.seekToFirst() }
        rebuild(reversed: false)
    }

    package func seekToLast() throws(EngineError) {
        valid = false
        for child in children { try child.seekToLast() }
        rebuild(reversed: true)
    }

    package func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
        valid = false
        for child in children { try child.seek(key, trailer) }
        rebuild(reversed: false)
    }

    package func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        valid = false
        for child in children { try child.seekBefore(key) }
        rebuild(reversed: true)
    }

    package func next() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let child = children[top]
        if heap.isReversed {
            for (index, other) in children.enumerated() where index != top {
                if other.isValid { try other.next() } else { try other.seekToFirst() }
            }
            try child.next()
            rebuild(reversed: false)
            return
        }
        moveTop(to: try child.advance())
    }

    package func advance() throws(EngineError) -> CursorEntry? {
        if heap.isReversed {
            try next()
            return current
        }
        invariant(valid, "a cursor moves from an entry")
        valid = false
        moveTop(to: try children[top].advance())
        guard valid else { return nil }
        return CursorEntry(key: currentKey, trailer: currentTrailer, value: currentValue)
    }

    package func previous() throws(EngineError) {
        invariant(valid, "a cursor moves from an entry")
        valid = false
        let child = children[top]
        if !heap.isReversed {
            for (index, other) in children.enumerated() where index != top {
                if other.isValid { try other.previous() } else { try other.seekToLast() }
            }
            try child.previous()
            rebuild(reversed: true)
            return
        }
        try child.previous()
        moveTop(to: child.current)
    }

    /// The top child has moved in the current direction.
    @inline(__always)
    private func moveTop(to entry: CursorEntry?) {
        if let entry {
            heap.replaceTop(MergeHeap.Head(entry, source: top))
        } else {
            heap.removeTop()
        }
        publish()
    }

    /// Every child stands where the direction wants it.
    private func rebuild(reversed: Bool) {
        heap.removeAll(reversed: reversed)
        for (index, child) in children.enumerated() {
            if let entry = child.current { heap.insert(MergeHeap.Head(entry, source: index)) }
        }
        publish()
    }

    @inline(__always)
    private func publish() {
        guard !heap.isEmpty else { return }
        let head = heap.top
        currentKey = head.key
        currentTrailer = head.trailer
        currentValue = head.value
        top = head.source
        valid = true
    }
}
