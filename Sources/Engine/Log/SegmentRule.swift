// Where segments end. A pure function of the log, so that every replica cuts the same segments and
// flushes the same tables.

package struct SegmentRule: Hashable, Sendable {
    /// Payload bytes that end a segment: the setting in force before its first entry.
    package private(set) var segmentBytes: UInt64
    package private(set) var payloadBytes: UInt64 = 0
    private var entryCount: UInt64 = 0

    package init(segmentBytes: UInt64) { self.segmentBytes = segmentBytes }

    /// Counts an entry in; true if it is its segment's last (overshoot is allowed). Tiny entries
    /// end it by their number: recovery takes no more for one segment's.
    package mutating func endsSegment(_ header: EntryHeader) -> Bool {
        payloadBytes += UInt64(header.length)
        entryCount += 1
        return header.kind == .rotate || payloadBytes >= segmentBytes
            || entryCount >= LogScan.gapMax
    }

    /// Starts the next segment, under the settings in force now.
    package mutating func begin(segmentBytes: UInt64) {
        self = SegmentRule(segmentBytes: segmentBytes)
    }
}
