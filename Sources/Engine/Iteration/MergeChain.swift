// The operands of one key and what lies below them, for a point read that has met an operand: the
// slow path of `ReadView.get`. Only sources that the answer needs are read, newest first, as in the
// search for the newest version: damage further down does not matter.
//
// The chain ends at the first version that is no operand, or at the newest range tombstone over the
// key: whatever is older does not exist for this reader. A version that two sources hold (a
// memtable and the table flushed from it) is one version: counted twice, a counter would lie.

/// Whether a visit of versions goes on.
enum VersionStep {
    case goOn
    case stop
}

struct MergeChain {
    private let key: UnsafeRawBufferPointer
    private let sequence: SequenceNumber
    private let io: ReadIO
    private let hash: UInt64
    /// From all sources so far.
    private var versions: [FoundVersion] = []
    /// The newest range tombstone over the key.
    private var covering = SequenceNumber.zero
    /// The newest version that is no operand.
    private var base = SequenceNumber.zero

    init(key: UnsafeRawBufferPointer, sequence: SequenceNumber, io: ReadIO) {
        self.key = key
        self.sequence = sequence
        self.io = io
        hash = Checksum.hash64(key)
    }

    /// Older sources add nothing.
    var isDecided: Bool { floor > .zero }

    private var floor: SequenceNumber { max(covering, base) }

    mutating func visit(_ memtable: Memtable) {
        if let covered = memtable.rangeTombstones.covering(key, at: sequence) {
            covering = max(covering, covered)
        }
        memtable.forEachVersion(of: key, hash: hash, at: sequence) { trailer, value in
            take(trailer, value)
        }
    }

    mutating func visit(_ table: TableHandle) throws(EngineError) {
        guard table.record.largestSequence > floor, table.record.smallestSequence <= sequence,
            table.record.span.contains(key)
        else { return }
        let reader = try table.reader(io: io)
        if table.record.rangeTombstoneCount > 0,
            let covered = try reader.rangeTombstones(io: io).covering(key, at: sequence)
        {
            covering = max(covering, covered)
        }
        guard table.record.entryCount > 0 else { return }
        try reader.forEachVersion(of: key, hash: hash, at: sequence, io: io) { trailer, value in
            take(trailer, value)
        }
    }

    private mutating func take(_ trailer: Trailer, _ value: UnsafeRawBufferPointer) -> VersionStep {
        guard trailer.sequence > floor else { return .stop }
        versions.append(FoundVersion(trailer: trailer, value: [UInt8](value)))
        guard trailer.kind == .merge else {
            base = trailer.sequence
            return .stop
        }
        return .goOn
    }

    /// The stored operands, newest first, and the value below them; nil where nothing is.
    consuming func resolve(now: ClockMilliseconds) throws(EngineError)
        -> (operands: [[UInt8]], base: [UInt8]?)
    {
        // Sources of level 0 interleave.
        versions.sort { $0.trailer > $1.trailer }
        var operands: [[UInt8]] = []
        var last = Trailer(rawValue: .max)
        for version in versions where version.trailer.sequence > covering {
            if version.trailer == last { continue }
            last = version.trailer
            guard version.trailer.kind != .merge else {
                operands.append(version.value)
                continue
            }
            let content = try withKey(version.value) { (bytes) throws(EngineError) in
                try VersionContent(version.trailer, bytes, now: now).map { [UInt8]($0.value) }
            }
            return (operands, content)
        }
        return (operands, nil)
    }
}
