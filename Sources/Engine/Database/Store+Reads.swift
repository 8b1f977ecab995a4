// Reads of the applied state. Any thread.

extension Store: KeyValueReader {
    package func get(_ key: [UInt8], now: ClockMilliseconds, io: ReadIO) throws(EngineError)
        -> LiveValue?
    {
        let index = applied
        do throws(EngineError) {
            return try getHere(key, now: now, io: io)
        } catch {
            let lost: BlockAddress
            switch error {
            case .blockLost(let address, _): lost = address
            case .tableLost(let table, _): lost = BlockAddress(table: table, ordinal: .leaves)
            default: throw error
            }
            guard io == .blocking,
                let answer = healer.readElsewhere(key, lost: lost, at: index, now: now)
            else { throw error }
            return answer.value
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
}
