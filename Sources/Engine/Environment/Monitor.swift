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

    /// As `wait`, at most until this time of `monotonicMilliseconds`.
    package func wait(until deadline: UInt64) {
        var time = timespec(
            tv_sec: Int(deadline / 1_000), tv_nsec: Int(deadline % 1_000) * 1_000_000)
        pthread_cond_timedwait(condition, mutex, &time)
    }

    package func broadcast() { pthread_cond_broadcast(condition) }
    package func signal() { pthread_cond_signal(condition) }
}
