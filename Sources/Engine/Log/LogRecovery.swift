// Opening a log after anything: a crash between any two steps of an append, a seal, a rewind or a
// trim; torn writes in any order; rot. Segments above the last flushed one are read whole and
// judged entry by entry; older ones are history and only looked up.
//
// D is the highest position that a returned sync is known to have covered. What is bad or missing
// at or below D was promised, so it is a hole that peers fill. From the first bad entry above D on,
// the log is torn: cut. Before the log is used, what lies above D is written and synced again
// (after a failed sync the page cache lies), and then `state` records (last, new epoch).

extension Log {
    /// A segment while it is being judged.
    struct Found {
        var segment: LogSegment
        var scan = LogScan.Segment()
    }

    func recover(_ known: LogBase) throws(EngineError) -> LogRecovery {
        var report = LogRecovery(
            last: lastPosition, durable: .zero, holes: [], tornBytes: 0, endedEarly: false,
            flaws: [])
        try logIO { () throws(FileError) in try fileSystem.createDirectory(directory) }
        var (found, doomed) = try findSegments(&report)
        try judgeHardState(hasLog: !found.isEmpty, &report)
        let start = lastPosition.index + 1
        let split = found.lastIndex { $0.segment.first <= start } ?? 0
        var recent = Array(found[split...])
        found.removeLast(found.count - split)

        var scan = try scanAll(&recent, &report)
        notePage(in: &scan)
        var lost: [Found] = []
        if scan.last.index < lastPosition.index, !isEndDamaged(recent, scan) {
            // All of it is history, and it does not reach the last flushed entry.
            lost = found + recent
            doomed += lost.map(\.segment)
            (found, recent) = ([], [])
            scan = LogScan(after: lastPosition, isChainKnown: true, rules: rules)
            notePage(in: &scan)
        }
        scan.note(
            LogScan.Claim(
                term: lastPosition.term, index: lastPosition.index,
                checksum: lastPosition.checksum),
            epoch: rules.epoch)
        scan.dropOutdatedClaim()
        report.durable = scan.claim.index
        guard scan.claim.index < scan.expected + LogScan.gapMax else {
            throw .corrupt(
                file: directory,
                reason: "entries up to \(scan.claim.index) were stored and are gone")
        }
        decide(scan)
        if options.isStrict {
            try refuseFlaws(
                scan, known, recent, hasLog: !(found + recent).isEmpty, isBehind: !lost.isEmpty,
                report)
        }
        doomed += try keep(&recent, scan, &report)
        let disconnected = keepHistory(
            found, before: recent.first?.segment.first ?? nextIndex, &report)
        if options.isStrict {
            let gaps = disconnected.map {
                LogFlaw(
                    file: $0.path, damage: FileDamage("it does not reach to the segment behind it"))
            }
            try refuse(report.flaws + gaps)
        }
        doomed += disconnected
        report.last = lastPosition
        report.holes = holeList.holes.filter { $0.upper > base.index }
        report.endedEarly = known.highestIndex > lastPosition.index
        try keepClaim(scan)
        try wipeOutdated(recent)
        try finish(recent.map(\.segment), doomed, synced: scan.synced, scan.epochSeen)
        try renewActive(&report)
        return report
    }

    /// Whether the log did reach the last flushed entry, and the last of its entries are lost: what
    /// is left may be what another member still needs. If whole segments are gone, behind one that
    /// is complete, then nobody needs any of it: a trim was under way.
    private func isEndDamaged(_ recent: [Found], _ scan: LogScan) -> Bool {
        guard let last = recent.last, scan.claim.index >= lastPosition.index else { return false }
        return last.segment.readSummary().map { $0.last.index > scan.last.index } ?? true
    }

    /// What the volatile page of hard state says was durable.
    private func notePage(in scan: inout LogScan) {
        guard let page = hardState.foundPage else { return }
        let claim = LogScan.Claim(
            term: page.position.term, index: page.position.index,
            // A cut within lost entries is promised without one.
            checksum: page.position.checksum == .zero ? nil : page.position.checksum)
        scan.note(claim, epoch: page.epoch)
    }

