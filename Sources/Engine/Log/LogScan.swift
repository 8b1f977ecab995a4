// Recovery's reading of the log, segment by segment: which entries are there, which are missing in
// between, and how far a sync is known to have returned. It decides nothing about cutting.
//
// An entry counts if its frame and its own checksum hold and
//   - it continues the index sequence, and the hash chain where the entry before is known,
//   - no frame before it has a higher epoch, nor has the segment's header,
//   - it is not above the recorded cut with an epoch below the recorded one.
// What fails one of these is stale: left behind by a truncation or a torn write. A frame's claim of
// durability counts whatever became of its entry, but one from before the recorded cut only up to
// it.

struct LogScan {
    /// The recorded cut, and what else rules out stale entries.
    struct Rules {
        var group: UInt32
        var cut: LogIndex
        var cutTerm: Term
        var epoch: UInt32
        /// With `log.sync = always` an entry's `commit` was durable on a quorum.
        var countsCommit: Bool
    }

    /// "The log was durable through here." The checksum is known only from the volatile page.
    struct Claim: Sendable {
        var term: Term
        var index: LogIndex
        var checksum: Digest128?
    }

    /// Entries that one gap may lack; more is taken for damage of the number itself.
    static let gapMax: UInt64 = 1 << 24

    private let rules: Rules
    /// The last entry that counts.
    private(set) var last: Position
    /// The index after it, or where the sequence was made to go on.
    private(set) var expected: LogIndex
    /// False if `last.checksum` is not known.
    private var isChainKnown: Bool
    private var epochFloor: UInt32 = 0
    private(set) var epochSeen: UInt32 = 0
    private(set) var claim = Claim(term: .zero, index: .zero, checksum: nil)
    /// Through here a sync of this node returned. An entry's `commit` claims more: what others
    /// have.
    private(set) var synced = LogIndex.zero
    private(set) var missing: [LogHole] = []
    /// Places where indexes were left out on purpose.
    private(set) var skips: [(after: Position, to: LogIndex)] = []
    private(set) var runs = TermRuns()
    private(set) var settings: [(index: LogIndex, settings: LoggedSettings)] = []
    /// Frames of the last epoch whose entry is damaged or incomplete. A torn append whose first
    /// sector never reached the disk leaves none.
    private(set) var damagedFrames = 0

    /// What one segment holds.
    struct Segment {
        /// By index from the segment's first.
        var offsets: [UInt64] = []
        /// End of the last frame that counts.
        var end = UInt64(SegmentHeader.size)
        /// Something that looks like a frame stands behind `end`.
        var hasLeftovers = false
        /// Frames of whole entries that a truncation left behind, by their epochs.
        var outdated: [UInt64] = []
    }

    init(after last: Position, isChainKnown: Bool, rules: Rules) {
        self.last = last
        self.expected = last.index + 1
        self.isChainKnown = isChainKnown
        self.rules = rules
    }

    /// Takes account of a claim from outside a segment.
    mutating func note(_ other: Claim, epoch: UInt32) {
        epochSeen = max(epochSeen, epoch)
        var capped = other
        if epoch < rules.epoch, other.index > rules.cut {
            capped = Claim(term: rules.cutTerm, index: rules.cut, checksum: nil)
        }
        synced = max(synced, capped.index)
        // Of two that disagree about the term the lower is of a cut within lost entries: a guess.
        let isBetter =
            capped.index > claim.index
            || capped.index == claim.index
                && (capped.term > claim.term || capped.term == claim.term && claim.checksum == nil)
        if isBetter { claim = capped }
    }

    /// Terms never fall along a log: what an older term claims above the last entry was of a
    /// history that was cut, by a record that is lost. How far this one was durable is not known
    /// then.
    mutating func dropOutdatedClaim() {
        guard claim.index > last.index, claim.term != .zero, claim.term < last.term else { return }
        claim = Claim(term: last.term, index: last.index, checksum: nil)
        synced = .zero
    }

    /// The sequence goes on at `index`; the indexes in between were never used.
    mutating func skip(to index: LogIndex) {
        if index > expected { skips.append((last, index)) }
        expected = index
    }

