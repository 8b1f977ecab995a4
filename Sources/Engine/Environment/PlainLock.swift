// A mutex for classes that guard several fields at once and name in a comment which. `Mutex` of
// the standard library would force those fields into one Sendable value.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package final class PlainLock: @unchecked Sendable {
    // Unchecked: the pointer never changes; pthread does the rest.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    package init() { pthread_mutex_init(mutex, nil) }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Not recursive.
    package func lock() { pthread_mutex_lock(mutex) }
    package func unlock() { pthread_mutex_unlock(mutex) }

    @inline(__always)
    package func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }
}
