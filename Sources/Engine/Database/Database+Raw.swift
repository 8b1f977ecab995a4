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

    /// Calls `body` with the newest value, which is borrowed until then and not copied if it lies
    /// in one piece. False, and no call, if there is none.
    package func withValue(
        of key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(EngineError) -> Bool {
        try gate.check()
        return try store.withValue(of: key, clock: { readClock() }, body)
    }

    /// As `multiGet`, calling `body` with each value as `withValue` does, or with nil.
    package func withValues(
        of keys: [[UInt8]], _ body: (UnsafeRawBufferPointer?) -> Void
    ) throws(EngineError) {
        try gate.check()
        try store.withView { (view, sequence) throws(EngineError) in
            try view.withValues(
                of: keys, at: sequence, now: readClock(), io: .blocking, body)
        }
    }

    /// Iterates what is visible now of `span`. Unpositioned at first.
    package func makeIterator(_ span: KeySpan = .everything) -> VisibleIterator {
        let (view, sequence) = store.pin()
        return view.makeIterator(span, at: sequence, now: readClock(), io: .blocking)
    }
}
