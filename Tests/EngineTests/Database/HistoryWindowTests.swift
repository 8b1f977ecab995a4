// The horizon as a duration: never later than promised, and not much earlier.
import Engine
import Testing

@Suite struct HistoryWindowTests {
    private func sequence(_ value: UInt64) -> SequenceNumber { SequenceNumber(value) }

    @Test func `Without a window the horizon is what is applied`() {
        var window = HistoryWindow(milliseconds: 0, clock: 5, sequence: sequence(3))
        #expect(window.horizon(at: 5) == sequence(3))
        window.note(5, sequence(4))
        #expect(window.horizon(at: 5) == sequence(4))
        #expect(window.horizon(at: 0) == sequence(4))
    }

    @Test func `The horizon is what was applied a window ago`() {
        var window = HistoryWindow(milliseconds: 100, clock: 1_000, sequence: sequence(10))
        #expect(window.horizon(at: 1_050) == .zero)
        window.note(1_060, sequence(20))
        window.note(1_060, sequence(21))
        window.note(1_080, sequence(30))
        #expect(window.horizon(at: 1_099) == .zero)
        #expect(window.horizon(at: 1_100) == sequence(10))
        #expect(window.horizon(at: 1_159) == sequence(10))
        #expect(window.horizon(at: 1_160) == sequence(21))
        // Nothing was written since: all of it is old in the end.
        #expect(window.horizon(at: 1_180) == sequence(30))
        #expect(window.horizon(at: .max) == sequence(30))
    }

    @Test(arguments: 1...20)
    func `Sparse samples are never too late, and early by a small part of the window`(
        seed: UInt64
    ) {
        var random = SeededRandom(seed: seed)
        let length = UInt64(1 + random.below(5_000))
        var window = HistoryWindow(milliseconds: length, clock: 1, sequence: .zero)
        var applied: [(clock: UInt64, sequence: UInt64)] = [(1, 0)]
        var clock: UInt64 = 1
        for number in 1...20_000 as ClosedRange<UInt64> {
            if !random.oneIn(3) { clock += UInt64(random.below(8)) }
            window.note(clock, sequence(number))
            applied.append((clock, number))
            guard random.oneIn(50) else { continue }
            let now = clock + UInt64(random.below(3))
            let horizon = window.horizon(at: now).rawValue
            let edge = now - min(now, length)
            let exact = applied.last { $0.clock <= edge }?.sequence ?? 0
            // A step, and the longest pause between two entries.
            let slack = length / 256 + 8
            let early = applied.last { $0.clock <= edge - min(edge, slack) }?.sequence ?? 0
            #expect(horizon <= exact)
            #expect(horizon >= early || early <= 1)
        }
    }
}
