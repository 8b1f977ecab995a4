// Builds BuRR filters. The bytes are a function of the set of hashes and of r alone: hashes are
// sorted first, which also orders them by start slot, so that elimination runs through memory once.
//
// A layer is solved bucket by bucket. Within a bucket rows are added from its last start slot to
// its first; when one contradicts those before it, it and all that start below the next threshold
// are bumped, and rows of theirs that were added already are taken back. Then the solution follows
// from the last slot to the first. Sums: at most `layersMax` passes over what is left, whatever the
// hashes are; hashes that resist end in the list.

package enum BurrFilter {
    /// Canonical bytes over `hashes`, in any order, with doubles or without.
    package static func encode(_ hashes: [UInt64], bits: Int) -> [UInt8] {
        invariant(BurrFormat.bitsRange.contains(bits), "a ribbon filter of \(bits) bits")
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: max(hashes.count, 1))
        let spare = UnsafeMutablePointer<UInt64>.allocate(capacity: max(hashes.count, 1))
        defer {
            keys.deallocate()
            spare.deallocate()
        }
        hashes.withUnsafeBufferPointer { source in
            if let base = source.baseAddress {
                keys.initialize(from: base, count: source.count)
            }
        }
        var count = HashOrder.sort(keys, spare, count: hashes.count)
        var layers: [BurrLayer] = []
        while count > BurrFormat.listedKeys, layers.count < BurrFormat.layersMax {
            let layer = BurrLayer(keys: count, bits: bits)
            let bumped = layer.eliminate(keys, count)
            layer.solve()
            layers.append(layer)
            count = HashOrder.sort(keys, spare, count: bumped)
        }
        return emit(layers, UnsafeMutableBufferPointer(start: keys, count: count), bits: bits)
    }

    private static func emit(
        _ layers: [BurrLayer], _ listed: UnsafeMutableBufferPointer<UInt64>, bits: Int
    ) -> [UInt8] {
        let entry = BurrFormat.listedBytes(bits)
        var list: [UInt64] = []
        for hash in listed {
            // Ascending, as the hashes are.
            let fingerprint = BurrFormat.listed(hash, bytes: entry)
            if list.last != fingerprint { list.append(fingerprint) }
        }
        let sizes = layers.map(\.storedBytes)
        let length =
            BurrFormat.headerBytes + 4 * layers.count + sizes.reduce(0, +) + entry * list.count
            + BurrFormat.padBytes(bits)
        var bytes = [UInt8](repeating: 0, count: length)
        bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            buffer[0] = BurrFormat.kind
            buffer[1] = UInt8(bits)
            buffer[2] = UInt8(layers.count)
            base.storeBytes(of: UInt32(list.count).littleEndian, toByteOffset: 4, as: UInt32.self)
            var at = base + BurrFormat.headerBytes
            for layer in layers {
                at.storeBytes(of: UInt32(layer.groups).littleEndian, as: UInt32.self)
                at += 4
            }
            for (layer, size) in zip(layers, sizes) {
                layer.store(at)
                at += size
            }
            for fingerprint in list {
                for byte in 0..<entry {
                    at.storeBytes(
                        of: UInt8(truncatingIfNeeded: fingerprint >> UInt64(8 * byte)),
                        toByteOffset: byte, as: UInt8.self)
                }
                at += entry
            }
        }
        return bytes
    }
}

/// One layer while it is built: the rows of the system, then its solution.
private final class BurrLayer {
    let groups: Int
    private let bits: Int
    private let slots: Int
    /// Row of each slot: coefficients from that slot on, the first 1, or 0 if the slot is free.
    private let coefficients: UnsafeMutablePointer<UInt64>
    private let fingerprints: UnsafeMutablePointer<UInt64>
    /// The bits of a fingerprint that there are columns for.
    private let fingerprintMask: UInt64
    private var codes: [UInt8]
    /// Per group of eight columns, a word for each eight slots.
    private var solution: [[UInt64]] = []

    init(keys count: Int, bits: Int) {
        groups = BurrFormat.groups(keys: count)
        self.bits = bits
        slots = groups * 8
        fingerprintMask = (0..<(bits + 7) / 8).reduce(0) {
            $0 | BurrFormat.columns(bits, group: $1) << UInt64($1)
        }
        coefficients = .allocate(capacity: slots)
        coefficients.initialize(repeating: 0, count: slots)
        fingerprints = .allocate(capacity: slots)
        fingerprints.initialize(repeating: 0, count: slots)
        codes = [UInt8](repeating: 0, count: BurrFormat.buckets(groups: groups))
    }

    deinit {
        coefficients.deallocate()
        fingerprints.deallocate()
    }

    var storedBytes: Int { BurrFormat.thresholdBytes(groups: groups) + groups * bits }

    // MARK: Elimination

    /// Adds the sorted keys; the next layer's hashes of those bumped replace them in place, from
    /// the front. Returns their count.
    func eliminate(_ keys: UnsafeMutablePointer<UInt64>, _ count: Int) -> Int {
        let starts = UInt64(BurrFormat.starts(groups: groups))
        var bumped = 0
        var next = 0
        var taken: [Int32] = []
        for bucket in codes.indices {
            let first = next
            let end = (bucket + 1) << BurrFormat.bucketBits
            while next < count, BurrFormat.start(keys[next], starts) < end { next += 1 }
            let kept = fill(bucket, keys, first..<next, starts, &taken)
            for key in first..<kept {
                keys[bumped] = BurrFormat.bumped(keys[key])
                bumped += 1
            }
        }
        return bumped
    }

