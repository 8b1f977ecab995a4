// What a batch may hold depends on what is registered with the database that takes it.

extension WriteBatch {
    /// Refuses operators that nobody here could fold. To be asked before it is logged, by whoever
    /// makes the entry: what is in the log is applied, whatever it holds.
    package func checkOperators(_ registry: FunctionRegistry) throws(EngineError) {
        for id in mergeOperators where registry.mergeOperators.find(id) == nil {
            throw .mergeOperatorUnknown(id)
        }
    }
}
