// Queries of a BuRR filter in place: over canonical bytes that were validated and that somebody
// keeps. Eight columns are computed at once: a byte of coefficients, spread over a word, selects
// rows of eight slots in eight columns; the words of nine such groups xor to bytes whose parities
// are the answer. Nothing here allocates, counts references or checks bounds.

import CEngineShims

struct BurrView {
    private let base: UnsafeRawPointer
    private let bits: Int
    private let layers: Int
    // The first layer, which answers nearly all queries.
    private let starts: UInt64
    private let thresholds: UnsafeRawPointer
    private let solution: UnsafeRawPointer

    /// `base` is where bytes start that `validate` accepted.
    @inline(__always)
    init(_ base: UnsafeRawPointer) {
        self.base = base
        bits = Int(base.load(fromByteOffset: 1, as: UInt8.self))
        layers = Int(base.load(fromByteOffset: 2, as: UInt8.self))
        thresholds = base + BurrFormat.headerBytes + 4 * layers
        if layers > 0 {
            let groups = BurrView.groups(base, 0)
            starts = UInt64(truncatingIfNeeded: BurrFormat.starts(groups: groups))
            solution = thresholds + BurrFormat.thresholdBytes(groups: groups)
        } else {
            starts = 0
            solution = thresholds
        }
    }

    @inline(__always)
    private static func groups(_ base: UnsafeRawPointer, _ layer: Int) -> Int {
        let stored = base.loadUnaligned(
            fromByteOffset: BurrFormat.headerBytes + 4 * layer, as: UInt32.self)
        return Int(UInt32(littleEndian: stored))
    }

    /// Has the CPU fetch what the first layer says of `hash`.
    @inline(__always)
    func prefetch(_ hash: UInt64) {
        guard layers > 0 else { return }
        let start = BurrFormat.start(hash, starts)
        let rows = solution + (start >> 3) &* bits
        martlet_prefetch(rows)
        martlet_prefetch(rows + 8 &* bits)
        martlet_prefetch(thresholds + start >> (BurrFormat.bucketBits + 2))
    }

    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        let start = BurrFormat.start(hash, starts)
        guard layers > 0, !BurrView.isBumped(thresholds, start) else { return searchBumped(hash) }
        return BurrView.matches(solution, bits, start, hash)
    }

    @inline(__always)
    private static func isBumped(_ thresholds: UnsafeRawPointer, _ start: Int) -> Bool {
        let bucket = start >> BurrFormat.bucketBits
        let codes = Int(thresholds.load(fromByteOffset: bucket >> 2, as: UInt8.self))
        let code = codes >> ((bucket & 3) &* 2) & 3
        return start & (BurrFormat.bucketSlots - 1) < BurrFormat.threshold(code)
    }

    @inline(__always)
    private static func matches(
        _ solution: UnsafeRawPointer, _ bits: Int, _ start: Int, _ hash: UInt64
    ) -> Bool {
        let (coefficients, fingerprint) = BurrFormat.row(hash)
        let shift = UInt64(truncatingIfNeeded: start & 7)
        let low = coefficients &<< shift
        // Two shifts, since one by 64 would be none.
        let high = (coefficients >> 1) &>> (63 &- shift)
        var rows = solution + (start >> 3) &* bits
        var group = 0
        while true {
            var word: UInt64 = 0
            var row = rows
            for byte in 0..<8 as Range<UInt64> {
                word ^=
                    UInt64(littleEndian: row.loadUnaligned(as: UInt64.self))
                    & BurrFormat.spread(low >> (8 &* byte))
                row += bits
            }
            word ^=
                UInt64(littleEndian: row.loadUnaligned(as: UInt64.self)) & BurrFormat.spread(high)
            let wanted = fingerprint >> UInt64(truncatingIfNeeded: group)
            let wrong = BurrFormat.parities(word) ^ wanted
            if wrong & BurrFormat.columns(bits, group: group) != 0 { return false }
            group &+= 1
            if group &* 8 >= bits { return true }
            rows += 8
        }
    }

    /// A key that the first layer, if there is one, does not answer for.
    @inline(never)
    private func searchBumped(_ first: UInt64) -> Bool {
        var hash = first
        var at = thresholds
        for layer in 0..<layers {
            let groups = BurrView.groups(base, layer)
            let start = BurrFormat.start(
                hash, UInt64(truncatingIfNeeded: BurrFormat.starts(groups: groups)))
            let solution = at + BurrFormat.thresholdBytes(groups: groups)
            if !BurrView.isBumped(at, start) {
                return BurrView.matches(solution, bits, start, hash)
            }
            hash = BurrFormat.bumped(hash)
            at = solution + groups &* bits
        }
        return isListed(hash, at)
    }

    private func isListed(_ hash: UInt64, _ list: UnsafeRawPointer) -> Bool {
        let bytes = BurrFormat.listedBytes(bits)
        let wanted = BurrFormat.listed(hash, bytes: bytes)
        let count = Int(
            UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if BurrView.listed(list, middle, bytes) < wanted {
                low = middle + 1
            } else {
                high = middle
            }
        }
        // Behind the list lie zeros only; they must not pass for an entry.
        return low < count && BurrView.listed(list, low, bytes) == wanted
    }

    @inline(__always)
    private static func listed(_ list: UnsafeRawPointer, _ index: Int, _ bytes: Int) -> UInt64 {
        let word = (list + index &* bytes).loadUnaligned(as: UInt64.self)
        return UInt64(littleEndian: word) & (UInt64.max >> UInt64(64 - 8 * bytes))
    }

    // MARK: Checking

    /// What a filter must be for queries to stay within it.
    static func validate(_ bytes: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let kind = try reader.read(UInt8.self)
        let bits = Int(try reader.read(UInt8.self))
        let layers = Int(try reader.read(UInt8.self))
        guard kind == BurrFormat.kind, BurrFormat.bitsRange.contains(bits),
            layers <= BurrFormat.layersMax, try reader.read(UInt8.self) == 0
        else { throw DecodingError("a ribbon filter's header") }
        let listed = Int(try reader.read(UInt32.self))
        var length = 0
        for _ in 0..<layers {
            let groups = Int(try reader.read(UInt32.self))
            guard (9...BurrFormat.groupsMax).contains(groups) else {
                throw DecodingError("a ribbon filter's layer of \(groups) groups")
            }
            length += BurrFormat.thresholdBytes(groups: groups) + groups * bits
        }
        let entry = BurrFormat.listedBytes(bits)
        guard reader.remaining == length + listed * entry + BurrFormat.padBytes(bits),
            let base = bytes.baseAddress
        else { throw DecodingError("a ribbon filter's length") }
        let list = base + reader.offset + length
        for index in 1..<max(listed, 1)
        where BurrView.listed(list, index - 1, entry) >= BurrView.listed(list, index, entry) {
            throw DecodingError("a ribbon filter's list is not in order")
        }
        for offset in bytes.count - BurrFormat.padBytes(bits)..<bytes.count
        where bytes[offset] != 0 {
            throw DecodingError("a ribbon filter's padding")
        }
    }
}
