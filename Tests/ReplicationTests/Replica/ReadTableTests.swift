// Reads between their arrival and their permit.
import Engine
import Replication
import Synchronization
import Testing

@Suite struct ReadTableTests {
    private final class Outcomes: Sendable {
        private let all = Mutex<[String]>([])

        func read(_ name: String, until deadline: UInt64) -> PendingRead {
            PendingRead(
                completion: { result in
                    self.all.withLock {
                        switch result {
                        case .success: $0.append("\(name) served")
                        case .failure(let refusal): $0.append("\(name) \(refusal)")
                        }
                    }
                }, deadline: deadline)
        }

        var seen: [String] { all.withLock { $0 } }
    }

    @Test func aReadIsServedOnceWhatWasConfirmedIsApplied() {
        let outcomes = Outcomes()
        var table = ReadTable()
        table.add(1, [outcomes.read("a", until: 900)], clock: 5, isRemote: false)
        table.applied(LogIndex(9), clock: 0)
        table.confirmed(1, index: LogIndex(10))
        table.applied(LogIndex(9), clock: 0)
        #expect(outcomes.seen.isEmpty)
        table.applied(LogIndex(10), clock: 0)
        #expect(outcomes.seen == ["a served"])
    }

    /// Whoever refuses at once is not asked as fast as messages travel.
    @Test func aRefusedReadIsAskedAgainInAWhileAndEndsInItsTime() {
        let outcomes = Outcomes()
        var table = ReadTable()
        var due = [outcomes.read("a", until: 50)]
        var questions = 0
        for now in UInt64(0)...60 {
            due += table.takeRetries(now: now)
            if !due.isEmpty {
                questions += 1
                table.add(now, due, clock: 0, isRemote: true)
                due = []
                table.refused(now, now: now)
            }
            table.expire(now: now)
        }
        #expect(questions == 6)
        #expect(outcomes.seen == ["a \(ServiceRefusal.timedOut)"])
    }

    @Test func anotherLeaderIsAskedAtOnce() {
        let outcomes = Outcomes()
        var table = ReadTable()
        table.add(1, [outcomes.read("a", until: 900)], clock: 0, isRemote: true)
        table.add(2, [outcomes.read("b", until: 900)], clock: 0, isRemote: true)
        table.refused(1, now: 100)
        #expect(table.takeRetries(now: 100).isEmpty)
        table.leaderChanged()
        #expect(table.takeRetries(now: 100).count == 2)
    }

    @Test func oneOfAGroupEndsWithoutTheOthers() {
        let outcomes = Outcomes()
        var table = ReadTable()
        table.add(
            1, [outcomes.read("a", until: 900), outcomes.read("b", until: 30)], clock: 0,
            isRemote: false)
        table.expire(now: 30)
        #expect(outcomes.seen == ["b \(ServiceRefusal.timedOut)"])
        table.confirmed(1, index: LogIndex(1))
        table.applied(LogIndex(1), clock: 0)
        #expect(outcomes.seen.last == "a served")
    }

    @Test func confirmationsAreCountedByWhoAsks() {
        let outcomes = Outcomes()
        var table = ReadTable()
        for number in 0..<5 {
            table.add(
                UInt64(number), [outcomes.read("a", until: 9)], clock: 0, isRemote: false,
                member: MemberID(UInt64(number % 2 + 1)))
        }
        #expect(table.count(of: MemberID(1)) == 3)
        #expect(table.count(of: MemberID(2)) == 2)
        #expect(table.count(of: MemberID(3)) == 0)
    }
}