    /// Adds a bucket's keys from its end; the first that stays.
    private func fill(
        _ bucket: Int, _ keys: UnsafeMutablePointer<UInt64>, _ range: Range<Int>,
        _ starts: UInt64, _ taken: inout [Int32]
    ) -> Int {
        let origin = bucket << BurrFormat.bucketBits
        var key = range.upperBound
        taken.removeAll(keepingCapacity: true)
        while key > range.lowerBound {
            let start = BurrFormat.start(keys[key - 1], starts)
            guard let slot = add(keys[key - 1], start) else {
                let code = BurrLayer.code(bumping: start - origin)
                codes[bucket] = UInt8(code)
                let limit = origin + BurrFormat.threshold(code)
                return takeBack(keys, key, range, starts, limit, taken)
            }
            taken.append(slot)
            key -= 1
        }
        return range.lowerBound
    }

    /// The first code whose threshold is above the place of a start slot in its bucket.
    private static func code(bumping place: Int) -> Int {
        (1...3).first { BurrFormat.threshold($0) > place } ?? 3
    }

    /// Frees the slots of the keys before `limit`. Later rows were reduced by earlier ones and
    /// never the other way round, so the last may go without a trace.
    private func takeBack(
        _ keys: UnsafeMutablePointer<UInt64>, _ reached: Int, _ range: Range<Int>,
        _ starts: UInt64, _ limit: Int, _ taken: [Int32]
    ) -> Int {
        var kept = reached
        while kept < range.upperBound, BurrFormat.start(keys[kept], starts) < limit {
            let slot = taken[range.upperBound - 1 - kept]
            if slot >= 0 {
                coefficients[Int(slot)] = 0
                fingerprints[Int(slot)] = 0
            }
            kept += 1
        }
        return kept
    }

    /// The slot that the key's row took; -1 if the rows imply it already, nil if they contradict.
    @inline(__always)
    private func add(_ hash: UInt64, _ start: Int) -> Int32? {
        var (row, wanted) = BurrFormat.row(hash)
        wanted &= fingerprintMask
        var slot = start
        while true {
            let present = coefficients[slot]
            if present == 0 {
                coefficients[slot] = row
                fingerprints[slot] = wanted
                return Int32(truncatingIfNeeded: slot)
            }
            row ^= present
            wanted ^= fingerprints[slot]
            if row == 0 { return wanted == 0 ? -1 : nil }
            let skipped = row.trailingZeroBitCount
            row = row &>> UInt64(truncatingIfNeeded: skipped)
            slot &+= skipped
        }
    }

    // MARK: Solution

    /// From the last slot to the first; free slots get zero.
    func solve() {
        for group in 0..<(bits + 7) / 8 {
            var words = [UInt64](repeating: 0, count: groups + 9)
            words.withUnsafeMutableBufferPointer { words in
                guard let words = words.baseAddress else { return }
                for at in stride(from: groups - 1, through: 0, by: -1) {
                    words[at] = solve(words + at, at, group)
                }
            }
            solution.append(words)
        }
    }

    /// Eight slots: `words` points to theirs, behind which those of later slots are done.
    @inline(__always)
    private func solve(_ words: UnsafeMutablePointer<UInt64>, _ at: Int, _ group: Int) -> UInt64 {
        let mask = BurrFormat.columns(bits, group: group)
        var word: UInt64 = 0
        for place in stride(from: 7, through: 0, by: -1) {
            let row = coefficients[at &* 8 &+ place]
            if row == 0 { continue }
            let shift = UInt64(truncatingIfNeeded: place)
            let low = row &<< shift
            let high = (row >> 1) &>> (63 &- shift)
            var sum = words[8] & BurrFormat.spread(high)
            for byte in 1..<8 {
                sum ^= words[byte] & BurrFormat.spread(low >> UInt64(truncatingIfNeeded: 8 &* byte))
            }
            sum ^= word & BurrFormat.spread(low)
            let wanted = fingerprints[at &* 8 &+ place] >> UInt64(truncatingIfNeeded: group)
            word |= ((BurrFormat.parities(sum) ^ wanted) & mask) &<< shift
        }
        return word
    }

    /// Writes thresholds and solution; `target` holds zeros.
    func store(_ target: UnsafeMutableRawPointer) {
        for (bucket, code) in codes.enumerated() {
            let place = target + bucket >> 2
            let byte = place.load(as: UInt8.self) | code << UInt8(bucket & 3 * 2)
            place.storeBytes(of: byte, as: UInt8.self)
        }
        let rows = target + BurrFormat.thresholdBytes(groups: groups)
        for (group, words) in solution.enumerated() {
            let columns = min(bits - 8 * group, 8)
            for at in 0..<groups {
                withUnsafeBytes(of: words[at].littleEndian) { word in
                    (rows + at * bits + 8 * group).copyMemory(
                        from: word.baseAddress.unsafelyUnwrapped, byteCount: columns)
                }
            }
        }
    }
}
