// What entries do to keys, whatever their kind: for those that follow the log (sequences, the
// stream of changes, tools). The store applies `write` and `bulk` each in its own way.

package enum EntryEffects {
    /// Hands over the effects of an entry of `kind` with their sequences, in order; none of one
    /// that has no effects.
    package static func forEach(
        of kind: EntryKind, _ payload: UnsafeRawBufferPointer, from first: SequenceNumber,
        _ body: (SequenceNumber, Effect) throws(DecodingError) -> Void
    ) throws(DecodingError) {
        var sequence = first.rawValue
        switch kind {
        case .write:
            var reader = try WritePayloadReader(payload)
            while let effect = try reader.next() {
                try body(SequenceNumber(sequence), effect)
                sequence &+= 1
            }
        case .bulk:
            var reader = try BulkPayloadReader(payload)
            while let (key, value) = try reader.next() {
                try body(SequenceNumber(sequence), .put(key: key, value: value))
                sequence &+= 1
            }
        default: break
        }
    }
}

extension Entry {
    /// Sequences that this entry takes: its effects, or none. The payload was validated before.
    package var effectCount: Int {
        withPayload { payload in
            do throws(DecodingError) {
                switch header.kind {
                case .write: return try WritePayloadReader(payload).count
                case .bulk: return try BulkPayloadReader(payload).count
                default: return 0
                }
            } catch {
                brokenInvariant("a \(header.kind) entry was not validated: \(error)")
            }
        }
    }
}
