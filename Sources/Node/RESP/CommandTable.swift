// Every command that a node understands: its name, arity, flags, where its keys are, and who
// executes it. Unknown names and wrong arities are answered from here, in Redis's words.

/// Who executes a command.
package enum CommandFamily: Sendable {
    /// The session itself: connection state, no data.
    case connection
    /// The node, off the event loop: reports that may take locks or walk tables.
    case administration
    /// The local store, once a read is confirmed.
    case read
    /// The leader's evaluator: everything that may write.
    case evaluated
    /// Waits for other members.
    case wait
}

package enum CommandID: Int, Sendable, CaseIterable {
    case ping, echo, hello, auth, select, quit, reset, command, client, readonly, readwrite
    case info, role, config, mtStatus, mtTables, mtLedger, mtScrub
    case get, exists, mget, ttl, pttl, type, mtRange
    case set, setnx, setex, psetex, del, unlink, mset, incr, decr, incrby, decrby
    case expire, pexpire, persist, flushall, flushdb, mtDelrange
    case wait
}

package struct CommandFlags: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let write = CommandFlags(rawValue: 1)
    package static let readonly = CommandFlags(rawValue: 2)
    package static let admin = CommandFlags(rawValue: 4)
    package static let fast = CommandFlags(rawValue: 8)
    package static let denyOutOfMemory = CommandFlags(rawValue: 16)
    package static let blocking = CommandFlags(rawValue: 32)

    /// Redis's names, for COMMAND.
    var names: [String] {
        let all: [(CommandFlags, String)] = [
            (.write, "write"), (.readonly, "readonly"), (.denyOutOfMemory, "denyoom"),
            (.admin, "admin"), (.blocking, "blocking"), (.fast, "fast"),
        ]
        return all.filter { contains($0.0) }.map(\.1)
    }
}

package struct CommandSpec: Sendable {
    package let id: CommandID
    /// Lower case.
    package let name: String
    /// Arguments with the name; negative: at least so many.
    package let arity: Int
    package let flags: CommandFlags
    package let family: CommandFamily
    /// First key, last key (negative: from the end), distance; 0 if it has no keys.
    package let keys: (first: Int, last: Int, step: Int)
    package let group: String
    package let summary: String
    /// What the second word may be; empty if that is a plain argument.
    package let subcommands: [SubcommandSpec]

    /// Indexes of the keys in a command of `count` arguments.
    package func keyIndexes(count: Int) -> StrideTo<Int> {
        guard keys.first > 0 else { return stride(from: 0, to: 0, by: 1) }
        let last = keys.last < 0 ? count + keys.last : keys.last
        return stride(from: keys.first, to: min(last, count - 1) + 1, by: keys.step)
    }

    func accepts(count: Int) -> Bool { arity < 0 ? count >= -arity : count == arity }
}

