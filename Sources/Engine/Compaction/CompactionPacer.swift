// A bound on the bytes that compactions write each second, so that they leave the disk to writes
// and reads. Flushes are not paced, and compactions are not either while writes would have to wait
// for them: when level 0 presses, or when memtables wait for a thread. The jobs of a store share a
// pacer.

/// When the next bytes may be written. Pure.
package struct ByteRate: Hashable, Sendable {
    private let bytesPerSecond: UInt64
    /// When all that was taken so far is paid, microseconds.
    private var paidAt: UInt64 = 0
    /// What was not used is kept for so long.
    private static let burstMicroseconds: UInt64 = 100_000

    package init(bytesPerSecond: UInt64) { self.bytesPerSecond = max(1, bytesPerSecond) }

    /// Microseconds to wait before these bytes.
    package mutating func take(_ bytes: Int, now: UInt64) -> UInt64 {
        let burst = ByteRate.burstMicroseconds
        let begin = max(paidAt, now - min(now, burst))
        let (scaled, isOver) = UInt64(max(0, bytes)).multipliedReportingOverflow(by: 1_000_000)
        paidAt = begin &+ (isOver ? burst : scaled / bytesPerSecond)
        return begin > now ? begin - now : 0
    }
}

package final class CompactionPacer: @unchecked Sendable {
    // Unchecked: all state is touched under `monitor`.
    private let monitor = Monitor()
    private var rate: ByteRate
    private var isPressed = false
    private var isReleased = false
    /// Less would have one block wait for minutes.
    package static let bytesPerSecondMin: UInt64 = 1 << 20

    package init(bytesPerSecond: UInt64) { rate = ByteRate(bytesPerSecond: bytesPerSecond) }

    /// Nobody is held up any more: the database closes.
    package func release() {
        monitor.lock()
        isReleased = true
        monitor.unlock()
        monitor.broadcast()
    }

    /// Whether writes wait for compactions, or would soon: then nobody is held up.
    package func setPressed(_ isPressed: Bool) {
        monitor.lock()
        defer { monitor.unlock() }
        guard isPressed != self.isPressed else { return }
        self.isPressed = isPressed
        monitor.broadcast()
    }

    /// Returns when these bytes may be written.
    package func take(_ bytes: Int) {
        monitor.lock()
        defer { monitor.unlock() }
        let now = monotonicMilliseconds()
        guard !isPressed, !isReleased else { return }
        let until = now + rate.take(bytes, now: now * 1_000) / 1_000
        while !isPressed, !isReleased, monotonicMilliseconds() < until {
            monitor.wait(until: until)
        }
    }
}

/// The file of a job's output.
final class PacedFile: WrappedFile {
    let file: any File
    private let pacer: CompactionPacer

    init(_ file: any File, _ pacer: CompactionPacer) {
        self.file = file
        self.pacer = pacer
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        pacer.take(bytes.count)
        try file.write(bytes, at: offset)
    }
}
