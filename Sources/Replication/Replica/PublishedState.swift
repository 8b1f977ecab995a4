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

    private let refusing = Mutex<String?>(nil)
    private let isRefusing = Atomic(false)

    package init() {}

    /// Why new effects are not welcome; nil if they are. One atomic load when all is well.
    package var refusal: String? {
        isRefusing.load(ordering: .relaxed) ? refusing.withLock { $0 } : nil
    }

    func setRefusal(_ reason: String?) {
        guard reason != nil || isRefusing.load(ordering: .relaxed) else { return }
        refusing.withLock { $0 = reason }
        isRefusing.store(reason != nil, ordering: .relaxed)
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