    private func judgeHardState(hasLog: Bool, _ report: inout LogRecovery) throws(EngineError) {
        if hardState.wasCreated, hasLog || options.expectsHardState {
            report.note(
                "state",
                FileDamage(
                    "hard state was missing although the directory was in use: this node's vote "
                        + "is lost, and it takes part without one"))
            try hardState.distrustVote()
        } else if let first = hardState.damagedCopies.first {
            let copies = hardState.damagedCopies.map(String.init).joined(separator: ", ")
            let outcome =
                hardState.isVoteTrusted
                ? "the others hold" : "this node's vote is lost, and it takes part without one"
            report.note(
                "state",
                FileDamage(
                    at: HardStateFormat.copyOffset(first),
                    "copies \(copies) of hard state were damaged: \(outcome)"))
        }
        for copy in hardState.tamperedCopies {
            report.note(
                "state",
                FileDamage(
                    at: HardStateFormat.copyOffset(copy),
                    "copy \(copy) of hard state holds its checksum and is not authentic: it was "
                        + "tampered with"))
        }
    }

    private var rules: LogScan.Rules {
        let record = hardState.current
        return LogScan.Rules(
            group: group, cut: record.cut, cutTerm: record.cutTerm, epoch: record.epoch,
            countsCommit: options.sync == .always)
    }

    // MARK: Finding

    /// Segments by first index, and those that a rewind had already removed.
    private func findSegments(_ report: inout LogRecovery) throws(EngineError) -> (
        [Found], doomed: [LogSegment]
    ) {
        var found: [Found] = []
        var doomed: [LogSegment] = []
        let record = hardState.current
        for name in try logIO({ () throws(FileError) in try fileSystem.list(directory) }) {
            let path = directory + "/" + name
            if name.hasSuffix(".new") {
                try logIO { () throws(FileError) in try fileSystem.unlink(path) }
            } else if path == sparePath {
                spare = try takeSpare()
            } else if let first = LogSegment.firstIndex(ofFile: name) {
                let segment = try openSegment(first, path, &report)
                if let header = segment.header, first > record.cut, header.epoch < record.epoch {
                    doomed.append(segment)
                } else {
                    found.append(Found(segment: segment))
                }
            }
        }
        return (found, doomed)
    }

    private func openSegment(_ first: LogIndex, _ path: String, _ report: inout LogRecovery)
        throws(EngineError) -> LogSegment
    {
        let file = try logIO { () throws(FileError) in try fileSystem.open(path, .write) }
        // One of the file's life before it was recycled is no better than a torn or rotten one.
        let front = SegmentHeader.read(file, at: 0, first: first)
        let mirror = SegmentHeader.read(
            file, at: UInt64(SegmentHeader.mirrorOffset), first: first)
        let header = front ?? (mirror?.key == nil ? nil : mirror)
        if front == nil, let version = SegmentHeader.unsupportedVersion(file) {
            throw .unsupported(version: version, of: path)
        }
        guard let header else {
            report.note(path, FileDamage(at: 0, "header unreadable, made anew"))
            return LogSegment(first: first, path: path, file: file, header: nil)
        }
        guard header.group == group, header.genesis == genesis else {
            throw .identity(reason: "\(path) belongs to another cluster or group")
        }
        let cipher: FileCipher? = try options.keys.cipher(header.key, .log, path: path)
        let segment = LogSegment(
            first: first, path: path, file: file, header: header, cipher: cipher)
        if cipher != nil, front != mirror {
            let offset = front == nil ? 0 : UInt64(SegmentHeader.mirrorOffset)
            report.note(
                path, FileDamage(at: offset, "one copy of the header unreadable, written anew"))
            if options.isStrict { return segment }
            try logIO { () throws(FileError) in try file.writeAll(header.encodedForFile(), at: 0) }
            dirty.append(segment)
        }
        return segment
    }

    // MARK: Reading