package struct CommandTable: Sendable {
    package static let shared = CommandTable()

    /// By `CommandID.rawValue`.
    package let specs: [CommandSpec]
    private let ids: [PackedName: CommandID]

    /// A name of at most 16 bytes, in upper case: looked up without making a string.
    private struct PackedName: Hashable {
        var low: UInt64 = 0
        var high: UInt64 = 0

        init?(_ name: UnsafeRawBufferPointer) {
            guard !name.isEmpty, name.count <= 16 else { return nil }
            for byte in name {
                high = high << 8 | low >> 56
                low = low << 8 | UInt64(uppercased(byte))
            }
        }
    }

    private init() {
        specs = CommandTable.definitions().sorted { $0.id.rawValue < $1.id.rawValue }
        var ids: [PackedName: CommandID] = [:]
        for spec in specs {
            let packed = Array(spec.name.utf8).withUnsafeBytes { PackedName($0) }
            if let packed { ids[packed] = spec.id }
        }
        self.ids = ids
    }

    package func id(of name: UnsafeRawBufferPointer) -> CommandID? {
        PackedName(name).flatMap { ids[$0] }
    }

    package func id(of name: String) -> CommandID? {
        Array(name.utf8).withUnsafeBytes { id(of: $0) }
    }

    package subscript(id: CommandID) -> CommandSpec { specs[id.rawValue] }

    package enum Lookup: Sendable {
        case found(CommandID)
        /// The error to answer with.
        case refused(String)
    }

    /// Finds a command and checks its number of arguments and the length of its keys.
    package func resolve(_ command: ClientCommand, keyBytes: Int) -> Lookup {
        guard let id = command.withBytes(0, { id(of: $0) }) else {
            return .refused(CommandTable.unknown(command))
        }
        let spec = self[id]
        guard spec.accepts(count: command.count) else {
            return .refused(CommandTable.wrongArity(spec.name))
        }
        if !spec.subcommands.isEmpty, command.count > 1,
            let refusal = CommandTable.refusal(ofSubcommandIn: command, spec)
        {
            return .refused(refusal)
        }
        for index in spec.keyIndexes(count: command.count) {
            let count = command.byteCount(index)
            if count > keyBytes {
                return .refused("ERR key is \(count) bytes, above the limit of \(keyBytes)")
            }
            if count == 0 {
                return .refused("ERR key is empty, a key has 1 to \(keyBytes) bytes")
            }
        }
        return .found(id)
    }

    private static func refusal(ofSubcommandIn command: ClientCommand, _ spec: CommandSpec)
        -> String?
    {
        let name = command.text(1).lowercased()
        guard let subcommand = spec.subcommands.first(where: { $0.name == name }) else {
            return unknownSubcommand(command)
        }
        guard subcommand.accepts(count: command.count) else {
            return wrongArity("\(spec.name)|\(name)")
        }
        return nil
    }

    package static func wrongArity(_ name: String) -> String {
        "ERR wrong number of arguments for '\(name)' command"
    }

    /// Redis's text; it shows at most 128 bytes of the name and of the arguments.
    static func unknown(_ command: ClientCommand) -> String {
        var arguments = ""
        for index in 1..<max(1, command.count) {
            guard arguments.utf8.count < 128 else { break }
            let shown = command[index].prefix(128 - arguments.utf8.count)
            arguments += "'\(String(decoding: shown, as: UTF8.self))' "
        }
        let name = String(decoding: command[0].prefix(128), as: UTF8.self)
        return "ERR unknown command '\(name)', with args beginning with: \(arguments)"
    }

    private static func unknownSubcommand(_ command: ClientCommand) -> String {
        let name = String(decoding: command[1].prefix(128), as: UTF8.self)
        return "ERR unknown subcommand '\(name)'. Try \(command.text(0).uppercased()) HELP."
    }
}

// MARK: - Definitions

extension CommandTable {
    private static func definitions() -> [CommandSpec] {
        connectionCommands + administrationCommands + readCommands + writeCommands
    }

    private static func spec(
        _ id: CommandID, _ name: String, _ arity: Int, _ flags: CommandFlags,
        _ family: CommandFamily, keys: (Int, Int, Int) = (0, 0, 0), _ group: String,
        _ summary: String, subcommands: [SubcommandSpec] = []
    ) -> CommandSpec {
        CommandSpec(
            id: id, name: name, arity: arity, flags: flags, family: family,
            keys: (keys.0, keys.1, keys.2), group: group, summary: summary,
            subcommands: subcommands)
    }

    private static let connectionCommands: [CommandSpec] = [
        spec(.ping, "ping", -1, .fast, .connection, "connection", "Answers PONG, or the message."),
        spec(.echo, "echo", 2, .fast, .connection, "connection", "Answers the message."),
        spec(
            .hello, "hello", -1, .fast, .connection, "connection",
            "Chooses RESP2 or RESP3 and describes the node."),
        spec(.auth, "auth", -2, .fast, .connection, "connection", "Refused: there are no users."),
        spec(.select, "select", 2, .fast, .connection, "connection", "Accepts database 0."),
        spec(.quit, "quit", -1, .fast, .connection, "connection", "Closes the connection."),
        spec(
            .reset, "reset", 1, .fast, .connection, "connection",
            "Puts the connection into its first state."),
        spec(
            .command, "command", -1, [], .connection, "server",
            "Describes the commands.", subcommands: CommandSubcommand.specs),
        spec(
            .client, "client", -2, [], .connection, "connection",
            "Describes and names connections.", subcommands: ClientSubcommand.specs),
        spec(
            .readonly, "readonly", 1, .fast, .connection, "cluster",
            "Lets this connection read data that may be a few seconds old."),
        spec(
            .readwrite, "readwrite", 1, .fast, .connection, "cluster",
            "Makes reads linearizable again."),
    ]

