// What a node's log may be after its process ended, as the simulation judges it.
import Engine
import Simulation
import Testing

@Suite struct KeptLogTests {
    /// Durable through 8; of 9 to 12 any part may be left.
    private let kept = KeptLog(
        durable: LogIndex(8), last: LogIndex(12),
        runs: [
            TermRun(term: Term(1), first: LogIndex(1)), TermRun(term: Term(3), first: LogIndex(7)),
        ])

    private func flaw(_ index: UInt64, term: UInt64, isKnown: Bool = true) -> String? {
        kept.flaw(
            endingAt: Position(
                term: Term(term), index: LogIndex(index),
                checksum: isKnown ? Digest128(of: [1]) : .zero))
    }

    @Test func whatWasNotDurableMayBeLost() {
        for index in 8...12 as ClosedRange<UInt64> { #expect(flaw(index, term: 3) == nil) }
    }

    @Test func whatWasDurableIsKept() {
        #expect(flaw(7, term: 3)?.contains("all through 8 was durable") == true)
        #expect(flaw(6, term: 1)?.contains("all through 8 was durable") == true)
    }

    @Test func whatWasTakenBackStaysAway() {
        #expect(flaw(13, term: 3)?.contains("above its last entry 12") == true)
        #expect(flaw(10, term: 2)?.contains("taken back for one of term 3") == true)
    }

    /// Nobody remembers what was, but what was durable is there all the same.
    @Test func withTheHardStateItsCutsAreLost() {
        var kept = kept
        kept.hasForgottenCuts = true
        let ends = { (index: UInt64) in
            kept.flaw(
                endingAt: Position(
                    term: Term(2), index: LogIndex(index), checksum: Digest128(of: [1])))
        }
        #expect(ends(13) == nil && ends(10) == nil)
        #expect(ends(7)?.contains("all through 8 was durable") == true)
    }

    @Test func theTermOfALostEntryIsAGuess() {
        #expect(flaw(10, term: 2, isKnown: false) == nil)
        #expect(flaw(13, term: 3, isKnown: false)?.contains("above its last entry") == true)
        // It was lost before already, and only its content was promised.
        var kept = kept
        kept.holes = [LogHole(lower: LogIndex(9), upper: LogIndex(10), checksum: nil)]
        let found = Position(term: Term(2), index: LogIndex(10), checksum: Digest128(of: [1]))
        #expect(kept.flaw(endingAt: found) == nil)
        #expect(
            kept.flaw(
                endingAt: Position(
                    term: Term(2), index: LogIndex(11), checksum: Digest128(of: [1]))) != nil)
    }
}
