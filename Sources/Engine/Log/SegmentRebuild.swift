// Writes a segment's entries, or those behind one of them, into new files: what is still readable
// with the epochs it had (recovery goes by their order), and what peers supplied. One use, by
// `Log.mend` or `Log.split` on the appender's thread.

final class SegmentRebuild {
    private static let flushBytes = 1 << 20
    /// A frame after this many bytes starts a group, where a later recovery can find its way again.
    private static let groupBytes: UInt64 = 64 << 10

    /// An entry that proved unreadable, and its checksum if its successor names it.
    struct Damage {
        let index: LogIndex
        let checksum: Digest128?
    }

    private let log: Log
    private let segment: LogSegment
    private let settings: LoggedSettings
    /// Entries through this one stay in the old file; nil if none do.
    private let kept: Position?
    /// For the frames: recovery must not take for torn what the old file showed to be durable.
    private let durable: Position
    private var frameEpoch: UInt32
    private var buffer = ByteWriter(capacity: SegmentRebuild.flushBytes)
    private var groupStart: UInt64 = 0
    private var endsHere = false
    /// Whole, synced, under draft names until `takeNames`.
    private(set) var pieces: [LogSegment] = []
    /// Their files' present names, and that of one that was begun.
    private var drafts: [String] = []
    /// State of the rule behind the last entry.
    private(set) var rule: SegmentRule

    /// `kept` is the end of a segment inside the old file, which goes on standing for what is at or
    /// below it. `settings` are those before the first entry that is written.
    init(_ log: Log, _ segment: LogSegment, keeping kept: Position? = nil, settings: LoggedSettings)
    {
        self.log = log
        self.segment = segment
        self.kept = kept
        self.settings = settings
        durable = log.durablePosition
        rule = SegmentRule(segmentBytes: settings.segmentBytes)
        frameEpoch = max(segment.header?.epoch ?? 0, log.epochBefore(segment))
    }

    /// Writes everything. Returns the entry that turned out to be unreadable, if one did.
    func run(_ offsets: [UInt64], _ mended: [LogIndex: Entry]) throws(EngineError) -> Damage? {
        let window = try logIO { () throws(FileError) in try SegmentWindow(segment) }
        let start = kept ?? log.position(at: segment.first - 1) ?? segment.header?.previous
        guard var before = start else {
            throw .corrupt(
                file: segment.path, offset: 0,
                reason: "the header is damaged, and the entry before it is not known")
        }
        for (number, offset) in offsets.enumerated() {
            let index = segment.first + UInt64(number)
            if let epoch = window.frame(at: offset)?.epoch {
                frameEpoch = max(frameEpoch, epoch)
            }
            if let kept, index <= kept.index { continue }
            guard let bytes = entryBytes(window, offset, mended[index]),
                let header = try? EntryHeader(verifying: bytes), header.index == index
            else {
                return Damage(
                    index: index, checksum: checksum(following: index, window, offsets, mended))
            }
            try logIO { () throws(FileError) in try append(bytes, header, after: before) }
            before = Position(term: header.term, index: index, checksum: header.checksum)
        }
        try logIO { () throws(FileError) in try finish(last: before) }
        return nil
    }

    private func entryBytes(_ window: SegmentWindow, _ offset: UInt64, _ mended: Entry?)
        -> [UInt8]?
    {
        if let mended { return mended.encoded }
        guard offset != OffsetTable.missing else { return nil }
        guard let frame = window.frame(at: offset),
            let entry = window.entry(frame, at: offset)
        else { return nil }
        return [UInt8](entry.bytes)
    }

    private func checksum(
        following index: LogIndex, _ window: SegmentWindow, _ offsets: [UInt64],
        _ mended: [LogIndex: Entry]
    ) -> Digest128? {
        if let next = mended[index + 1] { return next.header.previous }
        return try? log.entries(from: index + 1, maxBytes: 1).first?.header.previous
    }

