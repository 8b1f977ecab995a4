// `martlet sst properties|index|filter|hex`: how a table file is laid out. All show what they can
// of a damaged file, say what is damaged, and exit with 65 then.
import ArgumentParser
import Engine

struct SSTPropertiesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "properties", abstract: "Print what a table file says of itself.")

    @Argument(help: "The .sst file.")
    var file: String

    @OptionGroup var key: KeyOption

    @Flag(help: "One JSON object; keys in base64.")
    var json = false

    func run() throws {
        let table = try TableInspection(file, keys: key.ring())
        let properties = try table.properties()
        ProcessExit.printLine(json ? properties.json : properties.text)
        try SSTCommand.check(file, table.localDamage)
    }
}

struct SSTIndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "List the blocks of a table file.",
        discussion: """
            For each block its ordinal, type, offset of its header, bytes stored and decoded, \
            codec and, of data blocks, versions, first and last key. Every block is read and \
            verified, and the index is asked for the keys of each.
            """)

    @Argument(help: "The .sst file.")
    var file: String

    @OptionGroup var key: KeyOption

    @Flag(help: "One JSON object; keys in base64.")
    var json = false

    func run() throws {
        let table = try TableInspection(file, keys: key.ring())
        let list = table.blockList()
        ProcessExit.printLine(json ? list.json : list.text)
        try SSTCommand.check(file, table.localDamage + list.damage)
    }
}

struct SSTFilterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "filter", abstract: "Measure the filters of a table file.",
        discussion: """
            Asks the filters for every key of the table, each of which must be a "maybe", and \
            for keys that are not there, which tells the false-positive rate. Exits with 65 if a \
            filter is damaged or denies a key.
            """)

    @Argument(help: "The .sst file.")
    var file: String

    @OptionGroup var key: KeyOption

    @Option(help: ArgumentHelp("Ask for this many absent keys.", valueName: "n"))
    var samples = 100_000

    @Option(help: "Seed of the absent keys.")
    var seed: UInt64 = 1

    @Flag(help: "One JSON object.")
    var json = false

    func validate() throws {
        guard (1...1_000_000_000).contains(samples) else {
            throw ValidationError("--samples: must be from 1 to 1000000000")
        }
    }

    func run() throws {
        let table = try TableInspection(file, keys: key.ring())
        let report = table.filters(samples: samples, seed: seed)
        ProcessExit.printLine(json ? FilterText.json(report) : FilterText.text(report))
        guard report.isSound else {
            throw NodeFailure(.damage, "\(file): the filters are not sound, or data is damaged")
        }
    }
}

struct SSTHexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hex", abstract: "Print the bytes of a part, with the name of each piece.",
        discussion: """
            Of one or more of --block, --header, --map and --footer; without any, header and \
            footer. Shows damaged parts as they are and exits with 65 then.
            """)

    @Argument(help: "The .sst file.")
    var file: String

    @OptionGroup var key: KeyOption

    @Option(help: ArgumentHelp("The block of this ordinal.", valueName: "ordinal"))
    var block: UInt32?

    @Flag(help: "Print the block decoded rather than as it is stored.")
    var decoded = false

    @Flag(help: "The file header.")
    var header = false

    @Flag(help: "The dictionary of a file whose blocks are stored with one.")
    var dictionary = false

    @Flag(help: "The block map.")
    var map = false

    @Flag(help: "The footer.")
    var footer = false

    @Option(help: ArgumentHelp("Print at most so many bytes of a part.", valueName: "bytes"))
    var limit = 64 << 10

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit: must be above 0") }
        guard block != nil || !decoded else { throw ValidationError("--decoded needs --block") }
    }

    func run() throws {
        let opened = try SSTCommand.inspect { () throws(EngineError) in
            try engineError { () throws(FileError) in try POSIXFileSystem().open(file, .read) }
        }
        let keys = try key.ring()
        var damage: [String] = []
        for selection in selections {
            let parts = try SSTCommand.inspect { () throws(EngineError) in
                try TableAnatomy.parts(of: opened, selection, keys: keys)
            }
            for part in parts {
                HexText.forEachLine(part, limit: limit) { ProcessExit.printLine($0) }
                if let found = part.damage { damage.append(found) }
            }
        }
        try SSTCommand.check(file, damage)
    }

    private var selections: [TableAnatomy.Selection] {
        let isDefault = block == nil && !header && !dictionary && !map && !footer
        var selections: [TableAnatomy.Selection] = []
        if header || isDefault { selections.append(.fileHeader) }
        if dictionary { selections.append(.dictionary) }
        if let block { selections.append(.block(block, isDecoded: decoded)) }
        if map { selections.append(.blockMap) }
        if footer || isDefault { selections.append(.footer) }
        return selections
    }
}
