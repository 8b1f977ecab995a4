// `martlet dev`: a cluster on this machine, each node its own process, over mutual TLS.
import ArgumentParser
import Foundation
import Glibc

package struct DevCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "dev", abstract: "Run a cluster on this machine.",
        discussion: """
            Makes certificates and node-K.yaml in DIR the first time and resumes there the next \
            time. Prints one line beginning with "ready" when every node serves, and stops all of \
            them on SIGTERM or Ctrl-C. Node K listens on port + 10(K-1) for clients, + 1 for \
            peers, + 2 for HTTP. --set goes into the node files of a new cluster; for an existing \
            one it overrides them for this run.
            """)

    @Option(help: "Nodes.")
    var nodes = 3

    @Option(help: ArgumentHelp("Directory of the cluster.", valueName: "dir"))
    var dir: String

    @Option(help: "RESP port of node 1.")
    var port = 7379

    @OptionGroup var settings: SettingOptions

    @Flag(help: "Start a node again that has ended.")
    var restart = false

    package init() {}

    package func validate() throws {
        do {
            _ = try plan()
            try checkSettings()
        } catch let failure as NodeFailure {
            throw ValidationError(failure.message)
        }
        guard !dir.isEmpty else { throw ValidationError("--dir: is empty") }
    }

    package func plan() throws(NodeFailure) -> DevelopmentPlan {
        try DevelopmentPlan(nodes: nodes, port: port, settings: settings.all)
    }

    package func run() throws {
        let plan = try plan()
        let directory = try DevelopmentDirectory(dir)
        try waitForPorts(plan)
        let isResumed = try directory.prepare(plan)
        let overrides = isResumed ? plan.settings : []
        let supervisor = DevelopmentSupervisor(
            plan, directory, overrides: overrides, restarts: restart)
        try supervisor.run()
    }

    /// Nodes whose supervisor was killed need a moment to notice; anybody else will not go away.
    private func waitForPorts(_ plan: DevelopmentPlan) throws(NodeFailure) {
        let ports = plan.nodes.flatMap { [$0.respPort, $0.peerPort, $0.httpPort] }
        let deadline = monotonicNanoseconds() + 3_000_000_000
        while let taken = PortCheck.firstTaken(ports, host: DevelopmentPlan.host) {
            guard monotonicNanoseconds() < deadline else {
                throw NodeFailure(
                    .unavailable,
                    "--port: \(DevelopmentPlan.host):\(taken.port) cannot be used"
                        + " (\(taken.reason)); stop who uses it or choose another --port")
            }
            usleep(100_000)
        }
    }

    /// A mistake in `--set` should be told once, here, and not by every node.
    private func checkSettings() throws {
        do {
            _ = try ConfigurationLoader.load(
                ConfigurationSources(file: nil, overrides: ["data.directory=."] + settings.all))
        } catch {
            throw NodeFailure(.usage, error.description)
        }
        // The nodes take them over, and would say so in their own logs only.
        let problems = ConfigurationLoader.unknownVariables(
            in: ProcessInfo.processInfo.environment)
        guard problems.isEmpty else {
            throw NodeFailure(.configuration, ConfigurationError(problems).description)
        }
    }
}
