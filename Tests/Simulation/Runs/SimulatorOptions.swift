// The command line of martlet-sim. No package parses it: the simulation is built without any.

package struct SimulatorUsageError: Error, Equatable {
    package var text: String
}

package struct SimulatorOptions: Sendable {
    package private(set) var seeds: ClosedRange<UInt64> = 1...1
    package private(set) var showsTimeline = false
    package private(set) var timelineLines = 100
    package private(set) var stopsAtFirst = false
    package private(set) var wantsHelp = false
    private var nodeCount = 3
    private var seconds: UInt64 = 60
    private var operationsMin = 3_000
    private var faults = FaultKind.allCases
    private var faultList = "all"

    package static let usage = """
        usage: martlet-sim [--seed S | --seeds A..B] [--count N] [--nodes N] [--hours H | --seconds S]
                           [--operations N] [--faults all|none|LIST] [--timeline] [--lines N]
                           [--stop-at-first]
        Simulates a cluster for each seed: virtual time under load and faults, then peace in which it
        must recover. Exits with 1 if a check was violated, with 64 if it was called wrongly.
        LIST, with commas: \(FaultKind.allCases.map(\.rawValue).joined(separator: " "))
        """

    package func plan(seed: UInt64) -> SimulationPlan {
        var plan = SimulationPlan(seed: seed)
        plan.nodeCount = nodeCount
        plan.seconds = seconds
        plan.operationsMin = operationsMin
        plan.faults = faults
        return plan
    }

    package func replayCommand(seed: UInt64) -> String {
        "martlet-sim --seed \(seed) --nodes \(nodeCount) --seconds \(seconds) "
            + "--operations \(operationsMin) --faults \(faultList) --timeline"
    }

    package static func parse(_ arguments: [String]) -> Result<
        SimulatorOptions, SimulatorUsageError
    > {
        do throws(SimulatorUsageError) {
            var options = SimulatorOptions()
            var rest = arguments[...]
            while let name = rest.popFirst() { try options.take(name, &rest) }
            return .success(options)
        } catch {
            return .failure(error)
        }
    }

    private mutating func take(_ name: String, _ rest: inout ArraySlice<String>)
        throws(SimulatorUsageError)
    {
        switch name {
        case "--help", "-h": wantsHelp = true
        case "--timeline": showsTimeline = true
        case "--stop-at-first": stopsAtFirst = true
        case "--seed":
            let seed = try number(name, &rest, 0...UInt64.max)
            seeds = seed...seed
        case "--seeds": seeds = try range(name, &rest)
        case "--count":
            let count = try number(name, &rest, 1...1_000_000_000)
            let (last, isTooMuch) = seeds.lowerBound.addingReportingOverflow(count - 1)
            guard !isTooMuch else { throw SimulatorUsageError(text: "--count is too much") }
            seeds = seeds.lowerBound...last
        case "--nodes": nodeCount = Int(try number(name, &rest, 1...9))
        case "--hours": seconds = 3_600 * (try number(name, &rest, 1...10_000))
        case "--seconds": seconds = try number(name, &rest, 1...36_000_000)
        case "--operations": operationsMin = Int(try number(name, &rest, 0...1_000_000_000))
        case "--lines": timelineLines = Int(try number(name, &rest, 1...10_000))
        case "--faults":
            faultList = try value(name, &rest)
            switch FaultKind.parse(faultList) {
            case .success(let kinds): faults = kinds
            case .failure(let unknown):
                throw SimulatorUsageError(text: "--faults: there is no fault '\(unknown.name)'")
            }
        default: throw SimulatorUsageError(text: "unknown argument '\(name)'")
        }
    }

    private func value(_ name: String, _ rest: inout ArraySlice<String>)
        throws(SimulatorUsageError) -> String
    {
        guard let value = rest.popFirst() else {
            throw SimulatorUsageError(text: "\(name) needs a value")
        }
        return value
    }

    private func number(
        _ name: String, _ rest: inout ArraySlice<String>, _ bounds: ClosedRange<UInt64>
    ) throws(SimulatorUsageError) -> UInt64 {
        let text = try value(name, &rest)
        guard let number = UInt64(text), bounds.contains(number) else {
            throw SimulatorUsageError(
                text: "\(name): '\(text)' is no number from \(bounds.lowerBound) to "
                    + "\(bounds.upperBound)")
        }
        return number
    }

    private func range(_ name: String, _ rest: inout ArraySlice<String>)
        throws(SimulatorUsageError) -> ClosedRange<UInt64>
    {
        let text = try value(name, &rest)
        let dots = text.firstIndex(of: ".") ?? text.endIndex
        let tail = text[dots...]
        guard tail.hasPrefix(".."), let first = UInt64(text[..<dots]),
            let last = UInt64(tail.dropFirst(2)), first <= last
        else { throw SimulatorUsageError(text: "\(name): '\(text)' is not A..B with A up to B") }
        return first...last
    }
}
