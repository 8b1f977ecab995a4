// What threads wait for that share one outcome: opened once, for all of them. Who wakes takes no
// lock, so that many who wake at once do not queue for one. Before it opens one of them may be
// called to do something for the rest.

import CEngineShims
import Synchronization

package final class Latch: @unchecked Sendable {
    // Unchecked: the pointer never changes; what it leads to is atomic.
    private let word = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)

    /// Nobody sleeps.
    private static let closed: UInt32 = 0
    /// Closed, and somebody may sleep.
    private static let sleeping: UInt32 = 1
    /// Somebody is called and has not come yet.
    private static let calling: UInt32 = 2
    private static let opened: UInt32 = 3

    package init() { word.initialize(to: Atomic(Latch.closed)) }

    deinit {
        word.deinitialize(count: 1)
        word.deallocate()
    }

    package enum Waking {
        case opened
        /// This thread, and no other, is called.
        case called
    }

    /// Returns when the latch is open, or for one thread when it is called.
    package func wait() -> Waking {
        while true {
            let now = word.pointee.load(ordering: .acquiring)
            if now == Latch.opened { return .opened }
            if now == Latch.sleeping {
                martlet_futex_wait(UnsafeMutableRawPointer(word), now)
            } else if change(now, to: Latch.sleeping), now == Latch.calling {
                return .called
            }
        }
    }

    /// Calls one thread that waits, or the next to come, unless the latch is open.
    package func call() {
        while true {
            let now = word.pointee.load(ordering: .acquiring)
            if now == Latch.opened || now == Latch.calling { return }
            guard change(now, to: Latch.calling) else { continue }
            if now == Latch.sleeping { martlet_futex_wake(UnsafeMutableRawPointer(word), 1) }
            return
        }
    }

    /// Once. What was written before is seen by all who wake.
    package func open() {
        let before = word.pointee.exchange(Latch.opened, ordering: .acquiringAndReleasing)
        if before != Latch.closed { martlet_futex_wake(UnsafeMutableRawPointer(word), .max) }
    }

    private func change(_ state: UInt32, to next: UInt32) -> Bool {
        word.pointee.compareExchange(
            expected: state, desired: next, ordering: .acquiringAndReleasing
        ).exchanged
    }
}
