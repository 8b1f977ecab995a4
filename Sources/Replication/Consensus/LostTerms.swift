// What a member does not know of its own log: see `RaftLog.lost`.
import Engine

/// Entries that were promised and are lost here, and of which the terms are not known: those around
/// them are of different terms. They match nothing that a leader says until they are mended.
package struct LostTerms: Hashable, Sendable {
    package var lower: LogIndex
    package var upper: LogIndex
    /// The lost entry, at `upper` or the one behind it, that is known by its content.
    package var known: Known?

    package struct Known: Hashable, Sendable {
        package var index: LogIndex
        package var checksum: Digest128

        package init(index: LogIndex, checksum: Digest128) {
            self.index = index
            self.checksum = checksum
        }
    }

    package init(lower: LogIndex, upper: LogIndex, known: Known? = nil) {
        self.lower = lower
        self.upper = upper
        self.known = known
    }
}
