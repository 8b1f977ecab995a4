// Reads of the applied state. Any thread.

extension Store: KeyValueReader {
    package func get(_ key: [UInt8], now: ClockMilliseconds, io: ReadIO) throws(EngineError)
        -> LiveValue?
    {
        try get(key, clock: { now }, io: io)
    }

    /// As above; the clock is looked at only for what may expire.
    func get(_ key: [UInt8], clock: () -> ClockMilliseconds, io: ReadIO) throws(EngineError)
        -> LiveValue?
    {
        let index = applied
        return try withView { (view, sequence) throws(EngineError) in
            try get(key, in: view, at: sequence, after: index, now: clock(), io: io)
        }
    }

    /// As above, without a copy if the value lies in one piece: `body` is called with it, and it is
    /// borrowed until then. False, and no call, if there is none.
    @inline(__always)
    func withValue(
        of key: UnsafeRawBufferPointer, clock: () -> ClockMilliseconds,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(EngineError) -> Bool {
        let index = applied
        return try withView { (view, sequence) throws(EngineError) in
            do throws(EngineError) {
                return try view.withValue(
                    of: key, at: sequence, now: clock(), io: .blocking, body)
            } catch {
                let value = try readElsewhere(
                    [UInt8](key), error, after: index, now: clock(), io: .blocking)
                guard let value else { return false }
                value.value.withUnsafeBytes(body)
                return true
            }
        }
    }

    /// Without asking a peer to answer in this node's place: what a node answers for another that
    /// does not have the block either. Asking on would go round in circles.
    package func getHere(_ key: [UInt8], now: ClockMilliseconds, io: ReadIO) throws(EngineError)
        -> LiveValue?
    {
        let (view, sequence) = pin()
        return try view.get(key, at: sequence, now: now, io: io)
    }

    package func scan(
        _ span: KeySpan, reverse: Bool, limit: Int, limitBytes: Int, now: ClockMilliseconds
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)] {
        let (view, sequence) = pin()
        return try view.scan(
            span, reverse: reverse, limit: limit, limitBytes: limitBytes, at: sequence, now: now)
    }

    package func pinned() -> any KeyValueReader { PinnedReader(self) }

    /// `index` was applied before `view` was taken.
    fileprivate func get(
        _ key: [UInt8], in view: ReadView, at sequence: SequenceNumber, after index: LogIndex,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        do throws(EngineError) {
            return try view.get(key, at: sequence, now: now(), io: io)
        } catch {
            return try readElsewhere(key, error, after: index, now: now(), io: io)
        }
    }

    /// What a peer says of `key`, which cannot be read here for `error`: from its own state, at
    /// `index` or later.
    @inline(never)
    private func readElsewhere(
        _ key: [UInt8], _ error: EngineError, after index: LogIndex,
        now: @autoclosure () -> ClockMilliseconds, io: ReadIO
    ) throws(EngineError) -> LiveValue? {
        let lost: BlockAddress
        switch error {
        case .blockLost(let address, _): lost = address
        case .tableLost(let table, _): lost = BlockAddress(table: table, ordinal: .leaves)
        default: throw error
        }
        guard io == .blocking,
            let answer = healer.readElsewhere(key, lost: lost, at: index, now: now())
        else { throw error }
        return answer.value
    }
}

/// A prefix of the log at one moment.
private struct ReadPin {
    /// At or before what the view shows.
    let index: LogIndex
    let view: ReadView
    let sequence: SequenceNumber

    init(_ store: Store) {
        index = store.applied
        (view, sequence) = store.pin()
    }
}

/// Commands that look at several keys read through one of these, so that they never see half of an
/// atomic write. (Of a key that nothing here can read, a peer may tell a newer value.)
private final class PinnedReader: KeyValueReader {
    private let store: Store
    private let pin: ReadPin

    init(_ store: Store) {
        self.store = store
        pin = ReadPin(store)
    }

    func get(_ key: [UInt8], now: ClockMilliseconds, io: ReadIO) throws(EngineError) -> LiveValue? {
        try store.get(
            key, in: pin.view, at: pin.sequence, after: pin.index, now: now, io: io)
    }

    func scan(
        _ span: KeySpan, reverse: Bool, limit: Int, limitBytes: Int, now: ClockMilliseconds
    ) throws(EngineError) -> [(key: [UInt8], value: LiveValue)] {
        try pin.view.scan(
            span, reverse: reverse, limit: limit, limitBytes: limitBytes, at: pin.sequence,
            now: now)
    }

    func pinned() -> any KeyValueReader { self }
}
