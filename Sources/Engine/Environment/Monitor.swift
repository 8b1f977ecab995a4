// A mutex with a condition, for the few places where threads wait for each other.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init() {
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func lock() { pthread_mutex_lock(mutex) }
    package func unlock() { pthread_mutex_unlock(mutex) }

    /// Releases the lock until somebody signals. May return without a reason: check again.
    package func wait() { pthread_cond_wait(condition, mutex) }

    /// As `wait`, at most until this time of `monotonicMilliseconds`. No condition waits by that
    /// clock where it counts sleep: what is left of the time is waited for by another.
    package func wait(until deadline: UInt64) {
        let now = monotonicMilliseconds()
        let left = min(deadline > now ? deadline - now : 0, Monitor.longestWait)
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        time.tv_sec += Int(left / 1_000)
        time.tv_nsec += Int(left % 1_000) * 1_000_000
        if time.tv_nsec >= 1_000_000_000 {
            time.tv_sec += 1
            time.tv_nsec -= 1_000_000_000
        }
        pthread_cond_timedwait(condition, mutex, &time)
    }

    /// Milliseconds; more than any process lives, and added to any time no overflow.
    private static let longestWait: UInt64 = 1 << 42

    package func broadcast() { pthread_cond_broadcast(condition) }
    package func signal() { pthread_cond_signal(condition) }
}
