// Everything that a node's manifest file folds to: M(F) with the jobs under way, how far the log is
// flushed, and what this node alone knows of its files. The same record, encoded, is what a donor
// gives to a peer whose manifest is lost.
//
// Two indexes, neither ahead of the other by rule:
//   F, the frontier: the last job entry whose outcome is installed here. `manifest` is M(F).
//   S, the flushed position: every write at or below it is in a table here. Replay starts at S+1.
// When F lags S, `jobEntries` keeps the job entries in (F, S], since their segments may be
// recycled.
//
// `apply` (in ManifestEdit.swift) is the one fold, for memory and for recovery alike.

/// S: the last entry whose segment is flushed, and what the log continues with behind it.
package struct LogPoint: Hashable, Sendable {
    package var position: Position
    /// Sequence of the next effect.
    package var nextSequence: SequenceNumber
    /// Clock of the entry at `position`.
    package var clock: ClockMilliseconds

    package init(position: Position, nextSequence: SequenceNumber, clock: ClockMilliseconds) {
        self.position = position
        self.nextSequence = nextSequence
        self.clock = clock
    }

    /// Before the log's first entry.
    package static func beginning(genesis: Digest128) -> LogPoint {
        LogPoint(
            position: Position(term: .zero, index: .zero, checksum: genesis),
            nextSequence: SequenceNumber(1), clock: 0)
    }
}

/// What only this node knows of a table's file.
package struct LocalTable: Hashable, Sendable {
    /// Counts heals; part of the file's name.
    package var generation: UInt32
    /// Raw value of the codec that its blocks are stored with.
    package var codec: UInt8
    package var fileBytes: UInt64

    package init(generation: UInt32, codec: UInt8, fileBytes: UInt64) {
        self.generation = generation
        self.codec = codec
        self.fileBytes = fileBytes
    }
}

/// A flushed segment whose `seal` is not installed yet: read as the youngest of level 0, part of
/// neither M(F) nor R(F).
package struct StandIn: Hashable, Sendable {
    package var segment: SegmentBounds
    package var tables: [TableRecord]

    package init(segment: SegmentBounds, tables: [TableRecord]) {
        self.segment = segment
        self.tables = tables
    }
}

/// A committed entry of jobs that the log may no longer hold.
package struct JobEntry: Hashable, Sendable {
    package var index: LogIndex
    package var kind: EntryKind
    package var payload: [UInt8]

    package init(_ entry: Entry) {
        index = entry.index
        kind = entry.header.kind
        payload = entry.withPayload { [UInt8]($0) }
    }

    package init(index: LogIndex, kind: EntryKind, payload: [UInt8]) {
        self.index = index
        self.kind = kind
        self.payload = payload
    }
}

/// The highest index and sequence ever given out: an unsynced log may end before them, and neither
/// may be used twice.
package struct LogBounds: Hashable, Sendable {
    package var index: LogIndex
    package var sequence: SequenceNumber

    package init(index: LogIndex, sequence: SequenceNumber) {
        self.index = index
        self.sequence = sequence
    }
}

