// Payload of a `write` entry: varint(firstSequence − horizon), varint count, then the effects. Each
// effect takes one sequence, in order.
//
//   put           u8 1, key, value             (key, value: varint length and bytes)
//   delete        u8 2, key
//   expiring put  u8 3, key, stored value: as a value, and begins with the u64 expiry
//   range delete  u8 4, start, u8 bounded, end if bounded
//   merge         u8 5, key, stored operand: as a value, and begins with the u16 operator id
//   single delete u8 6, key

/// One effect of a write, its bytes borrowed from the payload.
package enum Effect {
    case put(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)
    /// `stored` is what memtables and tables keep: the expiry (u64), then the value.
    case expiringPut(key: UnsafeRawBufferPointer, stored: UnsafeRawBufferPointer)
    case delete(key: UnsafeRawBufferPointer)
    case deleteRange(start: UnsafeRawBufferPointer, end: UnsafeRawBufferPointer?)
    /// `stored` is what memtables and tables keep: the operator's id (u16), then the operand.
    case merge(key: UnsafeRawBufferPointer, stored: UnsafeRawBufferPointer)
    case singleDelete(key: UnsafeRawBufferPointer)

    /// The one key that it is about; nil if it is a range.
    var pointKey: UnsafeRawBufferPointer? {
        switch self {
        case .put(let key, _), .expiringPut(let key, _), .delete(let key), .merge(let key, _),
            .singleDelete(let key):
            key
        case .deleteRange: nil
        }
    }

    fileprivate enum Tag {
        static let put: UInt8 = 1
        static let delete: UInt8 = 2
        static let expiringPut: UInt8 = 3
        static let deleteRange: UInt8 = 4
        static let merge: UInt8 = 5
        static let singleDelete: UInt8 = 6
    }
}

/// A set of effects that is applied whole or not at all. Also the unit of the embedded API.
public struct WriteBatch: Sendable {
    /// Encoded effects, without the head.
    package private(set) var effects = ByteWriter()
    public private(set) var count = 0
    private var longestKey = 0
    private var longestValue = 0
    private var hasEmptyKey = false
    /// It holds something other than deletes.
    package private(set) var grows = false
    /// Without repetition.
    package private(set) var mergeOperators: [MergeOperatorID] = []

    public init() {}

    public var isEmpty: Bool { count == 0 }
    /// Encoded size, bytes.
    public var byteCount: Int { effects.count }

    public mutating func removeAll() {
        effects.bytes.removeAll(keepingCapacity: true)
        count = 0
        longestKey = 0
        longestValue = 0
        hasEmptyKey = false
        grows = false
        mergeOperators.removeAll()
    }

    private mutating func note(key: Int, value: Int = 0) {
        count += 1
        if key > longestKey { longestKey = key }
        if key == 0 { hasEmptyKey = true }
        if value > longestValue { longestValue = value }
    }

