// Turns what a client sends into commands: RESP arrays of bulk strings, and inline commands for
// people with a terminal. Pure and incremental: it takes bytes in pieces of any size and yields the
// same commands for every way of cutting them (a fuzz test holds it to that).
//
// Hostile input: memory grows with what has arrived, never with a declared length. An argument
// above the value limit is read over without being kept, and its command becomes one error reply
// that names the limit. What breaks the framing ends the connection with Redis's own text.
import Engine
import NIOCore

/// What the parser made of the input.
package enum ParsedInput: Sendable, Equatable {
    case command(ClientCommand)
    /// A well-framed command over a limit: answer with this error and go on.
    case refused(String)
}

/// The framing is lost: answer with `-ERR Protocol error: <reason>` and close.
package struct RESPProtocolError: Error, Sendable, Equatable {
    package var reason: String
    package init(_ reason: String) { self.reason = reason }
    package var reply: String { "ERR Protocol error: \(reason)" }
}

package struct RESPParser: Sendable {
    private enum State: Sendable {
        /// Before a command.
        case idle
        /// Before the `$` line of an argument.
        case header
        /// In an argument that is kept; so many bytes to come, its line end among them.
        case body(left: Int)
        /// In an argument that is read over.
        case skipping(left: Int)
    }

    private var state = State.idle
    private var command = ClientCommand()
    private var argumentsLeft = 0
    /// Declared bytes of the command so far, kept or not.
    private var declaredBytes = 0
    /// Set when the command in work is over a limit.
    private var refusal: String?
    /// Bytes of the current line that are known to hold no line end.
    private var scanned = 0
    private let valueBytes: Int
    private let commandBytes: Int

    package init(settings: RESPSettings = RESPSettings()) {
        valueBytes = settings.valueBytes
        commandBytes = settings.commandBytes
    }

    /// Memory of a command that has not arrived whole.
    package var partialBytes: Int {
        if case .idle = state { return 0 }
        return command.memoryBytes
    }

    /// The next command in `input`, whose read bytes are consumed; nil if more input is needed.
    package mutating func next(
        _ input: inout ByteBuffer
    ) throws(RESPProtocolError) -> ParsedInput? {
        while true {
            switch state {
            case .idle:
                guard let first = input.getInteger(at: input.readerIndex, as: UInt8.self) else {
                    return nil
                }
                guard first == UInt8(ascii: "*") else {
                    guard let line = try inlineLine(&input) else { return nil }
                    let command = try Self.splitInline(line)
                    if command.count == 0 { continue }
                    return finish(inline: command)
                }
                guard try beginArray(&input) else { return nil }
            case .header:
                guard try beginArgument(&input) else { return nil }
            case .body(let left):
                guard takeBody(&input, left: left) else { return nil }
            case .skipping(let left):
                let taken = min(left, input.readableBytes)
                input.moveReaderIndex(forwardBy: taken)
                state = .skipping(left: left - taken)
                guard taken == left else { return nil }
                endArgument()
            }
            if case .idle = state, let done = takeFinished() { return done }
        }
    }

    // MARK: Arrays

    private mutating func beginArray(_ input: inout ByteBuffer) throws(RESPProtocolError) -> Bool {
        guard let count = try lengthLine(&input, what: "mbulk count") else { return false }
        guard let count, count <= RESPSettings.argumentsMax else {
            throw RESPProtocolError("invalid multibulk length")
        }
        guard count > 0 else { return true }
        command = ClientCommand()
        command.reserveArguments(min(Int(count), 64))
        argumentsLeft = Int(count)
        declaredBytes = 0
        refusal = nil
        state = .header
        return true
    }

    private mutating func beginArgument(
        _ input: inout ByteBuffer
    ) throws(RESPProtocolError) -> Bool {
        guard let first = input.getInteger(at: input.readerIndex, as: UInt8.self) else {
            return false
        }
        guard first == UInt8(ascii: "$") else {
            let shown = (0x20...0x7e).contains(first) ? String(UnicodeScalar(first)) : "?"
            throw RESPProtocolError("expected '$', got '\(shown)'")
        }
        guard let length = try lengthLine(&input, what: "bulk count") else { return false }
        guard let length, length >= 0 else { throw RESPProtocolError("invalid bulk length") }
        guard length <= RESPSettings.bulkBytesMax else {
            throw RESPProtocolError(
                "invalid bulk length (\(length) is above the limit of \(RESPSettings.bulkBytesMax))"
            )
        }
        declaredBytes += Int(length)
        if refusal == nil { refusal = overLimit(Int(length)) }
        // Two more for the line end.
        if refusal == nil {
            state = .body(left: Int(length) + 2)
        } else {
            command = ClientCommand()
            state = .skipping(left: Int(length) + 2)
        }
        return true
    }

    private func overLimit(_ length: Int) -> String? {
        if length > valueBytes {
            return "ERR value is \(length) bytes, above the limit of \(valueBytes)"
        }
        if declaredBytes > commandBytes {
            return
                "ERR command is over \(declaredBytes - 1) bytes, above the limit of \(commandBytes)"
        }
        return nil
    }

    private mutating func takeBody(_ input: inout ByteBuffer, left: Int) -> Bool {
        let payload = left - 2
        if payload > 0 {
            let taken = min(payload, input.readableBytes)
            input.readWithUnsafeReadableBytes { bytes in
                command.appendPartial(
                    UnsafeRawBufferPointer(rebasing: bytes.prefix(taken)), expected: payload,
                    isLast: argumentsLeft == 1)
                return taken
            }
            state = .body(left: left - taken)
            guard taken == payload else { return false }
        }
        // The line end is skipped unread, as Redis does.
        guard input.readableBytes >= 2 else { return false }
        input.moveReaderIndex(forwardBy: 2)
        command.endArgument()
        endArgument()
        return true
    }

    private mutating func endArgument() {
        argumentsLeft -= 1
        state = argumentsLeft == 0 ? .idle : .header
    }

    private mutating func takeFinished() -> ParsedInput? {
        if let text = refusal {
            refusal = nil
            return .refused(text)
        }
        guard command.count > 0 else { return nil }
        defer { command = ClientCommand() }
        return .command(command)
    }

    /// A line `<tag><number>\r\n`. The outer nil: not here yet; the inner one: not a number.
    private mutating func lengthLine(
        _ input: inout ByteBuffer, what: String
    ) throws(RESPProtocolError) -> Int64?? {
        let (end, number): (Int?, Int64?) = input.withUnsafeReadableBytes { bytes in
            let end = bytes.dropFirst(scanned).firstIndex(of: UInt8(ascii: "\r"))
            guard let end else { return (nil, nil) }
            return (end, parseInteger(UnsafeRawBufferPointer(rebasing: bytes[1..<max(1, end)])))
        }
        guard (end ?? input.readableBytes) <= RESPSettings.lineBytes else {
            throw RESPProtocolError("too big \(what) string")
        }
        guard let end else {
            scanned = input.readableBytes
            return .none
        }
        guard input.readableBytes >= end + 2 else {
            scanned = end
            return .none
        }
        scanned = 0
        input.moveReaderIndex(forwardBy: end + 2)
        return .some(number)
    }
}

