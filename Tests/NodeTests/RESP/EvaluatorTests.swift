// What a leader answers, and when: the rules of the evaluator's header, one by one.
import Engine
import Node
import Replication
import Synchronization
import Testing

/// Collects what a request was answered.
private final class Answer: Sendable {
    let result = Mutex<EvaluationResult?>(nil)

    /// The replies' text; nil while there is none; "not evaluated" if so.
    var text: String? {
        switch result.withLock({ $0 }) {
        case nil: return nil
        case .notEvaluated: return "not evaluated"
        case .replied(let bundle): return String(decoding: bundle.bytes, as: UTF8.self)
        }
    }

    var bundle: ReplyBundle? {
        if case .replied(let bundle) = result.withLock({ $0 }) { return bundle }
        return nil
    }
}

private final class Leader {
    let replica = FakeReplica()
    let evaluator: Evaluator

    init(
        settings: RESPSettings = RESPSettings(),
        run: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void = { $0() }
    ) {
        replica.set {
            $0.commitsAtOnce = false
            $0.readAnswer = nil
        }
        evaluator = Evaluator(service: replica, settings: settings, run: run)
    }

    func submit(_ lines: String...) -> Answer { submit(lines) }

    func submit(_ lines: [String]) -> Answer {
        let answer = Answer()
        let commands = lines.map { line -> RoutedCommand in
            let words = line.split(separator: " ").map { [UInt8]($0.utf8) }
            let id = words[0].withUnsafeBytes { CommandTable.shared.id(of: $0) }
            return RoutedCommand(id: id ?? .ping, command: ClientCommand(words))
        }
        evaluator.submit(
            EvaluationRequest(batches: [CommandBatch(version: .two, commands: commands)]) {
                result in answer.result.withLock { $0 = result }
            })
        return answer
    }

    var proposals: Int { replica.state.withLock { $0.proposals.count } }
    var reads: Int { replica.state.withLock { $0.reads.count } }
}

@Suite struct EvaluatorTests {
    @Test func aWriteIsAnsweredWhenItIsApplied() {
        let leader = Leader()
        let answer = leader.submit("SET a 1", "INCR a", "DEL zz")
        #expect(answer.text == nil)
        #expect(leader.proposals == 1)
        leader.replica.commit()
        #expect(answer.text == "+OK\r\n:2\r\n:0\r\n")
        #expect(answer.bundle?.writeIndex == LogIndex(1))
        #expect(leader.replica.store.value("a") == "2")
        #expect(leader.reads == 0)
    }

    @Test func pipelinedWritesDoNotWaitForEachOther() {
        let leader = Leader()
        let first = leader.submit("INCR a")
        let second = leader.submit("INCR a")
        #expect(leader.proposals == 2)
        leader.replica.commit(1)
        #expect(first.text == ":1\r\n")
        #expect(second.text == nil)
        leader.replica.commit()
        #expect(second.text == ":2\r\n")
    }

    /// Its caller may be an event loop; the order of requests holds all the same.
    @Test func onlyTheRunnerReads() {
        let runs = Mutex<[@Sendable () -> Void]>([])
        let leader = Leader { run in runs.withLock { $0.append(run) } }
        let blind = leader.submit("SET a 1", "MSET b 1 c 1")
        #expect(leader.proposals == 1)
        let reading = leader.submit("INCR a")
        let behind = leader.submit("SET a 5")
        #expect(leader.proposals == 1)
        leader.replica.commit(1)
        let count = runs.withLock { $0.count }
        #expect(count == 1)
        runs.withLock { $0.removeFirst() }()
        leader.replica.commit()
        // An answer that came meanwhile needs no runner.
        #expect(blind.text == "+OK\r\n+OK\r\n")
        #expect(reading.text == ":2\r\n" && behind.text == "+OK\r\n")
        #expect(leader.replica.store.value("a") == "5")
        #expect(runs.withLock { $0.isEmpty })
        #expect(leader.submit("SET a 6").text == nil)
        #expect(runs.withLock { $0.isEmpty })
    }

    /// What waited for room is not let in all at once.
    @Test func effectsInFlightAreBoundedBetweenRequests() {
        var settings = RESPSettings()
        settings.effectBytesInFlight = 1 << 20
        let leader = Leader(settings: settings)
        let value = String(repeating: "v", count: 1_100_000)
        let answers = (0..<5).map { leader.submit("SET k\($0) \(value)") }
        #expect(leader.proposals == 1)
        leader.replica.commit(1)
        #expect(leader.proposals <= 2)
        leader.replica.commit()
        #expect(answers.allSatisfy { $0.text == "+OK\r\n" })
    }

