import Engine
import Foundation
import Synchronization
import Testing

@Suite struct LatchTests {
    @Test func `A latch that is open lets everybody through`() {
        let latch = Latch()
        latch.open()
        #expect(latch.wait() == .opened && latch.wait() == .opened)
        latch.call()
        #expect(latch.wait() == .opened)
    }

    @Test func `Who comes after a call is called, once`() {
        let latch = Latch()
        latch.call()
        latch.call()
        #expect(latch.wait() == .called)
        latch.open()
        #expect(latch.wait() == .opened)
    }

    /// Each call wakes one thread, which opens the way for the next call; then all wake.
    @Test(.timeLimit(.minutes(1)))
    func `Of threads that sleep one is called at a time, and opening wakes all`() {
        for _ in 0..<200 {
            let latch = Latch()
            let called = Atomic<Int>(0)
            let opened = Atomic<Int>(0)
            DispatchQueue.concurrentPerform(iterations: 6) { thread in
                if thread == 0 { latch.call() }
                while latch.wait() == .called {
                    let count = called.add(1, ordering: .acquiringAndReleasing).newValue
                    if count < 5 { latch.call() } else { latch.open() }
                }
                opened.add(1, ordering: .relaxed)
            }
            #expect(called.load(ordering: .relaxed) == 5)
            #expect(opened.load(ordering: .relaxed) == 6)
        }
    }
}
