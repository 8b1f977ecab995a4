// What other threads read of a replica without asking its thread.
import Engine
import Synchronization

package final class PublishedState: Sendable {
    /// The term in which commands may be evaluated here; 0 for none.
    private let evaluating = Atomic<UInt64>(0)
    private let clock = Atomic<UInt64>(0)
    /// See `Replica.agreedOffset`.
    private let clockOffset = Atomic<Int64>(0)
    private let current = Mutex<(status: ReplicaStatus, freshSince: UInt64?)?>(nil)

    private let refusing = Mutex(Refusals())
    private let isRefusing = Atomic(false)

    package init() {}

    private struct Refusals {
        /// Of all effects.
        var all: String?
        /// Of effects other than deletes.
        var growth: String?
    }

    /// Why these effects are not welcome; nil if they are. One atomic load when all is well.
    package func refusal(of batch: WriteBatch) -> String? {
        guard isRefusing.load(ordering: .relaxed) else { return nil }
        return refusing.withLock { $0.all ?? (batch.grows ? $0.growth : nil) }
    }

    func setRefusal(_ reason: String?, growth: String?) {
        let refuses = reason != nil || growth != nil
        guard refuses || isRefusing.load(ordering: .relaxed) else { return }
        refusing.withLock { $0 = Refusals(all: reason, growth: growth) }
        isRefusing.store(refuses, ordering: .relaxed)
    }

    package var evaluatingTerm: Term? {
        let term = evaluating.load(ordering: .acquiring)
        return term == 0 ? nil : Term(term)
    }

    func setEvaluatingTerm(_ term: Term?) {
        evaluating.store(term?.rawValue ?? 0, ordering: .releasing)
    }

    package var leaderClock: ClockMilliseconds { clock.load(ordering: .relaxed) }

    /// What a leader evaluates commands by.
    package func clock(now: UInt64) -> ClockMilliseconds {
        let own = Int64(clamping: now) + clockOffset.load(ordering: .relaxed)
        return max(ClockMilliseconds(clamping: own), leaderClock)
    }

    func setClockOffset(_ offset: Int64) { clockOffset.store(offset, ordering: .relaxed) }

    func advanceClock(to value: ClockMilliseconds) {
        clock.max(value, ordering: .relaxed)
    }

    package var status: ReplicaStatus? { current.withLock { $0?.status } }
    package var freshSince: UInt64? { current.withLock { $0?.freshSince } }

    func update(status: ReplicaStatus, freshSince: UInt64?) {
        current.withLock { $0 = (status, freshSince) }
    }
}
