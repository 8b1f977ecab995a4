// What was written, in order, read from the log: for indexes, caches and copies elsewhere that
// follow a database. A follower keeps the sequence of the last change that it has taken, and goes
// on behind it, after a restart of either side too.
//
// The log ends where a flush made it superfluous, unless `retainLogBytes` keeps more. Who comes too
// late is told so, takes a snapshot and follows from its sequence. A stream only tells of what
// readers see; with `.never` as sync, a power cut may take back what it told last.

/// One effect of a write.
public struct Change: Hashable, Sendable {
    public enum Effect: Hashable, Sendable {
        /// `expiry` is in absolute milliseconds; nil if it never expires.
        case put(key: [UInt8], value: [UInt8], expiry: ClockMilliseconds?)
        case delete(key: [UInt8])
        case singleDelete(key: [UInt8])
        case merge(key: [UInt8], operand: [UInt8], by: MergeOperatorID)
        case deleteRange(KeySpan)
    }

    public var sequence: SequenceNumber
    /// When it was written, absolute milliseconds.
    public var clock: ClockMilliseconds
    public var effect: Effect
}

/// A place in the stream of changes. One thread at a time.
public final class ChangeStream {
    private let database: Database
    /// Of the last change that was taken: a stream behind it goes on with the next one.
    public private(set) var sequence: SequenceNumber
    /// Where the next change is, or later ones are.
    private var next: LogIndex

    /// Bytes of the log that are read at a time.
    public static let defaultBytes = 1 << 20

    init(_ database: Database, after sequence: SequenceNumber) throws(EngineError) {
        self.database = database
        self.sequence = sequence
        next = try ChangeStream.find(sequence, in: database)
    }

    /// The changes that follow, from about `maxBytes` of log, at least one if there is any; none if
    /// everything that readers see was taken. Throws `.changesGone` if the log was trimmed
    /// meanwhile.
    public func take(maxBytes: Int = defaultBytes) throws(EngineError) -> [Change] {
        try database.gate.check()
        let applied = database.store.applied
        var changes: [Change] = []
        while changes.isEmpty, next <= applied {
            // What was appended and is not applied yet is nobody's business.
            let entries = try read(maxBytes).prefix { $0.index <= applied }
            guard let last = entries.last else { break }
            for entry in entries { ChangeStream.add(entry, after: sequence, to: &changes) }
            next = last.index + 1
        }
        if let last = changes.last { sequence = last.sequence }
        return changes
    }

    private func read(_ maxBytes: Int) throws(EngineError) -> [Entry] {
        try ChangeStream.read(from: next, maxBytes, in: database)
    }

    private static func read(
        from index: LogIndex, _ maxBytes: Int, in database: Database
    ) throws(EngineError) -> [Entry] {
        do throws(EngineError) {
            return try database.order.log.entries(from: index, maxBytes: maxBytes)
        } catch {
            guard case .logTrimmed = error else { throw error }
            throw .changesGone(oldest: try oldest(in: database))
        }
    }

    private static func add(
        _ entry: Entry, after sequence: SequenceNumber, to changes: inout [Change]
    ) {
        guard entry.header.kind == .write else { return }
        entry.withPayload { payload in
            do throws(DecodingError) {
                var reader = try WritePayloadReader(payload)
                var current = entry.header.firstSequence
                while let effect = try reader.next() {
                    if current > sequence {
                        changes.append(
                            Change(
                                sequence: current, clock: entry.header.clock,
                                effect: try Change.Effect(effect)))
                    }
                    current += 1
                }
            } catch { brokenInvariant("a write entry was not validated: \(error)") }
        }
    }

    // MARK: finding

    /// What a stream may come after at the earliest.
    private static func oldest(in database: Database) throws(EngineError) -> SequenceNumber {
        let log = database.order.log
        while true {
            do throws(EngineError) {
                guard let first = try log.entries(from: log.first, maxBytes: 1).first else {
                    return database.sequence
                }
                return SequenceNumber(first.header.firstSequence.rawValue - 1)
            } catch {
                // Trimmed between the two.
                guard case .logTrimmed = error else { throw error }
            }
        }
    }

    /// The entry that holds the effect behind `sequence`, or the one before it. Reads O(log n)
    /// entries of n.
    private static func find(_ sequence: SequenceNumber, in database: Database)
        throws(EngineError) -> LogIndex
    {
        let newest = database.sequence
        guard sequence <= newest else {
            throw .invalid(
                reason: "sequence \(sequence) is not written yet; the newest is \(newest)")
        }
        let oldest = try oldest(in: database)
        guard sequence >= oldest else { throw .changesGone(oldest: oldest) }
        let log = database.order.log
        var (low, high) = (log.first, max(log.first, database.store.applied + 1))
        // Entries before `low` begin at or below `sequence`, those from `high` on above it.
        while low < high {
            let middle = low + (high - low) / 2
            guard let entry = try read(from: middle, 1, in: database).first,
                entry.header.firstSequence <= sequence
            else {
                high = middle
                continue
            }
            low = entry.index + 1
        }
        return low > log.first ? LogIndex(low.rawValue - 1) : low
    }
}

extension Change.Effect {
    fileprivate init(_ effect: Effect) throws(DecodingError) {
        switch effect {
        case .put(let key, let value):
            self = .put(key: [UInt8](key), value: [UInt8](value), expiry: nil)
        case .expiringPut(let key, let stored):
            let expiry = stored.loadUnaligned(as: UInt64.self)
            self = .put(
                key: [UInt8](key), value: [UInt8](stored.dropFirst(8)),
                expiry: UInt64(littleEndian: expiry))
        case .delete(let key): self = .delete(key: [UInt8](key))
        case .singleDelete(let key): self = .singleDelete(key: [UInt8](key))
        case .merge(let key, let stored):
            guard let operand = MergeOperand(stored: stored) else {
                throw DecodingError("a merge without an operator")
            }
            self = .merge(key: [UInt8](key), operand: [UInt8](operand.bytes), by: operand.id)
        case .deleteRange(let start, let end):
            self = .deleteRange(KeySpan(start: [UInt8](start), end: end.map { [UInt8]($0) }))
        }
    }
}

extension Database {
    /// What was written after `sequence`, and what will be. Throws `.changesGone` if the log does
    /// not reach back that far: then a snapshot comes first, and the stream after its sequence.
    public func changes(after sequence: SequenceNumber) throws(EngineError) -> ChangeStream {
        try gate.check()
        guard order.options.usesLog else {
            throw .invalid(reason: "a database without a log has no stream of changes")
        }
        return try ChangeStream(self, after: sequence)
    }
}
