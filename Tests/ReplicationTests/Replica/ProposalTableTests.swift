// What a client is told of its proposal, and when.
import Engine
import Replication
import Synchronization
import Testing

@Suite struct ProposalTableTests {
    private final class Told: Sendable {
        private let outcomes = Mutex<[String]>([])

        func completion(_ name: String) -> @Sendable (ProposalOutcome) -> Void {
            { outcome in
                let text =
                    switch outcome {
                    case .applied: "applied"
                    case .notApplied: "not applied"
                    case .unknown: "unknown"
                    }
                self.outcomes.withLock { $0.append("\(name) \(text)") }
            }
        }

        var all: [String] { outcomes.withLock { $0 } }
    }

    private func position(_ term: UInt64, _ index: UInt64) -> Position {
        Position(term: Term(term), index: LogIndex(index), checksum: .zero)
    }

    @Test func aDisplacedProposalMayComeBack() {
        let told = Told()
        var table = ProposalTable()
        table.add(LogIndex(5), Term(1), [told.completion("a")])
        table.add(LogIndex(6), Term(1), [told.completion("b")])
        table.displace(after: LogIndex(4), deadline: 100)
        #expect(told.all.isEmpty && table.entriesInFlight == 0)
        // A third leader had entry 5 of term 1, and not 6.
        table.applied(position(1, 5))
        table.applied(position(3, 6))
        #expect(told.all == ["a applied", "b not applied"])
    }

    @Test func whatIsAppliedInItsPlaceDecides() {
        let told = Told()
        var table = ProposalTable()
        table.add(LogIndex(5), Term(1), [told.completion("a")])
        table.displace(after: LogIndex(4), deadline: 100)
        table.applied(position(2, 4))
        #expect(told.all.isEmpty)
        table.applied(position(2, 5))
        #expect(told.all == ["a not applied"])
    }

    @Test func withoutADecisionTheOutcomeIsUnknown() {
        let told = Told()
        var table = ProposalTable()
        table.add(LogIndex(5), Term(1), [told.completion("a")])
        table.leadershipLost(deadline: 90)
        table.displace(after: LogIndex(4), deadline: 100)
        table.expire(now: 89)
        #expect(told.all.isEmpty)
        table.expire(now: 90)
        #expect(told.all == ["a unknown"])
        table.applied(position(2, 5))
        #expect(told.all.count == 1)
    }

    /// This member leads again, and its new entries have lower indexes than the displaced one.
    @Test func newProposalsBelowADisplacedOneKeepTheirOrder() {
        let told = Told()
        var table = ProposalTable()
        table.add(LogIndex(9), Term(1), [told.completion("old")])
        table.displace(after: LogIndex(3), deadline: 100)
        table.add(LogIndex(5), Term(3), [told.completion("new")])
        table.applied(position(3, 5))
        #expect(told.all == ["new applied"])
        table.failAll()
        #expect(told.all == ["new applied", "old unknown"])
    }

    @Test func whatNeverReachedConsensusMayBeTriedAgain() {
        let told = Told()
        var table = ProposalTable()
        table.add(LogIndex(5), Term(1), [told.completion("a")])
        table.withdraw(after: LogIndex(4))
        #expect(told.all == ["a not applied"])
    }
}
