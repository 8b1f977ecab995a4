// Smooth delays of writes.

import Engine
import Testing

@Suite struct WriteThrottleTests {
    private let mebibyte = 1 << 20

    /// Milliseconds that 16 MiB in pieces of `piece` wait in all.
    private func wait(level0: Int, piece: Int = 64 << 10) -> UInt64 {
        var throttle = WriteThrottle(slowdown: 20, stop: 36)
        var waited: UInt64 = 0
        for _ in 0..<(16 * mebibyte / piece) {
            waited += throttle.delay(bytes: piece, level0: level0)
        }
        return waited
    }

    @Test func `Delays begin at the slowdown trigger and grow until writes stop`() {
        #expect(wait(level0: 19) == 0)
        #expect((240...260).contains(wait(level0: 20)), "64 MiB/s")
        let waits = (20...36).map { wait(level0: $0, piece: 4 << 10) }
        #expect(zip(waits, waits.dropFirst()).allSatisfy { $0 < $1 }, "\(waits)")
        #expect((15_500...16_000).contains(wait(level0: 36, piece: 4 << 10)), "1 MiB/s")
        // No step to the next is a wall.
        #expect(zip(waits, waits.dropFirst()).allSatisfy { $1 < 4 * $0 + 1_000 }, "\(waits)")
    }

    @Test func `Small writes wait together, and none waits long`() {
        var throttle = WriteThrottle(slowdown: 20, stop: 36)
        let waits = (0..<1_000).map { _ in throttle.delay(bytes: 116, level0: 28) }
        #expect(waits.contains(0) && waits.allSatisfy { $0 <= 1 })
        #expect((25...30).contains(waits.reduce(0, +)))
        for bytes in [512 * mebibyte, .max, -1] {
            #expect(throttle.delay(bytes: bytes, level0: 100) <= WriteThrottle.waitMax)
        }
        // What is owed is forgotten as soon as there is no reason any more.
        #expect(throttle.delay(bytes: 1, level0: 36) == WriteThrottle.waitMax)
        #expect(throttle.delay(bytes: 1, level0: 19) == 0)
        #expect(throttle.delay(bytes: 1, level0: 36) == 0)
    }

    @Test func `Numbers that no count reaches are borne`() {
        for (slowdown, stop) in [(Int.max, 36), (.max, .max), (.max - 1, .max), (20, .max)] {
            var throttle = WriteThrottle(slowdown: slowdown, stop: stop)
            #expect(throttle.delay(bytes: mebibyte, level0: 19) == 0)
        }
        for (slowdown, stop) in [(Int.min, Int.min), (.min, .max), (-1, -1)] {
            var throttle = WriteThrottle(slowdown: slowdown, stop: stop)
            #expect(throttle.delay(bytes: 8 * mebibyte, level0: 1) > 0)
        }
        var throttle = WriteThrottle(slowdown: .max, stop: .max)
        #expect(throttle.delay(bytes: mebibyte, level0: .max) > 0)
    }

    @Test func `A stop below the slowdown is borne`() {
        var throttle = WriteThrottle(slowdown: 20, stop: 4)
        #expect(throttle.delay(bytes: mebibyte, level0: 4) == 0)
        #expect(throttle.delay(bytes: mebibyte, level0: 30) == WriteThrottle.waitMax)
    }
}
