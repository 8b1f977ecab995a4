// What a flush or a job folds and filters by. A flush uses the engine's own operators, which are
// constant in code; a compaction also those that its entry names, so that members agree on the
// bytes whatever else each has registered. Operands of other operators stay as they are.

package struct JobFunctions: Sendable {
    /// Named operators besides the engine's.
    private let named: [MergeOperatorID: any MergeOperator]
    let filter: (any CompactionFilter)?

    /// What flushes use.
    package static let engine = JobFunctions()

    private init() {
        named = [:]
        filter = nil
    }

    /// Those that `names` asks for; throws if one is not here, or not in this version.
    package init(_ names: JobFunctionNames, from registry: FunctionRegistry) throws(EngineError) {
        var named: [MergeOperatorID: any MergeOperator] = [:]
        for wanted in names.mergeOperators {
            guard let known = registry.mergeOperators.find(wanted.id),
                MergeOperatorReference(known) == wanted
            else {
                throw .invalid(
                    reason: "the job folds by merge operator \(wanted.id) version "
                        + "\(wanted.version), which is not registered here")
            }
            named[wanted.id] = known
        }
        self.named = named
        guard let wanted = names.compactionFilter else {
            filter = nil
            return
        }
        guard let known = registry.filter(wanted) else {
            throw .invalid(
                reason: "the job needs compaction filter \(wanted), which is not registered here")
        }
        filter = known
    }

    func mergeOperator(_ id: MergeOperatorID) -> (any MergeOperator)? {
        MergeOperators.engine(id) ?? named[id]
    }
}

extension MergeOperatorReference {
    init(_ known: any MergeOperator) {
        self.init(id: known.id, version: known.version, isAssociative: known.isAssociative)
    }
}

/// All functions that the embedding program registered with this process.
package struct FunctionRegistry: Sendable {
    package let mergeOperators: MergeOperators
    private let filters: [CompactionFilterID: any CompactionFilter]

    package static let empty = FunctionRegistry()

    private init() {
        mergeOperators = .builtIn
        filters = [:]
    }

    /// Throws if two bear one name.
    package init(
        mergeOperators: [any MergeOperator], compactionFilters: [any CompactionFilter]
    ) throws(EngineError) {
        self.mergeOperators = try MergeOperators(mergeOperators)
        var filters: [CompactionFilterID: any CompactionFilter] = [:]
        for filter in compactionFilters {
            guard filters.updateValue(filter, forKey: filter.name) == nil else {
                throw .invalid(reason: "compaction filter \(filter.name) is registered twice")
            }
        }
        self.filters = filters
    }

    func filter(_ name: CompactionFilterID) -> (any CompactionFilter)? { filters[name] }
}