    private func append(_ bytes: [UInt8], _ header: EntryHeader, after before: Position)
        throws(FileError)
    {
        if pieces.isEmpty || endsHere { try begin(at: header.index, after: before) }
        guard let piece = pieces.last else { return }
        if piece.end + UInt64(buffer.count) - groupStart >= SegmentRebuild.groupBytes {
            align(piece)
        }
        let offset = piece.end + UInt64(buffer.count)
        var frame = LogFrame(
            epoch: frameEpoch, length: UInt32(bytes.count),
            durableTerm: durable.term, durableIndex: durable.index)
        let place = LogFrame.Place(first: piece.first, offset: offset)
        var body = bytes
        if let cipher = piece.cipher {
            body.withUnsafeMutableBytes {
                frame.seal(UnsafeRawBufferPointer($0), to: $0, at: place, cipher)
            }
        }
        var head = [UInt8](repeating: 0, count: LogFrame.size)
        head.withUnsafeMutableBytes { frame.encode(into: $0, at: place) }
        buffer.write(raw: head)
        buffer.write(raw: body)
        piece.offsets?.append(offset)
        piece.count += 1
        endsHere = rule.endsSegment(header)
        if buffer.count >= SegmentRebuild.flushBytes { try flush(piece) }
    }

    private func align(_ piece: LogSegment) {
        let end = piece.end + UInt64(buffer.count)
        groupStart = alignedToGroup(end)
        buffer.write(raw: [UInt8](repeating: 0, count: Int(groupStart - end)))
    }

    private func flush(_ piece: LogSegment) throws(FileError) {
        try piece.file.writeAll(buffer.bytes, at: piece.end)
        piece.end += UInt64(buffer.count)
        buffer.bytes.removeAll(keepingCapacity: true)
    }

    private func begin(at first: LogIndex, after before: Position) throws(FileError) {
        if !pieces.isEmpty {
            try finish(last: before)
            rule.begin(segmentBytes: log.settings.before(first).segmentBytes)
        }
        let path = log.directory + "/" + LogSegment.fileName(first)
        let draft = path + ".new"
        if log.fileSystem.exists(draft) { try log.fileSystem.unlink(draft) }
        let file = try log.fileSystem.open(draft, .create)
        drafts.append(draft)
        // A piece cut off behind is as young as its first frame: by an older header a recorded cut
        // below it would rule it out.
        let isFront = pieces.isEmpty && kept == nil
        let epoch = isFront ? segment.header?.epoch ?? frameEpoch : frameEpoch
        let cipher = log.options.keys.makeCipher(.log)
        let header = SegmentHeader(
            group: log.group, epoch: epoch, genesis: log.genesis,
            first: first, previous: before,
            settings: pieces.isEmpty ? settings : log.settings.before(first), key: cipher?.header)
        try file.writeAll(header.encodedForFile(), at: 0)
        pieces.append(
            LogSegment(first: first, path: path, file: file, header: header, cipher: cipher))
        groupStart = header.dataStart
        endsHere = false
    }

    /// Completes the present piece: footer, if it is sealed, and sync.
    private func finish(last: Position) throws(FileError) {
        guard let piece = pieces.last else { return }
        try flush(piece)
        let isLastPiece = piece.next == segment.next
        if endsHere || (isLastPiece && segment.isSealed) {
            let next = isLastPiece ? log.indexBehind(segment) : piece.next
            try log.writeFooter(piece, last: last, next: next)
            piece.isSealed = true
        }
        try piece.file.sync()
    }

    /// Removes what was written: it takes space that may be scarce. What stays is gone at the next
    /// open.
    func discard() {
        for draft in drafts { try? log.fileSystem.unlink(draft) }
    }

    /// Gives the files their names, the later ones first: until the first one follows, the old file
    /// stands for all of them.
    func takeNames() throws(FileError) {
        for piece in pieces.reversed() {
            try log.fileSystem.rename(piece.path + ".new", to: piece.path)
        }
        try log.fileSystem.syncDirectory(log.directory)
    }
}

extension Log {
    /// The highest epoch known of what stands before a segment: nothing behind may have a lower
    /// one.
    func epochBefore(_ segment: LogSegment) -> UInt32 {
        var epoch: UInt32 = 0
        for before in segments.reversed() where before.first < segment.first {
            epoch = max(epoch, before.header?.epoch ?? 0)
            guard let offsets = try? loadedOffsets(before),
                let offset = offsets.last(where: { $0 != OffsetTable.missing }),
                let window = try? SegmentWindow(before),
                let frame = window.frame(at: offset)
            else { continue }
            return max(epoch, frame.epoch)
        }
        return epoch
    }

    /// Where the log goes on behind a segment.
    func indexBehind(_ segment: LogSegment) -> LogIndex {
        let place = segments.firstIndex { $0 === segment }
        guard let place, place + 1 < segments.count else { return segment.next }
        return segments[place + 1].first
    }
}