    /// Reads one segment. Entries above `bound` belong to the next one.
    mutating func scan(
        _ window: SegmentWindow, first: LogIndex, header: SegmentHeader?, bound: LogIndex?
    ) -> Segment {
        var result = Segment()
        result.end = header?.dataStart ?? result.end
        if let header {
            epochFloor = max(epochFloor, header.epoch)
            epochSeen = max(epochSeen, header.epoch)
        }
        var offset = result.end
        while offset + UInt64(LogFrame.size) <= window.size {
            if let bound, last.index >= bound { break }
            guard let frame = window.frame(at: offset) else {
                offset = nextBoundary(offset)
                continue
            }
            note(
                Claim(term: frame.durableTerm, index: frame.durableIndex, checksum: nil),
                epoch: frame.epoch)
            let body = offset + UInt64(LogFrame.size)
            let entry = window.entry(frame, at: offset)
            if let entry, counts(entry.header, frame, bound, first) {
                accept(entry.header, frame, at: offset, first, &result)
                readSettings(entry)
                offset = body + UInt64(frame.length)
                result.end = offset
            } else {
                result.hasLeftovers = true
                if let entry, isOutdated(entry.header, frame) { result.outdated.append(offset) }
                if entry == nil, frame.epoch >= max(epochFloor, rules.epoch) { damagedFrames += 1 }
                let isLive = entry == nil && isLive(frame, window, body)
                if isLive { epochFloor = max(epochFloor, frame.epoch) }
                offset = isLive ? body + UInt64(frame.length) : nextBoundary(offset)
            }
        }
        return result
    }

    private func nextBoundary(_ offset: UInt64) -> UInt64 { alignedToGroup(offset + 1) }

    /// A frame of the present epoch whose entry is damaged: its length leads to the next frame.
    private func isLive(_ frame: LogFrame, _ window: SegmentWindow, _ body: UInt64) -> Bool {
        frame.epoch >= epochFloor && UInt64(frame.length) <= window.size - body
    }

    private func counts(
        _ header: EntryHeader, _ frame: LogFrame, _ bound: LogIndex?, _ first: LogIndex
    ) -> Bool {
        guard header.group == rules.group, header.index >= expected, header.index >= first,
            header.index - expected <= LogScan.gapMax,
            header.index - first <= LogScan.gapMax, header.term >= last.term
        else { return false }
        if let bound, header.index > bound { return false }
        if isOutdated(header, frame) { return false }
        if header.index == expected, isChainKnown, header.previous != last.checksum {
            return false
        }
        return true
    }

    private func isOutdated(_ header: EntryHeader, _ frame: LogFrame) -> Bool {
        frame.epoch < epochFloor || header.index > rules.cut && frame.epoch < rules.epoch
    }

    private mutating func accept(
        _ header: EntryHeader, _ frame: LogFrame, at offset: UInt64, _ first: LogIndex,
        _ result: inout Segment
    ) {
        if header.index > expected {
            missing.append(
                LogHole(lower: expected, upper: header.index - 1, checksum: header.previous))
        }
        let place = Int(header.index - first)
        let gap = place - result.offsets.count
        result.offsets.append(contentsOf: repeatElement(OffsetTable.missing, count: gap))
        result.offsets.append(offset)
        epochFloor = max(epochFloor, frame.epoch)
        last = Position(term: header.term, index: header.index, checksum: header.checksum)
        expected = header.index + 1
        isChainKnown = true
        runs.append(header.term, at: header.index)
        if rules.countsCommit, header.commit < header.index, header.commit > claim.index {
            let term = runs.term(at: header.commit) ?? .zero
            claim = Claim(term: term, index: header.commit, checksum: nil)
        }
    }

    private mutating func readSettings(_ entry: SegmentWindow.VerifiedEntry) {
        guard entry.header.kind == .settings,
            let value = try? LoggedSettings(
                decoding: UnsafeRawBufferPointer(rebasing: entry.bytes[EntryHeader.size...]))
        else { return }
        settings.append((entry.header.index, value))
    }
}
