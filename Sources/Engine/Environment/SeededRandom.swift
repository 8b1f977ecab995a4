// A seeded generator (SplitMix64). Whatever is random in a test or a simulation comes from one of
// these, so that a failing seed replays exactly.

package struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// A number in `0..<bound`.
    package mutating func below(_ bound: Int) -> Int {
        invariant(bound > 0, "an empty range has no member")
        return Int(next() % UInt64(bound))
    }

    /// True once in `bound` times, on average.
    package mutating func oneIn(_ bound: Int) -> Bool { below(bound) == 0 }

    /// A generator whose numbers have nothing to do with the ones that follow here.
    package mutating func fork() -> SeededRandom { SeededRandom(seed: next()) }
}
