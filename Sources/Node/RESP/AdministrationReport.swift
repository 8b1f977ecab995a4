// INFO, ROLE, CONFIG and the reporting MT.* commands. Executed on a pool thread: the answers come
// from the replica's status and from `AdminInformation`, which may take locks and read files.
import Engine
import NIOCore
import Replication

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct AdministrationReport: Sendable {
    /// The Redis whose commands and replies these are; clients compare it with what they need.
    static let redisVersion = "7.2.0"
    static let version = "0.1.0"
    static let ledgerRowsDefault = 1000
    static let ledgerRowsMax = 100_000

    let environment: SessionEnvironment

    private var admin: any AdminInformation { environment.admin }

    func answer(_ id: CommandID, _ command: ClientCommand, into writer: inout RESPWriter) {
        switch id {
        case .info: writer.verbatim(information(command))
        case .role: role(into: &writer)
        case .config: config(command, into: &writer)
        case .mtStatus: writer.bulk(admin.statusJSON())
        case .mtTables: writer.bulk(admin.tablesJSON())
        case .mtLedger: ledger(command, into: &writer)
        case .mtScrub: scrub(command, into: &writer)
        default: writer.error("ERR '\(command.text(0))' is not a report")
        }
    }

    private func ledger(_ command: ClientCommand, into writer: inout RESPWriter) {
        guard command.count <= 2 else {
            return writer.error(CommandTable.wrongArity("mt.ledger"))
        }
        var limit = AdministrationReport.ledgerRowsDefault
        if command.count == 2 {
            guard let number = command.integer(1), number >= 0 else {
                return writer.error(ReplyText.notInteger)
            }
            limit = min(Int(number), AdministrationReport.ledgerRowsMax)
        }
        writer.bulk(admin.ledgerJSON(limit: limit))
    }

    private func scrub(_ command: ClientCommand, into writer: inout RESPWriter) {
        switch ScrubSubcommand(command) {
        case .status: writer.bulk(admin.scrubJSON())
        case .start:
            do throws(EngineError) {
                try admin.startScrub()
                writer.ok()
            } catch {
                writer.error(ReplyText.of(error))
            }
        case .help, nil: writer.help(CommandTable.shared[.mtScrub])
        }
    }

    // MARK: CONFIG

    private func config(_ command: ClientCommand, into writer: inout RESPWriter) {
        switch ConfigSubcommand(command) {
        case .get: showSettings(command, into: &writer)
        case .set: refuseSettings(command, into: &writer)
        case .rewrite: writer.error(AdministrationReport.settingsAreFixed)
        case .resetstat:
            environment.statistics.reset()
            writer.ok()
        case .help, nil: writer.help(CommandTable.shared[.config])
        }
    }

    private static let settingsAreFixed =
        "ERR settings are changed in the node's configuration file, then by a restart"

    private func showSettings(_ command: ClientCommand, into writer: inout RESPWriter) {
        let patterns = (2..<command.count).map { [UInt8](command.text($0).lowercased().utf8) }
        let rows = settings().filter { row in
            let name = [UInt8](row.name.lowercased().utf8)
            return patterns.contains { isGlobMatch($0, name) }
        }
        writer.map(rows.count)
        for row in rows {
            writer.bulk(row.name)
            writer.bulk(row.value)
        }
    }

    /// Nothing can be set here, but what is wrong in itself is told first.
    private func refuseSettings(_ command: ClientCommand, into writer: inout RESPWriter) {
        guard command.count % 2 == 0 else { return writer.error(ReplyText.syntax) }
        let known = Set(settings().map { $0.name.lowercased() })
        for index in stride(from: 2, to: command.count, by: 2)
        where !known.contains(command.text(index).lowercased()) {
            return writer.error(
                "ERR Unknown option or number of arguments for CONFIG SET - "
                    + "'\(command.text(index))'")
        }
        writer.error(AdministrationReport.settingsAreFixed)
    }

    /// What Redis clients ask for, then the node's own; each name once.
    private func settings() -> [InfoRow] {
        let limits = environment.settings
        var rows = [
            InfoRow("maxmemory", "0"), InfoRow("maxmemory-policy", "noeviction"),
            InfoRow("save", ""), InfoRow("appendonly", "yes"), InfoRow("databases", "1"),
            InfoRow("maxclients", String(limits.clientsMax)), InfoRow("timeout", "0"),
            InfoRow("proto-max-bulk-len", String(RESPSettings.bulkBytesMax)),
        ]
        let known = Set(rows.map(\.name))
        rows += admin.settings().filter { !known.contains($0.name) }
        return rows
    }

    // MARK: ROLE

    private func role(into writer: inout RESPWriter) {
        let status = environment.service.status()
        if status.role == "leader" {
            let others = status.members.filter { $0.id != status.node }
            writer.array(3)
            writer.bulk("master")
            writer.integer(Int64(clamping: status.commit.rawValue))
            writer.array(others.count)
            for member in others {
                let address = address(of: member.id)
                writer.array(3)
                writer.bulk(address.host)
                writer.bulk(String(address.port))
                writer.bulk(String(member.match.rawValue))
            }
        } else {
            let address = address(of: status.leader)
            writer.array(5)
            writer.bulk("slave")
            writer.bulk(address.host)
            writer.integer(address.port)
            writer.bulk(status.leader == .none ? "connect" : "connected")
            writer.integer(Int64(clamping: status.applied.rawValue))
        }
    }

    private func address(of member: MemberID) -> (host: String, port: Int) {
        member == .none ? ("", 0) : admin.clientAddress(of: member) ?? ("", 0)
    }
}

