// The merge operators that a database knows, and folding by them: what reads of every kind use.
// Jobs fold by a subset that the log names (`JobFunctions`).

package struct MergeOperators: Sendable {
    private let custom: [MergeOperatorID: any MergeOperator]

    /// Those of the engine alone.
    package static let builtIn = MergeOperators()

    private init() { custom = [:] }

    /// Those of the engine and `custom`. Throws if an id is the engine's or is given twice.
    package init(_ custom: [any MergeOperator]) throws(EngineError) {
        var known: [MergeOperatorID: any MergeOperator] = [:]
        for added in custom {
            guard added.id >= .firstCustom else {
                throw .invalid(reason: "merge operator id \(added.id) is the engine's")
            }
            guard known.updateValue(added, forKey: added.id) == nil else {
                throw .invalid(reason: "merge operator id \(added.id) is registered twice")
            }
        }
        guard known.count <= JobFunctionNames.mergeOperatorsMax else {
            throw .limit(
                what: "the number of merge operators", value: UInt64(known.count),
                limit: UInt64(JobFunctionNames.mergeOperatorsMax))
        }
        self.custom = known
    }

    package func find(_ id: MergeOperatorID) -> (any MergeOperator)? {
        MergeOperators.engine(id) ?? custom[id]
    }

    /// What every build folds alike.
    static func engine(_ id: MergeOperatorID) -> (any MergeOperator)? {
        switch id {
        case .int64Add: return Int64Addition()
        case .float64Add: return Float64Addition()
        case .append: return AppendOperator(id: .append, delimiter: [])
        case .min: return ByteExtreme(keepsLarger: false)
        case .max: return ByteExtreme(keepsLarger: true)
        default: return nil
        }
    }

    /// The registered ones as the settings name them, by id.
    package var references: [MergeOperatorReference] {
        custom.values.map { MergeOperatorReference($0) }.sorted { $0.id < $1.id }
    }

    /// Folds `operands`, stored merges from the newest to the oldest, onto `base`.
    package func fold(_ operands: [[UInt8]], onto base: [UInt8]?) throws(EngineError) -> [UInt8] {
        var value = base
        for stored in operands.reversed() {
            try withKey(stored) { (stored) throws(EngineError) in
                guard let operand = MergeOperand(stored: stored) else {
                    throw VersionContent.malformed
                }
                guard let known = find(operand.id) else {
                    throw .mergeOperatorUnknown(operand.id)
                }
                known.fold(operand.bytes, onto: &value)
            }
            guard let count = value?.count, count <= Limits.valueBytesMax else {
                throw .limit(
                    what: "the length of a merged value", value: UInt64(value?.count ?? 0),
                    limit: UInt64(Limits.valueBytesMax))
            }
        }
        return value ?? []
    }
}

extension MergeOperator {
    /// `start` or `fold`.
    func fold(_ operand: UnsafeRawBufferPointer, onto value: inout [UInt8]?) {
        guard var folded = value.take() else {
            value = start(operand)
            return
        }
        fold(operand, into: &folded)
        value = folded
    }
}
