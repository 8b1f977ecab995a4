// The uncommitted writes of a transaction as its own reads see them, over what the snapshot holds.
// The batch that is committed is kept beside it, in the order of the calls.

struct TransactionOverlay {
    enum Found {
        /// Its value, or that it has none.
        case value([UInt8]?)
        /// Operands over whatever the snapshot holds, newest first, as stored.
        case operands([[UInt8]])
        /// Only the snapshot knows.
        case unknown
    }

    private var written: [[UInt8]: Found] = [:]
    /// Later writes to keys in them are in `written`.
    private var deleted: [KeySpan] = []
    private let mergeOperators: MergeOperators

    init(_ mergeOperators: MergeOperators) { self.mergeOperators = mergeOperators }

    func find(_ key: [UInt8]) -> Found {
        if let found = written[key] { return found }
        return deleted.contains { $0.contains(key) } ? .value(nil) : .unknown
    }

    /// What the transaction sees of a key of which the snapshot holds `base`.
    func value(of key: [UInt8], over base: [UInt8]?) throws(EngineError) -> [UInt8]? {
        switch find(key) {
        case .value(let value): return value
        case .operands(let operands): return try fold(operands, onto: base)
        case .unknown: return base
        }
    }

    func fold(_ operands: [[UInt8]], onto base: [UInt8]?) throws(EngineError) -> [UInt8] {
        try mergeOperators.fold(operands, onto: base)
    }

    /// Keys of `span` with writes of their own, in key order or in reverse.
    func keys(of span: KeySpan, reverse: Bool) -> [[UInt8]] {
        written.keys.filter { span.contains($0) }
            .sorted { reverse ? $1.isKeyBefore($0) : $0.isKeyBefore($1) }
    }

    mutating func set(_ key: [UInt8], _ value: [UInt8]?) { written[key] = .value(value) }

    mutating func merge(_ key: [UInt8], _ stored: [UInt8]) throws(EngineError) {
        switch find(key) {
        case .value(let value): written[key] = .value(try fold([stored], onto: value))
        case .operands(let operands): written[key] = .operands([stored] + operands)
        case .unknown: written[key] = .operands([stored])
        }
    }

    mutating func delete(_ span: KeySpan) {
        guard !span.isEmpty else { return }
        for key in written.keys.filter({ span.contains($0) }) { written[key] = nil }
        deleted.append(span)
    }
}
