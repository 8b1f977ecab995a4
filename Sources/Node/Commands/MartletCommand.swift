// The command line. Commands are synchronous and run on the main thread; asynchronous work is
// bridged where it is needed. Failures leave as one line and an exit code of sysexits.h.
import ArgumentParser
import Glibc

package struct MartletCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "A replicated storage node that heals itself.",
        version: "0.1.0",
        subcommands: [
            ServeCommand.self, DevCommand.self, StatusCommand.self, LedgerCommand.self,
            SSTCommand.self, LogCommand.self, ManifestCommand.self, BenchCommand.self,
        ])

    package init() {}

    /// Parses the process's arguments, runs the command and ends the process.
    package static func runProcess() -> Never {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as NodeFailure {
            ProcessExit.exit(failure)
        } catch let error where isParserError(error) {
            exit(withError: error)
        } catch {
            ProcessExit.exit(NodeFailure(classifying: error))
        }
        Glibc.exit(0)
    }

    /// Help, version and mistakes in the arguments: ArgumentParser prints those best.
    private static func isParserError(_ error: any Error) -> Bool {
        let code = exitCode(for: error)
        return code == .success || code == .validationFailure || error is ExitCode
    }
}

/// Settings on the command line, the same for every command that starts a node.
struct SettingOptions: ParsableArguments {
    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Override a setting, for example log.segment-bytes=16MiB; repeatable.",
            valueName: "key=value"))
    var overrides: [String] = []

    @Option(help: ArgumentHelp("Override logging.level.", valueName: "level"))
    var logLevel: String?

    var all: [String] { overrides + (logLevel.map { ["logging.level=\($0)"] } ?? []) }
}
