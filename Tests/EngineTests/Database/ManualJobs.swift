// Time and background work of a database on one thread: jobs wait in a queue until the test, or a
// call that has to wait, runs them; the clock moves when the test says so.
import Engine
import Synchronization

/// A runner without threads. Jobs run in an order that a seed decides, whatever their priorities:
/// the first may well be the last to end.
final class ManualJobs: JobRunner {
    private struct State {
        var queue: [@Sendable () -> Void] = []
        var random: SeededRandom
        var policy = Policy.random
        var ran = 0
    }

    enum Policy {
        case random
        case first
        /// The youngest first: a slow job with fast ones behind it.
        case last
    }

    private let state: Mutex<State>

    init(seed: UInt64, _ policy: Policy = .random) {
        state = Mutex(State(random: SeededRandom(seed: seed), policy: policy))
    }

    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        state.withLock { $0.queue.append(job) }
    }

    /// Runs one job; false if none waits.
    @discardableResult
    func runOne() -> Bool {
        let job = state.withLock { state -> (@Sendable () -> Void)? in
            guard !state.queue.isEmpty else { return nil }
            state.ran += 1
            switch state.policy {
            case .first: return state.queue.removeFirst()
            case .last: return state.queue.removeLast()
            case .random: return state.queue.remove(at: state.random.below(state.queue.count))
            }
        }
        guard let job else { return false }
        job()
        return true
    }

    func runAll() { while runOne() {} }

    /// As a process that dies.
    func dropAll() { state.withLock { $0.queue.removeAll() } }

    var waiting: Int { state.withLock { $0.queue.count } }
    var ran: Int { state.withLock { $0.ran } }
}

/// Both clocks.
final class ManualClock: Sendable {
    private let now = Atomic<UInt64>(1_000_000)

    var milliseconds: UInt64 { now.load(ordering: .relaxed) }
    func advance(_ milliseconds: UInt64) { now.add(milliseconds, ordering: .relaxed) }
    func stepBack(_ milliseconds: UInt64) { now.subtract(milliseconds, ordering: .relaxed) }
}
