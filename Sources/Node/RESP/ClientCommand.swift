// One command of a client: its arguments back to back in one array, so that a command costs two
// allocations however many arguments it has. Made by the parser and by the codec of forwarded
// commands; read by everything that executes.
import Engine

package struct ClientCommand: Sendable, Equatable {
    /// All arguments, one behind the other.
    package private(set) var bytes: [UInt8]
    /// Where each argument ends in `bytes`. 32 bits suffice: `RESPSettings.commandBytes` is far
    /// below 4 GiB.
    private var ends: [UInt32]

    package init() {
        bytes = []
        ends = []
    }

    package init(_ arguments: [[UInt8]]) {
        self.init()
        for argument in arguments { append(argument) }
    }

    package init(_ arguments: String...) {
        self.init(arguments.map { [UInt8]($0.utf8) })
    }

    /// About what it costs in memory while it waits to be executed: the storage of both arrays and
    /// a place in a queue.
    package var memoryBytes: Int { bytes.capacity + 4 * ends.capacity + 144 }

    /// Number of arguments, the command's name among them.
    package var count: Int { ends.count }

    @inline(__always)
    package func range(_ index: Int) -> Range<Int> {
        (index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])
    }

    /// An argument that shares the command's storage.
    package subscript(index: Int) -> ArraySlice<UInt8> { bytes[range(index)] }

    /// A copy of an argument.
    package func array(_ index: Int) -> [UInt8] { [UInt8](bytes[range(index)]) }

    package func byteCount(_ index: Int) -> Int { range(index).count }

    /// Lends an argument's bytes.
    @inline(__always)
    package func withBytes<R>(_ index: Int, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        let range = range(index)
        return bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    package func text(_ index: Int) -> String { String(decoding: self[index], as: UTF8.self) }

    /// True if an argument is `word`, which is in upper case, in any case.
    package func matches(_ index: Int, _ word: StaticString) -> Bool {
        withBytes(index) { bytes in
            guard bytes.count == word.utf8CodeUnitCount else { return false }
            for place in 0..<bytes.count
            where uppercased(bytes[place]) != word.utf8Start[place] { return false }
            return true
        }
    }

    /// An argument as a signed integer in canonical decimal form; nil for anything else.
    package func integer(_ index: Int) -> Int64? { withBytes(index) { parseInteger($0) } }

    package mutating func append(_ argument: some Collection<UInt8>) {
        bytes.append(contentsOf: argument)
        endArgument()
    }

    /// Adds bytes to the argument that `endArgument` will end. A command of a megabyte grows by a
    /// quarter and not to the double; its last argument, of which `expected` bytes are to come, to
    /// its end if that is not far.
    package mutating func appendPartial(
        _ part: UnsafeRawBufferPointer, expected: Int, isLast: Bool
    ) {
        let needed = bytes.count + part.count
        if needed > bytes.capacity, needed > 4096 {
            let whole = isLast ? bytes.count + expected : .max
            let more = needed < 1 << 20 ? needed : needed / 4
            bytes.reserveCapacity(whole <= 2 * needed ? whole : needed + more)
        }
        bytes.append(contentsOf: part)
    }

    package mutating func endArgument() { ends.append(UInt32(bytes.count)) }

    /// Room for `count` arguments, bounded by the caller.
    package mutating func reserveArguments(_ count: Int) { ends.reserveCapacity(count) }
}

/// A decimal integer as Redis accepts it: no sign but a minus, no leading zeros, no spaces, 64
/// bits. Nil for anything else.
package func parseInteger(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    guard let first = bytes.first, bytes.count <= 20 else { return nil }
    if bytes.count == 1, first == UInt8(ascii: "0") { return 0 }
    let isNegative = first == UInt8(ascii: "-")
    let digits = isNegative ? bytes.dropFirst() : bytes[...]
    guard let leading = digits.first, (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(leading)
    else { return nil }
    var value: Int64 = 0
    for digit in digits {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
        // Downwards, since the smallest number has no positive counterpart.
        let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, borrow) = tens.subtractingReportingOverflow(Int64(digit &- UInt8(ascii: "0")))
        if overflow || borrow { return nil }
        value = sum
    }
    if isNegative { return value }
    return value == .min ? nil : -value
}

/// ASCII only; other bytes are kept.
@inline(__always)
package func uppercased(_ byte: UInt8) -> UInt8 {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) ? byte & 0xdf : byte
}
