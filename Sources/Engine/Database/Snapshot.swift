// A reader's pinned prefix of the log: memtables and tables as they were, at one sequence. Nothing
// that it can see is deleted while it lives. It ends with its database.

public final class Snapshot: Sendable {
    private let view: ReadView
    public let sequence: SequenceNumber
    private let gate: AccessGate
    private let environment: DatabaseEnvironment
    /// No read is at an earlier time.
    private let pinnedAt: ClockMilliseconds

    init(_ database: Database) {
        (view, sequence) = database.store.pin()
        gate = database.gate
        environment = database.environment
        pinnedAt = database.readClock()
    }

    init(_ database: Database, asOf sequence: SequenceNumber) throws(EngineError) {
        let pinned = database.store.pin()
        guard sequence >= pinned.view.horizon else {
            throw .historyGone(oldest: pinned.view.horizon)
        }
        guard sequence <= pinned.sequence else {
            throw .invalid(
                reason: "sequence \(sequence) is not written yet; the newest is "
                    + "\(pinned.sequence)")
        }
        view = pinned.view
        self.sequence = sequence
        gate = database.gate
        environment = database.environment
        pinnedAt = database.readClock()
    }

    private func readClock() -> ClockMilliseconds { max(environment.wall(), pinnedAt) }

    public func get(_ key: [UInt8]) throws(EngineError) -> [UInt8]? {
        try gate.check()
        return try view.get(key, at: sequence, now: readClock(), io: .blocking)?.value
    }

    /// The values of `keys` in their order; nil where there is none.
    public func multiGet(_ keys: [[UInt8]]) throws(EngineError) -> [[UInt8]?] {
        try gate.check()
        return try view.multiGet(keys, at: sequence, now: readClock(), io: .blocking)
            .map { $0?.value }
    }

    public func scan(_ span: KeySpan, reverse: Bool = false, limit: Int = .max)
        throws(EngineError) -> [(key: [UInt8], value: LiveValue)]
    {
        try gate.check()
        return try view.scan(
            span, reverse: reverse, limit: limit, at: sequence, now: readClock())
    }

    /// As `Database.iterator`, of what the snapshot sees.
    public func iterator(over span: KeySpan = .everything) throws(EngineError) -> PairIterator {
        try gate.check()
        let iterator = view.makeIterator(
            span, at: sequence, now: readClock(), io: .blocking)
        return PairIterator(iterator, gate)
    }
}