// MARK: - Inline commands

extension RESPParser {
    private mutating func inlineLine(
        _ input: inout ByteBuffer
    ) throws(RESPProtocolError) -> [UInt8]? {
        let end = input.withUnsafeReadableBytes { bytes in
            bytes.dropFirst(scanned).firstIndex(of: UInt8(ascii: "\n"))
        }
        guard (end ?? input.readableBytes) <= RESPSettings.lineBytes else {
            throw RESPProtocolError("too big inline request")
        }
        guard let end, var line = input.readBytes(length: end + 1) else {
            scanned = input.readableBytes
            return nil
        }
        scanned = 0
        line.removeLast()
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        return line
    }

    private func finish(inline command: ClientCommand) -> ParsedInput {
        // A line is far shorter than any value limit that makes sense, but the limit is a setting.
        for index in 0..<command.count where command.byteCount(index) > valueBytes {
            let length = command.byteCount(index)
            return .refused("ERR value is \(length) bytes, above the limit of \(valueBytes)")
        }
        return .command(command)
    }

    /// Splits a line at blanks; `"…"` with escapes and `'…'` may hold any byte.
    private static func splitInline(_ line: [UInt8]) throws(RESPProtocolError) -> ClientCommand {
        var command = ClientCommand()
        var place = 0
        while true {
            while place < line.count, isBlank(line[place]) { place += 1 }
            guard place < line.count else { return command }
            command.append(try inlineArgument(line, &place))
        }
    }

    private static func inlineArgument(
        _ line: [UInt8], _ place: inout Int
    ) throws(RESPProtocolError) -> [UInt8] {
        var argument: [UInt8] = []
        while place < line.count, !isBlank(line[place]) {
            let byte = line[place]
            place += 1
            switch byte {
            case UInt8(ascii: "\""): try doubleQuoted(line, &place, into: &argument)
            case UInt8(ascii: "'"): try singleQuoted(line, &place, into: &argument)
            default: argument.append(byte)
            }
        }
        return argument
    }

    private static let unbalanced = RESPProtocolError("unbalanced quotes in request")

    private static func doubleQuoted(
        _ line: [UInt8], _ place: inout Int, into argument: inout [UInt8]
    ) throws(RESPProtocolError) {
        while place < line.count {
            let byte = line[place]
            place += 1
            if byte == UInt8(ascii: "\"") { return try expectBlank(line, place) }
            guard byte == UInt8(ascii: "\\"), place < line.count else {
                argument.append(byte)
                continue
            }
            let escaped = line[place]
            place += 1
            if escaped == UInt8(ascii: "x"), place + 1 < line.count,
                let high = hexDigit(line[place]), let low = hexDigit(line[place + 1])
            {
                argument.append(high << 4 | low)
                place += 2
            } else {
                argument.append(escapes[escaped] ?? escaped)
            }
        }
        throw unbalanced
    }

    private static func singleQuoted(
        _ line: [UInt8], _ place: inout Int, into argument: inout [UInt8]
    ) throws(RESPProtocolError) {
        while place < line.count {
            let byte = line[place]
            place += 1
            if byte == UInt8(ascii: "'") { return try expectBlank(line, place) }
            if byte == UInt8(ascii: "\\"), place < line.count, line[place] == UInt8(ascii: "'") {
                argument.append(UInt8(ascii: "'"))
                place += 1
            } else {
                argument.append(byte)
            }
        }
        throw unbalanced
    }

    /// A closing quote ends its argument.
    private static func expectBlank(_ line: [UInt8], _ place: Int) throws(RESPProtocolError) {
        guard place == line.count || isBlank(line[place]) else { throw unbalanced }
    }

    private static let escapes: [UInt8: UInt8] = [
        UInt8(ascii: "n"): 0x0a, UInt8(ascii: "r"): 0x0d, UInt8(ascii: "t"): 0x09,
        UInt8(ascii: "b"): 0x08, UInt8(ascii: "a"): 0x07,
    ]

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || (0x09...0x0d).contains(byte) || byte == 0
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): return byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): return byte - UInt8(ascii: "A") + 10
        default: return nil
        }
    }
}
