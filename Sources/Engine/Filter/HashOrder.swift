// Puts hashes into ascending order, each once: a filter is built from a set. Hashes are close to
// uniform, so two or three passes over their highest bits leave little to do; hashes that somebody
// chose with care cost a general sort and nothing more.

package enum HashOrder {
    private static let digitBits = 11
    private static let digits = 1 << digitBits

    /// Sorts the `count` hashes at `hashes` with the help of as much room at `spare`, and returns
    /// how many are left without the doubles.
    package static func sort(
        _ hashes: UnsafeMutablePointer<UInt64>, _ spare: UnsafeMutablePointer<UInt64>, count: Int
    ) -> Int {
        let wantedBits = Int.bitWidth - count.leadingZeroBitCount
        let passes = count < 256 ? 0 : (wantedBits + digitBits - 1) / digitBits
        var source = hashes
        var target = spare
        var shift = 64 - passes * digitBits
        for _ in 0..<passes {
            scatter(source, target, count, UInt64(shift))
            swap(&source, &target)
            shift += digitBits
        }
        if source != hashes { hashes.update(from: source, count: count) }
        if !insert(hashes, count) {
            var all = UnsafeMutableBufferPointer(start: hashes, count: count)
            all.sort()
        }
        return unite(hashes, count)
    }

    /// A stable pass of a radix sort by the digit at `shift`.
    private static func scatter(
        _ source: UnsafeMutablePointer<UInt64>, _ target: UnsafeMutablePointer<UInt64>,
        _ count: Int, _ shift: UInt64
    ) {
        withUnsafeTemporaryAllocation(of: Int.self, capacity: digits) { places in
            guard let places = places.baseAddress else { return }
            places.initialize(repeating: 0, count: digits)
            let mask = UInt64(digits - 1)
            for index in 0..<count {
                places[Int(truncatingIfNeeded: source[index] &>> shift & mask)] &+= 1
            }
            var place = 0
            for digit in 0..<digits {
                let here = places[digit]
                places[digit] = place
                place &+= here
            }
            for index in 0..<count {
                let hash = source[index]
                let digit = Int(truncatingIfNeeded: hash &>> shift & mask)
                target[places[digit]] = hash
                places[digit] &+= 1
            }
        }
    }

    /// Insertion sort; false when it would have to move far more than what is nearly in order.
    private static func insert(_ hashes: UnsafeMutablePointer<UInt64>, _ count: Int) -> Bool {
        var movesLeft = 16 * count + 4096
        for index in 1..<max(count, 1) where hashes[index - 1] > hashes[index] {
            let hash = hashes[index]
            var place = index
            while place > 0, hashes[place - 1] > hash {
                hashes[place] = hashes[place - 1]
                place -= 1
            }
            hashes[place] = hash
            movesLeft -= index - place
            if movesLeft < 0 { return false }
        }
        return true
    }

    private static func unite(_ hashes: UnsafeMutablePointer<UInt64>, _ count: Int) -> Int {
        guard count > 1 else { return count }
        var kept = 1
        for index in 1..<count where hashes[index] != hashes[kept - 1] {
            hashes[kept] = hashes[index]
            kept += 1
        }
        return kept
    }
}
