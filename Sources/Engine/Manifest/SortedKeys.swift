// Keys in ascending order in one piece of memory, for binary search without touching the objects
// they came from: the bounds of a level's tables. Immutable.

package final class SortedKeys: @unchecked Sendable {
    // @unchecked: immutable after init. Plain memory: arrays would be checked for bounds, and their
    // references counted, with every read of a key.
    package let count: Int
    /// First eight bytes of each key as a number; most comparisons end here.
    private let prefixes: UnsafeMutablePointer<UInt64>
    /// Key i is `bytes[offsets[i]..<offsets[i + 1]]`.
    private let offsets: UnsafeMutablePointer<Int>
    private let bytes: UnsafeMutableRawPointer

    /// `keys` are sorted.
    package init(_ keys: [[UInt8]]) {
        count = keys.count
        prefixes = .allocate(capacity: max(count, 1))
        offsets = .allocate(capacity: count + 1)
        bytes = .allocate(byteCount: max(keys.reduce(0) { $0 + $1.count }, 1), alignment: 8)
        offsets[0] = 0
        for (index, key) in keys.enumerated() {
            key.withUnsafeBytes {
                prefixes[index] = keyPrefix($0)
                UnsafeMutableRawBufferPointer(start: bytes + offsets[index], count: key.count)
                    .copyMemory(from: $0)
            }
            offsets[index + 1] = offsets[index] + key.count
        }
    }

    deinit {
        prefixes.deallocate()
        offsets.deallocate()
        bytes.deallocate()
    }

    /// How many keys are at or before `key`.
    package func countAtOrBefore(_ key: UnsafeRawBufferPointer) -> Int {
        countAtOrBefore(key, prefix: keyPrefix(key))
    }

    /// As above, for a caller that knows the key's `keyPrefix`.
    @inline(__always)
    func countAtOrBefore(_ key: UnsafeRawBufferPointer, prefix: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if isAtOrBefore(middle, key, prefix) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Whether key `index` is at or before `key`.
    @inline(__always)
    func isAtOrBefore(_ index: Int, _ key: UnsafeRawBufferPointer, _ prefix: UInt64) -> Bool {
        if prefixes[index] != prefix { return prefixes[index] < prefix }
        let own = UnsafeRawBufferPointer(
            start: bytes + offsets[index], count: offsets[index + 1] - offsets[index])
        return compareKeys(own, key) <= 0
    }
}
