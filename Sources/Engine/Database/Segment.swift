// The memtable side of log segments: the one being filled, and those that wait for their flush.
// A memtable holds exactly the effects of one segment.

/// The segment that entries are applied to now.
package struct ActiveSegment {
    package var first: LogIndex
    /// In force before its first entry.
    package var settings: LoggedSettings
    package var rule: SegmentRule
    package var shape: TableShape
    /// Which of its values go to blob files.
    package var blobs: BlobPlan
    package let memtable: Memtable
    /// The same, for who writes to it while this segment is active.
    let writing: Unmanaged<Memtable>
    /// Horizon of the last `write`; zero drops nothing.
    package var horizon = SequenceNumber.zero

    package init(first: LogIndex, settings: LoggedSettings) {
        self.first = first
        self.settings = settings
        rule = SegmentRule(segmentBytes: settings.segmentBytes)
        shape = TableShape(settings)
        blobs = BlobPlan(settings)
        memtable = Memtable(expectedBytes: Int(clamping: settings.segmentBytes))
        writing = Unmanaged.passUnretained(memtable)
    }
}

/// A finished segment whose effects are not in a table of the manifest yet.
package struct FrozenSegment {
    package enum State: Equatable {
        case waiting
        case flushing
        /// Its table is written and synced; waits for its turn in the manifest.
        case flushed
        /// Failed for a reason that may pass (disk full); tried again at this time.
        case retry(at: UInt64)
    }

    package var bounds: SegmentBounds
    /// Position, next sequence and clock behind its last entry: S, once it is flushed.
    package var tail: LogPoint
    package var shape: TableShape
    package var blobs: BlobPlan
    package var horizon: SequenceNumber
    package var memtable: Memtable
    /// As of its last entry.
    package var settings: LoggedSettings
    package var membership: Membership
    package var state = State.waiting
    package var output: [BuiltTable] = []
    /// Of the next output's files.
    package var generation: UInt32 = 0

    package var last: LogIndex { bounds.last }
    /// A segment without effects has no tables and needs no seal.
    package var isEmpty: Bool { memtable.isEmpty }
}

/// A table that this node computed: on disk under its final name, synced, in no manifest yet.
package struct BuiltTable: Sendable {
    package var record: TableRecord
    package var local: LocalTable
    /// Its range tombstones, if the job that wrote it knows and they are few.
    package var rangeTombstones: [RangeTombstone]

    package init(
        record: TableRecord, local: LocalTable, rangeTombstones: [RangeTombstone] = []
    ) {
        self.record = record
        self.local = local
        self.rangeTombstones = rangeTombstones
    }
}
