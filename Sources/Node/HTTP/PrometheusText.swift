// Metrics in Prometheus' text format, version 0.0.4.
import Engine
import Replication

/// One metric with its samples. Names follow Prometheus' rules: `martlet_` first, the unit last,
/// `_total` after counters.
package struct MetricFamily: Sendable, Equatable {
    package enum Kind: String, Sendable {
        case counter
        case gauge
    }

    package struct Sample: Sendable, Equatable {
        package var labels: [Label]
        package var value: Double
        package init(_ value: Double, _ labels: [Label] = []) {
            self.labels = labels
            self.value = value
        }
    }

    package struct Label: Sendable, Equatable {
        package var name: String
        package var value: String
        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package var name: String
    package var help: String
    package var kind: Kind
    package var samples: [Sample]

    package init(_ name: String, _ kind: Kind, help: String, samples: [Sample]) {
        self.name = name
        self.help = help
        self.kind = kind
        self.samples = samples
    }

    package static func counter(_ name: String, _ value: UInt64, help: String) -> MetricFamily {
        MetricFamily(name, .counter, help: help, samples: [Sample(Double(value))])
    }

    package static func gauge(_ name: String, _ value: UInt64, help: String) -> MetricFamily {
        MetricFamily(name, .gauge, help: help, samples: [Sample(Double(value))])
    }
}

package enum PrometheusText {
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    package static func render(_ families: [MetricFamily]) -> [UInt8] {
        var text = ""
        for family in families {
            text += "# HELP \(family.name) \(escape(family.help, quotes: false))\n"
            text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
            for sample in family.samples {
                text += family.name
                if !sample.labels.isEmpty {
                    let labels = sample.labels.map {
                        "\($0.name)=\"\(escape($0.value, quotes: true))\""
                    }
                    text += "{" + labels.joined(separator: ",") + "}"
                }
                text += " \(number(sample.value))\n"
            }
        }
        return [UInt8](text.utf8)
    }

    /// What every replica can say of itself; the node adds the engine's own counters.
    package static func families(of status: ReplicaStatus) -> [MetricFamily] {
        let roles = ["leader", "follower", "candidate", "learner"]
        return [
            .gauge("martlet_raft_term", status.term.rawValue, help: "Current term."),
            MetricFamily(
                "martlet_raft_role", .gauge, help: "1 for the role this member has.",
                samples: roles.map { .init($0 == status.role ? 1 : 0, [.init("role", $0)]) }),
            .gauge(
                "martlet_raft_leader", status.leader.rawValue,
                help: "Member id of the known leader, 0 if none."),
            .gauge("martlet_commit_index", status.commit.rawValue, help: "Committed index."),
            .gauge("martlet_durable_index", status.durable.rawValue, help: "Durable index."),
            .gauge("martlet_applied_index", status.applied.rawValue, help: "Applied index."),
            .gauge(
                "martlet_frontier_index", status.frontier.rawValue,
                help: "Index of the installed manifest."),
            MetricFamily(
                "martlet_member_lag_entries", .gauge,
                help: "Entries that a member is behind, as this member knows.",
                samples: status.members.map {
                    .init(Double($0.lag), [.init("member", $0.id.description)])
                }),
        ]
    }

    /// The client edge: who is connected, what they make the node hold, who was closed and why.
    static func families(of clients: SessionEnvironment) -> [MetricFamily] {
        let statistics = clients.statistics
        return [
            .gauge(
                "martlet_clients_connected", UInt64(clients.clients.count),
                help: "Connected clients."),
            .gauge(
                "martlet_clients_limit", UInt64(clients.settings.clientsMax),
                help: "Clients that may be connected, by setting and files of the process."),
            .gauge(
                "martlet_client_input_bytes", UInt64(clamping: clients.input.bytes),
                help: "Memory of commands that are not executed yet."),
            .gauge(
                "martlet_client_output_bytes", UInt64(clamping: clients.output.bytes),
                help: "Memory of replies that clients have not taken yet."),
            .counter(
                "martlet_client_commands_total", statistics.commandsProcessed.value,
                help: "Commands executed."),
            MetricFamily(
                "martlet_clients_closed_total", .counter,
                help: "Clients closed for the memory that they held, by reason.",
                samples: [
                    ("stalled", statistics.slowClientsClosed.value),
                    ("output", statistics.outputLimitClosed.value),
                    ("input", statistics.inputLimitClosed.value),
                ].map { .init(Double($0.1), [.init("reason", $0.0)]) }),
        ]
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        if value == value.rounded(), abs(value) < 9e15 { return String(Int64(value)) }
        return String(value)
    }

    private static func escape(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