    public mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        grows = true
        note(key: key.count, value: value.count)
        effects.reserve(key.count + value.count + 16)
        effects.write(Effect.Tag.put)
        effects.writePrefixed(key)
        effects.writePrefixed(value)
    }

    package mutating func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        grows = true
        note(key: key.count, value: value.count)
        effects.reserve(key.count + value.count + 16)
        effects.write(Effect.Tag.put)
        effects.writePrefixed(key)
        effects.writePrefixed(value)
    }

    /// A put that turns into a tombstone when the clock reaches `expiry` (absolute milliseconds).
    public mutating func put(_ key: [UInt8], _ value: [UInt8], expiry: ClockMilliseconds) {
        grows = true
        note(key: key.count, value: value.count)
        effects.write(Effect.Tag.expiringPut)
        effects.writePrefixed(key)
        effects.writeVarint(UInt64(value.count + 8))
        effects.write(expiry)
        effects.write(raw: value)
    }

    public mutating func delete(_ key: [UInt8]) {
        note(key: key.count)
        effects.write(Effect.Tag.delete)
        effects.writePrefixed(key)
    }

    /// Deletes a key that was put at most once since it was last deleted singly or by range, and
    /// never merged or deleted otherwise: the tombstone and the put vanish together as soon as they
    /// meet, long before the deepest level. Against this rule it hides the key like `delete` until
    /// they meet, and afterwards what was older than that put and in no input of the job that
    /// joined them shows again; on every replica alike.
    public mutating func singleDelete(_ key: [UInt8]) {
        note(key: key.count)
        effects.write(Effect.Tag.singleDelete)
        effects.writePrefixed(key)
    }

    /// Changes the value of `key` by `operand` as the operator says, without reading it. Where
    /// there is no value (or a deleted or an expired one) the operand is the first. The result does
    /// not expire.
    public mutating func merge(
        _ key: [UInt8], _ operand: [UInt8], by mergeOperator: MergeOperatorID
    ) {
        grows = true
        note(key: key.count, value: operand.count)
        if !mergeOperators.contains(mergeOperator) { mergeOperators.append(mergeOperator) }
        effects.write(Effect.Tag.merge)
        effects.writePrefixed(key)
        effects.writeVarint(UInt64(operand.count + MergeOperand.headBytes))
        effects.write(mergeOperator.rawValue)
        effects.write(raw: operand)
    }

    /// Deletes every key that begins with `prefix`; an empty one means all keys.
    public mutating func deletePrefix(_ prefix: [UInt8]) {
        let span = KeySpan.prefix(prefix)
        deleteRange(span.start, span.end)
    }

    /// Deletes every key in `[start, end)`; a nil end reaches to the last key. An empty range adds
    /// nothing.
    public mutating func deleteRange(_ start: [UInt8], _ end: [UInt8]?) {
        guard !KeySpan(start: start, end: end).isEmpty else { return }
        // An end is exclusive: the one behind the longest key is a byte longer.
        count += 1
        longestKey = max(longestKey, start.count, (end?.count ?? 0) - 1)
        effects.write(Effect.Tag.deleteRange)
        effects.writePrefixed(start)
        effects.write(UInt8(end == nil ? 0 : 1))
        if let end { effects.writePrefixed(end) }
    }

    /// Adds all of `other` behind what is here.
    public mutating func append(_ other: WriteBatch) {
        effects.write(raw: other.effects.bytes)
        count += other.count
        grows = grows || other.grows
        longestKey = max(longestKey, other.longestKey)
        longestValue = max(longestValue, other.longestValue)
        hasEmptyKey = hasEmptyKey || other.hasEmptyKey
        for id in other.mergeOperators where !mergeOperators.contains(id) {
            mergeOperators.append(id)
        }
    }

    /// Whether it may become an entry; the error names the limit. To be asked before it is logged:
    /// what is in the log is applied, whatever it holds.
    package func checkLimits() throws(EngineError) {
        guard !hasEmptyKey else {
            throw .invalid(reason: "a key is empty; a key has 1 to \(Limits.keyBytes) bytes")
        }
        guard longestKey <= Limits.keyBytes else {
            throw .limit(
                what: "key length", value: UInt64(longestKey), limit: UInt64(Limits.keyBytes))
        }
        guard longestValue <= Limits.valueBytesMax else {
            throw .limit(
                what: "value length", value: UInt64(longestValue),
                limit: UInt64(Limits.valueBytesMax))
        }
        // Behind the head of two varints.
        guard byteCount <= Limits.entryPayloadBytes - 32 else {
            throw .limit(
                what: "size of a batch", value: UInt64(byteCount),
                limit: UInt64(Limits.entryPayloadBytes - 32))
        }
    }

    /// The payload of a `write` entry. `horizonDistance` is firstSequence − horizon.
    package func payload(horizonDistance: UInt64) -> [UInt8] {
        let size = payloadBytes(horizonDistance: horizonDistance)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
            writePayload(
                horizonDistance: horizonDistance,
                into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: size))
            initialized = size
        }
    }

    /// Length of that payload.
    func payloadBytes(horizonDistance: UInt64) -> Int {
        varintBytes(horizonDistance) + varintBytes(UInt64(count)) + effects.count
    }

    /// Writes that payload, which `bytes` are just long enough for.
    func writePayload(horizonDistance: UInt64, into bytes: UnsafeMutableRawBufferPointer) {
        var place = writeVarint(horizonDistance, into: bytes, at: 0)
        place = writeVarint(UInt64(count), into: bytes, at: place)
        UnsafeMutableRawBufferPointer(rebasing: bytes[place...]).copyBytes(from: effects.bytes)
    }
}

/// Reads a `write` payload in place.
package struct WritePayloadReader {
    package let horizonDistance: UInt64
    package let count: Int
    private var reader: ByteReader
    private var left: Int

    package init(_ payload: UnsafeRawBufferPointer) throws(DecodingError) {
        reader = ByteReader(payload)
        horizonDistance = try reader.readVarint()
        // Each effect takes at least two bytes, which bounds the count by the payload.
        count = try reader.readVarint(atMost: UInt64(payload.count), "an effect count")
        left = count
    }

    /// Of the effects alone, as a batch holds them.
    package init(effects: UnsafeRawBufferPointer, count: Int) {
        horizonDistance = 0
        self.count = count
        left = count
        reader = ByteReader(effects)
    }

    /// The next effect; nil at the end, which must be the payload's end.
    package mutating func next() throws(DecodingError) -> Effect? {
        guard left > 0 else {
            try reader.expectEnd("a write")
            return nil
        }
        left -= 1
        let tag = try reader.read(UInt8.self)
        let key = try reader.readPrefixed(atMost: Limits.keyBytes)
        switch tag {
        case Effect.Tag.put:
            return .put(key: key, value: try reader.readPrefixed(atMost: Limits.valueBytesMax))
        case Effect.Tag.delete:
            return .delete(key: key)
        case Effect.Tag.expiringPut:
            let stored = try reader.readPrefixed(atMost: Limits.valueBytesMax + 8)
            guard stored.count >= 8 else { throw DecodingError("an expiry ends early") }
            return .expiringPut(key: key, stored: stored)
        case Effect.Tag.deleteRange:
            switch try reader.read(UInt8.self) {
            case 0: return .deleteRange(start: key, end: nil)
            case 1:
                return .deleteRange(
                    start: key, end: try reader.readPrefixed(atMost: Limits.keyBytes + 1))
            case let flag: throw DecodingError("range delete flag \(flag) is unknown")
            }
        case Effect.Tag.merge:
            let stored = try reader.readPrefixed(
                atMost: Limits.valueBytesMax + MergeOperand.headBytes)
            guard let operand = MergeOperand(stored: stored), operand.id.rawValue > 0 else {
                throw DecodingError("a merge without an operator")
            }
            return .merge(key: key, stored: stored)
        case Effect.Tag.singleDelete: return .singleDelete(key: key)
        default: throw DecodingError("effect \(tag) is unknown")
        }
    }
}
