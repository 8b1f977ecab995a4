// When a member without a live leader campaigns. Owns the only randomness of the machine: a seeded
// generator, so that a run is repeated exactly by its seed.
//
// Hurry: when the connection to the leader breaks, the process at its other end is most likely
// gone. The rest of the timeout is skipped then, and lost rounds are repeated soon, with enough
// jitter that two survivors rarely collide. Pre-vote keeps a mistaken hurry from disturbing anyone.
struct ElectionTimer: Sendable {
    private let range: ClosedRange<UInt64>
    private let heartbeatInterval: UInt64
    private var state: UInt64
    /// Drawn at each role change, kept while a leader is heard.
    private(set) var timeout: UInt64
    private(set) var deadline: UInt64 = 0
    private var hurryUntil: UInt64 = 0

    init(range: ClosedRange<UInt64>, heartbeatInterval: UInt64, seed: UInt64) {
        self.range = range
        self.heartbeatInterval = heartbeatInterval
        state = seed
        timeout = range.upperBound
    }

    func isExpired(_ now: UInt64) -> Bool { now >= deadline }

    /// A new wait: after a change of role, or after a vote was given away.
    mutating func restart(_ now: UInt64) {
        timeout = draw(range)
        deadline = now &+ timeout
    }

    /// A new wait after a round that brought nothing: a short one while in a hurry.
    mutating func restartAfterRound(_ now: UInt64) {
        guard now < hurryUntil else { return restart(now) }
        deadline = now &+ draw(heartbeatInterval...(3 * heartbeatInterval))
    }

    /// Waits for votes, which take a sync each.
    mutating func restartForVotes(_ now: UInt64) {
        restart(now)
        guard now < hurryUntil else { return }
        deadline = now &+ draw((2 * heartbeatInterval)...(4 * heartbeatInterval))
    }

    /// The leader lives.
    mutating func heardLeader(_ now: UInt64) {
        hurryUntil = 0
        deadline = now &+ timeout
    }

    /// The connection to the leader broke.
    mutating func hurry(_ now: UInt64) {
        hurryUntil = now &+ range.upperBound
        deadline = min(deadline, now &+ draw(0...heartbeatInterval))
    }

    /// Somebody else is about to win: give it time, or two survivors split the vote.
    mutating func yield(_ now: UInt64) {
        guard now < hurryUntil else { return }
        deadline = max(deadline, now &+ draw(heartbeatInterval...(2 * heartbeatInterval)))
    }

    /// SplitMix64.
    private mutating func draw(_ range: ClosedRange<UInt64>) -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        mixed ^= mixed >> 31
        return range.lowerBound + mixed % (range.upperBound - range.lowerBound + 1)
    }
}
