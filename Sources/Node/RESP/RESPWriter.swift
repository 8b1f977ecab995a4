// Writes replies in RESP2 or RESP3. One writer serves one connection's batch (its version cannot
// change within); the evaluator uses it too, so that a follower passes the leader's bytes on as
// they are.

package enum RESPVersion: UInt8, Sendable {
    case two = 2
    case three = 3
}

package struct RESPWriter: Sendable {
    package private(set) var bytes: [UInt8] = []
    package var version: RESPVersion

    package init(version: RESPVersion, capacity: Int = 0) {
        self.version = version
        bytes.reserveCapacity(capacity)
    }

    package var count: Int { bytes.count }

    /// Takes everything back that was written since `count` was `mark`.
    package mutating func rewind(to mark: Int) { bytes.removeLast(bytes.count - mark) }

    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    package mutating func ok() { simple("OK") }

    package mutating func simple(_ text: StaticString) {
        bytes.append(UInt8(ascii: "+"))
        bytes.append(
            contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        endLine()
    }

    /// `text` has no line ends.
    package mutating func simple(_ text: String) {
        bytes.append(UInt8(ascii: "+"))
        bytes.append(contentsOf: text.utf8)
        endLine()
    }

    /// `text` starts with its code (`ERR …`); line ends in it become blanks.
    package mutating func error(_ text: String) {
        bytes.append(UInt8(ascii: "-"))
        for byte in text.utf8 { bytes.append(byte == 0x0d || byte == 0x0a ? 0x20 : byte) }
        endLine()
    }

    package mutating func integer(_ value: Int64) { line(UInt8(ascii: ":"), value) }
    package mutating func integer(_ value: Int) { line(UInt8(ascii: ":"), Int64(value)) }

    package mutating func bulk(_ value: some Collection<UInt8>) {
        line(UInt8(ascii: "$"), Int64(value.count))
        reserve(value.count + 2)
        bytes.append(contentsOf: value)
        endLine()
    }

    /// Grows once for a long value, and by no more than half beyond it.
    private mutating func reserve(_ count: Int) {
        let needed = bytes.count + count
        if count > 4096, needed > bytes.capacity {
            bytes.reserveCapacity(max(needed, bytes.capacity + bytes.capacity / 2))
        }
    }

    package mutating func bulk(_ text: String) { bulk(text.utf8) }

    /// "There is no value."
    package mutating func null() {
        switch version {
        case .two: bytes.append(contentsOf: "$-1\r\n".utf8)
        case .three: bytes.append(contentsOf: "_\r\n".utf8)
        }
    }

    /// "There is no such list": where RESP2 wants a null of arrays.
    package mutating func nullArray() {
        switch version {
        case .two: bytes.append(contentsOf: "*-1\r\n".utf8)
        case .three: null()
        }
    }

    /// Text for people: a verbatim string in RESP3.
    package mutating func verbatim(_ text: String) {
        guard version == .three else { return bulk(text) }
        line(UInt8(ascii: "="), Int64(text.utf8.count + 4))
        bytes.append(contentsOf: "txt:".utf8)
        bytes.append(contentsOf: text.utf8)
        endLine()
    }

    /// `count` elements follow.
    package mutating func array(_ count: Int) { line(UInt8(ascii: "*"), Int64(count)) }

    /// `count` keys follow, each with its value; in RESP2 an array of both.
    package mutating func map(_ count: Int) {
        switch version {
        case .two: array(count * 2)
        case .three: line(UInt8(ascii: "%"), Int64(count))
        }
    }

    /// `count` elements follow, in no order; in RESP2 an array.
    package mutating func set(_ count: Int) {
        switch version {
        case .two: array(count)
        case .three: line(UInt8(ascii: "~"), Int64(count))
        }
    }

    /// Bytes that are a reply already.
    package mutating func append(_ reply: ArraySlice<UInt8>) { bytes.append(contentsOf: reply) }

    private mutating func line(_ tag: UInt8, _ value: Int64) {
        bytes.append(tag)
        appendDecimal(value, to: &bytes)
        endLine()
    }

    @inline(__always)
    private mutating func endLine() {
        bytes.append(0x0d)
        bytes.append(0x0a)
    }
}

/// Appends a number in decimal without making a string of it.
package func appendDecimal(_ value: Int64, to bytes: inout [UInt8]) {
    var rest = value.magnitude
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    let start = bytes.count
    repeat {
        bytes.append(UInt8(ascii: "0") + UInt8(rest % 10))
        rest /= 10
    } while rest > 0
    bytes[start...].reverse()
}

package func decimalBytes(_ value: Int64) -> [UInt8] {
    var bytes: [UInt8] = []
    appendDecimal(value, to: &bytes)
    return bytes
}