package struct ManifestState: Hashable, Sendable {
    /// M(F), and the jobs under way at F.
    package internal(set) var manifest = LogicalManifest()
    /// F.
    package internal(set) var frontier = LogIndex.zero
    /// S.
    package internal(set) var flushed: LogPoint
    /// Highest horizon of any flush or job installed: older reads are refused.
    package internal(set) var horizon = SequenceNumber.zero
    /// Highest clock by which any installed job let go what had expired. F may be ahead of S, so
    /// this may be later than S: reads at an earlier clock would miss what was alive then.
    package internal(set) var clock: ClockMilliseconds = 0
    /// Oldest first.
    package internal(set) var standIns: [StandIn] = []
    /// One row for each table of `manifest` and `standIns`.
    package internal(set) var local: [TableID: LocalTable] = [:]
    /// In (F, S], by index.
    package internal(set) var jobEntries: [JobEntry] = []
    /// As of S.
    package internal(set) var settings = LoggedSettings()
    /// As of S.
    package internal(set) var membership = Membership()
    package internal(set) var bounds = LogBounds(index: .zero, sequence: .zero)
    /// (F, R(F)) after each change of M, oldest first; at most `rootCount`.
    package internal(set) var roots: [FrontierRoot] = []

    package static let rootCount = 1024

    /// Of an empty log.
    package init(genesis: Digest128) {
        flushed = .beginning(genesis: genesis)
    }

    /// The frontier and its root, as `seal` and `compacted` carry it.
    package var frontierRoot: FrontierRoot {
        FrontierRoot(frontier: frontier, root: manifest.stateRoot())
    }

    /// R(index), if this node has passed that index and still knows. M changes only where a root
    /// was noted, so the newest at or below the index holds for it.
    package func root(at index: LogIndex) -> Digest128? {
        guard index <= frontier else { return nil }
        if let known = roots.last(where: { $0.frontier <= index }) {
            return known == .forgotten ? nil : known.root
        }
        return roots.count < ManifestState.rootCount ? ManifestTables().stateRoot() : nil
    }

    /// The first record, in the order of ids, that differs from `other`'s, in words; nil if none
    /// does, or if the states are of different frontiers.
    package func firstDifference(from other: ManifestState) -> String? {
        guard frontier == other.frontier else { return nil }
        let own = manifest.tables.sortedByID
        let others = other.manifest.tables.sortedByID
        for (mine, their) in zip(own, others) where mine != their {
            if mine.id < their.id { return "table \(mine.id) is in this one only" }
            if their.id < mine.id { return "table \(their.id) is missing in this one" }
            if mine.level != their.level {
                return "table \(mine.id) is in level \(mine.level), not \(their.level)"
            }
            return "the records of table \(mine.id) differ"
        }
        if own.count == others.count { return nil }
        return own.count > others.count
            ? "table \(own[others.count].id) is in this one only"
            : "table \(others[own.count].id) is missing in this one"
    }

    /// Whether another node's root agrees with this one's; nil while that cannot be known.
    package func agrees(with claim: FrontierRoot) -> Bool? {
        root(at: claim.frontier).map { $0 == claim.root }
    }

    /// M(S) when F lags S, else M(F): what replay from S+1 continues to fold. With what the kept
    /// job entries came to, which is what remains to be installed.
    package func replayBase() -> (
        manifest: LogicalManifest, outcomes: [(index: LogIndex, outcome: ManifestOutcome)]
    ) {
        var manifest = manifest
        for standIn in standIns { manifest.segmentEnded(standIn.segment) }
        var outcomes: [(index: LogIndex, outcome: ManifestOutcome)] = []
        for entry in jobEntries {
            let outcome = entry.payload.withUnsafeBytes { payload -> ManifestOutcome in
                do throws(DecodingError) {
                    return try manifest.apply(entry.kind, payload, at: entry.index)
                } catch { brokenInvariant("job entry \(entry.index) was checked: \(error)") }
            }
            outcomes.append((entry.index, outcome))
        }
        return (manifest, outcomes)
    }

    /// Replaces the local columns: those of an adopted record are the donor's. A row for each
    /// table, also for one whose file is missing here and has to be healed.
    package mutating func adopt(local: [TableID: LocalTable]) throws(DecodingError) {
        self.local = local
        try checkFiles()
        try check()
    }

    /// Every table has a row of local columns.
    func checkFiles() throws(DecodingError) {
        for table in manifest.tables.sortedByID where local[table.id] == nil {
            throw DecodingError("table \(table.id) has no file")
        }
    }

    /// What every fold keeps up, at a cost that does not grow with the tables.
    func check() throws(DecodingError) {
        let index = flushed.position.index
        var last = manifest.sealedThrough
        var count = manifest.tables.count
        for standIn in standIns {
            guard standIn.segment.first > last, standIn.segment.first <= standIn.segment.last,
                !standIn.tables.isEmpty
            else { throw DecodingError("stand-ins are not in order") }
            last = standIn.segment.last
            count += standIn.tables.count
            for table in standIn.tables where local[table.id] == nil {
                throw DecodingError("table \(table.id) has no file")
            }
        }
        guard last <= index else { throw DecodingError("a table is younger than S") }
        guard local.count == count else {
            throw DecodingError("\(local.count) files for \(count) tables")
        }
        var before = frontier
        for entry in jobEntries {
            guard entry.index > before, entry.index <= index else {
                throw DecodingError("a job entry is outside of (F, S]")
            }
            before = entry.index
        }
    }
}
