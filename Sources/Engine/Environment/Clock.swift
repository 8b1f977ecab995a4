// The two clocks of a process. Drivers read them; state machines are told the time.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The wall clock, milliseconds since 1970.
package func wallMilliseconds() -> ClockMilliseconds {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
}

/// Time since start-up that never goes back, nanoseconds.
func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Time since start-up that never goes back and counts while the machine sleeps, milliseconds: a
/// leader that was suspended must find its lease over.
package func monotonicMilliseconds() -> UInt64 {
    var now = timespec()
    #if os(Linux)
        clock_gettime(CLOCK_BOOTTIME, &now)
    #else
        clock_gettime(CLOCK_MONOTONIC, &now)
    #endif
    return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
}
