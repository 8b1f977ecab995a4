// When writes are refused for lack of space, and when they are welcome again: numbers alone.
import Engine
import Testing

@Suite struct SpaceGuardTests {
    private static let floor: UInt64 = 800

    @Test func `Writes stop at the floor and come back well above it`() {
        var space = SpaceGuard(floor: SpaceGuardTests.floor)
        #expect(space.reserveBytes == 200)
        #expect(space.note(free: 800, owed: 0, holdsReserve: true) == .none)
        #expect(space.refusal(grows: true) == nil)
        #expect(space.note(free: 799, owed: 0, holdsReserve: true) == .becameLow)
        #expect(space.refusal(grows: true) == 1_000)
        // The reserve comes back, and a table goes: still too close.
        for free in [999, 1_000, 1_199] as [UInt64] {
            #expect(space.note(free: free, owed: 0, holdsReserve: false) == .none)
            #expect(space.isLow && !space.hasRoomForReserve)
        }
        #expect(space.note(free: 1_200, owed: 0, holdsReserve: false) == .recovered)
        #expect(space.refusal(grows: true) == nil)
        // With the reserve made again nothing is low.
        #expect(space.hasRoomForReserve)
        #expect(space.note(free: 1_000, owed: 0, holdsReserve: true) == .none)
        #expect(!space.isLow)
    }

    @Test func `A reserve that could not be given up is not waited for`() {
        var space = SpaceGuard(floor: SpaceGuardTests.floor)
        #expect(space.note(free: 0, owed: 0, holdsReserve: true) == .becameLow)
        #expect(space.note(free: 999, owed: 0, holdsReserve: true) == .none)
        #expect(space.note(free: 1_000, owed: 0, holdsReserve: true) == .recovered)
    }

    @Test func `What is still to be written counts as used`() {
        var space = SpaceGuard(floor: SpaceGuardTests.floor)
        #expect(space.note(free: 1_299, owed: 500, holdsReserve: false) == .becameLow)
        #expect(space.bound == 1_300)
        #expect(space.note(free: 1_299, owed: 0, holdsReserve: false) == .recovered)
        #expect(space.note(free: .max, owed: .max, holdsReserve: false) == .none)
        #expect(space.note(free: .max - 1, owed: .max, holdsReserve: false) == .becameLow)
    }

    @Test func `Deletes go on until flushes need the rest`() {
        var space = SpaceGuard(floor: SpaceGuardTests.floor)
        _ = space.note(free: 700, owed: 500, holdsReserve: false)
        #expect(space.refusal(grows: true) == 1_700)
        #expect(space.refusal(grows: false) == nil)
        _ = space.note(free: 599, owed: 500, holdsReserve: false)
        #expect(space.refusal(grows: false) == 600)
    }

    @Test func `Without a floor nothing is ever low`() {
        var space = SpaceGuard(floor: 0)
        #expect(!space.isEnabled)
        #expect(space.note(free: 0, owed: 9, holdsReserve: false) == .none)
        #expect(space.refusal(grows: true) == nil && space.refusal(grows: false) == nil)
        #expect(!space.hasRoomForReserve)
    }

    @Test func `The floor follows the file system and the segments`() {
        let gib: UInt64 = 1 << 30
        let mib: UInt64 = 1 << 20
        let cases: [(total: UInt64, segment: UInt64, floor: UInt64)] = [
            (.max, 64 * mib, 0), (0, 64 * mib, 0), (gib - 1, 64 * mib, 0),
            (gib, 64 * mib, gib / 20), (4 * gib, 64 * mib, 4 * gib / 20),
            (5 * gib, 64 * mib, 256 * mib), (1_000 * gib, 64 * mib, 256 * mib),
            (1_000 * gib, 4096, 256 * mib), (1_000 * gib, gib, 4 * gib),
            (1_000 * gib, .max, 50 * gib),
        ]
        for one in cases {
            #expect(
                SpaceGuard.automaticFloor(total: one.total, segmentBytes: one.segment)
                    == one.floor, "\(one)")
        }
    }
}
