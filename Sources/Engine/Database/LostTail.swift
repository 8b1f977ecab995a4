// Recovery to a point in time: the log of a database without replicas has lost an entry that was
// promised, so everything behind it hangs in the air. The segments are copied to quarantine as they
// are, then the log is cut before the loss.
//
// Indexes and sequences that had been given out are not given out again: the manifest records them
// first. So a crash between any two steps leaves either the log as it was or a cut one that goes on
// above all that was lost.

enum LostTail {
    /// Cuts `log` before `hole`, of which a part is above S. Returns what an operator should know.
    static func cut(_ log: Log, before hole: LogHole, _ store: Store) throws(EngineError) -> String
    {
        let last = log.last
        let cut = max(LogIndex(hole.lower.rawValue - 1), store.flushedPosition.index)
        try store.record(try givenOut(log, store))
        let copies = try keepEvidence(log, above: cut, term: last.term, store.files)
        try log.truncate(after: cut)
        let place = copies.isEmpty ? "" : "; what was there is kept in quarantine/: "
        return "entries \(hole.lower) to \(hole.upper) of the log are lost: it was cut at \(cut), "
            + "and entries up to \(last.index) are not served"
            + place + copies.joined(separator: ", ")
    }

    /// Copies of the segment files that hold entries above `cut`, synced.
    private static func keepEvidence(
        _ log: Log, above cut: LogIndex, term: Term, _ files: StoreFiles
    ) throws(EngineError) -> [String] {
        var names: [String] = []
        for segment in log.heldSegments where segment.last > cut {
            let name = files.freeQuarantineName(
                "lost-\(term)-\(hex16(segment.first.rawValue)).seg")
            let path = files.quarantine + "/" + name
            try engineError { () throws(FileError) in
                try files.fileSystem.copy(segment.path, to: path + ".new")
                try files.fileSystem.rename(path + ".new", to: path)
            }
            names.append(name)
        }
        try engineError { () throws(FileError) in
            try files.fileSystem.syncDirectory(files.quarantine)
        }
        return names
    }

    /// No index and no sequence above these was ever given out. Of entries that cannot be read at
    /// the log's end nobody knows how many effects they had: no entry has more than it has bytes.
    private static func givenOut(_ log: Log, _ store: Store) throws(EngineError) -> LogBounds {
        let holes = log.holes
        let last = log.last.index
        var unread: UInt64 = 0
        var index = last
        var sequence = SequenceNumber(store.flushedTail.nextSequence.rawValue - 1)
        while index > store.flushedPosition.index, index >= log.first {
            if let hole = holes.first(where: { $0.lower <= index && index <= $0.upper }) {
                unread += index.rawValue - hole.lower.rawValue + 1
                index = LogIndex(hole.lower.rawValue - 1)
                continue
            }
            if let entry = try? log.entries(from: index, maxBytes: 1).first, entry.index == index,
                (try? EntryValidation.validate(entry)) != nil
            {
                sequence = SequenceNumber(LogPoint(after: entry).nextSequence.rawValue - 1)
                break
            }
            unread += 1
            index = LogIndex(index.rawValue - 1)
        }
        let (margin, isOverflow) = unread.multipliedReportingOverflow(by: entryEffectsMax)
        let room = SequenceNumber.max.rawValue - sequence.rawValue
        guard !isOverflow, margin < room else {
            throw .corrupt(file: "log", reason: "\(unread) entries at its end are lost")
        }
        return LogBounds(
            index: max(last, store.frontier),
            sequence: SequenceNumber(sequence.rawValue + margin))
    }

    private static let entryEffectsMax = UInt64(Limits.entryPayloadBytes)
}

extension Store {
    /// At open: what was given out and is lost is not given out again.
    func record(_ bounds: LogBounds) throws(EngineError) {
        try manifestFile.append([.bounds(bounds)])
        installed = manifestFile.state
    }
}

extension Log {
    /// A segment file and the entries in it, for who keeps files as evidence.
    struct HeldSegment {
        var path: String
        var first: LogIndex
        var last: LogIndex
    }

    /// Those with an entry that can be read, oldest first.
    var heldSegments: [HeldSegment] {
        lock.withLock {
            segments.compactMap { segment in
                let isHollow =
                    segment.offsets?.allSatisfy { $0 == OffsetTable.missing } ?? false
                return isHollow
                    ? nil
                    : HeldSegment(path: segment.path, first: segment.first, last: segment.last)
            }
        }
    }
}
