// Reads replies of RESP2 out of what arrives, which may end at any byte. It keeps what a load
// generator counts (the kind of each reply) and lets the bytes of values go by. Pure; one per
// connection.

package struct ReplyScanner: Sendable {
    package enum Reply: Sendable, Equatable {
        case simple
        case integer(Int64)
        /// Bytes of a value.
        case bulk(Int)
        case null
        /// The first word of an error.
        case error(String)
    }

    /// What was sent is not a reply to any command of a load.
    package struct Problem: Error, Sendable, Equatable, CustomStringConvertible {
        package var description: String
    }

    private enum State: Sendable {
        case line
        /// Bytes of a value and its line end that have not come yet.
        case bulk(left: Int, total: Int)
    }

    static let lineBytesMax = 4096
    static let bulkBytesMax = 512 << 20

    private var state = State.line
    /// The line that has begun, without what ends it.
    private var line: [UInt8] = []

    package init() { line.reserveCapacity(64) }

    /// The next reply that ends in `bytes` from `offset` on, which moves behind what was read; nil
    /// if all of them were.
    package mutating func next(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int)
        throws(Problem) -> Reply?
    {
        while offset < bytes.count {
            switch state {
            case .line:
                let byte = bytes[offset]
                offset += 1
                guard byte == UInt8(ascii: "\n") else {
                    guard line.count < ReplyScanner.lineBytesMax else {
                        throw Problem(description: "a line of more than 4096 bytes")
                    }
                    line.append(byte)
                    continue
                }
                guard line.last == UInt8(ascii: "\r") else {
                    throw Problem(description: "a line that does not end in CRLF")
                }
                line.removeLast()
                let reply = try endOfLine()
                line.removeAll(keepingCapacity: true)
                if let reply { return reply }
            case .bulk(let left, let total):
                let taken = min(left, bytes.count - offset)
                offset += taken
                guard taken == left else {
                    state = .bulk(left: left - taken, total: total)
                    return nil
                }
                state = .line
                return .bulk(total)
            }
        }
        return nil
    }

    private mutating func endOfLine() throws(Problem) -> Reply? {
        switch line.first {
        case UInt8(ascii: "+"): return .simple
        case UInt8(ascii: "-"):
            let word = line.dropFirst().prefix { $0 != UInt8(ascii: " ") }
            return .error(String(decoding: word, as: UTF8.self))
        case UInt8(ascii: ":"): return .integer(try number())
        case UInt8(ascii: "$"):
            let count = try number()
            if count == -1 { return .null }
            guard (0...Int64(ReplyScanner.bulkBytesMax)).contains(count) else {
                throw Problem(description: "a value of \(count) bytes")
            }
            state = .bulk(left: Int(count) + 2, total: Int(count))
            return nil
        default:
            throw Problem(description: "no reply of RESP2 to SET, GET or WAIT")
        }
    }

    private func number() throws(Problem) -> Int64 {
        guard let value = Int64(String(decoding: line.dropFirst(), as: UTF8.self)) else {
            throw Problem(description: "a length or number that is none")
        }
        return value
    }
}
