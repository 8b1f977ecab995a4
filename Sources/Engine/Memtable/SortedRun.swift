// The puts of one `bulk` entry in memory: a copy of its payload and the place of each pair in it.
// Immutable. The put at place n has the sequence of the entry's first plus n.

// @unchecked: raw memory that nobody changes after `init`.
final class SortedRun: @unchecked Sendable {
    private struct Pair {
        /// First 8 bytes of the key, as in the skiplist: most comparisons need no other memory.
        var prefix: UInt64
        var key: UInt32
        var keyLength: UInt32
        var value: UInt32
        var valueLength: UInt32

        @inline(__always)
        init(
            _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
            in bytes: UnsafeMutableRawPointer
        ) {
            prefix = keyPrefix(key)
            self.key = Pair.offset(of: key, in: bytes)
            keyLength = UInt32(key.count)
            self.value = Pair.offset(of: value, in: bytes)
            valueLength = UInt32(value.count)
        }

        private static func offset(
            of slice: UnsafeRawBufferPointer, in bytes: UnsafeMutableRawPointer
        ) -> UInt32 {
            slice.baseAddress.map { UInt32($0 - UnsafeRawPointer(bytes)) } ?? 0
        }
    }

    let count: Int
    let firstSequence: SequenceNumber
    private let bytes: UnsafeMutableRawPointer
    private let pairs: UnsafeMutablePointer<Pair>
    private let payloadBytes: Int

    /// Of a payload that was validated.
    init(_ payload: UnsafeRawBufferPointer, firstSequence: SequenceNumber) {
        invariant(payload.count <= UInt32.max, "a bulk of \(payload.count) bytes")
        let copy = UnsafeMutableRawPointer.allocate(byteCount: payload.count, alignment: 8)
        let source = UnsafeRawBufferPointer(start: copy, count: payload.count)
        UnsafeMutableRawBufferPointer(start: copy, count: payload.count).copyMemory(from: payload)
        do throws(DecodingError) {
            var reader = try BulkPayloadReader(source)
            invariant(reader.count > 0, "a bulk without pairs")
            let pairs = UnsafeMutablePointer<Pair>.allocate(capacity: reader.count)
            var place = 0
            while let (key, value) = try reader.next() {
                (pairs + place).initialize(to: Pair(key, value, in: copy))
                place += 1
            }
            self.pairs = pairs
            count = place
        } catch {
            brokenInvariant("a bulk entry was not validated: \(error)")
        }
        bytes = copy
        payloadBytes = payload.count
        self.firstSequence = firstSequence
    }

    deinit {
        bytes.deallocate()
        pairs.deallocate()
    }

    var memoryBytes: Int { payloadBytes + count * MemoryLayout<Pair>.stride }
    var lastSequence: SequenceNumber { firstSequence + UInt64(count - 1) }

    @inline(__always)
    func key(_ place: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: bytes + Int(pairs[place].key), count: Int(pairs[place].keyLength))
    }

    @inline(__always)
    func value(_ place: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: bytes + Int(pairs[place].value), count: Int(pairs[place].valueLength))
    }

    @inline(__always)
    func trailer(_ place: Int) -> Trailer { Trailer(firstSequence + UInt64(place), .put) }

    var smallest: UnsafeRawBufferPointer { key(0) }
    var largest: UnsafeRawBufferPointer { key(count - 1) }

    /// Place of the first key at or after `key`; `count` if there is none.
    func firstPlace(notBefore key: UnsafeRawBufferPointer) -> Int {
        let prefix = keyPrefix(key)
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) >> 1
            let other = pairs[middle].prefix
            // Equal prefixes say nothing: keys go on, or one of them was padded.
            let isBefore =
                other != prefix ? other < prefix : compareKeys(self.key(middle), key) < 0
            if isBefore { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
