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

struct MergeChain: KeySearch {
    private var probe: KeyProbe
    /// From all sources so far.
    private var versions: [FoundVersion] = []
    /// The newest version that is no operand.
    private var base = SequenceNumber.zero

    init(key: UnsafeRawBufferPointer, sequence: SequenceNumber, io: ReadIO) {
        probe = KeyProbe(key: key, sequence: sequence, io: io)
    }

    /// Older sources add nothing.
    var isDecided: Bool { floor > .zero }

    private var floor: SequenceNumber { max(probe.covering, base) }

    mutating func visit(_ memtable: Memtable) {
        probe.cover(by: memtable)
        let probe = self.probe
        memtable.forEachVersion(of: probe.key, hash: probe.hash, at: probe.sequence) {
            trailer, value in
            take(trailer, value)
        }
    }

    mutating func visit(_ table: Unmanaged<TableHandle>) throws(EngineError) {
        guard let use = try probe.reader(of: table, above: base) else { return }
        defer { use.end() }
        let probe = self.probe
        try use.reader.takeUnretainedValue().forEachVersion(
            of: probe.key, hash: probe.hash, at: probe.sequence, io: probe.io
        ) { trailer, value in
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
    consuming func resolve(now: ClockMilliseconds, _ blobs: BlobFiles) throws(EngineError)
        -> (operands: [[UInt8]], base: [UInt8]?)
    {
        // Sources of level 0 interleave.
        versions.sort { $0.trailer > $1.trailer }
        var operands: [[UInt8]] = []
        var last = Trailer(rawValue: .max)
        for version in versions where version.trailer.sequence > probe.covering {
            if version.trailer == last { continue }
            last = version.trailer
            guard version.trailer.kind != .merge else {
                operands.append(version.value)
                continue
            }
            let io = probe.io
            let content = try withKey(version.value) { (bytes) throws(EngineError) -> [UInt8]? in
                guard version.trailer.kind == .blobReference else {
                    return try VersionContent(version.trailer, bytes, now: now).map {
                        [UInt8]($0.value)
                    }
                }
                let reference = try BlobReference(stored: bytes)
                if let expiry = reference.expiry, expiry <= now { return nil }
                return try blobs.value(reference, io: io)
            }
            return (operands, content)
        }
        return (operands, nil)
    }
}
