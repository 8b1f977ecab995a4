// Reading and writing of bytes in the formats: little-endian integers, varints (LEB128),
// length-prefixed strings. The reader treats every byte as hostile: it never reads past its
// end and never allocates by a length that it has not compared with what is there.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What a decoder found wrong; the caller adds which file or message it was.
public struct DecodingError: Error, Hashable, Sendable, CustomStringConvertible {
    public var what: String
    public init(_ what: String) { self.what = what }
    public var description: String { what }
}

/// A cursor over bytes that somebody else keeps alive.
package struct ByteReader {
    package let bytes: UnsafeRawBufferPointer
    package private(set) var offset: Int

    @inline(__always)
    package init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        self.offset = 0
    }

    @inline(__always) package var remaining: Int { bytes.count - offset }
    @inline(__always) package var isAtEnd: Bool { offset == bytes.count }

    @inline(__always)
    package mutating func read<T: FixedWidthInteger>(_ type: T.Type) throws(DecodingError) -> T {
        guard remaining >= MemoryLayout<T>.size else { throw DecodingError("ends early") }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: T.self)
        offset += MemoryLayout<T>.size
        return T(littleEndian: value)
    }

    package mutating func readDigest() throws(DecodingError) -> Digest128 {
        let low = try read(UInt64.self)
        return Digest128(low: low, high: try read(UInt64.self))
    }

    /// An unsigned LEB128 number of at most ten bytes.
    package mutating func readVarint() throws(DecodingError) -> UInt64 {
        var result: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard offset < bytes.count else { throw DecodingError("a varint ends early") }
            let byte = bytes[offset]
            offset += 1
            if shift == 63, byte > 1 { throw DecodingError("a varint overflows 64 bits") }
            result |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return result }
            shift += 7
            guard shift <= 63 else { throw DecodingError("a varint is too long") }
        }
    }

    /// A varint that must not exceed `limit`.
    package mutating func readVarint(atMost limit: UInt64, _ what: String) throws(DecodingError)
        -> Int
    {
        let value = try readVarint()
        guard value <= limit else { throw DecodingError("\(what) is \(value), above \(limit)") }
        return Int(value)
    }

    /// `count` bytes, borrowed.
    @inline(__always)
    package mutating func readBytes(_ count: Int) throws(DecodingError) -> UnsafeRawBufferPointer {
        guard count >= 0, remaining >= count else { throw DecodingError("ends early") }
        let slice = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
        offset += count
        return slice
    }

    /// varint length, then that many bytes, borrowed.
    package mutating func readPrefixed(atMost limit: Int = .max) throws(DecodingError)
        -> UnsafeRawBufferPointer
    {
        let count = try readVarint(atMost: UInt64(min(limit, remaining)), "a length")
        return try readBytes(count)
    }

    /// varint length, then that many bytes, copied.
    package mutating func readPrefixedArray(atMost limit: Int = .max) throws(DecodingError)
        -> [UInt8]
    {
        [UInt8](try readPrefixed(atMost: limit))
    }

    package mutating func readPrefixedString(atMost limit: Int = 4096) throws(DecodingError)
        -> String
    {
        let raw = try readPrefixed(atMost: limit)
        guard let text = String(validating: raw, as: UTF8.self) else {
            throw DecodingError("text is not UTF-8")
        }
        return text
    }

    package func expectEnd(_ what: @autoclosure () -> String) throws(DecodingError) {
        guard isAtEnd else { throw DecodingError("\(remaining) bytes too many after \(what())") }
    }
}

/// Appends to a growing array of bytes.
package struct ByteWriter: Sendable {
    package var bytes: [UInt8]

    package init(capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    package var count: Int { bytes.count }

    /// Room for `more` bytes at once, where a few appends would make room several times.
    @inline(__always)
    package mutating func reserve(_ more: Int) {
        let needed = bytes.count + more
        if needed > bytes.capacity { bytes.reserveCapacity(max(needed, 2 * bytes.capacity)) }
    }

    @inline(__always)
    package mutating func write(_ byte: UInt8) { bytes.append(byte) }

    @inline(__always)
    package mutating func write<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    package mutating func write(_ digest: Digest128) {
        write(digest.low)
        write(digest.high)
    }

    @inline(__always)
    package mutating func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    package mutating func write(raw: UnsafeRawBufferPointer) { bytes.append(contentsOf: raw) }
    package mutating func write(raw: [UInt8]) { bytes.append(contentsOf: raw) }

    package mutating func writePrefixed(_ raw: UnsafeRawBufferPointer) {
        writeVarint(UInt64(raw.count))
        bytes.append(contentsOf: raw)
    }

    package mutating func writePrefixed(_ raw: [UInt8]) {
        writeVarint(UInt64(raw.count))
        bytes.append(contentsOf: raw)
    }

    package mutating func writePrefixed(_ text: String) { writePrefixed([UInt8](text.utf8)) }
}

/// How many bytes `value` takes as a varint.
@inline(__always)
func varintBytes(_ value: UInt64) -> Int { max(70 - value.leadingZeroBitCount, 7) / 7 }

/// Writes `value` as a varint at `place` and returns the place behind it.
@inline(__always)
func writeVarint(_ value: UInt64, into bytes: UnsafeMutableRawBufferPointer, at place: Int) -> Int {
    var rest = value
    var place = place
    while rest >= 0x80 {
        bytes[place] = UInt8(truncatingIfNeeded: rest) | 0x80
        place += 1
        rest >>= 7
    }
    bytes[place] = UInt8(truncatingIfNeeded: rest)
    return place + 1
}

/// Bytewise order of two keys, as memcmp with the shorter first.
@inline(__always)
package func compareKeys(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
    let common = min(left.count, right.count)
    if common > 0, let leftBase = left.baseAddress, let rightBase = right.baseAddress {
        let order = memcmp(leftBase, rightBase, common)
        if order != 0 { return Int(order) }
    }
    return left.count - right.count
}

/// Whether two keys are the same; most that are not differ in length or in the first bytes.
@inline(__always)
func areEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    if left.count >= 8,
        left.loadUnaligned(as: UInt64.self) != right.loadUnaligned(as: UInt64.self)
    {
        return false
    }
    return compareKeys(left, right) == 0
}

extension [UInt8] {
    /// Bytewise order of keys held in arrays.
    package func isKeyBefore(_ other: [UInt8]) -> Bool {
        withUnsafeBytes { left in
            other.withUnsafeBytes { right in compareKeys(left, right) < 0 }
        }
    }
}
