// Bytes that stay at one address until they are assigned anew: a key or value kept across moves of
// the cursor it came from, without an allocation for each. Not shared between threads.

package struct ScratchBytes: ~Copyable {
    private var storage = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var count = 0

    /// Nothing is allocated before the first `assign`.
    package init() {}

    deinit { storage.deallocate() }

    /// Borrowed until the next `assign`.
    @inline(__always)
    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: storage.baseAddress, count: count)
    }

    /// Copies `source`, which may not be part of this buffer.
    @inline(__always)
    package mutating func assign(_ source: UnsafeRawBufferPointer) {
        if source.count > storage.count { grow(source.count) }
        storage.copyMemory(from: source)
        count = source.count
    }

    private mutating func grow(_ needed: Int) {
        storage.deallocate()
        storage = .allocate(byteCount: max(64, needed + needed / 2), alignment: 8)
    }
}
