// Payload of a `bulk` entry: puts in key order, each of which takes one sequence, in order.
//
//   version u8 = 1, varint count, then per put: key, value (varint length and bytes)
//
// Keys ascend strictly and none is empty. So the bytes are a sorted run as they are: a memtable
// keeps them beside its skiplist and finds keys in place. There is no horizon in it: the flush of
// its segment goes by that of the segment's last `write`, and drops nothing without one.

package enum BulkPayload {
    static let version: UInt8 = 1
    /// Version and count.
    static let headBytes = 11
    /// Two lengths and a key of one byte.
    static let pairBytesMin = 3
    /// Two lengths.
    static let pairHeadBytes = 10
}

/// Reads a `bulk` payload in place, and throws at the first pair out of order.
package struct BulkPayloadReader {
    package let count: Int
    private var reader: ByteReader
    private var left: Int
    private var previous = UnsafeRawBufferPointer(start: nil, count: 0)

    package init(_ payload: UnsafeRawBufferPointer) throws(DecodingError) {
        reader = ByteReader(payload)
        let version = try reader.read(UInt8.self)
        guard version == BulkPayload.version else {
            throw DecodingError("bulk format \(version) is not supported")
        }
        // Whoever allocates by the count is bounded by the payload.
        count = try reader.readVarint(
            atMost: UInt64(payload.count / BulkPayload.pairBytesMin), "a pair count")
        left = count
    }

    /// The next pair, borrowed from the payload; nil at the end, which must be the payload's end.
    @inline(__always)
    package mutating func next() throws(DecodingError)
        -> (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)?
    {
        guard left > 0 else {
            try reader.expectEnd("a bulk")
            return nil
        }
        left -= 1
        let key = try reader.readPrefixed(atMost: Limits.keyBytes)
        // The first follows the empty key, so an empty one is never in order.
        guard compareKeys(previous, key) < 0 else {
            throw DecodingError("keys of a bulk do not ascend")
        }
        previous = key
        return (key, try reader.readPrefixed(atMost: Limits.valueBytesMax))
    }
}

/// Gathers pairs for one `bulk` after the other. Order is checked across all of them.
package struct BulkPayloadBuilder {
    private var pairs = ByteWriter()
    package private(set) var count = 0
    /// Where the last key is in `pairs`; empty if `carried` is the last one.
    private var lastKey = 0..<0
    /// The last key of the payload before.
    private var carried: [UInt8] = []

    package init() {}

    package var isEmpty: Bool { count == 0 }
    package var byteCount: Int { BulkPayload.headBytes + pairs.count }

    /// Whether the pair makes the payload longer than groups are; one that is longer by itself
    /// travels alone.
    package func isFull(for key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        count > 0
            && byteCount + BulkPayload.pairHeadBytes + key.count + value.count > Limits.groupBytes
    }

    /// Throws for what may not be in the log, and adds nothing then.
    package mutating func add(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) throws(EngineError) {
        guard key.count <= Limits.keyBytes else {
            throw .limit(
                what: "key length", value: UInt64(key.count), limit: UInt64(Limits.keyBytes))
        }
        guard value.count <= Limits.valueBytesMax else {
            throw .limit(
                what: "value length", value: UInt64(value.count),
                limit: UInt64(Limits.valueBytesMax))
        }
        guard !key.isEmpty else { throw .invalid(reason: "an empty key cannot be ingested") }
        guard order(to: key) < 0 else {
            throw .invalid(reason: "keys to ingest do not ascend: sort them, each once")
        }
        pairs.writePrefixed(key)
        lastKey = (pairs.count - key.count)..<pairs.count
        pairs.writePrefixed(value)
        count += 1
    }

    private func order(to key: UnsafeRawBufferPointer) -> Int {
        if lastKey.isEmpty { return carried.withUnsafeBytes { compareKeys($0, key) } }
        return pairs.bytes.withUnsafeBytes {
            compareKeys(UnsafeRawBufferPointer(rebasing: $0[lastKey]), key)
        }
    }

    /// The payload of what was added since the last one, and its last key. Begins the next one.
    package mutating func take() -> (payload: [UInt8], lastKey: [UInt8]) {
        var writer = ByteWriter(capacity: byteCount)
        writer.write(BulkPayload.version)
        writer.writeVarint(UInt64(count))
        writer.write(raw: pairs.bytes)
        if !lastKey.isEmpty { carried = Array(pairs.bytes[lastKey]) }
        pairs.bytes.removeAll(keepingCapacity: true)
        lastKey = 0..<0
        count = 0
        return (writer.bytes, carried)
    }
}
