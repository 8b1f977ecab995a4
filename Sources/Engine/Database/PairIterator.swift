// The public iterator: what `scan` gives as a whole, pair by pair, with places to seek to.

/// Walks the live pairs of a span, forward and in reverse, as they were when it was made. It keeps
/// the memtables and files of that moment: let it go soon. One thread at a time.
///
/// Unpositioned at first, and past either end. Each move costs about what reading the pair costs;
/// a seek searches every level. After an error it is unpositioned until it is sought again.
public final class PairIterator {
    private let iterator: VisibleIterator
    private let gate: AccessGate

    init(_ iterator: VisibleIterator, _ gate: AccessGate) {
        self.iterator = iterator
        self.gate = gate
    }

    /// Whether it stands on a pair.
    public var isValid: Bool { iterator.isValid }

    /// Copies of the pair that it stands on; nil if there is none.
    public var current: (key: [UInt8], value: LiveValue)? {
        guard iterator.isValid else { return nil }
        let value = LiveValue(value: [UInt8](iterator.value), expiry: iterator.expiry)
        return ([UInt8](iterator.key), value)
    }

    public func seekToFirst() throws(EngineError) {
        try gate.check()
        try iterator.seekToFirst()
    }

    public func seekToLast() throws(EngineError) {
        try gate.check()
        try iterator.seekToLast()
    }

    /// To the first pair at or behind `key`.
    public func seek(_ key: [UInt8]) throws(EngineError) {
        try gate.check()
        try withKey(key) { (key) throws(EngineError) in try iterator.seek(key) }
    }

    /// To the last pair at or before `key`.
    public func seekForPrevious(_ key: [UInt8]) throws(EngineError) {
        try gate.check()
        try withKey(key) { (key) throws(EngineError) in try iterator.seekForPrevious(key) }
    }

    /// To the pair behind; from the last one, or where there is none, to no place.
    public func next() throws(EngineError) {
        try gate.check()
        if iterator.isValid { try iterator.next() }
    }

    /// To the pair before; from the first one, or where there is none, to no place.
    public func previous() throws(EngineError) {
        try gate.check()
        if iterator.isValid { try iterator.previous() }
    }
}

extension Database {
    /// Iterates what is visible now of `span`, however much that is.
    public func iterator(over span: KeySpan = .everything) throws(EngineError) -> PairIterator {
        try gate.check()
        return PairIterator(makeIterator(span), gate)
    }
}
