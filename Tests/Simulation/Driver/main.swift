// martlet-sim: whole clusters on one thread, each a function of its seed.
import Simulation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

let options: SimulatorOptions
switch SimulatorOptions.parse(Array(CommandLine.arguments.dropFirst())) {
case .success(let parsed): options = parsed
case .failure(let error):
    let text = Array("martlet-sim: \(error.text)\n\(SimulatorOptions.usage)\n".utf8)
    _ = write(STDERR_FILENO, text, text.count)
    exit(64)
}
if options.wantsHelp {
    print(SimulatorOptions.usage)
    exit(0)
}

func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func decimal(_ value: Double) -> String {
    let tenths = Int(value * 10)
    return "\(tenths / 10).\(tenths % 10)"
}

var failed = 0
var total: UInt64 = 0
let began = seconds()
for seed in options.seeds {
    let from = seconds()
    let result = SimulationRun(options.plan(seed: seed)).perform()
    let took = max(seconds() - from, 0.001)
    total += result.events
    print(
        "seed \(seed): \(decimal(Double(result.milliseconds) / 1e3)) s virtual in \(decimal(took)) s, "
            + "\(result.events) events, \(Int(Double(result.events) / took)) events/s, "
            + "\(result.operations) operations, \(result.faults) faults, "
            + "trace \(String(result.traceHash, radix: 16)), "
            + (result.isClean ? "clean" : "VIOLATED"))
    fflush(nil)
    if options.showsTimeline || !result.isClean {
        for line in result.timeline.suffix(options.timelineLines) { print("  \(line)") }
    }
    guard !result.isClean else { continue }
    failed += 1
    print("state at the end:")
    for line in result.state.split(separator: ";") { print("  \(line)") }
    for violation in result.violations { print("VIOLATED: \(violation)") }
    print("replay: \(options.replayCommand(seed: seed))")
    fflush(nil)
    if options.stopsAtFirst { break }
}
if options.seeds.count > 1 {
    let took = max(seconds() - began, 0.001)
    print(
        "\(options.seeds.count) seeds, \(failed) violated, \(decimal(took)) s, "
            + "\(Int(Double(total) / took)) events/s")
}
exit(failed == 0 ? 0 : 1)
