// Puts hashes into ascending order, each once: a filter is built from a set. Hashes are close to
// uniform, so two passes over their highest bits leave little to do; hashes that somebody chose
// with care cost a general sort and nothing more.

package enum HashOrder {
    /// Fewer hashes than this are inserted one by one.
    private static let radixMin = 256

    /// Sorts `count` hashes from `source` into `hashes`, which may be the same, with the help of as
    /// much room at `spare`. Returns how many are left without the doubles.
    package static func sort(
        _ source: UnsafePointer<UInt64>, into hashes: UnsafeMutablePointer<UInt64>,
        _ spare: UnsafeMutablePointer<UInt64>, count: Int
    ) -> Int {
        if count >= radixMin {
            scatter(source, hashes, spare, count)
        } else if source != UnsafePointer(hashes) {
            hashes.update(from: source, count: count)
        }
        if !insert(hashes, count) {
            var all = UnsafeMutableBufferPointer(start: hashes, count: count)
            all.sort()
        }
        return unite(hashes, count)
    }

    /// A radix sort by the two highest digits. There are at least four times as many pairs of them
    /// as hashes, so few hashes share theirs.
    private static func scatter(
        _ source: UnsafePointer<UInt64>, _ hashes: UnsafeMutablePointer<UInt64>,
        _ spare: UnsafeMutablePointer<UInt64>, _ count: Int
    ) {
        let digitBits = (Int.bitWidth - count.leadingZeroBitCount + 3) / 2
        let digits = 1 << digitBits
        let high = UInt64(64 - digitBits)
        let low = high - UInt64(digitBits)
        let mask = UInt64(digits - 1)
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 2 * digits) { places in
            guard let lowPlaces = places.baseAddress else { return }
            lowPlaces.initialize(repeating: 0, count: 2 * digits)
            let highPlaces = lowPlaces + digits
            for index in 0..<count {
                lowPlaces[Int(truncatingIfNeeded: source[index] &>> low & mask)] &+= 1
                highPlaces[Int(truncatingIfNeeded: source[index] &>> high)] &+= 1
            }
            turnIntoPlaces(lowPlaces, digits)
            turnIntoPlaces(highPlaces, digits)
            for index in 0..<count {
                let digit = Int(truncatingIfNeeded: source[index] &>> low & mask)
                spare[lowPlaces[digit]] = source[index]
                lowPlaces[digit] &+= 1
            }
            for index in 0..<count {
                let digit = Int(truncatingIfNeeded: spare[index] &>> high)
                hashes[highPlaces[digit]] = spare[index]
                highPlaces[digit] &+= 1
            }
        }
    }

    /// Counts of digits become the place of the first hash with each.
    private static func turnIntoPlaces(_ counts: UnsafeMutablePointer<Int>, _ digits: Int) {
        var place = 0
        for digit in 0..<digits {
            let here = counts[digit]
            counts[digit] = place
            place &+= here
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
