// A merge is a write that says how to change a value that it has not read. Its operand is stored as
// a version of its own; reads fold the operands onto the value below them, oldest first, and jobs
// do the same where nobody can tell the difference.
//
// An operator must be total and deterministic: it gets every operand and every base that anybody
// ever wrote, of any length, and every replica must make the same bytes of them. It is named by an
// id in the log and in tables, so an id means one thing for ever.

/// What folds operands. Called from many threads at once. Borrowed bytes are valid for the call.
public protocol MergeOperator: Sendable {
    var id: MergeOperatorID { get }
    /// To be raised when the same operands would give other bytes than before.
    var version: UInt16 { get }
    /// Whether folding `combine(a, b)` equals folding a, then b, for all bytes. Operands of one
    /// that is not associative are folded only left to right onto a base.
    var isAssociative: Bool { get }

    /// The value that the first operand makes where there is none: no version below, a deleted or
    /// an expired one.
    func start(_ operand: UnsafeRawBufferPointer) -> [UInt8]
    /// Folds one more operand into `value`.
    func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8])
    /// Makes one operand of two that follow each other. Only called if associative.
    func combine(_ newer: UnsafeRawBufferPointer, into operand: inout [UInt8])
}

extension MergeOperator {
    public var version: UInt16 { 1 }
    public func start(_ operand: UnsafeRawBufferPointer) -> [UInt8] { [UInt8](operand) }
    public func combine(_ newer: UnsafeRawBufferPointer, into operand: inout [UInt8]) {
        fold(newer, into: &operand)
    }
}

/// Adds 64-bit integers, two's complement, little-endian; a sum beyond 64 bits wraps around. A
/// value or an operand of another length than eight bytes counts as zero.
struct Int64Addition: MergeOperator {
    var id: MergeOperatorID { .int64Add }
    var isAssociative: Bool { true }

    private func number(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        bytes.count == 8 ? UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) : 0
    }

    func start(_ operand: UnsafeRawBufferPointer) -> [UInt8] {
        withUnsafeBytes(of: number(operand).littleEndian) { [UInt8]($0) }
    }

    func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        let sum = value.withUnsafeBytes { number($0) } &+ number(operand)
        store(sum, in: &value)
    }
}

/// Adds 64-bit floats, IEEE 754, little-endian. A value or an operand of another length than eight
/// bytes counts as +0, and every NaN is stored as 0x7ff8000000000000, since processors differ in
/// the others. Not associative: rounding depends on the order.
struct Float64Addition: MergeOperator {
    var id: MergeOperatorID { .float64Add }
    var isAssociative: Bool { false }

    private func number(_ bytes: UnsafeRawBufferPointer) -> Double {
        guard bytes.count == 8 else { return 0 }
        return Double(bitPattern: UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)))
    }

    private func pattern(_ number: Double) -> UInt64 {
        number.isNaN ? 0x7ff8_0000_0000_0000 : number.bitPattern
    }

    func start(_ operand: UnsafeRawBufferPointer) -> [UInt8] {
        withUnsafeBytes(of: pattern(0 + number(operand)).littleEndian) { [UInt8]($0) }
    }

    func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        let sum = value.withUnsafeBytes { number($0) } + number(operand)
        store(pattern(sum), in: &value)
    }
}

/// Eight bytes, little-endian.
private func store(_ word: UInt64, in value: inout [UInt8]) {
    if value.count != 8 { value = [UInt8](repeating: 0, count: 8) }
    value.withUnsafeMutableBytes { $0.storeBytes(of: word.littleEndian, as: UInt64.self) }
}

/// Puts operands behind each other, with a delimiter between them and behind a base, even an empty
/// one. The engine's own (`MergeOperatorID.append`) has none; register others under your own ids.
public struct AppendOperator: MergeOperator {
    public let id: MergeOperatorID
    public let delimiter: [UInt8]
    public var isAssociative: Bool { true }

    public init(id: MergeOperatorID, delimiter: [UInt8]) {
        self.id = id
        self.delimiter = delimiter
    }

    public func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        value.append(contentsOf: delimiter)
        value.append(contentsOf: operand)
    }
}

/// The smaller or the larger one in byte order, a prefix before what is longer.
struct ByteExtreme: MergeOperator {
    var keepsLarger: Bool
    var id: MergeOperatorID { keepsLarger ? .max : .min }
    var isAssociative: Bool { true }

    func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        let order = value.compare(with: operand)
        if keepsLarger ? order < 0 : order > 0 { value = [UInt8](operand) }
    }
}
