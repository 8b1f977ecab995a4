// Bulk load: sorted pairs go through the log as `bulk` entries, and are readable at once. An entry
// is written like any other; what is saved is the skiplist, beside which it becomes a sorted run.

/// An ingest that ended half-way. What is in stays in.
public struct IngestError: Error, Sendable, CustomStringConvertible {
    public var cause: EngineError
    /// Of the pairs that are in, which are the first of the source; nil if none is. With a failed
    /// sync as cause, what follows may be in, too, when the database is opened anew.
    public var lastKey: [UInt8]?
    /// How many are in.
    public var count: Int

    public var description: String { "\(count) pairs were ingested, then: \(cause)" }
}

extension Database {
    /// Puts all of `pairs`, whose keys must ascend strictly: none empty, none twice. They are drawn
    /// one by one and written in groups of about a megabyte, so the source may be larger than
    /// memory. A group is applied whole or not at all, and is as durable as `sync` promises before
    /// the next one is drawn; others may write in between. Newer than everything before, each pair
    /// takes one sequence. Returns how many there were.
    ///
    /// After an error the first `count` pairs are in, through `lastKey`: mend the cause and ingest
    /// what comes behind it.
    @discardableResult
    public func ingest(_ pairs: some Sequence<(key: [UInt8], value: [UInt8])>)
        throws(IngestError) -> Int
    {
        var progress = IngestProgress(order)
        do throws(EngineError) {
            try gate.check()
            for (key, value) in pairs { try progress.add(key, value) }
            try progress.write()
        } catch {
            throw IngestError(cause: error, lastKey: progress.lastKey, count: progress.count)
        }
        return progress.count
    }
}

private struct IngestProgress {
    private let order: EmbeddedOrder
    private var builder = BulkPayloadBuilder()
    /// Of what was written.
    private(set) var lastKey: [UInt8]?
    private(set) var count = 0

    init(_ order: EmbeddedOrder) { self.order = order }

    mutating func add(_ key: [UInt8], _ value: [UInt8]) throws(EngineError) {
        try withKey(key) { (key) throws(EngineError) in
            try withKey(value) { (value) throws(EngineError) in
                if builder.isFull(for: key, value) { try write() }
                try builder.add(key, value)
            }
        }
    }

    mutating func write() throws(EngineError) {
        guard !builder.isEmpty else { return }
        let added = builder.count
        let (payload, last) = builder.take()
        try order.commit(bulk: payload)
        count += added
        lastKey = last
    }
}
