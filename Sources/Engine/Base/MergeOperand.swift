// How merges name what folds them, and the bytes of a stored operand: in the log, in memtables and
// in tables alike.

/// Names a merge operator in the log and in tables. 0 names none; ids below 256 are the engine's.
public struct MergeOperatorID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt16

    public init(_ rawValue: UInt16) { self.rawValue = rawValue }

    /// Adds 64-bit integers (little-endian), wrapping around: see `Int64Addition`.
    public static let int64Add = MergeOperatorID(1)
    /// Adds 64-bit floats (IEEE 754, little-endian): see `Float64Addition`.
    public static let float64Add = MergeOperatorID(2)
    /// Puts the operand behind the value.
    public static let append = MergeOperatorID(3)
    /// Keeps the smaller one in byte order.
    public static let min = MergeOperatorID(4)
    /// Keeps the larger one in byte order.
    public static let max = MergeOperatorID(5)

    /// The first id that is free for embedders.
    public static let firstCustom = MergeOperatorID(256)

    public static func < (left: MergeOperatorID, right: MergeOperatorID) -> Bool {
        left.rawValue < right.rawValue
    }
    public var description: String { String(rawValue) }
}

/// A stored merge: `u16 operator id, operand`, borrowed.
package struct MergeOperand {
    package let id: MergeOperatorID
    package let bytes: UnsafeRawBufferPointer

    /// Nil if it is too short, which no writer makes.
    @inline(__always)
    package init?(stored: UnsafeRawBufferPointer) {
        guard stored.count >= MergeOperand.headBytes else { return nil }
        id = MergeOperatorID(UInt16(littleEndian: stored.loadUnaligned(as: UInt16.self)))
        bytes = UnsafeRawBufferPointer(rebasing: stored[MergeOperand.headBytes...])
    }

    package static let headBytes = 2

    package static func stored(_ id: MergeOperatorID, _ operand: [UInt8]) -> [UInt8] {
        [UInt8(truncatingIfNeeded: id.rawValue), UInt8(id.rawValue >> 8)] + operand
    }
}
