// The engine's merge operators: total for every operand and every base, associative where they say
// so, and the same on every machine.

import Engine
import Testing

@Suite struct MergeOperatorTests {
    private let operators = MergeOperators.builtIn

    private func fold(
        _ id: MergeOperatorID, _ operands: [[UInt8]], onto base: [UInt8]? = nil
    ) throws -> [UInt8] {
        try operators.fold(
            operands.reversed().map { MergeOperand.stored(id, $0) }, onto: base)
    }

    private func word(_ value: UInt64) -> [UInt8] { MergeReference.bytes(value) }
    private func double(_ value: Double) -> [UInt8] { word(value.bitPattern) }

    @Test func `Integers are added and wrap around`() throws {
        #expect(try fold(.int64Add, [word(3)]) == word(3))
        #expect(try fold(.int64Add, [word(3), word(4)], onto: word(5)) == word(12))
        let minusOne = word(UInt64(bitPattern: -1))
        #expect(try fold(.int64Add, [minusOne], onto: word(5)) == word(4))
        let largest = word(UInt64(bitPattern: Int64.max))
        #expect(
            try fold(.int64Add, [word(1)], onto: largest) == word(UInt64(bitPattern: Int64.min)))
    }

    @Test func `What is no number counts as zero`() throws {
        for id in [MergeOperatorID.int64Add, .float64Add] {
            for wrong in [[], [1, 2, 3], [UInt8](repeating: 1, count: 9)] {
                #expect(try fold(id, [wrong]) == word(0))
                #expect(try fold(id, [wrong, wrong]) == word(0))
            }
        }
        #expect(try fold(.int64Add, [[1, 2, 3], word(7)], onto: [9]) == word(7))
        #expect(try fold(.int64Add, [[1, 2, 3]], onto: word(7)) == word(7))
        #expect(try fold(.float64Add, [double(1.5)], onto: [9]) == double(1.5))
    }

    @Test func `Floats are added left to right, and there is one NaN`() throws {
        let sum = try fold(.float64Add, [double(1e16), double(1), double(-1e16)], onto: double(1))
        #expect(sum == double(((1 + 1e16) + 1) - 1e16))
        #expect(try fold(.float64Add, [double(-0.0)]) == double(0))
        let nan = word(0x7ff8_0000_0000_0000)
        #expect(try fold(.float64Add, [word(0xfff8_0000_0000_1234)]) == nan)
        #expect(try fold(.float64Add, [double(-.infinity)], onto: double(.infinity)) == nan)
    }

    @Test func `Lists grow at their end`() throws {
        #expect(try fold(.append, [bytes("a"), [], bytes("b")]) == bytes("ab"))
        #expect(try fold(.append, [bytes("b")], onto: bytes("a")) == bytes("ab"))
        let list = AppendOperator(id: MergeOperatorID(300), delimiter: bytes(", "))
        let own = try MergeOperators([list])
        func join(_ operands: [String], onto base: String?) throws -> String {
            text(
                try own.fold(
                    operands.reversed().map { MergeOperand.stored(list.id, bytes($0)) },
                    onto: base.map { bytes($0) }))
        }
        #expect(try join(["a", "b"], onto: nil) == "a, b")
        #expect(try join(["b"], onto: "a") == "a, b")
        #expect(try join(["b"], onto: "") == ", b")
    }

    @Test func `Extremes go by bytes, a prefix before what is longer`() throws {
        let operands = ["b", "abc", "", "ab"].map { bytes($0) }
        #expect(try fold(.max, operands) == bytes("b"))
        #expect(try fold(.min, operands) == [])
        #expect(try fold(.min, [bytes("ab")], onto: bytes("abc")) == bytes("ab"))
        #expect(try fold(.max, [bytes("ab")], onto: bytes("abc")) == bytes("abc"))
    }

    @Test func `Combined operands make what they make one after the other`() throws {
        var random = SeededRandom(seed: 3)
        func operand() -> [UInt8] {
            let count = random.oneIn(4) ? random.below(10) : 8
            return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
        let known = try TestMerge.registry().mergeOperators
        for id in TestMerge.all {
            let found = try #require(known.find(id))
            guard found.isAssociative else { continue }
            for _ in 0..<300 {
                let (first, second, third) = (operand(), operand(), operand())
                let base = random.oneIn(3) ? nil : operand()
                var left = first
                second.withUnsafeBytes { found.combine($0, into: &left) }
                third.withUnsafeBytes { found.combine($0, into: &left) }
                var tail = second
                third.withUnsafeBytes { found.combine($0, into: &tail) }
                var right = first
                tail.withUnsafeBytes { found.combine($0, into: &right) }
                #expect(left == right)
                let reference = [first, second, third].map {
                    KeyValueModel.Operand(id: id, bytes: $0)
                }
                let stored = [MergeOperand.stored(id, left)]
                #expect(
                    try known.fold(stored, onto: base)
                        == MergeReference.fold(reference, onto: base))
            }
        }
        #expect(known.find(.float64Add)?.isAssociative == false)
    }

    @Test func `An unknown operator is a typed error, and so is a cut operand`() {
        func error(_ stored: [UInt8]) -> String {
            do {
                return text(try operators.fold([stored], onto: nil))
            } catch { return "\(error)" }
        }
        #expect(
            error(MergeOperand.stored(MergeOperatorID(777), [1]))
                == "merge operator 777 is unknown; register it in the options")
        #expect(error([1]).contains("damaged"))
    }

    @Test func `Ids are the engine's below 256, and given once`() {
        struct Wrong: MergeOperator {
            var id: MergeOperatorID { .int64Add }
            var isAssociative: Bool { true }
            func fold(_ operand: UnsafeRawBufferPointer, into value: inout [UInt8]) {}
        }
        #expect(throws: EngineError.self) { try MergeOperators([Wrong()]) }
        #expect(throws: EngineError.self) { try MergeOperators([TripleAndAdd(), TripleAndAdd()]) }
        let many = (0..<33).map {
            AppendOperator(id: MergeOperatorID(UInt16(300 + $0)), delimiter: [])
        }
        #expect(throws: EngineError.self) { try MergeOperators(many) }
    }
}
