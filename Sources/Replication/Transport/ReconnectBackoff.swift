// How long to wait before dialling again: doubling from 50 ms to 1 s, of which a seeded generator
// takes up to half away, so that members that lost each other do not meet in step. Pure.

package struct ReconnectBackoff: Sendable {
    package static let firstMilliseconds: UInt64 = 50
    package static let capMilliseconds: UInt64 = 1000

    private var current = ReconnectBackoff.firstMilliseconds
    private var generator: SplitMix64

    package init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    /// The next delay, milliseconds: between half of the current step and all of it.
    package mutating func next() -> UInt64 {
        let step = current
        current = min(current * 2, ReconnectBackoff.capMilliseconds)
        return step - generator.next() % (step / 2 + 1)
    }

    /// The last connection held: start over with short delays.
    package mutating func reset() { current = ReconnectBackoff.firstMilliseconds }
}

/// The usual small generator: good enough to spread things, the same everywhere for one seed.
struct SplitMix64: Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
