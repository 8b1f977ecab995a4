// The oracle: keys are numbers whose bytes sort as the numbers do, so a sorted map is an array.
import Engine

struct KeyValueModel: Equatable {
    struct Value: Equatable {
        /// What was put; nil under operands that stand on nothing.
        var bytes: [UInt8]?
        var expiry: UInt64?
        /// Since then, oldest first.
        var operands: [Operand] = []
    }

    struct Operand: Equatable {
        var id: MergeOperatorID
        var bytes: [UInt8]
    }

    private(set) var values: [Value?]

    init(keys: Int) { values = Array(repeating: nil, count: keys) }

    /// The smallest key is the smallest there is; lengths differ.
    static func key(_ number: Int) -> [UInt8] {
        guard number > 0 else { return [0] }
        let digits = [
            UInt8(number / 1000), UInt8(number / 100 % 10), UInt8(number / 10 % 10),
            UInt8(number % 10),
        ]
        return [0x6b] + digits + [UInt8](repeating: 0xff, count: number % 3)
    }

    /// Keys that are only put when they are not there, and deleted singly or by range.
    static func isSingle(_ number: Int) -> Bool { number % 9 == 4 }

    mutating func apply(_ change: Change) {
        switch change {
        case .put(let key, let bytes, let expiry):
            values[key] = Value(bytes: bytes, expiry: expiry)
        case .delete(let key), .singleDelete(let key): values[key] = nil
        case .merge(let key, let operand):
            var value = values[key] ?? Value(bytes: nil, expiry: nil)
            value.operands.append(operand)
            values[key] = value
        case .deletePrefix(let prefix):
            for key in values.indices where KeyValueModel.key(key).starts(with: prefix) {
                values[key] = nil
            }
        case .deleteRange(let start, let end):
            for key in start..<(end ?? values.count) { values[key] = nil }
        }
    }

    func get(_ key: Int, now: UInt64) -> [UInt8]? { read(key, now: now)?.value }

    func read(_ key: Int, now: UInt64) -> LiveValue? {
        guard let value = values[key] else { return nil }
        let isExpired = value.expiry.map { $0 <= now } ?? false
        let base = isExpired ? nil : value.bytes
        if value.operands.isEmpty {
            return base.map { LiveValue(value: $0, expiry: value.expiry) }
        }
        return LiveValue(value: MergeReference.fold(value.operands, onto: base))
    }

    /// Numbers of live keys in `[start, end)`.
    func live(_ start: Int, _ end: Int?, now: UInt64) -> [Int] {
        let end = end ?? values.count
        guard start < end else { return [] }
        return (start..<end).filter { get($0, now: now) != nil }
    }

    enum Change {
        case put(Int, [UInt8], expiry: UInt64?)
        case delete(Int)
        case deleteRange(Int, Int?)
        case merge(Int, Operand)
        case singleDelete(Int)
        case deletePrefix([UInt8])

        func add(to batch: inout WriteBatch) {
            switch self {
            case .put(let key, let bytes, let expiry?):
                batch.put(KeyValueModel.key(key), bytes, expiry: expiry)
            case .put(let key, let bytes, nil): batch.put(KeyValueModel.key(key), bytes)
            case .delete(let key): batch.delete(KeyValueModel.key(key))
            case .merge(let key, let operand):
                batch.merge(KeyValueModel.key(key), operand.bytes, by: operand.id)
            case .singleDelete(let key): batch.singleDelete(KeyValueModel.key(key))
            case .deletePrefix(let prefix): batch.deletePrefix(prefix)
            case .deleteRange(let start, let end):
                batch.deleteRange(KeyValueModel.key(start), end.map { KeyValueModel.key($0) })
            }
        }
    }
}

/// Random changes; every value names the change that wrote it.
struct ChangeSource {
    var random: SeededRandom
    let keys: Int
    var valueBytes = 120
    /// What all values end with.
    var ending: [UInt8] = []
    /// Keys come in order, again and again, and mostly put: tables that overlap little.
    var isAscending = false
    private var count: UInt64 = 0

    init(seed: UInt64, keys: Int) {
        random = SeededRandom(seed: seed)
        self.keys = keys
    }

    mutating func key() -> Int {
        isAscending ? Int(count) % keys : random.below(keys)
    }

    mutating func span() -> (start: Int, end: Int?) {
        let (a, b) = (key(), key())
        return (min(a, b), random.oneIn(10) ? nil : max(a, b) + 1)
    }

