// A function of the embedding program that sees what a compaction is about to write and may let it
// go or change it: aging out, scrubbing, migrating of values.
//
// Deterministic by contract: the decision follows from the arguments alone, on every replica and
// for ever; whoever changes the rule raises the version. The settings name the filter, `compact`
// entries carry the name, and a member without it fails the job instead of computing it otherwise.

/// What becomes of a value.
public enum CompactionDecision: Hashable, Sendable {
    case keep
    /// It becomes a tombstone, or nothing at the deepest level.
    case drop
    /// It gets this value; its expiry stays.
    case change([UInt8])
}

/// Called from many threads at once, once for each value that a compaction would write and that
/// every reader may see: the newest at or below the horizon, after merges were folded. Not called
/// for flushes, for tombstones, or for a value that operands above it still wait for. A value may
/// be shown to it any number of times; snapshots do not see its work.
public protocol CompactionFilter: Sendable {
    var name: CompactionFilterID { get }
    /// `key` and `value` are borrowed for the call; `expiry` is in absolute milliseconds.
    func decide(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, expiry: ClockMilliseconds?
    ) -> CompactionDecision
}
