// Commands whose second word chooses what they do: CLIENT, COMMAND, CONFIG and MT.SCRUB. Each has
// an enum of its subcommands; from it come the checks of `CommandTable` (unknown word, number of
// arguments), the lines of HELP and the switch of whoever executes the command. A subcommand that
// is missing in one of them does not compile.

/// A subcommand by its word, in lower case.
protocol Subcommand: CaseIterable, RawRepresentable<String>, Sendable {
    /// Arguments with both words; negative: at least so many.
    var arity: Int { get }
    /// The line of HELP that shows how it is written.
    var usage: String { get }
    /// The lines of HELP that say what it does.
    var explanation: [String] { get }
}

extension Subcommand {
    static var specs: [SubcommandSpec] {
        allCases.map {
            SubcommandSpec(
                name: $0.rawValue, arity: $0.arity, usage: $0.usage, explanation: $0.explanation)
        }
    }

    /// Which one a command that the table has accepted asks for.
    init?(_ command: ClientCommand) { self.init(rawValue: command.text(1).lowercased()) }
}

package struct SubcommandSpec: Sendable {
    package let name: String
    package let arity: Int
    let usage: String
    let explanation: [String]

    func accepts(count: Int) -> Bool { arity < 0 ? count >= -arity : count == arity }
}

enum ClientSubcommand: String, Subcommand {
    case getname, help, id, info, list, reply, setinfo, setname
    case noEvict = "no-evict"
    case noTouch = "no-touch"

    var arity: Int {
        switch self {
        case .getname, .help, .id, .info: return 2
        case .list: return -2
        case .noEvict, .noTouch, .reply, .setname: return 3
        case .setinfo: return 4
        }
    }

    var usage: String {
        switch self {
        case .getname, .help, .id, .info: return rawValue.uppercased()
        case .list: return "LIST [options ...]"
        case .reply: return "REPLY ON"
        case .setinfo: return "SETINFO (LIB-NAME|LIB-VER) <value>"
        case .setname: return "SETNAME <name>"
        case .noEvict, .noTouch: return "\(rawValue.uppercased()) (ON|OFF)"
        }
    }

    var explanation: [String] {
        switch self {
        case .getname: return ["Return the name of the current connection."]
        case .help: return helpExplanation
        case .id: return ["Return the ID of the current connection."]
        case .info: return ["Return information about the current client connection."]
        case .list:
            return [
                "Return information about client connections. Options:",
                "* TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "  Return clients of specified type.",
                "* ID <id> [<id> ...]", "  Return clients with these IDs.",
            ]
        case .reply: return ["Accepted; replies cannot be switched off."]
        case .setinfo: return ["Set the name or version of the client's library."]
        case .setname: return ["Assign the name <name> to the current connection."]
        case .noEvict: return ["Accepted; clients are not evicted for their number."]
        case .noTouch: return ["Accepted; there are no access times."]
        }
    }
}

enum CommandSubcommand: String, Subcommand {
    case count, docs, getkeys, help, info, list

    var arity: Int {
        switch self {
        case .count, .help: return 2
        case .docs, .info, .list: return -2
        case .getkeys: return -3
        }
    }

    var usage: String {
        switch self {
        case .count, .help: return rawValue.uppercased()
        case .docs, .info: return "\(rawValue.uppercased()) [<command-name> ...]"
        case .getkeys: return "GETKEYS <full-command>"
        case .list: return "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]"
        }
    }

    var explanation: [String] {
        switch self {
        case .count: return ["Return the total number of commands of this node."]
        case .docs: return ["Return documentation of the named commands, or of all."]
        case .getkeys: return ["Return the keys from a full command."]
        case .help: return helpExplanation
        case .info: return ["Return details about the named commands, or about all."]
        case .list: return ["Return the names of the commands."]
        }
    }
}

enum ConfigSubcommand: String, Subcommand {
    case get, help, resetstat, rewrite, set

    var arity: Int {
        switch self {
        case .get: return -3
        case .help, .resetstat, .rewrite: return 2
        case .set: return -4
        }
    }

    var usage: String {
        switch self {
        case .get: return "GET <pattern> [<pattern> ...]"
        case .help, .resetstat, .rewrite: return rawValue.uppercased()
        case .set: return "SET <directive> <value>"
        }
    }

    var explanation: [String] {
        switch self {
        case .get: return ["Return settings matching the glob-like <pattern> and their values."]
        case .help: return helpExplanation
        case .resetstat: return ["Reset statistics reported by the INFO command."]
        case .rewrite, .set:
            return ["Refused; settings are changed in the configuration file, then by a restart."]
        }
    }
}

enum ScrubSubcommand: String, Subcommand {
    case help, start, status

    var arity: Int { 2 }
    var usage: String { rawValue.uppercased() }

    var explanation: [String] {
        switch self {
        case .help: return helpExplanation
        case .start: return ["Verify every block of every table."]
        case .status: return ["Return the progress and the findings of the last scrub, JSON."]
        }
    }
}

private let helpExplanation = ["Prints this help."]

extension RESPWriter {
    /// The answer to `<command> HELP`, in the form that Redis gives it.
    mutating func help(_ spec: CommandSpec) {
        var lines = [
            "\(spec.name.uppercased()) <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        ]
        for subcommand in spec.subcommands {
            lines.append(subcommand.usage)
            lines += subcommand.explanation.map { "    " + $0 }
        }
        array(lines.count)
        for line in lines { simple(line) }
    }
}
