// What one writer of the stress test writes, and what anybody may see of it. It writes numbers, one
// after the other, each in one batch: to all keys of one of its slots, to a sum and to a toggle.
// Whoever reads at one moment finds one number in all keys of a slot, and none that is older than
// what was acknowledged before.
import Engine
import Synchronization

final class StressGroup: Sendable {
    static let slots = 40
    static let places = 6
    private static let one = withUnsafeBytes(of: Int64(1).littleEndian) { [UInt8]($0) }

    let name: UInt8
    private let begun = Atomic<Int>(0)
    private let acknowledged = Atomic<Int>(0)

    init(_ name: UInt8) { self.name = name }

    /// The slots of all groups lie between each other.
    func key(_ slot: Int, _ place: Int) -> [UInt8] {
        [UInt8(slot), name, UInt8(place)] + [UInt8](repeating: 7, count: place)
    }
    func keys(_ slot: Int) -> [[UInt8]] { (0..<StressGroup.places).map { key(slot, $0) } }
    /// How many numbers there were.
    var sum: [UInt8] { [UInt8(StressGroup.slots), name] }
    /// There after two of four numbers; deleted singly.
    var toggle: [UInt8] { [UInt8(StressGroup.slots + 1), name] }

    /// Nobody but its slot's writes touches a slot below it; those above are cleared now and then.
    static let firstCleared = 30

    private static func value(_ number: Int, _ place: Int) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { [UInt8]($0) }
            + [UInt8](
                repeating: UInt8(truncatingIfNeeded: number),
                count: (number * 31 + place * 67) % 240)
    }

    /// The number that a value of a slot or the sum tells.
    static func number(_ value: [UInt8]) -> Int {
        value.withUnsafeBytes { Int(littleEndian: $0.loadUnaligned(as: Int.self)) }
    }

    // MARK: writing

    /// Writes the next number; the same again after an error. One thread.
    func write(_ database: Database) throws(EngineError) {
        let number = acknowledged.load(ordering: .relaxed) + 1
        begun.store(number, ordering: .relaxed)
        if number % 8 == 6 {
            try writeTransaction(database, number)
        } else {
            try database.write(batch(number))
        }
        acknowledged.store(number, ordering: .releasing)
    }

    private func batch(_ number: Int) -> WriteBatch {
        let slot = number % StressGroup.slots
        var batch = WriteBatch()
        if slot == 0 {
            for cleared in StressGroup.firstCleared..<StressGroup.slots {
                batch.deletePrefix([UInt8(cleared), name])
            }
        } else if slot % 3 == 0 {
            batch.deleteRange(key(slot, 0), [UInt8(slot), name + 1])
        }
        for (place, key) in keys(slot).enumerated() {
            let value = StressGroup.value(number, place)
            if slot % 4 == 1 {
                batch.put(key, value, expiry: .max)
            } else {
                batch.put(key, value)
            }
        }
        batch.merge(sum, StressGroup.one, by: .int64Add)
        if number % 4 == 1 { batch.put(toggle, StressGroup.value(number, 0)) }
        if number % 4 == 3 { batch.singleDelete(toggle) }
        return batch
    }

    private func writeTransaction(_ database: Database, _ number: Int) throws(EngineError) {
        let transaction = try database.begin()
        for (place, key) in keys(number % StressGroup.slots).enumerated() {
            _ = try transaction.get(key)
            transaction.put(key, StressGroup.value(number, place))
        }
        try transaction.merge(sum, StressGroup.one, by: .int64Add)
        try transaction.commit()
    }

    // MARK: reading

    /// Numbers of writes that every later read must show.
    var lowest: Int { acknowledged.load(ordering: .acquiring) }

    /// What is wrong with the values of a slot's keys that were read at one moment, after `lowest`
    /// was asked for; nil if nothing is.
    func fault(of values: [[UInt8]?], in slot: Int, lowest: Int) -> String? {
        let numbers = values.map { $0.map { StressGroup.number($0) } }
        guard let first = numbers.first, numbers.allSatisfy({ $0 == first }) else {
            return "slot \(slot) of \(name) holds \(numbers)"
        }
        let due = lowest - (lowest + StressGroup.slots - slot) % StressGroup.slots
        guard let number = first else {
            let isDue = due > 0 && slot < StressGroup.firstCleared
            return isDue ? "slot \(slot) of \(name) lacks \(due)" : nil
        }
        guard number >= due || slot >= StressGroup.firstCleared else {
            return "slot \(slot) of \(name) shows \(number) after \(due)"
        }
        for (place, value) in values.enumerated()
        where value != StressGroup.value(number, place) {
            return "key \(place) of slot \(slot) of \(name) has another value than \(number)"
        }
        return nil
    }

    /// Likewise of the sum and the toggle.
    func fault(ofSum sum: [UInt8]?, toggle: [UInt8]?, lowest: Int) -> String? {
        let number = sum.map { StressGroup.number($0) } ?? 0
        guard number >= lowest else { return "the sum of \(name) is \(number) after \(lowest)" }
        let isOn = number % 4 == 1 || number % 4 == 2
        guard isOn == (toggle != nil) else { return "the toggle of \(name) at \(number)" }
        return nil
    }

    /// Goes on from what a newly opened database holds, if that may be.
    func resume(_ database: Database) throws(EngineError) -> String? {
        let number = try database.get(sum).map { StressGroup.number($0) } ?? 0
        guard number >= lowest, number <= begun.load(ordering: .relaxed) else {
            return "\(number) came back of \(name), after \(lowest)"
        }
        begun.store(number, ordering: .relaxed)
        acknowledged.store(number, ordering: .releasing)
        return nil
    }
}
