// `martlet bench cluster`: a load of SETs and GETs on a running cluster, Martlet's or Redis's.
import ArgumentParser
import Engine

package struct ClusterBenchCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Put a load on a running cluster over RESP.",
        discussion: """
            Each client is a connection with one request in flight; clients take the endpoints in \
            turn. Without --rate each asks again when it was answered. With --rate requests come \
            due at that rate whatever the answers do, and latency counts from when they were due. \
            With --wait N each SET is followed by WAIT N in the same packet, and its latency is \
            that of both. Errors are counted by their first word; they have no latency.
            """)

    @Option(help: ArgumentHelp("Comma-separated.", valueName: "host:port"))
    var endpoints = "127.0.0.1:7379"

    @Option(help: "Connections.")
    var clients = 64

    @Option(help: "Event loops that share the connections.")
    var threads = 1

    @Option(help: "Requests a second of an open loop.")
    var rate: Double?

    @Option(help: "How long to make requests; 10 unless --requests is given.")
    var seconds: Double?

    @Option(help: "How many requests to make.")
    var requests: UInt64?

    @Option(help: "Seconds of requests before those that count.")
    var warmup = 0.0

    @Option(help: "Keys, of 16 bytes each, picked evenly.")
    var keys: UInt64 = 100_000

    @Option(help: "Bytes of a value.")
    var valueSize = 100

    @Option(help: "GETs in a hundred requests; the others are SETs.")
    var reads = 0

    @Option(help: "Replicas to WAIT for after each SET.")
    var wait = 0

    @Option(help: "Milliseconds that WAIT waits.")
    var waitTimeout = 1000

    @Option(help: "Seconds after which a request counts as unanswered.")
    var timeout = 10.0

    @Option(help: "Seed of keys and values.")
    var seed: UInt64 = 301

    @Flag(help: "One JSON object.")
    var json = false

    package init() {}

    package func validate() throws { _ = try options() }

    package func options() throws -> LoadOptions {
        var options = LoadOptions()
        let texts = endpoints.split(separator: ",", omittingEmptySubsequences: false)
        options.endpoints = try texts.map { text in
            do throws(SettingProblem) {
                let address = try SettingParsing.address(String(text))
                return LoadOptions.Endpoint(host: address.host, port: address.port)
            } catch {
                throw ValidationError("--endpoints: \(error.message)")
            }
        }
        options.clients = try FlagRange.checked("--clients", clients, 1...10_000)
        options.threads = try FlagRange.checked("--threads", threads, 1...64)
        guard threads <= clients else {
            throw ValidationError("--threads: \(threads) is more than the clients")
        }
        options.rate = try rate.map { try FlagRange.checked("--rate", $0, 0.1...10_000_000) }
        guard seconds == nil || requests == nil else {
            throw ValidationError("--seconds and --requests exclude each other")
        }
        options.requests = try requests.map {
            try FlagRange.checked("--requests", $0, 1...1_000_000_000_000)
        }
        options.seconds =
            requests == nil
            ? try FlagRange.checked("--seconds", seconds ?? 10, 0.01...1_000_000) : nil
        options.warmupSeconds = try FlagRange.checked("--warmup", warmup, 0...1_000_000)
        guard requests == nil || warmup == 0 || rate != nil else {
            throw ValidationError("--warmup needs --seconds or --rate")
        }
        options.keys = try FlagRange.checked("--keys", keys, 1...1_000_000_000_000)
        options.valueBytes = try FlagRange.checked("--value-size", valueSize, 0...(8 << 20))
        options.readPercent = try FlagRange.checked("--reads", reads, 0...100)
        options.waitReplicas = try FlagRange.checked("--wait", wait, 0...100)
        options.waitMilliseconds = try FlagRange.checked("--wait-timeout", waitTimeout, 1...60_000)
        options.timeoutSeconds = try FlagRange.checked("--timeout", timeout, 0.1...3600)
        options.seed = seed
        return options
    }

    package func run() throws {
        let report = try ClusterLoad.run(try options())
        ProcessExit.printLine(json ? report.json : report.line)
        guard report.operations > 0 else {
            throw NodeFailure(.unavailable, "no request succeeded: \(report.line)")
        }
    }
}
