// What wakes an embedded database when its healer has found something to do: there is no thread
// that looks, and a database that is only read has no commit to look after. Any thread may call it,
// with any lock held: all it does is to submit a job.
import Synchronization

final class HealWake: Sendable {
    private struct State {
        /// Nil during the open, which ends with a look of its own.
        weak var order: EmbeddedOrder?
        /// A job is on its way that will see whatever comes before it.
        var isSubmitted = false
    }

    private let jobs: any JobRunner
    private let state = Mutex(State())

    init(_ jobs: any JobRunner) { self.jobs = jobs }

    func setOrder(_ order: EmbeddedOrder) { state.withLock { $0.order = order } }

    func wake() {
        let isFirst = state.withLock { state in
            guard state.order != nil, !state.isSubmitted else { return false }
            state.isSubmitted = true
            return true
        }
        if isFirst { jobs.submit(.heal) { self.look() } }
    }

    private func look() {
        let order = state.withLock { state in
            state.isSubmitted = false
            return state.order
        }
        order?.look()
    }
}
