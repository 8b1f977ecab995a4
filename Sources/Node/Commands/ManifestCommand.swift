// `martlet manifest`: a manifest by itself, without its node. Here `dump`, which reads one copy, or
// what CURRENT names in a directory; it changes nothing, so a running node does not mind, though it
// may write on meanwhile. `rebuild` is in `ManifestRebuildCommand.swift`.
import ArgumentParser
import Engine

struct ManifestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "manifest", abstract: "Look into a manifest, or make a lost one anew.",
        subcommands: [ManifestDumpCommand.self, ManifestRebuildCommand.self])
}

struct ManifestDumpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump", abstract: "Print what a manifest holds.",
        discussion: """
            PATH is a MANIFEST file, a mirror, the directory of a group, or a node's data \
            directory. Of a directory both copies are read and compared. Exits with 65 if \
            anything is damaged; an append that a power cut tore is only reported.
            """)

    @Argument(help: "The file or directory.")
    var path: String

    @OptionGroup var key: KeyOption

    @Flag(help: "Print every record, too.")
    var records = false

    @Flag(help: "One JSON object; keys in base64.")
    var json = false

    func run() throws {
        let keys = try key.ring()
        let found = try SSTCommand.inspect { () throws(EngineError) in
            try ManifestInspection.inspect(POSIXFileSystem(), path, keys: keys)
        }
        if json {
            ProcessExit.printLine(ManifestText.json(found))
        } else {
            ProcessExit.printLine(ManifestText.text(found, withRecords: records))
        }
        guard !found.isDamaged else { throw NodeFailure(.damage, "\(path): damaged") }
    }
}
