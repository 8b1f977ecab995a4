// Delays grow, stay under the cap, differ between seeds and not within one.
import Replication
import Testing

@Suite struct ReconnectBackoffTests {
    @Test func delaysGrowToTheCap() {
        var backoff = ReconnectBackoff(seed: 1)
        var step: UInt64 = 50
        for _ in 0..<20 {
            let delay = backoff.next()
            #expect(delay <= step && delay >= step - step / 2)
            step = min(step * 2, 1000)
        }
        backoff.reset()
        #expect(backoff.next() <= 50)
    }

    @Test func theSeedDecides() {
        func delays(_ seed: UInt64) -> [UInt64] {
            var backoff = ReconnectBackoff(seed: seed)
            return (0..<10).map { _ in backoff.next() }
        }
        #expect(delays(3) == delays(3))
        #expect(delays(3) != delays(4))
    }

    @Test func repeatedLinesAreHeldBackAndCounted() {
        var throttle = LogThrottle()
        #expect(throttle.admit("refused", key: "a", now: 0) == 0)
        #expect(throttle.admit("refused", key: "a", now: 1000) == nil)
        #expect(throttle.admit("refused", key: "b", now: 1000) == 0)
        #expect(throttle.admit("other", key: "a", now: 2000) == 0)
        #expect(throttle.admit("other", key: "a", now: 3000) == nil)
        #expect(throttle.admit("other", key: "a", now: 62_000) == 1)
        throttle.forget("a")
        #expect(throttle.admit("other", key: "a", now: 62_001) == 0)
    }
}