    private func scanAll(_ recent: inout [Found], _ report: inout LogRecovery)
        throws(EngineError) -> LogScan
    {
        var scan = scanStart(recent.first?.segment)
        for number in recent.indices {
            let segment = recent[number].segment
            if segment.first > scan.expected, isSkip(to: segment, scan.last, number, recent) {
                scan.skip(to: segment.first)
            }
            let next = number + 1 < recent.count ? recent[number + 1].segment.first : nil
            let window = try logIO { () throws(FileError) in try SegmentWindow(segment) }
            recent[number].scan = scan.scan(
                window, first: segment.first, header: segment.header, bound: next.map { $0 - 1 })
            for offset in window.tampered {
                report.note(
                    segment.path,
                    FileDamage(
                        at: offset,
                        "the entry holds its checksum and is not authentic: it was tampered with, "
                            + "and counts as damaged"))
            }
        }
        return scan
    }

    /// Where the first segment continues: at the last flushed entry, or somewhere below it.
    private func scanStart(_ segment: LogSegment?) -> LogScan {
        guard let segment, segment.first <= lastPosition.index else {
            return LogScan(after: lastPosition, isChainKnown: true, rules: rules)
        }
        if let header = segment.header {
            var scan = LogScan(
                after: header.previous, isChainKnown: header.previous.checksum != .zero,
                rules: rules)
            scan.skip(to: segment.first)
            return scan
        }
        let unknown = Position(term: .zero, index: segment.first - 1, checksum: .zero)
        return LogScan(after: unknown, isChainKnown: false, rules: rules)
    }

    /// The indexes before `segment` were skipped, not lost: its header or the footer before says
    /// so.
    private func isSkip(
        to segment: LogSegment, _ last: Position, _ number: Int, _ recent: [Found]
    ) -> Bool {
        if let header = segment.header, header.previous == last { return true }
        guard number > 0, let summary = recent[number - 1].segment.readSummary() else {
            return false
        }
        return summary.next == segment.first && summary.last == last
    }

    // MARK: Deciding

    /// Sets the log's end, its holes and its history, in memory.
    private func decide(_ scan: LogScan) {
        let durable = scan.claim
        terms = scan.runs
        for change in scan.settings { settings.append(change.settings, at: change.index) }
        var end = scan.last
        var isKnown = true
        for hole in scan.missing {
            if hole.upper <= durable.index {
                holeList.insert(hole)
                continue
            }
            let cut = max(durable.index, hole.lower - 1)
            if cut >= hole.lower {
                holeList.insert(
                    LogHole(lower: hole.lower, upper: cut, checksum: durable.checksum))
            }
            (end, isKnown) = self.end(at: cut, durable, scan)
            break
        }
        if durable.index >= scan.expected, end.index == scan.last.index {
            insertHole(from: scan.expected, durable)
            (end, isKnown) = self.end(at: durable.index, durable, scan)
        }
        terms.truncate(after: end.index)
        settings.truncate(after: end.index)
        lastPosition = end
        isLastKnown = isKnown
        nextIndex = end.index + 1
    }

    /// A hole at the end. What is flushed of it ends with an entry that the manifest names, and may
    /// be history that nobody keeps: it stays apart from what is needed.
    private func insertHole(from lower: LogIndex, _ durable: LogScan.Claim) {
        var lower = lower
        if lower <= base.index, base.index < durable.index {
            holeList.insert(LogHole(lower: lower, upper: base.index, checksum: base.checksum))
            terms.append(base.term, at: base.index)
            lower = base.index + 1
        }
        let checksum = durable.index == base.index ? base.checksum : durable.checksum
        holeList.insert(LogHole(lower: lower, upper: durable.index, checksum: checksum))
    }

    /// The position at the cut: of the entry found there (its checksum follows in `keep`), or the
    /// one promised.
    private func end(at cut: LogIndex, _ durable: LogScan.Claim, _ scan: LogScan) -> (
        Position, isKnown: Bool
    ) {
        if cut == base.index { return (base, true) }
        if let skip = scan.skips.first(where: { $0.after.index < cut && cut < $0.to }) {
            return (skip.after, true)
        }
        let isPromise = cut == durable.index
        let term = isPromise && durable.term != .zero ? durable.term : scan.runs.term(at: cut)
        let checksum = isPromise ? durable.checksum : nil
        return (
            Position(term: term ?? base.term, index: cut, checksum: checksum ?? .zero),
            checksum != nil
        )
    }

