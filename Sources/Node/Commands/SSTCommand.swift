// `martlet sst`: a table file by itself, without its node; here `dump` and `verify`. Nothing is
// asked of a manifest: the file's own footer names the digest that everything in it must prove.
import ArgumentParser
import Engine

struct SSTCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sst", abstract: "Look into a table file.",
        subcommands: [
            SSTDumpCommand.self, SSTVerifyCommand.self, SSTPropertiesCommand.self,
            SSTIndexCommand.self, SSTFilterCommand.self, SSTHexCommand.self,
            SSTSalvageCommand.self,
        ])

    /// Ends a command that has shown what it could of a damaged file.
    static func check(_ file: String, _ damage: [String]) throws {
        guard damage.isEmpty else {
            let parts = damage.count == 1 ? "a damaged part" : "\(damage.count) damaged parts"
            throw NodeFailure(.damage, "\(file): \(parts)")
        }
    }

    /// Runs an engine call on a file: what is wrong with its bytes is damage.
    static func inspect<R>(_ body: () throws(EngineError) -> R) throws -> R {
        do throws(EngineError) {
            return try body()
        } catch {
            switch error {
            case .corrupt, .blockLost, .tableLost: throw NodeFailure(.damage, error.description)
            default: throw NodeFailure(classifying: error)
            }
        }
    }
}

struct SSTDumpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump", abstract: "Print what a table file holds.")

    @Argument(help: "The .sst file.")
    var file: String

    @Flag(help: "Print every version, and every range tombstone, too.")
    var entries = false

    @Option(help: ArgumentHelp("Stop after this many versions.", valueName: "n"))
    var limit: Int?

    @OptionGroup var key: KeyOption

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit: must be above 0") }
    }

    func run() throws {
        let table = try TableInspection(file, keys: key.ring())
        ProcessExit.printLine(table.summary)
        if entries || limit != nil {
            try table.forEachEntry(limit: limit ?? .max) { ProcessExit.printLine($0) }
        }
        let damage = table.verify(fromMedium: false)
        for line in damage { ProcessExit.printLine(line) }
        try SSTCommand.check(file, damage)
    }
}

struct SSTVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Read every byte of a table file and check it.",
        discussion: "Exits with 0 if all is well and with 65 if something is damaged.")

    @Argument(help: "The .sst file.")
    var file: String

    @Flag(help: "Read the medium, past the page cache.")
    var fromMedium = false

    @OptionGroup var key: KeyOption

    func run() throws {
        let table = try TableInspection(file, keys: key.ring())
        let damage = table.verify(fromMedium: fromMedium)
        for line in damage { ProcessExit.printLine(line) }
        try SSTCommand.check(file, damage)
        ProcessExit.printLine("\(file): ok, \(table.blockCount) blocks, digest \(table.digest)")
    }
}
