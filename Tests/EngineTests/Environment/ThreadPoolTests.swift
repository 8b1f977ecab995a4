import Engine
import Synchronization
import Testing

@Suite struct ThreadPoolTests {
    @Test func waitingJobsStartByPriority() {
        let pool = ThreadPool(name: "test", threads: 1)
        let isHeld = Latch()
        let gate = Latch()
        let order = Mutex<[String]>([])
        // Holds the only thread while the others queue up; they come after it has the thread, or
        // they would overtake it.
        pool.submit(.scrub) {
            isHeld.open()
            _ = gate.wait()
        }
        _ = isHeld.wait()
        let jobs: [(JobPriority, String)] = [
            (.scrub, "scrub"), (.compaction, "compaction 1"), (.heal, "heal"),
            (.compaction, "compaction 2"), (.flush, "flush"),
        ]
        for (priority, name) in jobs {
            pool.submit(priority) { order.withLock { $0.append(name) } }
        }
        gate.open()
        pool.stop()
        let seen = order.withLock { $0 }
        #expect(seen == ["flush", "compaction 1", "compaction 2", "heal", "scrub"])
    }

    @Test func allThreadsWorkAndStopWaitsForWhatIsQueued() {
        let pool = ThreadPool(name: "test", threads: 4)
        let done = Atomic<Int>(0)
        for number in 0..<5000 {
            pool.submit(number % 2 == 0 ? .heal : .flush) {
                done.add(1, ordering: .relaxed)
            }
        }
        pool.stop()
        #expect(done.load(ordering: .relaxed) == 5000)
        pool.submit(.flush) { done.add(1, ordering: .relaxed) }
        #expect(done.load(ordering: .relaxed) == 5000)
    }
}
