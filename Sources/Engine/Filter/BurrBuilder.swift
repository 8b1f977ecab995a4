// Builds BuRR filters. The bytes are a function of the set of hashes and of r alone: hashes are
// sorted first, which also orders them by start slot, so that elimination runs through memory once.
//
// A layer is solved bucket by bucket. Within a bucket the keys between two thresholds are added
// together, the last ones first; when they contradict each other or those before, they and all that
// start earlier are bumped. Then the solution follows from the last slot to the first. Sums: at
// most `layersMax` passes over what is left, whatever the hashes are; hashes that resist end in the
// list.

package enum BurrFilter {
    /// Canonical bytes over `hashes`, in any order, with doubles or without.
    package static func encode(_ hashes: [UInt64], bits: Int) -> [UInt8] {
        invariant(BurrFormat.bitsRange.contains(bits), "a ribbon filter of \(bits) bits")
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: max(hashes.count, 1))
        defer { keys.deallocate() }
        var rows = BurrRows(keys: hashes.count, bits: bits)
        var count = hashes.withUnsafeBufferPointer { source in
            guard let base = source.baseAddress else { return 0 }
            return HashOrder.sort(base, into: keys, rows.spareWords(), count: source.count)
        }
        var layers: [BurrLayer] = []
        while count > BurrFormat.listedKeys, layers.count < BurrFormat.layersMax {
            let layer = BurrLayer(keys: count, bits: bits)
            let bumped = layer.eliminate(keys, count, &rows)
            layer.solve(rows)
            layers.append(layer)
            count = HashOrder.sort(keys, into: keys, rows.spareWords(), count: bumped)
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

/// One layer while it is built: which keys of its buckets it bumps, and its solution.
private final class BurrLayer {
    let groups: Int
    private let bits: Int
    private var codes: [UInt8]
    /// Of two groups of eight columns each, the words for each eight slots.
    private var solution: [[SIMD2<UInt64>]] = []

    init(keys count: Int, bits: Int) {
        groups = BurrFormat.groups(keys: count)
        self.bits = bits
        codes = [UInt8](repeating: 0, count: BurrFormat.buckets(groups: groups))
    }

    var storedBytes: Int { BurrFormat.thresholdBytes(groups: groups) + groups * bits }
    private var columnGroups: Int { (bits + 7) / 8 }

    // MARK: Elimination

    /// Adds the sorted keys; the next layer's hashes of those bumped replace them in place, from
    /// the front. Returns their count.
    func eliminate(
        _ keys: UnsafeMutablePointer<UInt64>, _ count: Int, _ rows: inout BurrRows
    ) -> Int {
        let starts = UInt64(BurrFormat.starts(groups: groups))
        rows.beginLayer(slots: groups * 8)
        var bumped = 0
        var next = 0
        for bucket in codes.indices {
            let first = next
            let end = (bucket + 1) << BurrFormat.bucketBits
            while next < count, BurrFormat.start(keys[next], starts) < end { next += 1 }
            rows.clear(before: end + BurrFormat.width)
            let kept = fill(bucket, keys, first..<next, starts, rows)
            for key in first..<kept {
                keys[bumped] = BurrFormat.bumped(keys[key])
                bumped += 1
            }
        }
        return bumped
    }

    /// Adds a bucket's keys from its end; the first that stays.
    private func fill(
        _ bucket: Int, _ keys: UnsafePointer<UInt64>, _ range: Range<Int>, _ starts: UInt64,
        _ rows: borrowing BurrRows
    ) -> Int {
        let origin = bucket << BurrFormat.bucketBits
        var kept = range.upperBound
        for code in stride(from: BurrFormat.codeMax, to: 0, by: -1) {
            let limit = origin + BurrFormat.threshold(code - 1)
            var first = kept
            while first > range.lowerBound, BurrFormat.start(keys[first - 1], starts) >= limit {
                first -= 1
            }
            guard rows.add(keys + first, count: kept - first, starts: starts) else {
                codes[bucket] = UInt8(code)
                return kept
            }
            kept = first
        }
        return kept
    }

    // MARK: Solution

    /// From the last slot to the first; free slots get zero.
    func solve(_ rows: borrowing BurrRows) {
        for group in stride(from: 0, to: columnGroups, by: 2) {
            let mask = SIMD2(
                BurrFormat.columns(bits, group: group), BurrFormat.columns(bits, group: group + 1))
            var words = [SIMD2<UInt64>](repeating: .zero, count: groups + 9)
            words.withUnsafeMutableBufferPointer { words in
                guard let words = words.baseAddress else { return }
                for at in stride(from: groups - 1, through: 0, by: -1) {
                    words[at] = BurrLayer.solve(words + at, rows, at, group, mask)
                }
            }
            solution.append(words)
        }
    }

    /// Eight slots in the columns of two groups: `words` points to theirs, behind which those of
    /// later slots are done.
    @inline(__always)
    private static func solve(
        _ words: UnsafePointer<SIMD2<UInt64>>, _ rows: borrowing BurrRows, _ at: Int, _ group: Int,
        _ mask: SIMD2<UInt64>
    ) -> SIMD2<UInt64> {
        var word = SIMD2<UInt64>.zero
        for place in stride(from: 7, through: 0, by: -1) {
            let row = rows[at &* 8 &+ place]
            if row.coefficients == 0 { continue }
            let shift = UInt64(truncatingIfNeeded: place)
            let low = row.coefficients &<< shift
            let high = (row.coefficients >> 1) &>> (63 &- shift)
            var sum = words[8] & SIMD2(repeating: BurrFormat.spread(high))
            for byte in 1..<8 {
                let chosen = low >> UInt64(truncatingIfNeeded: 8 &* byte)
                sum ^= words[byte] & SIMD2(repeating: BurrFormat.spread(chosen))
            }
            sum ^= word & SIMD2(repeating: BurrFormat.spread(low))
            let wanted = SIMD2(
                row.fingerprint >> UInt64(truncatingIfNeeded: group),
                row.fingerprint >> UInt64(truncatingIfNeeded: group &+ 1))
            word |= ((BurrFormat.parities(sum) ^ wanted) & mask) &<< SIMD2(repeating: shift)
        }
        return word
    }

    /// Writes thresholds and solution; `target` and seven bytes behind hold zeros.
    func store(_ target: UnsafeMutableRawPointer) {
        for (bucket, code) in codes.enumerated() {
            let place = target + bucket >> 2
            let byte = place.load(as: UInt8.self) | code << UInt8(bucket & 3 * 2)
            place.storeBytes(of: byte, as: UInt8.self)
        }
        let rows = target + BurrFormat.thresholdBytes(groups: groups)
        for at in 0..<groups {
            for group in 0..<columnGroups {
                // Whole words: the next one goes over the zeros of columns that there are not.
                let word = solution[group >> 1][at][group & 1]
                (rows + at * bits + 8 * group).storeBytes(of: word.littleEndian, as: UInt64.self)
            }
        }
    }
}