    /// Commands of one request that each copy a large value.
    @Test func effectsInFlightAreBoundedWithinARequest() {
        var settings = RESPSettings()
        settings.effectBytesInFlight = 1 << 20
        let leader = Leader(settings: settings)
        leader.replica.store.set("a", String(repeating: "v", count: 300_000))
        let answer = leader.submit(Array(repeating: "EXPIRE a 100", count: 50))
        let behind = leader.submit("SET b 1")
        var rounds = 0
        while answer.text == nil, rounds < 50 {
            let bytes = leader.replica.state.withLock {
                $0.proposals.reduce(0) { $0 + $1.batch.byteCount }
            }
            #expect((300_000..<(1 << 20) + 301_000).contains(bytes))
            #expect(behind.text == nil)
            leader.replica.commit(1)
            rounds += 1
        }
        #expect(answer.text == String(repeating: ":1\r\n", count: 50))
        leader.replica.commit()
        #expect(behind.text == "+OK\r\n")
    }

    @Test func rangeDeletesInFlightAreBounded() {
        var settings = RESPSettings()
        settings.rangesInFlight = 10
        let leader = Leader(settings: settings)
        let answer = leader.submit((0..<35).map { "MT.DELRANGE a\($0) b" })
        for count in [10, 10, 10, 5] {
            let inFlight = leader.replica.state.withLock { $0.proposals.map(\.batch.count) }
            #expect(inFlight == [count])
            leader.replica.commit(1)
        }
        #expect(answer.text == String(repeating: "+OK\r\n", count: 35))
    }

    /// What was evaluated has its own outcome; the rest certainly did nothing.
    @Test func aRequestThatWaitsForRoomIsRefusedWithTheLeadership() {
        var settings = RESPSettings()
        settings.effectBytesInFlight = 100
        let leader = Leader(settings: settings)
        let value = String(repeating: "v", count: 200)
        let answer = leader.submit("SET a \(value)", "SET b 1", "SET c 1")
        let behind = leader.submit("SET d 1")
        #expect(leader.proposals == 1)
        leader.replica.set { $0.term = nil }
        leader.replica.lose(.unknown(term: Term(1), index: LogIndex(9)))
        let lines = answer.text?.split(separator: "\r\n") ?? []
        #expect(lines.count == 3 && lines[0].hasPrefix("-UNCERTAIN 1 9 "))
        #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("-CLUSTERDOWN ") })
        #expect(behind.text == "not evaluated")
    }

    /// A runner that has stopped runs nothing: whoever waited for it would wait for ever.
    @Test func aClosedEvaluatorAsksNoRunner() {
        let runs = Mutex<[@Sendable () -> Void]>([])
        let leader = Leader { run in runs.withLock { $0.append(run) } }
        let inFlight = leader.submit("SET a 1")
        let waiting = leader.submit("INCR a")
        let isClosed = Mutex(false)
        leader.evaluator.close { isClosed.withLock { $0 = true } }
        // What the runner was given, it runs.
        #expect(!isClosed.withLock { $0 })
        runs.withLock { $0.removeFirst() }()
        #expect(isClosed.withLock { $0 })
        #expect(waiting.text == "not evaluated")
        #expect(leader.submit("INCR a").text == "not evaluated")
        #expect(leader.submit("SET b 1").text == "not evaluated")
        leader.replica.commit()
        #expect(inFlight.text == "+OK\r\n")
        #expect(runs.withLock { $0.isEmpty })
    }

    @Test func aReplyWithoutEffectsWaitsForConfirmation() {
        let leader = Leader()
        leader.replica.store.set("a", "1")
        let answer = leader.submit("SETNX a 2")
        #expect(leader.proposals == 0)
        #expect(answer.text == nil)
        leader.replica.confirmReads()
        #expect(answer.text == ":0\r\n")
    }

    @Test func aReplyWithoutEffectsWaitsForTheWriteItSaw() {
        let leader = Leader()
        _ = leader.submit("SET a 1")
        let answer = leader.submit("SETNX a 2")
        leader.replica.confirmReads()
        #expect(answer.text == nil)
        leader.replica.commit()
        #expect(answer.text == ":0\r\n")
        // And the other way round.
        _ = leader.submit("SET b 1")
        let other = leader.submit("SETNX b 2")
        leader.replica.commit()
        #expect(other.text == nil)
        leader.replica.confirmReads()
        #expect(other.text == ":0\r\n")
    }

