// How far back readers may look: the horizon is the sequence that was applied `milliseconds` ago,
// by the clocks of the entries themselves, so that replay after a restart finds it again.
//
// Samples are sparse, at most about `sampleCount` in a window, and each is exact; between two the
// older one counts, so the horizon is never later than the duration promises.

package struct HistoryWindow {
    /// "When an entry of this clock had been applied, the sequence was this."
    private struct Sample {
        var clock: ClockMilliseconds
        var sequence: SequenceNumber
    }

    let milliseconds: UInt64
    /// Oldest first; clocks grow. All but the first may be inside the window.
    private var samples: [Sample]
    /// The last entry noted, and the only sample while there is no window.
    private var newest: Sample

    private static let sampleCount: UInt64 = 256

    package init(milliseconds: UInt64, clock: ClockMilliseconds, sequence: SequenceNumber) {
        self.milliseconds = milliseconds
        newest = Sample(clock: clock, sequence: sequence)
        samples = milliseconds > 0 ? [newest] : []
    }

    /// An entry of this clock was applied. Sequences never fall; a clock that does counts as the
    /// latest before.
    package mutating func note(_ clock: ClockMilliseconds, _ sequence: SequenceNumber) {
        let clock = max(clock, newest.clock)
        if milliseconds > 0, clock > newest.clock { keepNewest(until: clock) }
        newest = Sample(clock: clock, sequence: sequence)
    }

    private mutating func keepNewest(until clock: ClockMilliseconds) {
        let step = milliseconds / HistoryWindow.sampleCount
        guard samples.last.map({ newest.clock - $0.clock > step }) ?? true else { return }
        samples.append(newest)
        // Of those that are out of the window already the latest is all that is asked for.
        let edge = clock - min(clock, milliseconds)
        let outside = samples.prefix { $0.clock <= edge }.count
        if outside > 1 { samples.removeFirst(outside - 1) }
    }

    /// What had been applied at `now` less the window.
    package func horizon(at now: ClockMilliseconds) -> SequenceNumber {
        let edge = now - min(now, milliseconds)
        if newest.clock <= edge || milliseconds == 0 { return newest.sequence }
        return samples.last { $0.clock <= edge }?.sequence ?? .zero
    }
}
