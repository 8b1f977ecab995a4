// Whether the thread that commits a group waits a moment for more writers first. Those of the last
// group are likely to write again at once, and in the time of a sync: then a group of all of them
// costs one sync where two groups, which take turns, cost two. It never pays to wait for long, nor
// for who does not come: the bound is half a sync, and each wait in vain makes the next ones rarer.
//
// Pure: times are handed in.

package struct CommitDelay {
    /// Writers that were there a moment ago: of the last group, and behind it.
    private var expected = 1
    /// How long the last sync took, nanoseconds.
    private var syncNanoseconds: UInt64 = 0
    /// Waits in vain, one after the other.
    private var failures: UInt64 = 0
    /// Groups to come that do not wait.
    private var skips: UInt64 = 0

    package static let nanosecondsMax: UInt64 = 200_000
    private static let failuresMax: UInt64 = 6

    package init() {}

    /// How long to wait for a group of how many writers, `joined` of which are there; nil if it is
    /// to be committed now.
    package mutating func plan(joined: Int) -> (writers: Int, nanoseconds: UInt64)? {
        guard joined < expected else { return nil }
        if skips > 0 {
            skips -= 1
            return nil
        }
        return (expected, min(syncNanoseconds / 2, CommitDelay.nanosecondsMax))
    }

    /// So many writers were there when the wait ended, of those that it was for.
    package mutating func waited(for writers: Int, joined: Int) {
        if joined * 4 >= writers * 3 {
            failures = 0
        } else {
            failures = min(failures + 1, CommitDelay.failuresMax)
            skips = 1 << failures
        }
    }

    /// A group of `writers` was committed, and so many came meanwhile.
    package mutating func committed(writers: Int, behind: Int, nanoseconds: UInt64) {
        expected = max(writers + behind, 1)
        syncNanoseconds = nanoseconds
    }
}
