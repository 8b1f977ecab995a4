// Judges an entry's payload whole, before the entry is acknowledged. After that, applying it is
// total: no later code may find that a payload does not decode, a length is over a limit or a
// sequence does not fit. Called by a leader on what it makes and by a follower on what it gets.

package enum EntryValidation {
    /// Decodes and checks everything that can be judged without other entries.
    package static func validate(_ entry: Entry) throws(DecodingError) {
        let header = entry.header
        guard header.index > .zero, header.term > .zero else {
            throw DecodingError("an entry without index or term")
        }
        guard header.firstSequence > .zero else { throw DecodingError("an entry's sequence is 0") }
        try entry.withPayload { (payload) throws(DecodingError) in
            try validate(payload, header)
        }
    }

    private static func validate(_ payload: UnsafeRawBufferPointer, _ header: EntryHeader)
        throws(DecodingError)
    {
        switch header.kind {
        case .noop, .rotate:
            guard payload.isEmpty else { throw DecodingError("a payload where none belongs") }
        case .write: try validateWrite(payload, header)
        case .seal: try validate(SealRecord(decoding: payload), at: header.index)
        case .compact: _ = try CompactionSpec(decoding: payload)
        case .compacted:
            let record = try CompactedRecord(decoding: payload)
            guard record.job < header.index else {
                throw DecodingError("a compacted before its job")
            }
        case .cancelled:
            let record = try CancelledRecord(decoding: payload)
            guard record.job < header.index else {
                throw DecodingError("a cancelled before its job")
            }
        case .settings: _ = try LoggedSettings(decoding: payload)
        case .membership:
            guard try Membership(decoding: payload).members.contains(where: \.isVoter) else {
                throw DecodingError("a membership without voters")
            }
        case .bulk: try validateBulk(payload, header)
        case .excise:
            throw DecodingError("entry kind \(header.kind) is not supported by this build")
        }
    }

    /// A segment is sealed by an entry of a later one.
    private static func validate(_ record: SealRecord, at index: LogIndex) throws(DecodingError) {
        guard record.last < index else { throw DecodingError("a seal inside its own segment") }
    }

    private static func validateWrite(_ payload: UnsafeRawBufferPointer, _ header: EntryHeader)
        throws(DecodingError)
    {
        var reader = try WritePayloadReader(payload)
        // A horizon was applied before, so it is below the write. Hence no flush is empty: its
        // segment's last write is above the horizon, and stays.
        guard (1...header.firstSequence.rawValue).contains(reader.horizonDistance) else {
            throw DecodingError("a horizon below zero, or not below its write")
        }
        guard reader.count > 0 else { throw DecodingError("a write without effects") }
        try checkSequences(reader.count, header)
        while let effect = try reader.next() {
            switch effect {
            case .put, .expiringPut, .delete, .merge, .singleDelete: break
            case .deleteRange(let start, let end?):
                guard compareKeys(start, end) < 0 else {
                    throw DecodingError("a range delete of an empty range")
                }
            case .deleteRange(_, nil): break
            }
        }
    }

    /// Every read of a pair checks its order.
    private static func validateBulk(_ payload: UnsafeRawBufferPointer, _ header: EntryHeader)
        throws(DecodingError)
    {
        var reader = try BulkPayloadReader(payload)
        guard reader.count > 0 else { throw DecodingError("a bulk without pairs") }
        try checkSequences(reader.count, header)
        while try reader.next() != nil {}
    }

    /// The last effect takes firstSequence + count - 1; the next entry's first must fit, too.
    private static func checkSequences(_ count: Int, _ header: EntryHeader) throws(DecodingError) {
        guard UInt64(count) <= SequenceNumber.max.rawValue - header.firstSequence.rawValue else {
            throw DecodingError("an entry's sequences exceed 56 bits")
        }
    }
}
