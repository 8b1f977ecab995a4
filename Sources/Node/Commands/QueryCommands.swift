// `martlet status` and `martlet ledger`: what a running node says over HTTP, as a table or as the
// node's own JSON.
import ArgumentParser
import Foundation

struct NodeURLOptions: ParsableArguments {
    @Option(help: "HTTP address of the node.")
    var url = "http://127.0.0.1:7381"

    @Flag(help: "Print the node's JSON.")
    var json = false

    func validate() throws {
        guard HTTPAddress(url: url) != nil else {
            throw ValidationError("--url: \"\(url)\" is not http://host:port")
        }
    }

    func fetch(_ path: String) throws -> [UInt8] {
        guard let address = HTTPAddress(url: url) else {
            throw NodeFailure(.usage, "\"\(url)\" is not http://host:port")
        }
        let answer: HTTPAnswer
        do {
            answer = try HTTPGet.fetch(address, path)
        } catch {
            throw NodeFailure(.unavailable, "\(error); is a node running there?")
        }
        guard answer.status == 200 else {
            throw NodeFailure(.unavailable, "\(address)\(path) answered \(answer.status)")
        }
        return answer.body
    }

    func decode<Value: Decodable>(_ type: Value.Type, _ body: [UInt8]) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(body))
        } catch {
            throw NodeFailure(.unavailable, "\(url) gave an answer that this version cannot read")
        }
    }

    func printJSON(_ body: [UInt8]) {
        let text = String(decoding: body, as: UTF8.self)
        ProcessExit.printLine(text.hasSuffix("\n") ? String(text.dropLast()) : text)
    }
}

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show a node's role, positions and members.")

    @OptionGroup var node: NodeURLOptions

    func run() throws {
        let body = try node.fetch("/api/v1/status")
        if node.json { return node.printJSON(body) }
        ProcessExit.printLine(try node.decode(StatusDocument.self, body).text)
    }
}

struct LedgerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "Show what was damaged and how it was healed.")

    @OptionGroup var node: NodeURLOptions

    @Option(help: "Newest rows to show.")
    var limit = 50

    func validate() throws {
        guard (1...AdminJSON.ledgerLimitMax).contains(limit) else {
            throw ValidationError("--limit: allowed is 1 to \(AdminJSON.ledgerLimitMax)")
        }
    }

    func run() throws {
        let body = try node.fetch("/api/v1/ledger?limit=\(limit)")
        if node.json { return node.printJSON(body) }
        ProcessExit.printLine(
            LedgerDocument.text(try node.decode([LedgerDocument].self, body)))
    }
}

/// `/api/v1/status` as the command line reads it.
package struct StatusDocument: Decodable {
    package struct Member: Decodable {
        package var id: UInt64
        package var role: String
        package var match: UInt64
        package var lag: UInt64
    }

    package var node: UInt64
    package var role: String
    package var term: UInt64
    package var leader: UInt64
    package var commit: UInt64
    package var durable: UInt64
    package var applied: UInt64
    package var frontier: UInt64
    package var stateRoot: String
    package var members: [Member]

    package var text: String {
        let leaderText = leader == 0 ? "none known" : "node \(leader)"
        var table = TextTable(["member", "role", ">match", ">lag"])
        for member in members {
            table.add(["\(member.id)", member.role, "\(member.match)", "\(member.lag)"])
        }
        return """
            node \(node), \(role) in term \(term), leader: \(leaderText)
            commit \(commit), durable \(durable), applied \(applied), frontier \(frontier)
            state root \(stateRoot)

            \(table.text)
            """
    }
}

/// One row of `/api/v1/ledger` as the command line reads it.
package struct LedgerDocument: Decodable {
    package var time: UInt64
    package var file: String
    package var blocks: [UInt32]
    package var reason: String
    package var source: String
    package var peer: UInt64
    package var bytesFetched: UInt64
    package var duration: UInt64
    package var state: String
    package var detail: String

    package static func text(_ rows: [LedgerDocument]) -> String {
        if rows.isEmpty { return "nothing was ever damaged here" }
        var table = TextTable([
            "time", "state", "file", ">blocks", "reason", "source", ">peer", ">fetched",
            ">duration", "detail",
        ])
        let format = ISO8601DateFormatter()
        for row in rows {
            let date = Date(timeIntervalSince1970: Double(row.time) / 1000)
            table.add([
                format.string(from: date), row.state, row.file, "\(row.blocks.count)", row.reason,
                row.source.isEmpty ? "-" : row.source, row.peer == 0 ? "-" : "\(row.peer)",
                "\(row.bytesFetched)", "\(row.duration) ms", row.detail,
            ])
        }
        return table.text
    }
}