    mutating func change(now: UInt64) -> KeyValueModel.Change {
        count += 1
        switch random.below(20) {
        case 0...2: return .delete(key())
        case 3 where random.oneIn(3):
            // Mostly narrow ones: wide ones would keep the tree empty.
            let start = key()
            if random.oneIn(30) { return .deleteRange(start, nil) }
            return .deleteRange(start, min(start + 1 + random.below(keys / 10), keys))
        case 4, 5: return .put(key(), value(), expiry: now + UInt64(random.below(400)))
        default: return .put(key(), value(), expiry: nil)
        }
    }

    /// Changes of all kinds that follow `model`, which single deletes have to respect.
    mutating func changes(now: UInt64, on model: KeyValueModel) -> [KeyValueModel.Change] {
        let count = random.oneIn(8) ? 1 + random.below(12) : 1
        guard count > 1 else { return [change(now: now, on: model)] }
        var model = model
        return (0..<count).map { _ in
            let next = change(now: now, on: model)
            model.apply(next)
            return next
        }
    }

    private mutating func change(now: UInt64, on model: KeyValueModel) -> KeyValueModel.Change {
        count += 1
        if isAscending, !KeyValueModel.isSingle(key()), count / 150 % 4 != 3 {
            return .put(key(), value(), expiry: nil)
        }
        if random.oneIn(60) {
            return .deletePrefix(Array(KeyValueModel.key(key()).prefix(3 + random.below(4))))
        }
        let key = key()
        if KeyValueModel.isSingle(key) {
            if model.values[key] != nil { return .singleDelete(key) }
            let expiry = random.oneIn(4) ? now + UInt64(random.below(400)) : nil
            return .put(key, value(), expiry: expiry)
        }
        // Some keys are merged most of the time, others now and then.
        if random.oneIn(key % 4 == 0 ? 2 : 8) { return .merge(key, operand()) }
        var other = change(now: now)
        while other.touches(where: KeyValueModel.isSingle) { other = change(now: now) }
        return other
    }

    private mutating func operand() -> KeyValueModel.Operand {
        let ids: [MergeOperatorID] =
            [.int64Add, .float64Add, .append, .min, .max] + TestMerge.ids
        // Mostly one of the same operator after the other.
        let id = ids[random.oneIn(3) ? random.below(ids.count) : Int(count / 40) % ids.count]
        // Now and then one that is no number.
        let length = random.oneIn(20) ? random.below(12) : 8
        return KeyValueModel.Operand(
            id: id, bytes: (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) })
    }

    private mutating func value() -> [UInt8] {
        let length = random.oneIn(60) ? random.below(3000) : random.below(valueBytes)
        var bytes = withUnsafeBytes(of: count.littleEndian) { [UInt8]($0) }
        // Half of it compresses.
        let filler = UInt8(truncatingIfNeeded: random.next())
        bytes += [UInt8](repeating: filler, count: length / 2)
        var noise = random.next()
        for _ in 0..<(length - length / 2) {
            noise = noise &* 6_364_136_223_846_793_005 &+ 1
            bytes.append(UInt8(truncatingIfNeeded: noise >> 56))
        }
        return bytes + ending
    }
}

extension KeyValueModel.Change {
    /// Whether it is of one key, and that one is such.
    func touches(where predicate: (Int) -> Bool) -> Bool {
        switch self {
        case .put(let key, _, _), .delete(let key), .merge(let key, _), .singleDelete(let key):
            return predicate(key)
        case .deleteRange, .deletePrefix: return false
        }
    }
}

extension [KeyValueModel.Change] {
    var batch: WriteBatch {
        var batch = WriteBatch()
        for change in self { change.add(to: &batch) }
        return batch
    }
}

extension KeyValueModel {
    /// Puts of some neighbouring keys in order, as an ingest takes them. A key that is deleted
    /// singly is put only when it is not there.
    func load(loadsSingles: Bool, _ random: inout SeededRandom) -> [Change] {
        let start = 1 + random.below(values.count - 1)
        let end = min(start + 1 + random.below(random.oneIn(8) ? values.count : 40), values.count)
        let step = 1 + random.below(4)
        var changes: [Change] = []
        for key in stride(from: start, to: end, by: step) {
            if KeyValueModel.isSingle(key), !loadsSingles || values[key] != nil { continue }
            let number = random.next()
            let value = withUnsafeBytes(of: number.littleEndian) { [UInt8]($0) }
            changes.append(
                .put(key, value + [UInt8](repeating: 0x6c, count: random.below(60)), expiry: nil))
        }
        return changes
    }
}

extension KeyValueModel.Change {
    /// Of a put that does not expire.
    var pair: (key: [UInt8], value: [UInt8])? {
        guard case .put(let key, let value, nil) = self else { return nil }
        return (KeyValueModel.key(key), value)
    }
}