    /// SETNX → 0 off a write that is then lost.
    @Test func setnxZeroOffALostWriteIsNotAnswered() {
        for outcome in [
            ProposalOutcome.notApplied(reason: "leadership was lost"),
            .unknown(term: Term(1), index: LogIndex(5)),
        ] {
            let leader = Leader()
            let write = leader.submit("SET a 1")
            let answer = leader.submit("SETNX a 2")
            leader.replica.set { $0.term = nil }
            leader.replica.confirmReads()
            leader.replica.lose(outcome)
            #expect(answer.text?.hasPrefix("-CLUSTERDOWN") == true)
            let isUncertain = outcome == .unknown(term: Term(1), index: LogIndex(5))
            #expect(
                write.text?.hasPrefix(isUncertain ? "-UNCERTAIN 1 5 " : "-CLUSTERDOWN") == true)
        }
    }

    @Test func confirmationByAnotherLeaderDoesNotCount() {
        let leader = Leader()
        leader.replica.store.set("a", "1")
        let answer = leader.submit("SETNX a 2")
        // The member lost its leadership after the evaluation; as a follower it gets a read
        // confirmed, but the new leader may have deleted the key before the evaluation.
        leader.replica.set { $0.term = nil }
        leader.replica.confirmReads()
        #expect(answer.text?.hasPrefix("-CLUSTERDOWN") == true)
    }

    @Test func evaluatesOnlyWhileItMay() {
        let leader = Leader()
        leader.replica.set { $0.term = nil }
        #expect(leader.submit("SET a 1").text == "not evaluated")
        leader.replica.set { $0.term = Term(2) }
        let answer = leader.submit("SET a 1")
        leader.replica.commit()
        #expect(answer.text == "+OK\r\n")
    }

    /// A member leads in terms 1 and 3; term 2 was another's.
    @Test func theOverlayDiesWithItsTerm() {
        let leader = Leader()
        let lost = leader.submit("SET a 1")
        leader.replica.set { $0.term = nil }
        #expect(leader.submit("SETNX a 2").text == "not evaluated")
        leader.replica.set { $0.term = Term(3) }
        // Term 2's leader never had the write; its loss is not even reported yet.
        let answer = leader.submit("SETNX a 3")
        leader.replica.commit(0)
        leader.replica.set { state in
            // Only the proposal of term 3 will be applied.
            let old = state.proposals.removeFirst()
            state.proposals.append(old)
        }
        leader.replica.commit(1)
        #expect(answer.text == ":1\r\n")
        leader.replica.lose(.notApplied(reason: "another leader's entry took its place"))
        #expect(lost.text?.hasPrefix("-CLUSTERDOWN") == true)
        // That late word must not end anything of term 3.
        let next = leader.submit("INCRBY a 4")
        leader.replica.commit()
        #expect(next.text == ":7\r\n")
    }

    @Test func busyIsToldAndRestsOnNothing() {
        let leader = Leader()
        let first = leader.submit("SET a 1")
        leader.replica.set { $0.isBusy = true }
        let refused = leader.submit("SET a 5", "INCR a")
        #expect(refused.text?.hasPrefix("-BUSY memory is full\r\n-BUSY") == true)
        leader.replica.set { $0.isBusy = false }
        // The refused SET is in nobody's way: this waits for what is in flight, then sees 1.
        let next = leader.submit("INCR a")
        #expect(next.text == nil)
        #expect(leader.proposals == 1)
        leader.replica.commit()
        leader.replica.commit()
        #expect(first.text == "+OK\r\n")
        #expect(next.text == ":2\r\n")
    }

    /// The first of a run's proposals is refused, the next would be accepted: it must not be made,
    /// since its commands saw the first.
    @Test func nothingIsProposedBehindARefusal() {
        let leader = Leader()
        leader.replica.set { $0.busyProposals = 1 }
        let value = String(repeating: "x", count: 600 << 10)
        let answer = leader.submit("SET n 5", "SET a \(value)", "SET b \(value)", "INCR n")
        #expect(leader.proposals == 0)
        let lines = answer.text?.split(separator: "\r\n") ?? []
        #expect(lines.count == 4 && lines.allSatisfy { $0.hasPrefix("-BUSY") })
        let next = leader.submit("INCR n")
        leader.replica.commit()
        #expect(next.text == ":1\r\n")
    }

    @Test func aLateRefusalStopsEvaluationUntilTheRestHasEnded() {
        let leader = Leader()
        _ = leader.submit("SET a 1")
        _ = leader.submit("SET b 1")
        leader.replica.state.withLock { $0.proposals.removeFirst() }
            .completion(.notApplied(reason: "busy"))
        let answer = leader.submit("INCR a")
        #expect(leader.proposals == 1)
        leader.replica.commit(1)
        #expect(leader.proposals == 1)
        leader.replica.commit(1)
        #expect(answer.text == ":1\r\n")
    }

    @Test func uncertainNamesTermAndIndex() {
        let leader = Leader()
        let answer = leader.submit("SET a 1", "SETNX a 2")
        leader.replica.lose(.unknown(term: Term(4), index: LogIndex(17)))
        let lines = answer.text?.split(separator: "\r\n") ?? []
        #expect(lines.first?.hasPrefix("-UNCERTAIN 4 17 ") == true)
        #expect(lines.last?.hasPrefix("-CLUSTERDOWN ") == true)
    }

    @Test func blindWritesReadNothing() {
        let leader = Leader()
        _ = leader.submit("SET a 1", "MSET b 1 c 2", "SETEX d 10 x", "FLUSHALL")
        #expect(leader.replica.store.state.withLock { $0.reads } == 0)
    }

    @Test func damageIsAnErrorAndLeavesNoEffect() {
        let leader = Leader()
        leader.replica.store.set("a", "1")
        leader.replica.store.state.withLock { _ = $0.damaged.insert(bytes("b")) }
        let answer = leader.submit("DEL a b", "SET c 1")
        leader.replica.commit()
        #expect(
            answer.text?.hasPrefix("-DAMAGED block 3 of table 0000000000000009-f0 is lost") == true)
        #expect(leader.replica.store.value("a") == "1")
        #expect(leader.replica.store.value("c") == "1")
    }

    @Test func largeGroupsBecomeSeveralProposals() {
        let leader = Leader()
        let value = String(repeating: "x", count: 600 << 10)
        let answer = leader.submit("SET a \(value)", "SET b \(value)", "SET c \(value)")
        #expect(leader.proposals == 3)
        leader.replica.commit(2)
        #expect(answer.text == nil)
        leader.replica.commit()
        #expect(answer.text == "+OK\r\n+OK\r\n+OK\r\n")
    }

    @Test func effectsInFlightAreBounded() {
        var settings = RESPSettings()
        settings.effectBytesInFlight = 100
        let leader = Leader(settings: settings)
        _ = leader.submit("SET a " + String(repeating: "x", count: 200))
        let answer = leader.submit("SET b 1")
        #expect(leader.proposals == 1)
        leader.replica.commit(1)
        #expect(leader.proposals == 1)
        leader.replica.commit()
        #expect(answer.text == "+OK\r\n")
    }

    /// Random commands with commits at random moments answer as one dictionary would.
    @Test(arguments: 0..<30 as Range<UInt64>)
    func equalsADictionary(seed: UInt64) {
        var random = SeededGenerator(seed)
        let leader = Leader()
        var model: [String: Int] = [:]
        var expected: [(Answer, String)] = []
        for _ in 0..<300 {
            let key = ["a", "b", "c", "d"].randomElement(using: &random) ?? "a"
            let number = Int.random(in: 0..<100, using: &random)
            switch Int.random(in: 0..<9, using: &random) {
            case 0:
                model[key] = number
                expected.append((leader.submit("SET \(key) \(number)"), "+OK\r\n"))
            case 1:
                let isNew = model[key] == nil
                if isNew { model[key] = number }
                expected.append(
                    (leader.submit("SETNX \(key) \(number)"), isNew ? ":1\r\n" : ":0\r\n"))
            case 2:
                model[key, default: 0] += number
                expected.append(
                    (leader.submit("INCRBY \(key) \(number)"), ":\(model[key] ?? 0)\r\n"))
            case 3:
                let old = model.removeValue(forKey: key)
                expected.append((leader.submit("DEL \(key)"), old == nil ? ":0\r\n" : ":1\r\n"))
            case 4:
                let old = model[key]
                if old != nil { model[key] = number }
                let text = old.map { "$\(String($0).count)\r\n\($0)\r\n" } ?? "$-1\r\n"
                expected.append((leader.submit("SET \(key) \(number) XX GET"), text))
            case 5 where number < 20:
                model = model.filter { !("b"..<"d").contains($0.key) }
                expected.append((leader.submit("MT.DELRANGE b d"), "+OK\r\n"))
            case 6 where number < 10:
                model = [:]
                expected.append((leader.submit("FLUSHALL"), "+OK\r\n"))
            case 7: leader.replica.commit(1)
            default: leader.replica.confirmReads()
            }
        }
        leader.replica.commit()
        leader.replica.confirmReads()
        for (answer, text) in expected { #expect(answer.text == text) }
        for key in ["a", "b", "c", "d"] {
            #expect(leader.replica.store.value(key) == model[key].map { String($0) })
        }
    }
}
