// An optimistic transaction: it reads at one sequence, keeps its writes to itself, and commits them
// as one batch if nothing that it read was written meanwhile (backward validation, Kung and
// Robinson 1981). So committed transactions are serializable, in the order of their commits, and
// nobody ever waits for another's transaction. Blind writes do not conflict.
//
// Open, it keeps the horizon back, and with it garbage: keep it short. Not for several threads at
// once. Expiry is judged at the time of its begin.

public final class Transaction {
    private let order: EmbeddedOrder
    private let gate: AccessGate
    private let view: ReadView
    /// What it reads at.
    public let sequence: SequenceNumber
    private let now: ClockMilliseconds
    private var reads = ReadSet()
    private var writes = WriteBatch()
    private var overlay: TransactionOverlay
    private var isOpen = true

    init(_ database: Database) {
        order = database.order
        gate = database.gate
        now = database.readClock()
        (view, sequence) = database.order.beginRead()
        overlay = TransactionOverlay(view.mergeOperators)
    }

    deinit { end() }

    private func end() {
        guard isOpen else { return }
        isOpen = false
        order.endRead(at: sequence)
    }

    private func checkOpen() throws(EngineError) {
        try gate.check()
        guard isOpen else { throw .invalid(reason: "the transaction has ended; begin another") }
    }

    // MARK: reading

    /// The value of `key` as the transaction sees it: with its own writes.
    public func get(_ key: [UInt8]) throws(EngineError) -> [UInt8]? {
        try checkOpen()
        switch overlay.find(key) {
        case .value(let value): return value
        case .operands(let operands):
            return try overlay.fold(operands, onto: try readBase(key))
        case .unknown: return try readBase(key)
        }
    }

    private func readBase(_ key: [UInt8]) throws(EngineError) -> [UInt8]? {
        reads.add(key)
        return try view.get(key, at: sequence, now: now, io: .blocking)?.value
    }

    /// Up to `limit` pairs of `span` in key order, or in reverse, with its own writes. A commit
    /// fails if any key of the part that was looked at was written meanwhile, or appeared.
    public func scan(_ span: KeySpan, reverse: Bool = false, limit: Int = .max)
        throws(EngineError) -> [(key: [UInt8], value: [UInt8])]
    {
        try checkOpen()
        guard limit > 0, !span.isEmpty else { return [] }
        let base = view.makeIterator(span, at: sequence, now: now, io: .blocking)
        if reverse { try base.seekToLast() } else { try base.seekToFirst() }
        var own = overlay.keys(of: span, reverse: reverse)[...]
        var pairs: [(key: [UInt8], value: [UInt8])] = []
        while pairs.count < limit {
            let baseKey = base.isValid ? [UInt8](base.key) : nil
            guard let key = Transaction.first(baseKey, own.first, reverse: reverse) else { break }
            let baseValue = key == baseKey ? [UInt8](base.value) : nil
            if let value = try overlay.value(of: key, over: baseValue) {
                pairs.append((key, value))
            }
            if key == own.first { own.removeFirst() }
            if key == baseKey {
                if reverse { try base.previous() } else { try base.next() }
            }
        }
        reads.add(Transaction.looked(at: span, pairs, isCut: pairs.count == limit, reverse))
        return pairs
    }

    private static func first(_ left: [UInt8]?, _ right: [UInt8]?, reverse: Bool) -> [UInt8]? {
        guard let left, let right else { return left ?? right }
        return left.isKeyBefore(right) == reverse ? right : left
    }

    private static func looked(
        at span: KeySpan, _ pairs: [(key: [UInt8], value: [UInt8])], isCut: Bool, _ reverse: Bool
    ) -> KeySpan {
        guard isCut, let last = pairs.last else { return span }
        return reverse
            ? KeySpan(start: last.key, end: span.end)
            : KeySpan(start: span.start, end: last.key + [0])
    }

    // MARK: writing

    public func put(_ key: [UInt8], _ value: [UInt8]) {
        writes.put(key, value)
        overlay.set(key, value)
    }

    /// A put that turns into a tombstone when the clock reaches `expiry` (absolute milliseconds).
    public func put(_ key: [UInt8], _ value: [UInt8], expiry: ClockMilliseconds) {
        writes.put(key, value, expiry: expiry)
        overlay.set(key, expiry > now ? value : nil)
    }

    public func delete(_ key: [UInt8]) {
        writes.delete(key)
        overlay.set(key, nil)
    }

    /// See `WriteBatch.singleDelete`.
    public func singleDelete(_ key: [UInt8]) {
        writes.singleDelete(key)
        overlay.set(key, nil)
    }

    /// See `WriteBatch.merge`. Blind: it reads nothing, unless `get` or `scan` comes to the key.
    public func merge(_ key: [UInt8], _ operand: [UInt8], by mergeOperator: MergeOperatorID)
        throws(EngineError)
    {
        guard view.mergeOperators.find(mergeOperator) != nil else {
            throw .mergeOperatorUnknown(mergeOperator)
        }
        try overlay.merge(key, MergeOperand.stored(mergeOperator, operand))
        writes.merge(key, operand, by: mergeOperator)
    }

    /// Deletes every key in `[start, end)`; a nil end reaches to the last key.
    public func deleteRange(_ start: [UInt8], _ end: [UInt8]?) {
        writes.deleteRange(start, end)
        overlay.delete(KeySpan(start: start, end: end))
    }

    /// Deletes every key that begins with `prefix`; an empty one means all keys.
    public func deletePrefix(_ prefix: [UInt8]) {
        writes.deletePrefix(prefix)
        overlay.delete(.prefix(prefix))
    }

    // MARK: ending

    /// Writes everything, as durable as a batch would be. Throws `.conflict` if something that was
    /// read was written by somebody else since: then nothing was applied. Ends the transaction.
    public func commit() throws(EngineError) {
        try checkOpen()
        // While it ends, the horizon may not pass: the check looks for tombstones.
        defer { end() }
        guard !writes.isEmpty else { return }
        if reads.isEmpty {
            try order.commit(writes)
        } else {
            try order.commit(writes, reads: reads, at: sequence)
        }
    }

    /// Ends it without a trace. So does letting it go.
    public func rollback() { end() }
}
