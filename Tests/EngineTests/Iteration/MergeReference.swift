// What folding must come to, written down once more and as plainly as can be; and operators of an
// embedding program, for tests.
import Engine

enum MergeReference {
    static func fold(_ operands: [KeyValueModel.Operand], onto base: [UInt8]?) -> [UInt8] {
        var value = base
        for operand in operands { value = fold(operand, onto: value) }
        return value ?? []
    }

    private static func word(_ bytes: [UInt8]?) -> UInt64 {
        guard let bytes, bytes.count == 8 else { return 0 }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    static func bytes(_ word: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }

    private static func fold(_ operand: KeyValueModel.Operand, onto value: [UInt8]?) -> [UInt8] {
        switch operand.id {
        case .int64Add: return bytes(word(value) &+ word(operand.bytes))
        case .float64Add:
            let sum = Double(bitPattern: word(value)) + Double(bitPattern: word(operand.bytes))
            return bytes(sum.isNaN ? 0x7ff8 << 48 : sum.bitPattern)
        case .append: return (value ?? []) + operand.bytes
        case .min:
            return value.map { $0.isKeyBefore(operand.bytes) ? $0 : operand.bytes }
                ?? operand.bytes
        case .max:
            return value.map { operand.bytes.isKeyBefore($0) ? $0 : operand.bytes }
                ?? operand.bytes
        case TestMerge.list: return value.map { $0 + [0x2c] + operand.bytes } ?? operand.bytes
        default: return bytes(word(value) &* 3 &+ word(operand.bytes))
        }
    }
}

/// Three times the value, plus the operand: not associative, and with nothing in common with sums.
struct TripleAndAdd: MergeOperator {
    var id: MergeOperatorID { TestMerge.triple }
    var isAssociative: Bool { false }

    func start(_ operand: UnsafeRawBufferPointer) -> [UInt8] {
        var value = [UInt8]()
        fold(operand, into: &value)
        return value
    }

    func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        func word(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
            bytes.count == 8 ? UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) : 0
        }
        value = MergeReference.bytes(value.withUnsafeBytes { word($0) } &* 3 &+ word(operand))
    }
}

enum TestMerge {
    static let list = MergeOperatorID(300)
    static let triple = MergeOperatorID(301)
    static let ids = [list, triple]
    static let all: [MergeOperatorID] = [.int64Add, .float64Add, .append, .min, .max] + ids

    static var operators: [any MergeOperator] {
        [AppendOperator(id: list, delimiter: [0x2c]), TripleAndAdd()]
    }

    static var references: [MergeOperatorReference] {
        [
            MergeOperatorReference(id: list, version: 1, isAssociative: true),
            MergeOperatorReference(id: triple, version: 1, isAssociative: false),
        ]
    }

    static var names: JobFunctionNames {
        var names = JobFunctionNames()
        names.mergeOperators = references
        return names
    }

    static func registry(filters: [any CompactionFilter] = []) throws -> FunctionRegistry {
        try FunctionRegistry(mergeOperators: operators, compactionFilters: filters)
    }
}

/// Writes every third value anew, with the bytes that it has: no reader can tell, the books must.
struct TouchingFilter: CompactionFilter {
    static let wanted = CompactionFilterID(id: 7, version: 2)
    var name: CompactionFilterID { TouchingFilter.wanted }

    func decide(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, expiry: ClockMilliseconds?
    ) -> CompactionDecision {
        value.count % 3 == 0 ? .change([UInt8](value)) : .keep
    }
}