// MARK: - INFO

extension AdministrationReport {
    private static let sections = [
        "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster",
        "keyspace", "martlet",
    ]

    private func information(_ command: ClientCommand) -> String {
        var wanted = (1..<max(1, command.count)).map { command.text($0).lowercased() }
        let all: Set<String> = ["all", "default", "everything"]
        if wanted.isEmpty || wanted.contains(where: { all.contains($0) }) {
            wanted = AdministrationReport.sections
        }
        let status = environment.service.status()
        var text = ""
        for section in AdministrationReport.sections where wanted.contains(section) {
            if !text.isEmpty { text += "\r\n" }
            text += "# \(section.prefix(1).uppercased())\(section.dropFirst())\r\n"
            for row in rows(section, status) + admin.infoRows(section) {
                text += "\(row.name):\(row.value)\r\n"
            }
        }
        return text
    }

    private func rows(_ section: String, _ status: ReplicaStatus) -> [InfoRow] {
        switch section {
        case "server": return serverRows()
        case "clients":
            return [
                InfoRow("connected_clients", String(environment.clients.count)),
                InfoRow("maxclients", String(environment.settings.clientsMax)),
                InfoRow("blocked_clients", "0"),
            ]
        case "memory":
            let bytes = String(residentBytes())
            return [
                InfoRow("used_memory", bytes), InfoRow("used_memory_rss", bytes),
                InfoRow("client_input_bytes", String(environment.input.bytes)),
                InfoRow("client_output_bytes", String(environment.output.bytes)),
                InfoRow("maxmemory", "0"), InfoRow("maxmemory_policy", "noeviction"),
            ]
        case "persistence":
            return [InfoRow("loading", "0"), InfoRow("aof_enabled", "1")]
        case "stats": return statisticsRows()
        case "replication": return replicationRows(status)
        case "cpu": return processorRows()
        // Not Redis Cluster: every node takes every key.
        case "cluster": return [InfoRow("cluster_enabled", "0")]
        case "martlet": return martletRows(status)
        default: return []
        }
    }

    private func processorRows() -> [InfoRow] {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> String {
            "\(time.tv_sec)." + String(1_000_000 + Int(time.tv_usec)).dropFirst()
        }
        return [
            InfoRow("used_cpu_sys", seconds(usage.ru_stime)),
            InfoRow("used_cpu_user", seconds(usage.ru_utime)),
        ]
    }

    private func serverRows() -> [InfoRow] {
        let uptime = (NIODeadline.now() - environment.startedAt).nanoseconds / 1_000_000_000
        return [
            InfoRow("redis_version", AdministrationReport.redisVersion),
            InfoRow("martlet_version", AdministrationReport.version),
            InfoRow("redis_mode", "standalone"),
            InfoRow("arch_bits", String(Int.bitWidth)),
            InfoRow("process_id", String(getpid())),
            InfoRow("uptime_in_seconds", String(uptime)),
            InfoRow("uptime_in_days", String(uptime / 86_400)),
        ]
    }

