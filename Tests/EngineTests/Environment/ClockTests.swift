// The monotonic clock counts sleep, and conditions wait by it.
import Engine
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@Suite struct ClockTests {
    #if os(Linux)
        /// A lease is measured by it: a suspended leader must not take up where it left off.
        @Test func monotonicTimeCountsWhileTheMachineSleeps() {
            func bootTime() -> UInt64 {
                var now = timespec()
                clock_gettime(CLOCK_BOOTTIME, &now)
                return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
            }
            let before = bootTime()
            let now = monotonicMilliseconds()
            #expect(before <= now && now <= bootTime())
        }
    #endif

    @Test(arguments: [0, 1, 30, 1_020] as [UInt64])
    func aWaitEndsAtItsDeadline(milliseconds: UInt64) {
        let monitor = Monitor()
        let deadline = monotonicMilliseconds() + milliseconds
        monitor.lock()
        while monotonicMilliseconds() < deadline { monitor.wait(until: deadline) }
        monitor.unlock()
        #expect(monotonicMilliseconds() < deadline + 60_000)
    }

    @Test func aWaitWithoutEndIsSignalled() {
        let monitor = Monitor()
        let pool = ThreadPool(name: "signals", threads: 1)
        monitor.lock()
        pool.submit(.flush) {
            monitor.lock()
            monitor.broadcast()
            monitor.unlock()
        }
        monitor.wait(until: .max)
        monitor.unlock()
        pool.stop()
    }
}
