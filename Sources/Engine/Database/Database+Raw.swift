// Borrowed keys and values, for callers that have no arrays: benchmarks and embedding packages of
// this project.

extension Database {
    package func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer)
        throws(EngineError)
    {
        var batch = WriteBatch()
        batch.put(key, value)
        try write(batch)
    }

    package func delete(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        try delete([UInt8](key))
    }

    /// The newest value; nil if there is none.
    package func get(_ key: UnsafeRawBufferPointer) throws(EngineError) -> [UInt8]? {
        try gate.check()
        let (view, sequence) = store.pin()
        return try view.get(key, at: sequence, now: environment.wall(), io: .blocking)?.value
    }

    /// Iterates what is visible now of `span`. Unpositioned at first.
    package func makeIterator(_ span: KeySpan = .everything) -> VisibleIterator {
        let (view, sequence) = store.pin()
        return view.makeIterator(span, at: sequence, now: environment.wall(), io: .blocking)
    }
}
