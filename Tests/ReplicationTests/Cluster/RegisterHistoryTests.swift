// The checker of register histories is held to a search that tries every order, and finds what was
// planted.
import Engine
import Simulation
import Testing

@Suite struct RegisterHistoryTests {
    private func history(_ operations: [RegisterOperation]) -> RegisterHistory {
        var history = RegisterHistory()
        for operation in operations { history.add(operation) }
        return history
    }

    private func write(_ value: UInt64, _ began: UInt64, _ ended: UInt64?) -> RegisterOperation {
        RegisterOperation(.write, value, began: began, ended: ended)
    }

    private func read(_ value: UInt64?, _ began: UInt64, _ ended: UInt64) -> RegisterOperation {
        RegisterOperation(.read, value, began: began, ended: ended)
    }

    @Test func ordersThatExplainAllAreFound() {
        #expect(history([]).violation() == nil)
        #expect(history([read(nil, 1, 2), write(7, 3, 4), read(7, 5, 6)]).violation() == nil)
        // Both see what suits them while the write is on its way.
        #expect(history([write(7, 1, 9), read(nil, 2, 4), read(7, 3, 5)]).violation() == nil)
        // Nobody knows whether the write happened; it did, late.
        #expect(
            history([write(1, 1, 2), write(2, 3, nil), read(1, 4, 5), read(2, 6, 7)]).violation()
                == nil)
        #expect(history([write(1, 1, 2), write(2, 3, nil), read(1, 4, 5)]).violation() == nil)
    }

    @Test func plantedViolationsAreCaught() {
        // A stale read, a lost write, a read of what was never written or not yet written, two
        // values that alternate, and a value that comes back.
        #expect(history([write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)]).violation() != nil)
        #expect(history([write(1, 1, 2), read(nil, 3, 4)]).violation() != nil)
        #expect(history([read(3, 1, 2)]).violation() != nil)
        #expect(history([read(3, 1, 2), write(3, 4, 5)]).violation() != nil)
        #expect(
            history([
                write(1, 1, 9), write(2, 2, 10), read(1, 11, 12), read(2, 13, 14), read(1, 15, 16),
            ]).violation() != nil)
        #expect(
            history([write(1, 1, nil), read(1, 2, 3), write(2, 4, 5), read(1, 6, 7)]).violation()
                != nil)
        #expect(history([write(1, 1, 2), write(1, 3, 4)]).violation() != nil)
    }

    @Test func itDecidesAsASearchThroughAllOrders() {
        var random = SeededRandom(seed: 1_990)
        var violated = 0
        let count = 20_000
        for _ in 0..<count {
            let operations = makeOperations(&random)
            let isExplained = search(operations, value: nil)
            violated += isExplained ? 0 : 1
            #expect((history(operations).violation() == nil) == isExplained, "\(operations)")
        }
        #expect(violated > count / 10 && violated < count * 9 / 10)
    }

    /// Up to six calls whose beginnings and ends are mixed at random.
    private func makeOperations(_ random: inout SeededRandom) -> [RegisterOperation] {
        let count = 2 + random.below(5)
        var times = (1...UInt64(2 * count)).map { $0 }
        for place in times.indices.reversed() { times.swapAt(place, random.below(place + 1)) }
        let writes = 1 + random.below(count)
        return (0..<count).map { number in
            let began = min(times[2 * number], times[2 * number + 1])
            let ended = max(times[2 * number], times[2 * number + 1])
            guard number >= writes else {
                return write(UInt64(number), began, random.oneIn(5) ? nil : ended)
            }
            let value = random.below(writes + 1)
            return read(value == writes ? nil : UInt64(value), began, ended)
        }
    }

    /// Whether some order explains what is left, with the register at `value`.
    private func search(_ left: [RegisterOperation], value: UInt64?) -> Bool {
        guard left.contains(where: { $0.ended != nil }) else { return true }
        let firstEnd = left.map { $0.ended ?? .max }.min() ?? .max
        for (place, operation) in left.enumerated() where operation.began <= firstEnd {
            if operation.kind == .read, operation.value != value { continue }
            var rest = left
            rest.remove(at: place)
            if search(rest, value: operation.kind == .write ? operation.value : value) {
                return true
            }
        }
        return false
    }
}