    /// For an open that mends nothing. Nothing was changed yet.
    private func refuseFlaws(
        _ scan: LogScan, _ known: LogBase, _ recent: [Found], hasLog: Bool, isBehind: Bool,
        _ report: LogRecovery
    ) throws(EngineError) {
        var flaws = report.flaws
        func note(at index: LogIndex, _ reason: String) {
            let holder = recent.last { $0.segment.first <= index }
            flaws.append(
                holder.map { flaw(at: index, in: $0.segment, $0.scan.offsets, reason) }
                    ?? LogFlaw(file: directory, damage: FileDamage(reason)))
        }
        for hole in holeList.holes {
            note(
                at: hole.lower, "entries \(hole.lower) to \(hole.upper) are damaged or missing")
        }
        if scan.last.index > lastPosition.index {
            let last = lastPosition.index
            note(at: last + 1, "entries behind a torn one stand above \(last)")
        }
        if scan.damagedFrames > 0 {
            note(at: scan.last.index + 1, "an append behind \(scan.last.index) is torn")
        }
        // A copy that was made without a log has none, whatever its original had given out.
        if isBehind || hasLog && known.highestIndex > lastPosition.index {
            let end = max(known.highestIndex, base.index)
            flaws.append(LogFlaw(file: directory, damage: FileDamage("it ends before \(end)")))
        }
        try refuse(flaws)
    }

    // MARK: Keeping

    /// Gives each recent segment the entries that the log keeps; returns those above its end.
    private func keep(_ recent: inout [Found], _ scan: LogScan, _ report: inout LogRecovery)
        throws(EngineError) -> [LogSegment]
    {
        let beyond = recent.filter { $0.segment.first > lastPosition.index }
        report.tornBytes += beyond.reduce(0) { $0 + $1.scan.end - $1.segment.end }
        let doomed = beyond.map(\.segment)
        recent.removeAll { $0.segment.first > lastPosition.index }
        if let start = holeList.holes.first?.lower, start <= lastPosition.index,
            (recent.first?.segment.first ?? nextIndex) > start
        {
            recent.insert(Found(segment: try createMissing(at: start)), at: 0)
        }
        for number in recent.indices {
            let bound = number + 1 < recent.count ? recent[number + 1].segment.first - 1 : nil
            try fill(&recent[number], through: bound, &report)
        }
        segments = recent.map(\.segment)
        return doomed
    }

    /// The first entries are promised and their file is gone: an empty one takes their place.
    private func createMissing(at first: LogIndex) throws(EngineError) -> LogSegment {
        let path = directory + "/" + LogSegment.fileName(first)
        let file = try logIO { () throws(FileError) in
            try fileSystem.open(path, .createOrWrite)
        }
        return LogSegment(first: first, path: path, file: file, header: nil)
    }

    private func fill(_ found: inout Found, through bound: LogIndex?, _ report: inout LogRecovery)
        throws(EngineError)
    {
        let segment = found.segment
        var last = bound ?? lastPosition.index
        if let bound, bound > lastHeld(found), holeList.hole(containing: bound) == nil {
            // The indexes up to the next segment were skipped.
            last = lastHeld(found)
        }
        var offsets = found.scan.offsets
        let wanted = Int(last + 1 - segment.first)
        if offsets.count > wanted { offsets.removeLast(offsets.count - wanted) }
        offsets += [UInt64](repeating: OffsetTable.missing, count: wanted - offsets.count)
        segment.offsets = offsets
        segment.count = wanted
        segment.isSealed = bound != nil
        let measure = try SegmentMeasure(
            segment, offsets,
            settings: segment.header?.settings ?? settings.before(segment.first))
        segment.end = measure.end
        if bound == nil {
            report.tornBytes += found.scan.end - measure.end
            if let position = measure.last, position.index == lastPosition.index {
                lastPosition = position
                isLastKnown = true
            }
        }
    }

