// The bound on the bytes that compactions write.

import Engine
import Testing

@Suite struct CompactionPacerTests {
    @Test func `Bytes are spread over time, after a short burst`() {
        var rate = ByteRate(bytesPerSecond: 1_000_000)
        var now: UInt64 = 5_000_000
        var waited: UInt64 = 0
        for _ in 0..<100 {
            let wait = rate.take(10_000, now: now)
            now += wait
            waited += wait
        }
        #expect((880_000...900_000).contains(waited), "a million bytes less the burst")
        now += 10_000_000
        #expect(rate.take(50_000, now: now) == 0)
        #expect(rate.take(60_000, now: now) == 0, "idle time is kept for a tenth of a second")
        #expect(rate.take(1, now: now) == 10_000)
        var none = ByteRate(bytesPerSecond: 0)
        #expect(none.take(.max, now: 0) == 0)
        #expect(none.take(.max, now: 0) == 100_000, "whatever is asked for")
    }

    @Test func `A bounded compaction takes its time, and none when level 0 presses`() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.bytesPerSecondMax = 1 << 20
        func milliseconds(_ options: DatabaseOptions) throws -> UInt64 {
            let rig = try DatabaseRig(options)
            for key in 0..<600 {
                try rig.database.put(
                    KeyValueModel.key(key), [UInt8](repeating: 7, count: 400))
            }
            let begin = monotonicMilliseconds()
            try rig.database.compactAll()
            return monotonicMilliseconds() - begin
        }
        options.settings.segmentBytes = 1 << 20
        options.store.compression = .none
        #expect(try milliseconds(options) >= 80, "130 kB more than the burst")
        var pressed = options
        pressed.store.compaction.level0SlowdownTrigger = 0
        pressed.store.compaction.bytesPerSecondMax = 1 << 20
        #expect(try milliseconds(pressed) < 5_000)
    }

    @Test func `A database that closes holds nobody up`() {
        let pacer = CompactionPacer(bytesPerSecond: 1 << 20)
        pacer.release()
        let begin = monotonicMilliseconds()
        // A day's worth of bytes.
        pacer.take(90 << 30)
        pacer.setPressed(false)
        pacer.take(90 << 30)
        #expect(monotonicMilliseconds() - begin < 60_000)
    }
}