    private static let administrationCommands: [CommandSpec] = [
        spec(.info, "info", -1, [], .administration, "server", "Describes the node by section."),
        spec(.role, "role", 1, .fast, .administration, "server", "The node's role and members."),
        spec(
            .config, "config", -2, .admin, .administration, "server",
            "GET shows settings; they are changed in the configuration file.",
            subcommands: ConfigSubcommand.specs),
        spec(
            .mtStatus, "mt.status", 1, .admin, .administration, "martlet",
            "The node's replication state, JSON."),
        spec(
            .mtTables, "mt.tables", 1, .admin, .administration, "martlet",
            "The live tables, JSON."),
        spec(
            .mtLedger, "mt.ledger", -1, .admin, .administration, "martlet",
            "The latest healings, newest first, JSON."),
        spec(
            .mtScrub, "mt.scrub", -2, .admin, .administration, "martlet",
            "START or STATUS of a scrub of every block.", subcommands: ScrubSubcommand.specs),
        spec(
            .wait, "wait", 3, .blocking, .wait, "generic",
            "Waits until so many other members hold this connection's writes durably."),
    ]

    private static let readCommands: [CommandSpec] = [
        spec(
            .get, "get", 2, [.readonly, .fast], .read, keys: (1, 1, 1), "string", "A key's value."),
        spec(
            .mget, "mget", -2, [.readonly, .fast], .read, keys: (1, -1, 1), "string",
            "The values of several keys."),
        spec(
            .exists, "exists", -2, [.readonly, .fast], .read, keys: (1, -1, 1), "generic",
            "How many of the keys exist."),
        spec(
            .ttl, "ttl", 2, [.readonly, .fast], .read, keys: (1, 1, 1), "generic",
            "Seconds until a key expires."),
        spec(
            .pttl, "pttl", 2, [.readonly, .fast], .read, keys: (1, 1, 1), "generic",
            "Milliseconds until a key expires."),
        spec(
            .type, "type", 2, [.readonly, .fast], .read, keys: (1, 1, 1), "generic",
            "string or none."),
        spec(
            .mtRange, "mt.range", -3, .readonly, .read, "martlet",
            "Keys and values from a start to before an end, in order."),
    ]

    private static let growing: CommandFlags = [.write, .denyOutOfMemory]

    private static let writeCommands: [CommandSpec] = [
        spec(.set, "set", -3, growing, .evaluated, keys: (1, 1, 1), "string", "Sets a key."),
        spec(
            .setnx, "setnx", 3, [.write, .denyOutOfMemory, .fast], .evaluated, keys: (1, 1, 1),
            "string", "Sets a key that does not exist."),
        spec(
            .setex, "setex", 4, growing, .evaluated, keys: (1, 1, 1), "string",
            "Sets a key that expires, seconds."),
        spec(
            .psetex, "psetex", 4, growing, .evaluated, keys: (1, 1, 1), "string",
            "Sets a key that expires, milliseconds."),
        spec(
            .mset, "mset", -3, growing, .evaluated, keys: (1, -1, 2), "string",
            "Sets several keys at once."),
        spec(
            .incr, "incr", 2, [.write, .denyOutOfMemory, .fast], .evaluated, keys: (1, 1, 1),
            "string", "Adds one."),
        spec(
            .decr, "decr", 2, [.write, .denyOutOfMemory, .fast], .evaluated, keys: (1, 1, 1),
            "string", "Subtracts one."),
        spec(
            .incrby, "incrby", 3, [.write, .denyOutOfMemory, .fast], .evaluated, keys: (1, 1, 1),
            "string", "Adds a number."),
        spec(
            .decrby, "decrby", 3, [.write, .denyOutOfMemory, .fast], .evaluated, keys: (1, 1, 1),
            "string", "Subtracts a number."),
        spec(
            .del, "del", -2, .write, .evaluated, keys: (1, -1, 1), "generic", "Deletes keys."),
        spec(
            .unlink, "unlink", -2, [.write, .fast], .evaluated, keys: (1, -1, 1), "generic",
            "Deletes keys."),
        spec(
            .expire, "expire", -3, [.write, .fast], .evaluated, keys: (1, 1, 1), "generic",
            "Lets a key expire, seconds."),
        spec(
            .pexpire, "pexpire", -3, [.write, .fast], .evaluated, keys: (1, 1, 1), "generic",
            "Lets a key expire, milliseconds."),
        spec(
            .persist, "persist", 2, [.write, .fast], .evaluated, keys: (1, 1, 1), "generic",
            "Takes a key's expiry away."),
        spec(.flushall, "flushall", -1, .write, .evaluated, "server", "Deletes everything."),
        spec(.flushdb, "flushdb", -1, .write, .evaluated, "server", "Deletes everything."),
        spec(
            .mtDelrange, "mt.delrange", 3, .write, .evaluated, "martlet",
            "Deletes every key from a start to before an end."),
    ]
}