    private func lastHeld(_ found: Found) -> LogIndex {
        found.segment.first + UInt64(found.scan.offsets.count) - 1
    }

    /// Takes over the flushed segments that connect to `next`; returns those that do not.
    private func keepHistory(_ found: [Found], before next: LogIndex, _ report: inout LogRecovery)
        -> [LogSegment]
    {
        var expected = next
        var runs: [[TermRun]] = []
        var doomed: [LogSegment] = []
        for segment in found.reversed().map(\.segment) {
            let summary = doomed.isEmpty ? summarize(segment, next: expected, &report) : nil
            guard let summary, summary.next == expected else {
                doomed.append(segment)
                continue
            }
            segment.offsets = nil
            segment.count = Int(summary.last.index + 1 - segment.first)
            segment.end = summary.end
            segment.isSealed = true
            segments.insert(segment, at: 0)
            runs.append(summary.termRuns)
            expected = segment.first
        }
        var all = TermRuns()
        for part in runs.reversed() { all.append(part) }
        all.append(terms.runs)
        terms = all
        return doomed
    }

    /// From the footer, else by walking the frames.
    private func summarize(
        _ segment: LogSegment, next: LogIndex, _ report: inout LogRecovery
    ) -> SegmentSummary? {
        if let summary = segment.readSummary() { return summary }
        report.note(
            segment.path,
            FileDamage(
                at: SegmentFooter.offset(segment.file), "footer unreadable, segment read whole"))
        guard let window = try? SegmentWindow(segment) else { return nil }
        let before = Position(term: .zero, index: segment.first - 1, checksum: .zero)
        let rules = LogScan.Rules(
            group: group, cut: LogIndex.limit, cutTerm: .zero, epoch: 0, countsCommit: false)
        var scan = LogScan(after: before, isChainKnown: false, rules: rules)
        let result = scan.scan(
            window, first: segment.first, header: segment.header, bound: next - 1)
        guard scan.last.index + 1 == next, !result.offsets.isEmpty else { return nil }
        return SegmentSummary(
            first: segment.first, last: scan.last, next: next, end: result.end,
            termRuns: scan.runs.runs)
    }

    // MARK: Finishing, on disk

    /// Frames above D may be all that tells of D. Before they go, `state` tells it: were this open
    /// to end early, the next one would take an entry that is lost for one that never was.
    private func keepClaim(_ scan: LogScan) throws(EngineError) {
        guard !holeList.holes.isEmpty else { return }
        let claim = scan.claim
        try hardState.recordDurable(
            Position(term: claim.term, index: claim.index, checksum: claim.checksum ?? .zero),
            epoch: max(hardState.current.epoch, scan.epochSeen))
    }

    /// What the present record rules out may stand where an entry is lost, below the log's end: the
    /// record that `finish` makes would let it count. What stands behind the end of the last
    /// segment is cut.
    private func wipeOutdated(_ recent: [Found]) throws(EngineError) {
        for found in recent where !found.scan.outdated.isEmpty {
            let isLast = found.segment === recent.last?.segment
            try logIO { () throws(FileError) in
                for offset in found.scan.outdated where !isLast || offset < found.segment.end {
                    try found.segment.file.writeAll(
                        [UInt8](repeating: 0, count: LogFrame.size), at: offset)
                }
            }
            dirty.append(found.segment)
        }
    }

    /// Makes the decision durable, then the log's content.
    private func finish(
        _ recent: [LogSegment], _ doomed: [LogSegment], synced: LogIndex, _ epochSeen: UInt32
    ) throws(EngineError) {
        epoch = max(hardState.current.epoch, epochSeen) + 1
        let newestFirst = doomed.sorted { $0.first > $1.first }
        try logIO { () throws(FileError) in
            for segment in newestFirst { try fileSystem.unlink(segment.path) }
        }
        for segment in recent where segment !== recent.last || segment.header == nil {
            try repair(segment)
        }
        try markActiveSealed(recent.last)
        try reopenActive()
        for segment in recent where segment.last > synced {
            try logIO { () throws(FileError) in try rewriteFrames(of: segment, above: synced) }
            if !dirty.contains(where: { $0 === segment }) { dirty.append(segment) }
        }
        isDirectoryDirty = true
        _ = try sync()
        // Not before: older frames could stand again where ones below the cut were not durable yet.
        // Until now the previous record rules them out.
        try hardState.recordCut(lastPosition, epoch: epoch)
    }

