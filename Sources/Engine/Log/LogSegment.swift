// One segment file of the log, as the log remembers it. The offset table of the active segment is
// always in memory; a sealed one loads its table from the footer when somebody reads, and loses it
// again to a newer reader.
//
// Guarded by the log's lock, except for the file, whose calls are safe from any thread.

final class LogSegment {
    let first: LogIndex
    var path: String
    var file: any File
    /// Nil if the one on disk is damaged; rebuilt when the segment is written again.
    var header: SegmentHeader?
    /// Of `header.key`; nil if the entries are plain.
    @exclusivity(unchecked) var cipher: FileCipher?
    /// By index from `first`; nil for a sealed segment whose table is not loaded.
    @exclusivity(unchecked) var offsets: [UInt64]?
    /// Entries, missing ones included.
    @exclusivity(unchecked) var count: Int
    /// End of the last frame.
    @exclusivity(unchecked) var end: UInt64
    var isSealed: Bool
    var lastUse: UInt64 = 0

    init(
        first: LogIndex, path: String, file: any File, header: SegmentHeader?,
        cipher: FileCipher? = nil
    ) {
        self.first = first
        self.path = path
        self.file = file
        self.header = header
        self.cipher = cipher
        offsets = []
        count = 0
        end = header?.dataStart ?? UInt64(SegmentHeader.size)
        isSealed = false
    }

    /// The index behind the last entry.
    var next: LogIndex { first + UInt64(count) }
    var last: LogIndex { next - 1 }

    /// What its footer says; nil if there is none, or a damaged one. A file that is used again ends
    /// with the footer of the segment that it was until it is sealed: that one says nothing.
    func readSummary() -> SegmentSummary? {
        guard let summary = SegmentFooter.readSummary(file), summary.first == first else {
            return nil
        }
        return summary
    }

    static func fileName(_ first: LogIndex) -> String { hex16(first.rawValue) + ".seg" }

    /// The first index that a file name gives; nil for another kind of file.
    static func firstIndex(ofFile name: String) -> LogIndex? {
        guard name.utf8.count == 20, name.hasSuffix(".seg"),
            let value = UInt64(name.prefix(16), radix: 16), value > 0,
            LogIndex(value) < LogIndex.limit, fileName(LogIndex(value)) == name
        else { return nil }
        return LogIndex(value)
    }

    /// Drops entries above `index`; the caller knows where the frame of `index` ends.
    func truncate(after index: LogIndex, end: UInt64) {
        count = Int(index + 1 - first)
        if let held = offsets { offsets = Array(held.prefix(count)) }
        self.end = end
        isSealed = false
    }
}

/// A walk over a segment's entries up to one of them: what the segment rule says there.
struct SegmentMeasure {
    var rule: SegmentRule
    /// The rule ends the segment at the last entry walked over.
    var endsHere = false
    /// False if an entry's length is unknown, hence the rule's count a lower bound.
    var isComplete = true
    /// End of the last frame present.
    var end = UInt64(SegmentHeader.size)
    /// The last entry walked over; nil if it is missing.
    var last: Position?

    init(
        _ segment: LogSegment, _ offsets: some Collection<UInt64>, settings: LoggedSettings
    ) throws(EngineError) {
        rule = SegmentRule(segmentBytes: settings.segmentBytes)
        end = segment.header?.dataStart ?? end
        let window = try logIO { () throws(FileError) in try SegmentWindow(segment) }
        for offset in offsets {
            guard offset != OffsetTable.missing, let header = window.parsedHeader(at: offset)
            else {
                isComplete = false
                endsHere = false
                last = nil
                continue
            }
            endsHere = rule.endsSegment(header)
            end = offset + UInt64(LogFrame.size + EntryHeader.size) + UInt64(header.length)
            last = Position(term: header.term, index: header.index, checksum: header.checksum)
        }
        if !isComplete { endsHere = false }
    }
}
