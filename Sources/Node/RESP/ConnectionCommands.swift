// Commands about the connection itself: executed by the session, in their place in its order, with
// no data and no waiting.
import Engine
import NIOCore
import Replication
import Synchronization

extension Session {
    func execute(_ id: CommandID, _ command: ClientCommand) {
        switch id {
        case .ping: ping(command)
        case .echo: output.bulk(command[1])
        case .hello: hello(command)
        case .auth: authenticate(command)
        case .select: select(command)
        case .quit:
            output.ok()
            closeAfterReplies()
        case .reset: reset()
        case .command: output.describeCommands(command)
        case .client: client(command)
        case .readonly:
            isReadonly = true
            output.ok()
        case .readwrite:
            isReadonly = false
            output.ok()
        default: output.error("ERR '\(command.text(0))' is not a connection command")
        }
    }

    private static let noPassword =
        "ERR AUTH <password> called without any password configured for the default user. "
        + "Are you sure your configuration is correct?"
    private static let noSuchUser =
        "WRONGPASS invalid username-password pair or user is disabled."

    /// As Redis without a password: the default user may say anything, and there is no other.
    private func authenticate(_ command: ClientCommand) {
        switch command.count {
        case 2: output.error(Session.noPassword)
        case 3 where command.text(1) == "default": output.ok()
        case 3: output.error(Session.noSuchUser)
        default: output.error(ReplyText.syntax)
        }
    }

    private func ping(_ command: ClientCommand) {
        switch command.count {
        case 1: output.simple("PONG")
        case 2: output.bulk(command[1])
        default: output.error(CommandTable.wrongArity("ping"))
        }
    }

    private func select(_ command: ClientCommand) {
        switch command.integer(1) {
        case 0: output.ok()
        case nil: output.error(ReplyText.notInteger)
        case let number? where Int32(exactly: number) == nil:
            output.error(
                "ERR value is out of range, value must between -2147483648 and 2147483647")
        default: output.error("ERR DB index is out of range")
        }
    }

    private func reset() {
        isReadonly = false
        version = .two
        output.version = .two
        record?.fields.withLock { $0.name = "" }
        output.simple("RESET")
    }

    // MARK: HELLO

    private func hello(_ command: ClientCommand) {
        var chosen = version
        var name: String?
        if command.count > 1 {
            guard let number = command.integer(1) else {
                return output.error("ERR Protocol version is not an integer or out of range")
            }
            guard let known = UInt8(exactly: number).flatMap({ RESPVersion(rawValue: $0) }) else {
                return output.error("NOPROTO unsupported protocol version")
            }
            chosen = known
        }
        var index = 2
        while index < command.count {
            if command.matches(index, "AUTH"), index + 2 < command.count {
                guard command.text(index + 1) == "default" else {
                    return output.error(Session.noSuchUser)
                }
                index += 3
            } else if command.matches(index, "SETNAME"), index + 1 < command.count {
                guard let valid = clientName(command, index + 1) else { return }
                name = valid
                index += 2
            } else {
                return output.error("ERR Syntax error in HELLO option '\(command.text(index))'")
            }
        }
        version = chosen
        output.version = chosen
        if let name { record?.fields.withLock { $0.name = name } }
        record?.fields.withLock { $0.version = chosen }
        describeNode()
    }

    private func describeNode() {
        let isLeader = environment.service.evaluatingTerm != nil
        output.map(7)
        output.bulk("server")
        output.bulk("martlet")
        output.bulk("version")
        output.bulk(AdministrationReport.redisVersion)
        output.bulk("proto")
        output.integer(Int(version.rawValue))
        output.bulk("id")
        output.integer(Int64(record?.id ?? 0))
        output.bulk("mode")
        output.bulk("standalone")
        output.bulk("role")
        output.bulk(isLeader ? "master" : "replica")
        output.bulk("modules")
        output.array(0)
    }

    // MARK: CLIENT

    private func client(_ command: ClientCommand) {
        switch ClientSubcommand(command) {
        case .help, nil: output.help(CommandTable.shared[.client])
        case .id: output.integer(Int64(record?.id ?? 0))
        case .getname:
            let name = record?.fields.withLock { $0.name } ?? ""
            if name.isEmpty { output.null() } else { output.bulk(name) }
        case .setname:
            guard let name = clientName(command, 2) else { return }
            record?.fields.withLock { $0.name = name }
            output.ok()
        case .setinfo: setInfo(command)
        case .info: output.verbatim((record?.line(now: loop.eventLoop.now) ?? "") + "\n")
        case .list: list(command)
        case .noEvict, .noTouch: acceptSwitch(command)
        case .reply:
            if command.matches(2, "ON") {
                output.ok()
            } else if command.matches(2, "OFF") || command.matches(2, "SKIP") {
                output.error("ERR CLIENT REPLY supports ON only")
            } else {
                output.error(ReplyText.syntax)
            }
        }
    }

    /// Eviction and access times do not exist here, so both positions are the same.
    private func acceptSwitch(_ command: ClientCommand) {
        guard command.matches(2, "ON") || command.matches(2, "OFF") else {
            return output.error(ReplyText.syntax)
        }
        output.ok()
    }

    /// A name without blanks and control characters; answers and returns nil if it has some.
    private func clientName(_ command: ClientCommand, _ index: Int) -> String? {
        guard command[index].allSatisfy({ (0x21...0x7e).contains($0) }),
            command.byteCount(index) <= 1024
        else {
            output.error(
                "ERR Client names cannot contain spaces, newlines or special characters.")
            return nil
        }
        return command.text(index)
    }

    private func setInfo(_ command: ClientCommand) {
        guard command[3].allSatisfy({ (0x21...0x7e).contains($0) }), command.byteCount(3) <= 1024
        else {
            return output.error(
                "ERR \(command.text(2)) cannot contain spaces, newlines or special characters.")
        }
        let value = command.text(3)
        if command.matches(2, "LIB-NAME") {
            record?.fields.withLock { $0.libraryName = value }
        } else if command.matches(2, "LIB-VER") {
            record?.fields.withLock { $0.libraryVersion = value }
        } else {
            return output.error("ERR Unrecognized option '\(command.text(2))'")
        }
        output.ok()
    }

    private func list(_ command: ClientCommand) {
        var wanted: Set<UInt64>?
        if command.count == 4, command.matches(2, "TYPE") {
            let others: [StaticString] = ["MASTER", "REPLICA", "SLAVE", "PUBSUB"]
            if others.contains(where: { command.matches(3, $0) }) { return output.verbatim("") }
            guard command.matches(3, "NORMAL") else {
                return output.error("ERR Unknown client type '\(command.text(3))'")
            }
        } else if command.count > 3, command.matches(2, "ID") {
            var ids: Set<UInt64> = []
            for index in 3..<command.count {
                guard let id = command.integer(index).flatMap({ UInt64(exactly: $0) }) else {
                    return output.error("ERR Invalid client ID")
                }
                ids.insert(id)
            }
            wanted = ids
        } else if command.count != 2 {
            return output.error(ReplyText.syntax)
        }
        var text = ""
        for client in environment.clients.all() where wanted?.contains(client.id) ?? true {
            text += client.line(now: loop.eventLoop.now) + "\n"
        }
        output.verbatim(text)
    }
}
