// COMMAND: the table of commands as clients ask for it, in Redis's form. Pure but for the reply.

extension RESPWriter {
    mutating func describeCommands(_ command: ClientCommand) {
        let table = CommandTable.shared
        guard command.count > 1 else { return describe(table.specs) }
        switch CommandSubcommand(command) {
        case .count: integer(table.specs.count)
        case .list: listCommands(command)
        case .info where command.count == 2: describe(table.specs)
        case .info:
            array(command.count - 2)
            for name in RESPWriter.named(in: command) {
                if let name { describe(name) } else { nullArray() }
            }
        case .docs:
            let chosen =
                command.count == 2 ? table.specs : RESPWriter.named(in: command).compactMap { $0 }
            map(chosen.count)
            for spec in chosen { document(spec) }
        case .getkeys: listKeys(command)
        case .help, nil: help(table[.command])
        }
    }

    /// The commands that the arguments from the third on name; nil for a name that is none.
    private static func named(in command: ClientCommand) -> [CommandSpec?] {
        let table = CommandTable.shared
        return (2..<command.count).map { index in
            command.withBytes(index) { table.id(of: $0) }.map { table[$0] }
        }
    }

    /// `COMMAND LIST [FILTERBY (MODULE name|ACLCAT category|PATTERN pattern)]`: there are no
    /// modules and no categories, so those two choose nothing.
    private mutating func listCommands(_ command: ClientCommand) {
        var names = CommandTable.shared.specs.map(\.name)
        if command.count > 2 {
            guard command.count == 5, command.matches(2, "FILTERBY") else {
                return error(ReplyText.syntax)
            }
            if command.matches(3, "PATTERN") {
                let pattern = [UInt8](command.text(4).lowercased().utf8)
                names = names.filter { isGlobMatch(pattern, [UInt8]($0.utf8)) }
            } else if command.matches(3, "MODULE") || command.matches(3, "ACLCAT") {
                names = []
            } else {
                return error(ReplyText.syntax)
            }
        }
        array(names.count)
        for name in names { bulk(name) }
    }

    /// `COMMAND GETKEYS full-command`
    private mutating func listKeys(_ command: ClientCommand) {
        let arguments = (2..<command.count).map { command.array($0) }
        guard let spec = RESPWriter.named(in: command)[0] else {
            return error("ERR Invalid command specified")
        }
        guard spec.accepts(count: arguments.count) else {
            return error("ERR Invalid number of arguments specified for command")
        }
        let indexes = Array(spec.keyIndexes(count: arguments.count))
        guard !indexes.isEmpty else { return error("ERR The command has no key arguments") }
        array(indexes.count)
        for index in indexes { bulk(arguments[index]) }
    }

    private mutating func describe(_ specs: [CommandSpec]) {
        array(specs.count)
        for spec in specs { describe(spec) }
    }

    /// The ten elements of Redis 7; the last four (categories, tips, key specifications,
    /// subcommands) are empty.
    private mutating func describe(_ spec: CommandSpec) {
        array(10)
        bulk(spec.name)
        integer(spec.arity)
        let flags = spec.flags.names
        set(flags.count)
        for flag in flags { simple(flag) }
        integer(spec.keys.first)
        integer(spec.keys.last)
        integer(spec.keys.step)
        set(0)
        array(0)
        array(0)
        array(0)
    }

    private mutating func document(_ spec: CommandSpec) {
        bulk(spec.name)
        map(2)
        bulk("summary")
        bulk(spec.summary)
        bulk("group")
        bulk(spec.group)
    }
}
