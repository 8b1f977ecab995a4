// Which versions of a key survive a flush or a compaction. Pure: horizon, clock and bottommost in,
// a verdict for each version out; equal on every replica.
//
// The rules, each the answer to data that came back or vanished elsewhere:
// - A read at s ≥ horizon is served from the result. So a version is garbage only if a newer one at
//   or below the horizon hides it; the newest at or below the horizon stays.
// - A range tombstone hides older versions for all readers only if it is itself at or below the
//   horizon.
// - A tombstone goes only where nothing older can be (bottommost) and everybody sees it (at or
//   below the horizon). An expired put is a tombstone, no more and no less.
// - A flush drops what is hidden and nothing else: tombstones and expired versions stay.
// - An operand hides nothing: it stands on what is older. What it makes with it does (`MergePass`).
// - A single delete is never dropped for being hidden: its put may lie in a table further down, and
//   would come back when the versions above are gone.
// - Sequences are never changed.

package struct CompactionRules: Hashable, Sendable {
    /// Every reader of the result reads at or above it.
    package let horizon: SequenceNumber
    /// "Now" for expiry; nil keeps what has expired.
    package let clock: ClockMilliseconds?
    /// Nothing older than the inputs exists below them.
    package let dropsTombstones: Bool
    /// Whether range tombstones that a newer one hides may go.
    package let dropsHiddenRangeTombstones: Bool

    private init(
        horizon: SequenceNumber, clock: ClockMilliseconds?, dropsTombstones: Bool,
        dropsHiddenRangeTombstones: Bool
    ) {
        self.horizon = horizon
        self.clock = clock
        self.dropsTombstones = dropsTombstones
        self.dropsHiddenRangeTombstones = dropsHiddenRangeTombstones
    }

    /// A nil horizon drops nothing.
    package static func flush(horizon: SequenceNumber?) -> CompactionRules {
        CompactionRules(
            horizon: horizon ?? .zero, clock: nil, dropsTombstones: false,
            dropsHiddenRangeTombstones: false)
    }

    package static func compaction(
        horizon: SequenceNumber, clock: ClockMilliseconds, isBottommost: Bool
    ) -> CompactionRules {
        CompactionRules(
            horizon: horizon, clock: isBottommost ? clock : nil, dropsTombstones: isBottommost,
            dropsHiddenRangeTombstones: true)
    }

    package enum DropReason: Int, CaseIterable, Hashable, Sendable {
        /// A newer version at or below the horizon hides it.
        case shadowed
        /// A range tombstone at or below the horizon hides it.
        case rangeDeleted
        /// A tombstone with nothing below it to hide.
        case tombstone
        /// An expired put with nothing below it to hide.
        case expired
        /// Folded with its neighbours: what they make was written instead.
        case merged
        /// A single delete and the put that it met, or one above another tombstone.
        case singleDeleted
        /// Let go or changed by the compaction filter.
        case filtered
        /// A reference whose value moved to another blob file.
        case collected
    }

    /// What the versions of one key, newest first, have shown so far.
    package struct KeyState: Hashable, Sendable {
        /// A version at or below the horizon was seen: all older ones are garbage.
        fileprivate var isShadowing = false
        /// The newest range tombstone at or below the horizon that covers the key; zero without.
        fileprivate let covering: SequenceNumber

        /// Nothing below what is kept can be seen by anybody.
        var isCovered: Bool { covering > .zero }

        package init(covering: SequenceNumber = .zero) { self.covering = covering }
    }

    /// Judges the next older version of a key: nil keeps it. `expiry` is that of an expiring put,
    /// or of a reference to one.
    package func judge(
        _ sequence: SequenceNumber, _ kind: ValueKind, expiry: ClockMilliseconds?,
        _ state: inout KeyState
    ) -> DropReason? {
        if state.isShadowing {
            guard kind == .singleDelete, sequence > state.covering else { return .shadowed }
            return dropsTombstones ? .tombstone : nil
        }
        if sequence < state.covering { return .rangeDeleted }
        guard sequence <= horizon, kind != .merge else { return nil }
        state.isShadowing = true
        switch kind {
        case .put, .merge: return nil
        case .delete, .singleDelete: return dropsTombstones ? .tombstone : nil
        case .expiringPut, .blobReference:
            guard dropsTombstones, let clock, let expiry, expiry <= clock else { return nil }
            return .expired
        }
    }
}
