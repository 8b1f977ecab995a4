// Which filters tables get: a logged setting, since filters are part of a table's canonical bytes.
// `shape` is a pure function of the policy, the level and whether the outputs are bottommost; what
// it returns travels in a job's specification, so that every member builds the same.
//
// No floating point: replicas must agree to the last bit, whatever they are compiled for.

/// What a filter may cost, or how often it may be wrong.
public enum FilterBudget: Hashable, Sendable {
    /// Bits for each key; 0 is no filter.
    case bitsPerKey(UInt32)
    /// At most one false positive in 2^n: the bits follow from the kind.
    case oneInPowerOf2(UInt32)

    /// At most one false positive in `count`.
    public static func falsePositive(oneIn count: UInt32) -> FilterBudget {
        .oneInPowerOf2(UInt32(max(1, UInt32.bitWidth - (max(count, 2) - 1).leadingZeroBitCount)))
    }

    /// Bits a key for filters of `kind`.
    func bits(_ kind: FilterKind) -> Int {
        switch self {
        case .bitsPerKey(let bits): return min(Int(bits), kind.bitsMax)
        case .oneInPowerOf2(let power):
            // A blocked Bloom filter needs about half as much again as the bound of ln 2.
            let bits = kind == .bloom ? (Int(power) * 3 + 1) / 2 : Int(power)
            return min(bits, kind.bitsMax)
        }
    }

    fileprivate var isInRange: Bool {
        switch self {
        case .bitsPerKey(let bits): return bits <= 64
        case .oneInPowerOf2(let power): return (1...32).contains(power)
        }
    }
}

/// How the budget spreads over levels.
public enum FilterAllocation: Hashable, Sendable {
    /// The same at every level.
    case uniform
    /// As in Monkey: each level that is `sizeRatio` times smaller errs so many times less, which
    /// costs little, since it is small; the deepest, which holds most keys, pays for it. Read costs
    /// sum to less for the same memory. Levels below `deepestLevel` are like it.
    case monkey(sizeRatio: UInt8, deepestLevel: UInt8)
}

/// A level's own budget, before any allocation.
public struct LevelFilterBudget: Hashable, Sendable {
    public var level: UInt8
    public var budget: FilterBudget

    public init(level: UInt8, budget: FilterBudget) {
        self.level = level
        self.budget = budget
    }
}

public struct FilterPolicy: Hashable, Sendable {
    public var kind = FilterKind.burr
    public var budget = FilterBudget.bitsPerKey(10)
    public var allocation = FilterAllocation.uniform
    /// Sorted by level, each at most once.
    public var levels: [LevelFilterBudget] = []
    /// Most reads find their key: tables with nothing below them get no filter of whole keys, since
    /// whoever asks them would nearly always hear yes.
    public var expectsHits = false
    /// A filter of more bytes is cut into partitions, which are loaded when they are asked; so is
    /// an index of more than an eighth of it, with filters or without.
    public var partitionAbove: UInt32 = 4 << 20
    /// Prefixes that get a filter of their own.
    public var prefix = PrefixExtractor.none

    public init() {}

    public init(bitsPerKey: UInt32) { budget = .bitsPerKey(bitsPerKey) }

    /// Filters of a table that is written to `level`.
    package func shape(level: UInt8, isBottommost: Bool) -> FilterShape {
        let bits = bits(level: level)
        guard kind != .none, bits > 0 else {
            return FilterShape(kind: .none, keyBits: 0, partitionAbove: partitionAbove)
        }
        return FilterShape(
            kind: kind, keyBits: expectsHits && isBottommost ? 0 : UInt8(bits),
            prefixBits: prefix == .none ? 0 : UInt8(bits), partitionAbove: partitionAbove,
            prefix: prefix)
    }

    /// Bits a key at `level`, by override, allocation or budget, in this order.
    package func bits(level: UInt8) -> Int {
        if let own = levels.first(where: { $0.level == level }) { return own.budget.bits(kind) }
        let bits = budget.bits(kind)
        guard bits > 0, case .monkey(let ratio, let deepest) = allocation, ratio > 1 else {
            return bits
        }
        return FilterPolicy.monkeyBits(
            bits, kind, ratio: Int(ratio), above: Int(deepest) - Int(level))
    }

