// What the log is opened with and what an open reports. `Log` itself is in `Log.swift`.

/// When appends reach the medium.
package enum LogSyncPolicy: Sendable {
    /// Groups are synced before they count. The only policy in a cluster of more than one.
    case always
    /// Nobody waits for the medium; appends are stores into a mapping of the active segment.
    case never
}

package struct LogOptions: Sendable {
    package var sync: LogSyncPolicy
    /// The file is zero-filled, or mapped, ahead of the writer in steps up to this, bytes.
    package var aheadBytes: UInt64 = 1 << 20
    /// Sealed segments whose offset tables stay in memory.
    package var cachedTables = 4
    /// What segments are encrypted with.
    package var keys = KeyRing.plain

    /// The directory was in use: hard state that is not there was lost.
    package var expectsHardState = false
    /// Refuse, before anything is changed, what an open would cut or mend.
    package var isStrict = false

    package init(sync: LogSyncPolicy = .always) { self.sync = sync }
}

/// What the manifest knows about the log.
package struct LogBase: Sendable {
    /// S, the last entry of the last flushed segment. Zero at first.
    package var position: Position
    /// In force at S.
    package var settings: LoggedSettings
    /// The highest index that any manifest edit recorded as given out; a log that ends below it
    /// lost unsynced entries.
    package var highestIndex: LogIndex

    package init(
        position: Position = Position(term: .zero, index: .zero, checksum: .zero),
        settings: LoggedSettings = LoggedSettings(), highestIndex: LogIndex = .zero
    ) {
        self.position = position
        self.settings = settings
        self.highestIndex = highestIndex
    }
}

/// Consecutive entries that this node promised and lost; peers supply them by content, last first.
package struct LogHole: Hashable, Sendable {
    package var lower: LogIndex
    package var upper: LogIndex
    /// Checksum of the entry at `upper`: the `previous` of the one behind it. Nil if that is lost
    /// as well; then the entry at `lower` is the one to fetch, by its `previous`.
    package var checksum: Digest128?

    package init(lower: LogIndex, upper: LogIndex, checksum: Digest128?) {
        self.lower = lower
        self.upper = upper
        self.checksum = checksum
    }
}

package struct LogRecovery: Sendable {
    /// Where the log ends. With a hole at the tail this is the position promised, and its checksum
    /// may be unknown (zero).
    package var last: Position
    /// D: the highest position that a returned sync is known to have covered before this open.
    package var durable: LogIndex
    /// Rotten entries above S: neither lead nor apply past them until mended.
    package var holes: [LogHole]
    /// Bytes cut from the tail: written, never promised.
    package var tornBytes: UInt64
    /// The log ends below what the manifest recorded: the owner flushes or replays what there is
    /// and calls `skip(to:)` with an index above the recorded one.
    package var endedEarly: Bool
    var flaws: [LogFlaw]
    /// For the operator.
    package var events: [String] { flaws.map(\.text) }
}
