// Background work. `JobRunner` is the seam: a node runs jobs on a `ThreadPool`, the simulation on
// its own thread. Priorities order only what waits; a running job is never interrupted, so long
// jobs work in pieces and look at their own stop flags.
//
// A node has one pool for flushes, compactions, heals and scrubs and another for disk reads, so
// that a read never waits behind a merge.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Order in which waiting jobs start; equal ones start in the order of their submission.
package enum JobPriority: Int, Sendable, CaseIterable, Comparable {
    case scrub = 0
    case heal = 1
    case compaction = 2
    case flush = 3

    package static func < (left: JobPriority, right: JobPriority) -> Bool {
        left.rawValue < right.rawValue
    }
}

package protocol JobRunner: AnyObject, Sendable {
    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void)
}

/// A fixed number of threads over one priority queue.
package final class ThreadPool: JobRunner {
    private let state: ThreadPoolState
    private let threads: [pthread_t]

    /// `name` shows in process listings.
    package init(name: String, threads count: Int) {
        invariant(count > 0, "a pool needs a thread")
        let state = ThreadPoolState(name: name)
        self.state = state
        self.threads = (0..<count).map { _ in startThread { state.work() } }
    }

    /// Jobs submitted after `stop` never run.
    package func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        state.submit(priority, job)
    }

    /// Runs what is queued, ends the threads and joins them. Called once, from outside the pool.
    package func stop() {
        state.close()
        for thread in threads { pthread_join(thread, nil) }
    }
}

/// Starts a joinable thread that runs `body`.
package func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    let box = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { @Sendable argument in
            guard let argument else { return nil }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, box.toOpaque())
    invariant(code == 0, "the system refuses another thread (errno \(code))")
    return thread
}

/// Through /proc: pthread_setname_np hides behind _GNU_SOURCE. Linux keeps fifteen bytes of a name;
/// a failure only costs the label.
private func nameCurrentThread(_ name: String) {
    let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    let label = [UInt8](name.utf8.prefix(15))
    _ = write(descriptor, label, label.count)
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// What the threads share.
private final class ThreadPoolState: @unchecked Sendable {
    // Unchecked: `queues` and `isClosed` are touched only under `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let arrival = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var queues = [JobQueue](repeating: JobQueue(), count: JobPriority.allCases.count)
    private var isClosed = false
    let name: String

    init(name: String) {
        self.name = name
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(arrival, nil)
    }

    deinit {
        pthread_cond_destroy(arrival)
        pthread_mutex_destroy(mutex)
        arrival.deallocate()
        mutex.deallocate()
    }

    func submit(_ priority: JobPriority, _ job: @escaping @Sendable () -> Void) {
        pthread_mutex_lock(mutex)
        if !isClosed { queues[priority.rawValue].append(job) }
        pthread_cond_signal(arrival)
        pthread_mutex_unlock(mutex)
    }

    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_cond_broadcast(arrival)
        pthread_mutex_unlock(mutex)
    }

    func work() {
        nameCurrentThread(name)
        while let job = next() { job() }
    }

    /// Waits for a job; nil when the pool is closed and empty.
    private func next() -> (@Sendable () -> Void)? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            for priority in queues.indices.reversed() {
                if let job = queues[priority].popFirst() { return job }
            }
            if isClosed { return nil }
            pthread_cond_wait(arrival, mutex)
        }
    }
}

/// First in, first out, without moving the rest on every pop.
private struct JobQueue {
    private var jobs: [(@Sendable () -> Void)?] = []
    private var head = 0

    mutating func append(_ job: @escaping @Sendable () -> Void) { jobs.append(job) }

    mutating func popFirst() -> (@Sendable () -> Void)? {
        guard head < jobs.count else { return nil }
        let job = jobs[head]
        jobs[head] = nil
        head += 1
        if head == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024, head * 2 >= jobs.count {
            jobs.removeFirst(head)
            head = 0
        }
        return job
    }
}
