// The sequences at which transactions read. The horizon stays at or below the oldest: what happened
// after it is still told by versions and tombstones when the transaction commits.
//
// Owner's thread, or under the commit lock.

struct OpenReads {
    private var counts: [SequenceNumber: Int] = [:]

    mutating func begin(at sequence: SequenceNumber) { counts[sequence, default: 0] += 1 }

    mutating func end(at sequence: SequenceNumber) {
        guard let count = counts[sequence] else { brokenInvariant("a read ended twice") }
        counts[sequence] = count > 1 ? count - 1 : nil
    }

    var oldest: SequenceNumber? { counts.keys.min() }
}
