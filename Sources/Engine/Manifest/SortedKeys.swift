// Keys in ascending order in one piece of memory, for binary search without touching the objects
// they came from: the ends of a level's tables. Immutable.

package struct SortedKeys: Sendable {
    /// First eight bytes of each key as a number; most comparisons end here.
    private let prefixes: [UInt64]
    /// Key i is `bytes[offsets[i]..<offsets[i + 1]]`.
    private let offsets: [Int]
    private let bytes: [UInt8]

    /// `keys` are sorted.
    package init(_ keys: [[UInt8]]) {
        var prefixes: [UInt64] = []
        var offsets = [0]
        var bytes: [UInt8] = []
        for key in keys {
            prefixes.append(key.withUnsafeBytes { keyPrefix($0) })
            bytes += key
            offsets.append(bytes.count)
        }
        self.prefixes = prefixes
        self.offsets = offsets
        self.bytes = bytes
    }

    package var count: Int { prefixes.count }

    /// How many keys are at or before `key`.
    package func countAtOrBefore(_ key: UnsafeRawBufferPointer) -> Int {
        let prefix = keyPrefix(key)
        return prefixes.withUnsafeBufferPointer { prefixes in
            var low = 0
            var high = prefixes.count
            while low < high {
                let middle = (low + high) / 2
                if isAtOrBefore(middle, prefixes[middle], key, prefix) {
                    low = middle + 1
                } else {
                    high = middle
                }
            }
            return low
        }
    }

    @inline(__always)
    private func isAtOrBefore(
        _ index: Int, _ ownPrefix: UInt64, _ key: UnsafeRawBufferPointer, _ prefix: UInt64
    ) -> Bool {
        if ownPrefix != prefix { return ownPrefix < prefix }
        return bytes.withUnsafeBytes { bytes in
            let own = UnsafeRawBufferPointer(
                rebasing: bytes[offsets[index]..<offsets[index + 1]])
            return compareKeys(own, key) <= 0
        }
    }
}
