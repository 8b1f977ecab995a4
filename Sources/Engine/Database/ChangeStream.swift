// What was written, in order, read from the log: for indexes, caches and copies elsewhere that
// follow a database. A follower keeps the sequence of the last change that it has taken, and goes
// on behind it, after a restart of either side too.
//
// The log ends where a flush made it superfluous, unless `retainLogBytes` keeps more. Who comes too
// late is told so, takes a snapshot and follows from its sequence. A stream only tells of what
// readers see. With `.never` as sync a power cut may take back what it told last, and so may an
// open that cuts the log at damage (`.pointInTime`); its sequences then go to other writes. The
// opened copy of a checkpoint gives out sequences of its own, too. Nothing tells such histories
// apart by a sequence: a follower begins anew with a snapshot then.

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

    /// From `next` on. Where that is gone, but no change behind `sequence` with it, the stream goes
    /// on behind the gap: entries of the engine's own hold none.
    private func read(_ maxBytes: Int) throws(EngineError) -> [Entry] {
        while true {
            do throws(EngineError) {
                return try ChangeStream.read(from: next, maxBytes, in: database)
            } catch {
                guard case .changesGone(let oldest) = error, oldest <= sequence else { throw error }
                next = try ChangeStream.find(sequence, in: database)
            }
        }
    }

    /// Flushed segments were not replayed at open, so their entries are checked here.
    private static func read(
        from index: LogIndex, _ maxBytes: Int, in database: Database
    ) throws(EngineError) -> [Entry] {
        let entries: [Entry]
        do throws(EngineError) {
            entries = try database.order.log.entries(from: index, maxBytes: maxBytes)
        } catch {
            switch error {
            case .logTrimmed(let first): throw .changesGone(oldest: try oldest(first, database))
            case .logHole(let hole): throw .changesGone(oldest: try oldest(hole + 1, database))
            default: throw error
            }
        }
        for entry in entries {
            do throws(DecodingError) { try EntryValidation.validate(entry) } catch {
                throw database.order.log.corrupt(
                    at: entry.index, "entry \(entry.index) is malformed: \(error)")
            }
        }
        return entries
    }

    private static func add(
        _ entry: Entry, after sequence: SequenceNumber, to changes: inout [Change]
    ) {
        entry.withPayload { payload in
            do throws(DecodingError) {
                try EntryEffects.forEach(
                    of: entry.header.kind, payload, from: entry.header.firstSequence
                ) { (current, effect) throws(DecodingError) in
                    guard current > sequence else { return }
                    changes.append(
                        Change(
                            sequence: current, clock: entry.header.clock,
                            effect: try Change.Effect(effect)))
                }
            } catch { brokenInvariant("entry \(entry.index) was not validated: \(error)") }
        }
    }

    // MARK: finding

    /// What a stream may come after that is to begin at `index` or behind it.
    private static func oldest(_ index: LogIndex, _ database: Database) throws(EngineError)
        -> SequenceNumber
    {
        var index = index
        while index <= database.store.applied {
            do throws(EngineError) {
                guard let first = try database.order.log.entries(from: index, maxBytes: 1).first
                else { break }
                return SequenceNumber(max(first.header.firstSequence.rawValue, 1) - 1)
            } catch {
                switch error {
                case .logTrimmed(let first): index = max(first, index + 1)
                case .logHole(let hole): index = max(hole, index) + 1
                default: throw error
                }
            }
        }
        return database.sequence
    }

    /// The entry that holds the effect behind `sequence`, or one before it with nothing lost in
    /// between. Reads O(log n) entries of n.
    private static func find(_ sequence: SequenceNumber, in database: Database)
        throws(EngineError) -> LogIndex
    {
        let newest = database.sequence
        guard sequence <= newest else {
            throw .invalid(
                reason: "sequence \(sequence) is not written yet; the newest is \(newest)")
        }
        let log = database.order.log
        let first = log.first
        var (low, high) = (first, max(first, database.store.applied + 1))
        // Entries before `low` begin at or below `sequence`, those from `high` on above it.
        while low < high {
            let middle = low + (high - low) / 2
            guard let begin = try begin(of: middle, log), begin.sequence <= sequence else {
                high = middle
                continue
            }
            low = begin.index + 1
        }
        // What is before it may be lost, for all that this follower cares.
        if let next = try begin(of: low, log), next.sequence == sequence + 1 { return next.index }
        let index = low > first ? LogIndex(low.rawValue - 1) : low
        // Behind a hole, or where the log starts too late, the next one begins above it.
        let start = try oldest(index, database)
        guard start <= sequence else { throw .changesGone(oldest: start) }
        return index
    }

    /// Where the first entry that can be read from `index` on begins; nil if there is none.
    private static func begin(of index: LogIndex, _ log: Log) throws(EngineError)
        -> (index: LogIndex, sequence: SequenceNumber)?
    {
        var index = index
        while true {
            do throws(EngineError) {
                let entry = try log.entries(from: index, maxBytes: 1).first
                return entry.map { ($0.index, $0.header.firstSequence) }
            } catch {
                switch error {
                case .logTrimmed(let first): index = max(first, index + 1)
                case .logHole(let hole): index = max(hole, index) + 1
                default: throw error
                }
            }
        }
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
