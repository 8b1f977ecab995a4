// What an embedded database takes from the world besides files: background work, clocks, and a way
// to wait. The seam that lets a test run all of it on one thread, under a clock of its own.

package struct DatabaseEnvironment: Sendable {
    package var jobs: any JobRunner
    /// Milliseconds since 1970.
    package var wall: @Sendable () -> ClockMilliseconds
    /// Milliseconds that never go back.
    package var monotonic: @Sendable () -> UInt64
    /// For runners without threads: called, with no lock held, by a thread that has to wait. True
    /// if it ran a job or moved the clock, so that the thread looks again instead of sleeping.
    package var yield: (@Sendable () -> Bool)?
    /// Makes the identity of a new database and the nonce of a start.
    package var seed: UInt64
    /// Makes the salts of encrypted files.
    package var random: @Sendable () -> UInt64 = { drawnSeed() }
    /// For a test that looks on.
    package var sealObserver: FileCipher.Observer?

    package init(
        jobs: any JobRunner,
        wall: @escaping @Sendable () -> ClockMilliseconds = { wallMilliseconds() },
        monotonic: @escaping @Sendable () -> UInt64 = { monotonicMilliseconds() },
        yield: (@Sendable () -> Bool)? = nil, seed: UInt64 = drawnSeed()
    ) {
        self.jobs = jobs
        self.wall = wall
        self.monotonic = monotonic
        self.yield = yield
        self.seed = seed
    }

    /// From the system: no two databases are alike.
    package static func drawnSeed() -> UInt64 {
        var system = SystemRandomNumberGenerator()
        return system.next()
    }
}
