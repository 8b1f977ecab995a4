import Engine
import Testing

@Suite struct CommitDelayTests {
    @Test func `A writer alone is never held up`() {
        var delay = CommitDelay()
        for _ in 0..<10 {
            #expect(delay.plan(joined: 1) == nil)
            delay.committed(writers: 1, behind: 0, nanoseconds: 100_000)
        }
    }

    @Test func `A group waits for the writers of the last one, at most half a sync`() {
        var delay = CommitDelay()
        delay.committed(writers: 8, behind: 8, nanoseconds: 100_000)
        let plan = delay.plan(joined: 8)
        #expect(plan?.writers == 16 && plan?.nanoseconds == 50_000)
        #expect(delay.plan(joined: 16) == nil)
        delay.committed(writers: 16, behind: 0, nanoseconds: 10_000_000)
        let slow = delay.plan(joined: 1)
        #expect(slow?.writers == 16 && slow?.nanoseconds == CommitDelay.nanosecondsMax)
    }

    @Test func `Waits in vain become rare, and one that pays makes them usual again`() {
        var delay = CommitDelay()
        /// Plans among `count` groups of which none is joined by more.
        func plans(_ count: Int) -> Int {
            (0..<count).count { _ in
                delay.committed(writers: 4, behind: 0, nanoseconds: 100_000)
                guard let plan = delay.plan(joined: 1) else { return false }
                delay.waited(for: plan.writers, joined: 1)
                return true
            }
        }
        #expect(plans(10) == 3)
        #expect((2...6).contains(plans(200)))
        while delay.plan(joined: 1) == nil {
            delay.committed(writers: 4, behind: 0, nanoseconds: 100_000)
        }
        delay.waited(for: 4, joined: 3)
        delay.committed(writers: 3, behind: 1, nanoseconds: 100_000)
        #expect(delay.plan(joined: 1) != nil)
    }
}