    private func statisticsRows() -> [InfoRow] {
        let statistics = environment.statistics
        let counters: [(String, UInt64)] = [
            ("total_connections_received", statistics.connectionsReceived.value),
            ("total_commands_processed", statistics.commandsProcessed.value),
            ("total_net_input_bytes", statistics.bytesReceived.value),
            ("total_net_output_bytes", statistics.bytesSent.value),
            ("rejected_connections", statistics.connectionsRejected.value),
            ("keyspace_hits", statistics.keyspaceHits.value),
            ("keyspace_misses", statistics.keyspaceMisses.value),
            ("forwarded_to_leader", statistics.forwardedAway.value),
            ("forwarded_here", statistics.forwardedHere.value),
            ("uncertain_replies", statistics.uncertainReplies.value),
            ("slow_clients_closed", statistics.slowClientsClosed.value),
            ("client_query_buffer_limit_disconnections", statistics.inputLimitClosed.value),
            ("client_output_buffer_limit_disconnections", statistics.outputLimitClosed.value),
        ]
        return counters.map { InfoRow($0.0, String($0.1)) }
    }

    private func replicationRows(_ status: ReplicaStatus) -> [InfoRow] {
        let others = status.members.filter { $0.id != status.node }
        guard status.role == "leader" else {
            let leader = address(of: status.leader)
            return [
                InfoRow("role", "slave"),
                InfoRow("master_host", leader.host), InfoRow("master_port", String(leader.port)),
                InfoRow("master_link_status", status.leader == .none ? "down" : "up"),
                InfoRow("slave_repl_offset", String(status.applied.rawValue)),
                // Writes are taken here and sent on to the leader.
                InfoRow("slave_read_only", "0"),
                InfoRow("connected_slaves", "0"),
            ]
        }
        var rows = [
            InfoRow("role", "master"),
            InfoRow("connected_slaves", String(others.count { $0.isActive })),
        ]
        for (index, member) in others.enumerated() {
            let address = address(of: member.id)
            rows.append(
                InfoRow(
                    "slave\(index)",
                    "ip=\(address.host),port=\(address.port),state=\(state(of: member)),"
                        + "offset=\(member.match.rawValue),lag=\(member.lag)"))
        }
        rows.append(InfoRow("master_repl_offset", String(status.commit.rawValue)))
        return rows
    }

    private func state(of member: MemberStatus) -> String {
        if !member.isActive { return "disconnected" }
        return member.needsTables ? "needs_tables" : "online"
    }

    private func martletRows(_ status: ReplicaStatus) -> [InfoRow] {
        [
            InfoRow("node", status.node.description), InfoRow("role", status.role),
            InfoRow("term", status.term.description), InfoRow("leader", status.leader.description),
            InfoRow("commit", status.commit.description),
            InfoRow("durable", status.durable.description),
            InfoRow("applied", status.applied.description),
            InfoRow("frontier", status.frontier.description),
            InfoRow("state_root", status.stateRoot.description),
            InfoRow("members", String(status.members.count)),
        ]
    }

    /// Resident memory of this process; 0 if the system does not say.
    private func residentBytes() -> UInt64 {
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: 128)
        let count = text.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
        guard count > 0 else { return 0 }
        let fields = String(decoding: text.prefix(count), as: UTF8.self).split(separator: " ")
        guard fields.count > 1, let pages = UInt64(fields[1]) else { return 0 }
        return pages &* UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0))
    }
}

/// Matches `*` (any run), `?` (any byte) and `\` (the next byte as it is). Linear in the text for
/// each star, whatever the pattern.
func isGlobMatch(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
    var (place, next) = (0, 0)
    var (star, resume) = (-1, 0)
    while next < text.count {
        var width = 1
        var isMatch = false
        if place < pattern.count {
            switch pattern[place] {
            case UInt8(ascii: "*"):
                (star, resume) = (place, next)
                place += 1
                continue
            case UInt8(ascii: "?"): isMatch = true
            case UInt8(ascii: "\\") where place + 1 < pattern.count:
                width = 2
                isMatch = pattern[place + 1] == text[next]
            case let byte: isMatch = byte == text[next]
            }
        }
        if isMatch {
            place += width
            next += 1
        } else {
            guard star >= 0 else { return false }
            resume += 1
            (place, next) = (star + 1, resume)
        }
    }
    return pattern[min(place, pattern.count)...].allSatisfy { $0 == UInt8(ascii: "*") }
}
