// The log: the only truth. Entries of all kinds in index order, a hash chain, cut into segment
// files by a rule that is a function of the log alone. DESIGN rules kept here: an append is one
// group; what a returned sync covered is never lost silently; a failed sync poisons the log for
// good.
//
// One thread appends, syncs, truncates, mends and trims; any thread reads. Opening is in
// `LogRecovery.swift`, reading in `LogReading.swift`, rewinding in `LogRewind.swift`, holes in
// `LogMending.swift`, trimming and spare files in `LogRetention.swift`.

package final class Log: @unchecked Sendable {
    // Unchecked: the fields below `lock` are changed only under `lock`, and but for holes and
    // caches only by the appender's thread, which therefore may read them without; other threads
    // read them under `lock`. Those below "appender" are its alone.
    let fileSystem: any FileSystem
    let directory: String
    let hardState: HardState
    let genesis: Digest128
    let group: UInt32
    let options: LogOptions
    /// The last entry of the last flushed segment, as of the open.
    let base: Position

    let lock = PlainLock()
    /// Oldest first; only the last one may be unsealed.
    @exclusivity(unchecked) var segments: [LogSegment] = []
    @exclusivity(unchecked) var lastPosition: Position
    /// False while the last entry is a hole whose checksum nobody knows.
    @exclusivity(unchecked) var isLastKnown = true
    @exclusivity(unchecked) var durablePosition: Position
    @exclusivity(unchecked) var terms = TermRuns()
    var settings: SettingsHistory
    var holeList = HoleList()
    /// Entries that fill holes of segments which still have others.
    var mended: [LogIndex: Entry] = [:]
    /// Counts changes of files and offsets; a reader whose bytes fail looks at it before it calls
    /// them damaged.
    var layout: UInt64 = 0
    var useClock: UInt64 = 0
    @exclusivity(unchecked) var poison: String?
    var spare = SpareState.none

    // Appender.
    @exclusivity(unchecked) var epoch: UInt32 = 0
    @exclusivity(unchecked) var writer: SegmentWriter?
    @exclusivity(unchecked) var rule: SegmentRule
    /// False while the active segment has holes: its end cannot be told.
    @exclusivity(unchecked) var isRuleKnown = true
    /// Where the next entry goes.
    @exclusivity(unchecked) var nextIndex: LogIndex
    /// Segments with bytes that no sync covers, oldest first.
    @exclusivity(unchecked) var dirty: [LogSegment] = []
    var isDirectoryDirty = false
    /// Frames that this process appended.
    @exclusivity(unchecked) private(set) var appendedBytes: UInt64 = 0

    enum SpareState { case none, preparing, ready }

    init(
        _ fileSystem: any FileSystem, _ directory: String, _ hardState: HardState,
        _ genesis: Digest128, _ group: UInt32, _ options: LogOptions, _ base: LogBase
    ) {
        self.fileSystem = fileSystem
        self.directory = directory
        self.hardState = hardState
        self.genesis = genesis
        self.group = group
        self.options = options
        var start = base.position
        if start.index == .zero { start = Position(term: .zero, index: .zero, checksum: genesis) }
        self.base = start
        lastPosition = start
        durablePosition = start
        nextIndex = start.index + 1
        settings = SettingsHistory(base: base.settings)
        rule = SegmentRule(segmentBytes: base.settings.segmentBytes)
    }

    /// Opens or creates the log in `directory`. `genesis` and `group` tie it to its cluster; `base`
    /// is what the manifest knows.
    package static func open(
        _ fileSystem: any FileSystem, _ directory: String, hardState: HardState,
        genesis: Digest128, group: UInt32, options: LogOptions, base: LogBase
    ) throws(EngineError) -> (Log, LogRecovery) {
        let log = Log(fileSystem, directory, hardState, genesis, group, options, base)
        let recovery = try log.recover(base)
        return (log, recovery)
    }

    // MARK: State

    /// The oldest index kept; one above `last` if there is none.
    package var first: LogIndex { lock.withLock { firstLocked } }
    var firstLocked: LogIndex { segments.first?.first ?? nextIndex }

    package var last: Position { lock.withLock { lastPosition } }

    /// What a returned sync covers. Holes below it are in `holes`.
    package var durable: Position { lock.withLock { durablePosition } }

    package var termRuns: [TermRun] { lock.withLock { terms.runs } }

    /// Term of an entry without reading it; nil outside the log and in a hole.
    package func term(at index: LogIndex) -> Term? {
        lock.withLock {
            guard index >= firstLocked, index <= lastPosition.index else { return nil }
            if holeList.hole(containing: index) != nil, index != lastPosition.index { return nil }
            return index == lastPosition.index ? lastPosition.term : terms.term(at: index)
        }
    }

    /// What is lost here and only peers have. Holes at or below S harm only history.
    package var holes: [LogHole] { lock.withLock { holeList.holes } }

    /// In force before the entry at `index`, committed or not.
    package func settings(before index: LogIndex) -> LoggedSettings {
        lock.withLock { settings.before(index) }
    }

    // MARK: Appending

    /// Appends a group behind `last`. It is durable when this returns, if `sync` is true, else
    /// after the next `sync()`. After `.poisoned` nobody knows what is stored, and nothing can be
    /// appended any more; after any other error nothing of the group is in the log, and a retry is
    /// safe.
    package func append(_ entries: [Entry], sync wantsSync: Bool) throws(EngineError) {
        try checkUsable()
        if !entries.isEmpty {
            try check(entries)
            let before = lastPosition.index
            do throws(EngineError) {
                try logIO { () throws(FileError) in try write(entries) }
                if wantsSync { _ = try sync() }
            } catch { try abandon(before, error) }
        } else if wantsSync {
            _ = try sync()
        }
    }

    /// Makes everything appended durable and returns the last position. After a lack of descriptors
    /// nothing is lost, and it may be called again; any other failure poisons the log.
    package func sync() throws(EngineError) -> Position {
        try checkUsable()
        let target = lastPosition
        do throws(FileError) {
            // Oldest first is not required: nothing counts before all of it returned.
            for segment in dirty { try segment.file.sync() }
            if isDirectoryDirty { try fileSystem.syncDirectory(directory) }
        } catch {
            // No directory could be opened: its sync was not even tried.
            guard error.isOutOfDescriptors else { throw poisoned(error.description) }
            throw .file(error)
        }
        dirty.removeAll(keepingCapacity: true)
        isDirectoryDirty = false
        writer?.startsGroup = true
        lock.withLock { durablePosition = target }
        hardState.noteDurable(target, epoch: epoch)
        return target
    }

    /// Goes on at `index`: the indexes in between are never used. For a log that ended early.
    package func skip(to index: LogIndex) throws(EngineError) {
        try checkUsable()
        invariant(index >= nextIndex && index < LogIndex.limit, "the log cannot skip back")
        guard index > nextIndex else { return }
        if writer != nil { try logIO { () throws(FileError) in try seal(next: index) } }
        lock.withLock { nextIndex = index }
    }

    // MARK: Steps of an append

    func checkUsable() throws(EngineError) {
        if let poison { throw .poisoned(reason: poison) }
    }

    /// Nothing is acknowledged from here on.
    func poisoned(_ reason: String) -> EngineError {
        lock.withLock { if poison == nil { poison = reason } }
        return .poisoned(reason: reason)
    }

    private func poisoned(_ error: EngineError) -> EngineError {
        if case .poisoned = error { return error }
        return poisoned(error.description)
    }

    /// Group, order and chain. The entries may come from a peer.
    private func check(_ entries: [Entry]) throws(EngineError) {
        var expected = nextIndex
        var term = lastPosition.term
        var checksum = isLastKnown ? lastPosition.checksum : nil
        for place in entries.indices {
            let header = entries[place].header
            guard header.group == group else {
                throw .invalid(reason: "entry \(header.index) belongs to another group")
            }
            guard header.index == expected, header.index < LogIndex.limit else {
                throw .invalid(reason: "entry \(header.index) comes where \(expected) is next")
            }
            guard header.term >= term else {
                throw .invalid(reason: "entry \(header.index) is of an older term")
            }
            guard checksum == nil || header.previous == checksum else {
                throw .invalid(reason: "entry \(header.index) does not continue the hash chain")
            }
            if header.kind == .settings { _ = try Log.settings(in: entries[place]) }
            term = header.term
            checksum = header.checksum
            expected = header.index + 1
        }
    }

    static func settings(in entry: Entry) throws(EngineError) -> LoggedSettings {
        do throws(DecodingError) {
            return try entry.withPayload { payload throws(DecodingError) in
                try LoggedSettings(decoding: payload)
            }
        } catch {
            throw .invalid(reason: "settings of entry \(entry.index): \(error)")
        }
    }

    private func write(_ entries: [Entry]) throws(FileError) {
        var start = 0
        while start < entries.count {
            let writer = try activeWriter()
            var stop = start
            var ends = false
            while stop < entries.count, !ends {
                ends = rule.endsSegment(entries[stop].header) && isRuleKnown
                stop += 1
            }
            let stamp = SegmentWriter.Stamp(
                epoch: epoch, durableTerm: durablePosition.term,
                durableIndex: durablePosition.index)
            if dirty.last !== writer.segment { dirty.append(writer.segment) }
            let offset = try writer.write(entries, start..<stop, stamp)
            publish(entries, start..<stop, from: offset, in: writer.segment)
            appendedBytes += writer.segment.end - offset
            start = stop
            if ends { try seal(next: nextIndex) }
        }
    }

    /// Lets readers see frames that are in the file.
    private func publish(
        _ entries: [Entry], _ range: Range<Int>, from start: UInt64, in segment: LogSegment
    ) {
        lock.lock()
        defer { lock.unlock() }
        if !isLastKnown {
            holeList.setChecksum(
                entries[range.lowerBound].header.previous, endingAt: lastPosition.index)
            isLastKnown = true
        }
        var offset = start
        for place in range {
            let header = entries[place].header
            segment.offsets?.append(offset)
            offset += UInt64(LogFrame.size + entries[place].encoded.count)
            terms.append(header.term, at: header.index)
            if header.kind == .settings, let value = try? Log.settings(in: entries[place]) {
                settings.append(value, at: header.index)
            }
        }
        segment.count += range.count
        segment.end = offset
        lastPosition = entries[range.upperBound - 1].position
        nextIndex = lastPosition.index + 1
    }

    /// After a failed write: poisoned, unless there only was no space or no descriptor. Then what
    /// was written of the group is cut off like any other suffix, so that it never comes back.
    private func abandon(_ before: LogIndex, _ error: EngineError) throws(EngineError) {
        guard error.isShortage else { throw poisoned(error) }
        // Files are opened before anything is written to them.
        if !error.isNoSpace, lastPosition.index == before { throw error }
        let cause = error
        do throws(EngineError) { try rewind(after: before) } catch {
            throw poisoned("\(cause), and no way back: \(error)")
        }
        throw cause
    }

    // MARK: Segments

    private func activeWriter() throws(FileError) -> SegmentWriter {
        if let writer { return writer }
        let segment = try createSegment(at: nextIndex)
        let fresh = try SegmentWriter(segment, options)
        lock.withLock { segments.append(segment) }
        writer = fresh
        rule = SegmentRule(segmentBytes: settings.before(nextIndex).segmentBytes)
        isRuleKnown = true
        return fresh
    }

    /// A file with nothing but its header, in place of the spare one if there is one.
    func createSegment(at first: LogIndex) throws(FileError) -> LogSegment {
        let path = directory + "/" + LogSegment.fileName(first)
        let reuses = lock.withLock { spare == .ready }
        if reuses {
            try fileSystem.rename(sparePath, to: path)
            // Before anything is written: the name under which the file held history must not
            // return with other content.
            do throws(FileError) { try fileSystem.syncDirectory(directory) } catch {
                try fileSystem.rename(path, to: sparePath)
                throw error
            }
            lock.withLock { spare = .none }
            // What the file held before must not pass for anything written now.
            epoch += 1
        } else {
            isDirectoryDirty = true
        }
        let file = try fileSystem.open(path, reuses ? .write : .createOrWrite)
        let cipher = options.keys.makeCipher(.log)
        let header = SegmentHeader(
            group: group, epoch: epoch, genesis: genesis, first: first, previous: lastPosition,
            settings: settings.before(first), key: cipher?.header)
        try file.writeAll(header.encodedForFile(), at: 0)
        let segment = LogSegment(
            first: first, path: path, file: file, header: header, cipher: cipher)
        dirty.append(segment)
        return segment
    }

    /// Ends the active segment: writes its footer and gives back what was allocated ahead.
    func seal(next: LogIndex) throws(FileError) {
        guard let writer else { return }
        writer.releaseMapping()
        let segment = writer.segment
        try writeFooter(segment, last: lastPosition, next: next)
        if dirty.last !== segment { dirty.append(segment) }
        lock.withLock { segment.isSealed = true }
        self.writer = nil
    }

    func writeFooter(_ segment: LogSegment, last: Position, next: LogIndex) throws(FileError) {
        guard let offsets = segment.offsets, segment.count > 0 else { return }
        let summary = SegmentSummary(
            first: segment.first, last: last, next: next, end: segment.end,
            termRuns: terms.slice(segment.first, segment.last))
        let start = alignedToGroup(segment.end)
        let bytes = SegmentFooter.encoded(offsets, summary, at: start)
        try segment.file.writeAll(bytes, at: start)
        try segment.file.truncate(to: start + UInt64(bytes.count))
    }
}
