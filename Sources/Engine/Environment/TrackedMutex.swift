// Stands in for `Mutex` of the standard library when the thread sanitizer watches, which knows
// pthread's locks but not the futex beneath the library's: it reports everything that only such a
// mutex guards. As a declaration of this module it comes before the imported one, so that the code
// that the tests run is the code that is shipped, but for the lock.

#if THREAD_SANITIZER
    package struct Mutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        // Unchecked: the value is reached only with the lock held.
        private let lock = PlainLock()
        private let value: UnsafeMutablePointer<Value>

        package init(_ initial: consuming sending Value) {
            value = .allocate(capacity: 1)
            value.initialize(to: initial)
        }

        deinit {
            value.deinitialize(count: 1)
            value.deallocate()
        }

        package borrowing func withLock<Result: ~Copyable, E: Error>(
            _ body: (inout sending Value) throws(E) -> sending Result
        ) throws(E) -> sending Result {
            lock.lock()
            defer { lock.unlock() }
            return try body(&value.pointee)
        }
    }
#endif
