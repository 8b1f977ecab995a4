// A leader whose clock is wrong steps down, and nobody learns a wrong clock from another.
import Engine

extension Replica {
    /// How long a member whose clock was found wrong leaves leading to others, unless it agrees
    /// with a leader's before.
    private static let clockSuspectMilliseconds: UInt64 = 30_000

    /// Once per turn: whether this leader's clock may decide what has expired. Steps down if most
    /// members say that it is the wrong one.
    func checkClock() {
        if let until = clockSuspectUntil, environment.monotonicMilliseconds >= until {
            clockSuspectUntil = nil
            updateFitness()
        }
        guard core.role == .leader else { return }
        let verdict = clockCheck.verdict(voters: voters, own: options.node)
        hasAgreedClock = verdict == .agrees
        guard case .deviates(let milliseconds) = verdict else { return }
        let way = milliseconds > 0 ? "ahead of" : "behind"
        environment.note(
            .warning(
                "this node's clock is \(milliseconds.magnitude) ms \(way) those of most members; "
                    + "it stops leading: set the clock (clock.max-offset is "
                    + "\(options.maxClockOffsetMilliseconds) ms)"))
        clockSuspectUntil = environment.monotonicMilliseconds + Replica.clockSuspectMilliseconds
        updateFitness()
    }

    /// A leader's clock, never taken from further ahead than entries would be.
    func hearClock(_ clock: ClockMilliseconds) {
        let latest = environment.wallMilliseconds + ReplicaOptions.clockAheadMilliseconds
        leaderClockHeard = max(leaderClockHeard, min(clock, latest))
    }

    /// As a follower: a clock that was found wrong may have been set right.
    func compareClock(_ leaders: ClockMilliseconds) {
        guard clockSuspectUntil != nil else { return }
        let own = environment.wallMilliseconds
        let offset = own > leaders ? own - leaders : leaders - own
        guard offset <= options.maxClockOffsetMilliseconds else { return }
        clockSuspectUntil = nil
        updateFitness()
    }

    /// A member with a damaged log or a wrong clock votes, but neither leads nor campaigns.
    func updateFitness() { step(.setDamaged(!holes.isEmpty || clockSuspectUntil != nil)) }
}
