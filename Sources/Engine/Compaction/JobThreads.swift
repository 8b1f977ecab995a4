// Threads that compute the jobs of a store. A job has its own; those that no job takes help with
// the parts of a large one, which asks for another each time that it begins a part. A helper gives
// its thread back after every part, so a job that comes waits for one part at most. The job's own
// thread does whatever nobody else takes: with a runner of one thread it does all, in their order.

import Synchronization

package final class JobThreads: Sendable {
    private let runner: any JobRunner
    private let max: Int
    private let taken = Atomic<Int>(0)

    /// `max` threads, those of jobs included.
    package init(_ runner: any JobRunner, max: Int) {
        self.runner = runner
        self.max = max
    }

    /// Does parts 0 to `count` - 1, each once, and returns when all are done.
    package func run(_ count: Int, _ body: @escaping @Sendable (_ part: Int) -> Void) {
        taken.add(1, ordering: .relaxed)
        defer { taken.subtract(1, ordering: .relaxed) }
        let work = SharedParts(count)
        while let part = work.take() {
            if work.hasMore, taken.load(ordering: .relaxed) < max {
                runner.submit(.compaction) { self.help(work, body) }
            }
            body(part)
            work.end()
        }
        work.waitForAll()
    }

    private func help(_ work: SharedParts, _ body: @Sendable (_ part: Int) -> Void) {
        while work.hasMore, enter() {
            if let part = work.take() {
                body(part)
                work.end()
            }
            taken.subtract(1, ordering: .relaxed)
        }
    }

    /// False if all threads are taken.
    private func enter() -> Bool {
        let before = taken.add(1, ordering: .relaxed).oldValue
        if before < max { return true }
        taken.subtract(1, ordering: .relaxed)
        return false
    }
}

/// The parts of one job. What a part did is seen by whoever has waited for all.
private final class SharedParts: @unchecked Sendable {
    // Unchecked: all state is touched under `monitor`.
    private let monitor = Monitor()
    private let count: Int
    private var next = 0
    private var ended = 0

    init(_ count: Int) { self.count = count }

    var hasMore: Bool {
        monitor.lock()
        defer { monitor.unlock() }
        return next < count
    }

    func take() -> Int? {
        monitor.lock()
        defer { monitor.unlock() }
        guard next < count else { return nil }
        next += 1
        return next - 1
    }

    func end() {
        monitor.lock()
        ended += 1
        monitor.unlock()
        monitor.broadcast()
    }

    func waitForAll() {
        monitor.lock()
        while ended < count { monitor.wait() }
        monitor.unlock()
    }
}