    /// `reopenActive` leaves a sealed segment alone if it ends there; whether the last one was
    /// sealed is for the rule and for S to say, not for a footer that a rewind may have left.
    private func markActiveSealed(_ segment: LogSegment?) throws(EngineError) {
        guard let segment, let offsets = segment.offsets, let header = segment.header else {
            return
        }
        let measure = try SegmentMeasure(segment, offsets, settings: header.settings)
        guard isEnd(of: segment, measure), segment.last == lastPosition.index else { return }
        segment.isSealed = true
        try repair(segment)
    }

    /// A header and, for a whole sealed segment, a footer that say what was found.
    private func repair(_ segment: LogSegment) throws(EngineError) {
        let place = segments.firstIndex { $0 === segment } ?? 0
        if segment.header == nil {
            try makeHeader(segment, place)
        }
        guard segment.isSealed, let offsets = segment.offsets, let tail = offsets.last,
            tail != OffsetTable.missing
        else { return }
        let next = place + 1 < segments.count ? segments[place + 1].first : nextIndex
        let last = try SegmentMeasure(
            segment, offsets.suffix(1), settings: settings.before(segment.first)
        ).last
        guard let last else { return }
        let summary = segment.readSummary()
        if summary?.last == last, summary?.next == next, summary?.end == segment.end,
            SegmentFooter.readOffsets(segment.file) == offsets
        {
            return
        }
        try logIO { () throws(FileError) in try writeFooter(segment, last: last, next: next) }
        dirty.append(segment)
    }

    private func makeHeader(_ segment: LogSegment, _ place: Int) throws(EngineError) {
        let unknown = Position(term: .zero, index: segment.first - 1, checksum: .zero)
        var previous: Position?
        if place > 0 {
            previous = position(at: segments[place - 1].last)
        } else if segment.first.rawValue == base.index.rawValue + 1 {
            previous = base
        }
        let isEmpty = segment.offsets?.allSatisfy { $0 == OffsetTable.missing } ?? true
        // What is in it and counts is plain: an encrypted segment without its salt is unreadable.
        if isEmpty { segment.cipher = options.keys.makeCipher(.log) }
        let header = SegmentHeader(
            group: group, epoch: oldestEpoch(segment), genesis: genesis, first: segment.first,
            previous: previous ?? unknown, settings: settings.before(segment.first),
            key: segment.cipher?.header)
        try logIO { () throws(FileError) in
            try segment.file.writeAll(header.encodedForFile(), at: 0)
        }
        segment.header = header
        segment.end = max(segment.end, header.dataStart)
        dirty.append(segment)
    }

    /// What a header made anew may say without ruling out frames that count.
    private func oldestEpoch(_ segment: LogSegment) -> UInt32 {
        let offset = segment.offsets?.first { $0 != OffsetTable.missing }
        guard let offset, let window = try? SegmentWindow(segment) else { return 0 }
        return window.frame(at: offset)?.epoch ?? 0
    }

    /// Puts the same bytes in place again, so that the sync that follows really writes them.
    private func rewriteFrames(of segment: LogSegment, above synced: LogIndex) throws(FileError) {
        if let header = segment.header { try segment.file.writeAll(header.encodedForFile(), at: 0) }
        let skipped = synced < segment.first ? 0 : Int(synced + 1 - segment.first)
        let offsets = segment.offsets?.dropFirst(skipped) ?? []
        guard var offset = offsets.first(where: { $0 != OffsetTable.missing }) else { return }
        // Through the footer of a sealed segment; an active one is cut at its last frame's group.
        let end = try segment.file.size()
        while offset < end {
            let piece = Int(min(end - offset, 1 << 20))
            try segment.file.writeAll(
                try segment.file.readBytes(at: offset, count: piece), at: offset)
            offset += UInt64(piece)
        }
    }
}
