import Engine
import Foundation
import Synchronization
import Testing

@Suite struct SharedReferenceTests {
    /// Counts those that are alive, and shows when it is used after its end.
    private final class Probe: Sendable {
        static let alive = Atomic<Int>(0)
        let number: Int
        private let mark = Atomic<Int>(77)

        init(_ number: Int) {
            self.number = number
            Probe.alive.add(1, ordering: .relaxed)
        }

        deinit {
            mark.store(0, ordering: .relaxed)
            Probe.alive.subtract(1, ordering: .relaxed)
        }

        var isWhole: Bool { mark.load(ordering: .relaxed) == 77 }
    }

    @Test func `Uses keep what was replaced, and nothing else does`() {
        weak var first: Probe?
        weak var second: Probe?
        do {
            let made = Probe(1)
            first = made
            let reference = SharedReference(made)
            withExtendedLifetime(made) {}
            let early = reference.use()
            let late = reference.use()
            let next = Probe(2)
            second = next
            reference.replace(with: next)
            #expect(early.object?.takeUnretainedValue().number == 1)
            early.end()
            #expect(late.object?.takeUnretainedValue().number == 1)
            let newer = reference.use()
            #expect(newer.object?.takeUnretainedValue().number == 2)
            newer.end()
            late.end()
            reference.replace(with: nil)
            #expect(reference.retained == nil)
            let none = reference.use()
            #expect(none.object == nil)
            reference.replace(with: nil)
            none.end()
        }
        #expect(first == nil && second == nil)
    }

    @Test func `Threads that use and replace at once see whole objects, and none is left`() {
        let before = Probe.alive.load(ordering: .relaxed)
        let broken = Atomic<Int>(0)
        let isDone = Atomic<Bool>(false)
        do {
            let shared = Holder(SharedReference(Probe(0)))
            DispatchQueue.concurrentPerform(iterations: 4) { thread in
                if thread == 0 {
                    for number in 1...20_000 {
                        shared.reference.replace(with: number % 5 == 0 ? nil : Probe(number))
                    }
                    isDone.store(true, ordering: .releasing)
                    return
                }
                var last = 0
                while !isDone.load(ordering: .acquiring) {
                    let use = shared.reference.use()
                    let other = shared.reference.use()
                    for object in [use.object, other.object] {
                        guard let probe = object?.takeUnretainedValue() else { continue }
                        if !probe.isWhole || probe.number < last {
                            broken.add(1, ordering: .relaxed)
                        }
                        last = probe.number
                    }
                    use.end()
                    if let probe = shared.reference.retained, !probe.isWhole {
                        broken.add(1, ordering: .relaxed)
                    }
                    other.end()
                }
            }
        }
        #expect(broken.load(ordering: .relaxed) == 0)
        #expect(Probe.alive.load(ordering: .relaxed) == before)
    }

    private final class Holder: Sendable {
        let reference: SharedReference<Probe>
        init(_ reference: consuming SharedReference<Probe>) { self.reference = reference }
    }
}
