// `martlet serve`: one node as one process, until it is told to stop.
import ArgumentParser
import Engine
import Foundation
import Logging

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run one node.",
        discussion: """
            Settings come from the file, then from MARTLET_* variables \
            (MARTLET_LOG_SEGMENT_BYTES=16MiB), then from flags; the last one counts.
            """)

    @Option(help: ArgumentHelp("YAML file with the node's settings.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Override data.directory.", valueName: "dir"))
    var dataDirectory: String?

    @Flag(
        help: """
            This node's data was lost or replaced: come back without a vote. For one start; \
            refused by none of the peers that know of earlier data.
            """)
    var rejoin = false

    @OptionGroup var settings: SettingOptions

    @Flag(help: ArgumentHelp("Stop when standard input ends.", visibility: .hidden))
    var stopWithInput = false

    func run() throws {
        AllocatorPolicy.apply()
        let loaded = try ConfigurationLoader.load(
            ConfigurationSources(
                file: config, environment: ProcessInfo.processInfo.environment,
                overrides: settings.all + (dataDirectory.map { ["data.directory=\($0)"] } ?? [])))
        let (configuration, warning) = OpenFiles.fit(
            loaded.rejoining(rejoin), limit: try OpenFiles.raiseLimit())
        NodeLogging.bootstrap(level: configuration.logging.level)
        let stop = StopRequest()
        if stopWithInput { stop.requestAtEndOfInput() }
        try runBlocking {
            let logger = Logger(label: "martlet")
            if let warning { logger.warning("\(warning)") }
            let fatal = FatalReport { ProcessExit.limitStop(after: $0) }
            let components = try NodeAssembly.components(
                configuration, fatal: fatal, logger: logger)
            let runtime = NodeRuntime(
                components: components, fatal: fatal, logger: logger,
                onReady: {
                    logger.info(
                        "serving",
                        metadata: [
                            "node": "\(configuration.nodeID)",
                            "resp": "\(configuration.listen.host):\(configuration.listen.respPort)",
                            "http": "\(configuration.listen.host):\(configuration.listen.httpPort)",
                        ])
                }, onStopping: { ProcessExit.limitStop() })
            try await runtime.runProcess(stop: stop)
        }
    }
}
