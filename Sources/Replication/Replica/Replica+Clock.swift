// A leader whose clock is wrong steps down, and nobody learns a wrong clock from another.
import Engine

extension Replica {
    /// How long a member whose clock was found wrong leaves leading to others, unless it agrees
    /// with a leader's before.
    private static let clockSuspectMilliseconds: UInt64 = 30_000

    /// A verdict counts for so long, unless this clock was set or another was heard.
    private static let clockVerdictMilliseconds: UInt64 = 10

    /// Each turn: whether this leader's clock may decide what has expired. Steps down if most
    /// members say that it is the wrong one.
    func checkClock() {
        let now = environment.monotonicMilliseconds
        let wall = environment.wallMilliseconds
        if let until = clockSuspectUntil, now >= until {
            clockSuspectUntil = nil
            updateFitness()
        }
        guard core.role == .leader else { return }
        let offset = Int64(clamping: wall) &- Int64(clamping: now)
        if let judged = judgedClock, (offset &- judged.offset).magnitude <= 1,
            now < judged.at + Replica.clockVerdictMilliseconds
        {
            return
        }
        judgedClock = (offset, now)
        let verdict = clockCheck.verdict(
            voters: voters, own: options.node, wall: wall, now: now)
        hasAgreedClock = verdict == .agrees
        if hasAgreedClock {
            agreedOffset = Int64(clamping: wall) - Int64(clamping: now)
            published.setClockOffset(agreedOffset)
        }
        guard case .deviates(let milliseconds) = verdict else { return }
        let way = milliseconds > 0 ? "ahead of" : "behind"
        environment.note(
            .warning(
                "this node's clock is \(milliseconds.magnitude) ms \(way) those of most members; "
                    + "it stops leading: set the clock (clock.max-offset is "
                    + "\(options.maxClockOffsetMilliseconds) ms)"))
        clockSuspectUntil = now + Replica.clockSuspectMilliseconds
        updateFitness()
    }

    /// What this leader's entries and answers carry: its wall clock as it was when most members
    /// agreed with it, carried on by the monotonic clock, which nobody can set. Without agreement
    /// nothing newer than what others are known to have said.
    func leaderClock() -> ClockMilliseconds {
        let known = max(tail.clock, leaderClockHeard)
        guard hasAgreedClock else { return known }
        let now = Int64(clamping: environment.monotonicMilliseconds)
        return max(known, ClockMilliseconds(clamping: now + agreedOffset))
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

    /// Says what is missing, and who could give it back.
    func noteHoles() {
        for hole in holes where hole.upper > store.flushedPosition.index {
            let way =
                voters == [options.node]
                ? "there is no replica: restore the log from a backup"
                : "a peer that has them is waited for"
            environment.note(
                .warning(
                    "log entries \(hole.lower) to \(hole.upper) are lost here; until they are back "
                        + "this node does not lead and applies nothing behind them: \(way)"))
        }
    }

    /// A member with a damaged log or a wrong clock votes, but neither leads nor campaigns. Damage
    /// at or below S harms only history.
    func updateFitness() {
        let isDamaged = holes.contains { $0.upper > store.flushedPosition.index }
        let isUnfit = isDamaged || clockSuspectUntil != nil
        if isUnfit != core.isDamaged { step(.setDamaged(isUnfit)) }
    }
}
