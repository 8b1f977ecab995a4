// Whole seeds, as `martlet-sim` runs them, and its command line.
import Simulation
import Testing

@Suite struct SimulationRunTests {
    private static let seeds: [UInt64] = Array(1...(SimulationScale.isFull ? 200 : 2))
    private static let kinds: [[FaultKind]] = [
        [.partition, .oneWay, .delay, .loss, .reorder, .duplicate],
        [.rotTable, .misdirected], [.unreadable], [.rotManifest], [.rotState], [.clock],
        [.rotLog], [.succession, .midway],
    ]

    private func run(_ seed: UInt64, faults: [FaultKind] = FaultKind.allCases)
        -> SimulationResult
    {
        var plan = SimulationPlan(seed: seed)
        plan.faults = faults
        if !SimulationScale.isFull { (plan.seconds, plan.operationsMin) = (5, 0) }
        return SimulationRun(plan).perform()
    }

    @Test func theSameSeedGivesTheSameRun() {
        let first = run(42)
        let second = run(42)
        #expect(first.traceHash == second.traceHash)
        #expect(first.events == second.events && first.operations == second.operations)
        #expect(first.timeline == second.timeline)
        #expect(run(43).traceHash != first.traceHash)
    }

    @Test(arguments: SimulationRunTests.seeds)
    func aSeedWithAllFaultsIsClean(seed: UInt64) { expectClean(run(seed)) }

    @Test(arguments: SimulationRunTests.kinds, 1...2 as ClosedRange<UInt64>)
    func aSeedWithOneKindOfFaultIsClean(faults: [FaultKind], seed: UInt64) {
        expectClean(run(seed, faults: faults))
    }

    private func expectClean(_ result: SimulationResult) {
        let text = result.violations.joined(separator: "\n")
        #expect(
            result.isClean,
            "\(text)\n\(result.timeline.suffix(100).joined(separator: "\n"))\n\(result.state)")
        #expect(result.operations >= (SimulationScale.isFull ? 3_000 : 50))
        #expect(result.faults > 0)
    }
}

@Suite struct SimulatorOptionsTests {
    private func error(_ arguments: String...) -> String? {
        guard case .failure(let error) = SimulatorOptions.parse(arguments) else { return nil }
        return error.text
    }

    @Test func everyArgumentIsRead() throws {
        let options = try SimulatorOptions.parse([
            "--seeds", "5..9", "--nodes", "5", "--hours", "2", "--operations", "7", "--faults",
            "crash,rot-log", "--lines", "9", "--timeline", "--stop-at-first",
        ]).get()
        #expect(options.seeds == 5...9 && options.timelineLines == 9)
        #expect(options.showsTimeline && options.stopsAtFirst && !options.wantsHelp)
        let plan = options.plan(seed: 6)
        #expect(plan.seed == 6 && plan.nodeCount == 5 && plan.seconds == 7_200)
        #expect(plan.operationsMin == 7 && plan.faults == [.crash, .rotLog])
        let counted = try SimulatorOptions.parse(["--seed", "3", "--count", "4"]).get()
        #expect(counted.seeds == 3...6)
        let replayed = options.replayCommand(seed: 6).split(separator: " ").map(String.init)
        let again = try SimulatorOptions.parse(Array(replayed.dropFirst())).get()
        #expect(again.seeds == 6...6 && again.plan(seed: 6).faults == plan.faults)
        #expect(again.plan(seed: 6).seconds == 7_200 && again.plan(seed: 6).operationsMin == 7)
    }

    @Test func whatIsWrongIsNamed() {
        #expect(error("--seed")?.contains("--seed needs a value") == true)
        #expect(error("--seed", "x")?.contains("'x'") == true)
        #expect(error("--seeds", "9..5")?.contains("A..B") == true)
        #expect(error("--nodes", "0")?.contains("from 1 to 9") == true)
        #expect(error("--faults", "crash,fire")?.contains("'fire'") == true)
        #expect(error("--faults", "")?.contains("''") == true)
        #expect(error("--speed", "1")?.contains("--speed") == true)
        #expect(
            error("--seed", "18446744073709551615", "--count", "2")?.contains("--count") == true)
    }
}