    /// With T the size ratio, a level k above the deepest holds a T^-k of its keys and gets k × s
    /// more bits, where s bits make a filter err T times less. So that the mean over all keys is
    /// the budget, the deepest gets s / (T - 1) less.
    private static func monkeyBits(_ budget: Int, _ kind: FilterKind, ratio: Int, above: Int)
        -> Int
    {
        let unit = 256
        let step = kind == .bloom ? log2(ratio) * 3 / 2 : log2(ratio)
        let deepest = budget * unit - step / (ratio - 1)
        let bits = (deepest + max(above, 0) * step + unit / 2) / unit
        return min(max(bits, 0), kind.bitsMax)
    }

    /// The binary logarithm of `number` > 1 in units of 1/256, rounded down.
    private static func log2(_ number: Int) -> Int {
        let whole = Int.bitWidth - 1 - number.leadingZeroBitCount
        // In [1, 2), with 30 bits behind the point; each square yields a bit of the logarithm.
        var rest = (number << 30) >> whole
        var result = whole
        for _ in 0..<8 {
            rest = rest * rest >> 30
            result = result << 1 | rest >> 31
            if rest >= 1 << 31 { rest >>= 1 }
        }
        return result
    }
}

// MARK: - Bytes

extension FilterPolicy {
    package func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(UInt8(expectsHits ? 1 : 0))
        budget.encode(into: &writer)
        if case .monkey(let ratio, let deepest) = allocation {
            writer.write(ratio)
            writer.write(deepest)
        } else {
            writer.write(UInt16(0))
        }
        writer.write(partitionAbove)
        prefix.encode(into: &writer)
        writer.write(UInt8(clamping: levels.count))
        for own in levels {
            writer.write(own.level)
            own.budget.encode(into: &writer)
        }
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        kind = try FilterKind(decoding: &reader)
        expectsHits = try reader.readFlag()
        budget = try FilterBudget(&reader)
        let ratio = try reader.read(UInt8.self)
        let deepest = try reader.read(UInt8.self)
        allocation =
            ratio == 0 ? .uniform : .monkey(sizeRatio: ratio, deepestLevel: deepest)
        partitionAbove = try reader.read(UInt32.self)
        prefix = try PrefixExtractor(&reader)
        let count = try reader.read(UInt8.self)
        guard ratio == 0 ? deepest == 0 : ratio > 1, deepest < TableRecord.levelCount,
            FilterShape.partitionRange.contains(partitionAbove), count <= TableRecord.levelCount
        else { throw DecodingError("a filter setting is out of its range") }
        levels = []
        for _ in 0..<count {
            let own = LevelFilterBudget(
                level: try reader.read(UInt8.self), budget: try FilterBudget(&reader))
            guard own.level < TableRecord.levelCount,
                levels.last.map({ $0.level < own.level }) ?? true
            else { throw DecodingError("the filters of levels are not in order") }
            levels.append(own)
        }
    }
}

extension FilterBudget {
    fileprivate func encode(into writer: inout ByteWriter) {
        switch self {
        case .bitsPerKey(let bits):
            writer.write(UInt8(0))
            writer.write(bits)
        case .oneInPowerOf2(let power):
            writer.write(UInt8(1))
            writer.write(power)
        }
    }

    fileprivate init(_ reader: inout ByteReader) throws(DecodingError) {
        let isRate = try reader.readFlag()
        let value = try reader.read(UInt32.self)
        self = isRate ? .oneInPowerOf2(value) : .bitsPerKey(value)
        guard isInRange else { throw DecodingError("a filter's budget is out of its range") }
    }
}

extension FilterKind {
    init(decoding reader: inout ByteReader) throws(DecodingError) {
        let raw = try reader.read(UInt8.self)
        guard let kind = FilterKind(rawValue: raw) else {
            throw DecodingError("filter kind \(raw) is unknown")
        }
        self = kind
    }
}
