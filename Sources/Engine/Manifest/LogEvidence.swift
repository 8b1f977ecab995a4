// What the segment files of a log tell about a manifest that is lost: where the log begins and
// ends, its segments, and the entries of jobs, which carry whole table records. Reads only. What
// recovery of the log would judge (torn or rotten, stale or not) is not judged here.

struct LogEvidence {
    struct Segment {
        var bounds: SegmentBounds
        /// In force before its first entry.
        var settings: LoggedSettings
        /// Behind its last entry.
        var end: LogPoint
        /// Another segment follows, or the rule says so.
        var isEnded: Bool
        var hasWrites: Bool
    }

    /// Oldest first.
    var segments: [Segment] = []
    /// By index.
    var jobs: [JobEntry] = []
    var settings: [(index: LogIndex, settings: LoggedSettings)] = []
    var membership: [(index: LogIndex, membership: Membership)] = []
    /// Before the first entry that is there; nil without one.
    private(set) var start: LogPoint?
    /// What of it is damaged or missing.
    var flaws: [String] = []

    var end: LogPoint? { segments.last?.end }
    /// Entries from here on are in the log.
    var first: LogIndex? { segments.first?.bounds.first }

    init() {}

    /// Reads the segment files in `directory`; a directory that is not there has none.
    init(
        _ fileSystem: any FileSystem, _ directory: String, genesis: Digest128, keys: KeyRing
    ) throws(EngineError) {
        guard fileSystem.exists(directory) else { return }
        let names = try engineError { () throws(FileError) in try fileSystem.list(directory) }
        for name in names {
            guard let first = LogSegment.firstIndex(ofFile: name) else { continue }
            let file = try engineError { () throws(FileError) in
                try fileSystem.open(directory + "/" + name, .read)
            }
            try read(file, first, name, genesis, keys)
        }
    }

    private mutating func read(
        _ file: any File, _ first: LogIndex, _ name: String, _ genesis: Digest128, _ keys: KeyRing
    ) throws(EngineError) {
        let header =
            SegmentHeader.read(file, at: 0, first: first)
            ?? SegmentHeader.read(file, at: UInt64(SegmentHeader.mirrorOffset), first: first)
        if let header, header.genesis != genesis {
            throw .identity(reason: "\(file.path) belongs to another cluster or group")
        }
        if header == nil { flaws.append("the header of segment \(name) is unreadable") }
        let settings = header?.settings ?? self.settings.last?.settings ?? LoggedSettings()
        var rule = SegmentRule(segmentBytes: settings.segmentBytes)
        var part = Part()
        let found = try SegmentInspection.inspect(file, keys: keys) { item in
            part.take(Entry(item), endsSegment: rule.endsSegment(item.header))
            return true
        }
        for hole in found.holes {
            flaws.append("entries \(hole.lower) to \(hole.upper) are damaged")
        }
        guard let end = part.end, let beginning = part.first else { return }
        connect(first, header)
        if start == nil { start = point(before: beginning, header) }
        note(part.entries)
        segments.append(
            Segment(
                bounds: SegmentBounds(first: first, last: end.position.index),
                settings: settings, end: end, isEnded: part.endsHere, hasWrites: part.hasWrites))
    }

    /// What one file holds.
    private struct Part {
        var first: EntryHeader?
        var end: LogPoint?
        var endsHere = false
        var hasWrites = false
        /// Without writes.
        var entries: [Entry] = []

        mutating func take(_ entry: Entry, endsSegment: Bool) {
            endsHere = endsSegment
            guard (try? EntryValidation.validate(entry)) != nil else { return }
            if first == nil { first = entry.header }
            end = LogPoint(after: entry)
            if entry.effectCount > 0 { hasWrites = true }
            if entry.effectCount == 0 { entries.append(entry) }
        }
    }

    /// The segment before has ended; whether this one follows it is the header's to say.
    private mutating func connect(_ first: LogIndex, _ header: SegmentHeader?) {
        guard let place = segments.indices.last else { return }
        segments[place].isEnded = true
        let end = segments[place].end.position
        let follows = header.map { $0.previous == end } ?? (end.index + 1 == first)
        if !follows { flaws.append("entries between \(end.index) and \(first) are missing") }
    }

    private func point(before entry: EntryHeader, _ header: SegmentHeader?) -> LogPoint {
        let known = header.flatMap { header in
            header.previous.checksum == entry.previous ? header.previous : nil
        }
        return LogPoint(
            position: known
                ?? Position(
                    term: entry.term, index: entry.index - 1, checksum: entry.previous),
            nextSequence: entry.firstSequence, clock: entry.clock)
    }

    private mutating func note(_ entries: [Entry]) {
        for entry in entries {
            entry.withPayload { payload in
                switch entry.header.kind {
                case .seal, .compact, .compacted, .cancelled: jobs.append(JobEntry(entry))
                case .settings:
                    guard let value = try? LoggedSettings(decoding: payload) else { return }
                    settings.append((entry.index, value))
                case .membership:
                    guard let value = try? Membership(decoding: payload) else { return }
                    membership.append((entry.index, value))
                case .noop, .write, .bulk, .rotate, .excise: break
                }
            }
        }
    }
}

extension Entry {
    /// The entry again whose parts were shown.
    fileprivate init(_ item: SegmentInspection.Item) {
        let header = item.header
        self.init(
            kind: header.kind, payload: item.payload, previous: header.previous,
            group: header.group, term: header.term, index: header.index,
            firstSequence: header.firstSequence, clock: header.clock, commit: header.commit)
    }
}
