// Whether the disk has room for writes that grow the data. Pure: what is free and what unfinished
// work still has to write go in; whether writes are refused comes out.
//
// Writes are refused while there is room left, since the work that makes room (flushes, and
// compactions of what was deleted) takes room first. So the bound is a floor, on top of what
// memtables and running jobs are going to write. They are welcome again only when a good deal more
// is free: not at every table that comes or goes. Batches of deletes alone go on for longer, since
// they are what frees space in the end.

package struct SpaceGuard: Sendable {
    package enum Change: Hashable, Sendable {
        case none
        case becameLow
        case recovered
    }

    /// Free bytes below which growing writes are refused, besides what is owed; 0 never refuses.
    package let floor: UInt64
    package private(set) var isLow = false
    /// As of the last look.
    package private(set) var free = UInt64.max
    private var owed: UInt64 = 0
    /// Free bytes at which writes are welcome again.
    private var resumeBound: UInt64 = 0

    package init(floor: UInt64) { self.floor = floor }

    package var isEnabled: Bool { floor > 0 }
    /// Bytes of the file that is given up when space is low.
    package var reserveBytes: UInt64 { min(SpaceGuard.reserveBytesMax, floor / 4) }
    /// Free bytes that growing writes leave alone.
    package var bound: UInt64 { SpaceGuard.sum(floor, owed) }
    /// The same for batches that only delete.
    package var deleteBound: UInt64 { SpaceGuard.sum(floor / 8, owed) }

    /// Takes account of a look at the disk. `owed`: bytes that flushes and jobs under way may still
    /// write. `holdsReserve`: the reserve file is there, and part of what is used.
    package mutating func note(free: UInt64, owed: UInt64, holdsReserve: Bool) -> Change {
        self.free = free
        self.owed = owed
        resumeBound = recovery(holdsReserve)
        guard isEnabled else { return .none }
        if isLow {
            guard free >= resumeBound else { return .none }
            isLow = false
            return .recovered
        }
        guard free < bound else { return .none }
        isLow = true
        return .becameLow
    }

    /// There is room for the reserve file, and it would not make space low.
    package var hasRoomForReserve: Bool {
        isEnabled && !isLow && free >= recovery(false)
    }

    /// Free bytes below which a write of this kind is refused now; nil if it is welcome.
    package func refusal(grows: Bool) -> UInt64? {
        guard isLow else { return nil }
        if grows { return resumeBound }
        return free < deleteBound ? deleteBound : nil
    }

    private func recovery(_ holdsReserve: Bool) -> UInt64 {
        let margin = SpaceGuard.sum(bound, floor / 4)
        return holdsReserve ? margin : SpaceGuard.sum(margin, reserveBytes)
    }

    private static func sum(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (sum, isOverflow) = left.addingReportingOverflow(right)
        return isOverflow ? .max : sum
    }

    // MARK: the floor by itself

    private static let reserveBytesMax: UInt64 = 64 << 20
    private static let floorBytes: UInt64 = 256 << 20
    /// File systems below this are somebody's deliberate choice, or a test: nobody knows how full
    /// they are meant to be.
    private static let smallestTotal: UInt64 = 1 << 30

    /// For a file system of `total` bytes (`.max`: unknown): room for a few segments and tables,
    /// and never more than a twentieth of it all.
    package static func automaticFloor(total: UInt64, segmentBytes: UInt64) -> UInt64 {
        guard total < .max, total >= smallestTotal else { return 0 }
        let segments = segmentBytes.multipliedReportingOverflow(by: 4)
        let wanted = segments.overflow ? .max : max(floorBytes, segments.partialValue)
        return min(wanted, total / 20)
    }
}
