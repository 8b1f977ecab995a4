// The currency between sessions, evaluator and proxy: commands that the table knows, groups of
// them, and their replies. Handed over a group at a time.
import Engine

/// A command with its entry of the table.
package struct RoutedCommand: Sendable {
    package var id: CommandID
    package var command: ClientCommand
    package init(id: CommandID, command: ClientCommand) {
        self.id = id
        self.command = command
    }

    /// Whether the leader's evaluator can answer it: a write, or what may go between writes.
    var isEvaluable: Bool {
        switch id {
        case .get, .exists, .ttl, .pttl, .type: return true
        case .ping: return command.count == 1
        default: return CommandTable.shared[id].family == .evaluated
        }
    }

    /// A write whose effects and answer do not depend on what is stored.
    var isBlind: Bool {
        switch id {
        case .set: return command.count == 3
        case .setex, .psetex, .mset, .flushall, .flushdb, .mtDelrange, .ping: return true
        default: return false
        }
    }

    /// Whether its reply may be long: such a one waits while the replies of all clients take too
    /// much memory. Writes, health checks and what tells of the node's state do not.
    var mayReplyAtLength: Bool {
        switch id {
        case .get, .mget, .mtRange, .mtTables, .mtLedger, .client, .command, .echo: return true
        // The old value.
        case .set: return command.count > 3
        case .ping: return command.count > 1
        default: return false
        }
    }
}

/// Commands of one connection, in order, to be answered in one protocol version.
package struct CommandBatch: Sendable {
    package var version: RESPVersion
    package var commands: [RoutedCommand]
    package init(version: RESPVersion, commands: [RoutedCommand]) {
        self.version = version
        self.commands = commands
    }
}

/// Encoded replies, one for each command of a group, back to back.
package struct ReplyBundle: Sendable, Equatable {
    package var bytes: [UInt8]
    /// Where each reply ends in `bytes`.
    package var ends: [Int]
    /// The log index that holds every write of the group; zero if it wrote nothing.
    package var writeIndex: LogIndex

    package init(bytes: [UInt8] = [], ends: [Int] = [], writeIndex: LogIndex = .zero) {
        self.bytes = bytes
        self.ends = ends
        self.writeIndex = writeIndex
    }

    /// The replies to commands `range` of the group.
    package func slice(_ range: Range<Int>) -> ArraySlice<UInt8> {
        let start = range.lowerBound == 0 ? 0 : ends[range.lowerBound - 1]
        return bytes[start..<(range.isEmpty ? start : ends[range.upperBound - 1])]
    }

    package mutating func append(_ reply: ArraySlice<UInt8>) {
        bytes.append(contentsOf: reply)
        ends.append(bytes.count)
    }
}

package enum EvaluationResult: Sendable, Equatable {
    case replied(ReplyBundle)
    /// Nothing of the group was looked at: it may be sent elsewhere.
    case notEvaluated(reason: String)
}

/// A group for the evaluator: batches of several connections, evaluated in this order.
package struct EvaluationRequest: Sendable {
    package var batches: [CommandBatch]
    /// Called once, on any thread.
    package var completion: @Sendable (EvaluationResult) -> Void
    package init(
        batches: [CommandBatch], completion: @escaping @Sendable (EvaluationResult) -> Void
    ) {
        self.batches = batches
        self.completion = completion
    }

    /// Evaluated without reading anything.
    var isBlind: Bool { batches.allSatisfy { $0.commands.allSatisfy(\.isBlind) } }
}
