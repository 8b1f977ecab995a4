// The error replies that more than one place gives. The first word tells a client what it may do:
//   CLUSTERDOWN, READONLY, BUSY  certainly not applied: retry is safe
//   UNCERTAIN <term> <index>     may or may not be applied
//   DAMAGED                      the data asked for is unreadable here and nowhere else was found
//   ERR                          the request itself is wrong
import Engine
import Replication

package enum ReplyText {
    package static let syntax = "ERR syntax error"
    package static let notInteger = "ERR value is not an integer or out of range"
    package static let clientsMax = "ERR max number of clients reached"

    /// A failed read or a refused request, in the engine's own words.
    package static func of(_ error: EngineError) -> String {
        switch error {
        case .blockLost, .tableLost, .corrupt, .logHole: return "DAMAGED \(error)"
        case .busy, .lowSpace: return "BUSY \(error)"
        case .closed, .poisoned: return "CLUSTERDOWN \(error)"
        case .file, .wouldBlock, .limit, .locked, .identity, .wrongKey, .logTrimmed, .invalid,
            .mergeOperatorUnknown, .historyGone, .changesGone, .conflict:
            return "ERR \(error)"
        }
    }

    /// A proposal that was certainly not applied. The replica's reason starts with the cause.
    package static func notApplied(_ reason: String) -> String {
        let cause = reason.prefix(9).lowercased()
        if cause.hasPrefix("busy: ") { return "BUSY \(reason.dropFirst("busy: ".count))" }
        if cause.hasPrefix("busy") { return "BUSY \(reason)" }
        if cause.hasPrefix("readonly") || cause.hasPrefix("read-only") {
            return "READONLY \(reason)"
        }
        return clusterDown(reason)
    }

    package static func uncertain(term: Term, index: LogIndex) -> String {
        "UNCERTAIN \(term) \(index) leadership was lost before the write was confirmed; "
            + "it may or may not have been applied"
    }

    package static let uncertainForward =
        "UNCERTAIN 0 0 the leader did not answer; the write may or may not have been applied"

    package static func clusterDown(_ reason: String) -> String {
        "CLUSTERDOWN \(reason); nothing was applied, retry is safe"
    }

    package static let leadershipLost = clusterDown("leadership was lost")

    package static func refusal(_ refusal: ServiceRefusal) -> String {
        switch refusal {
        case .noLeader: return clusterDown("no leader is known")
        case .timedOut: return clusterDown("the leader did not confirm the read in time")
        case .stopped: return clusterDown("the node is stopping")
        case .stale(let milliseconds):
            return clusterDown("the data here is \(milliseconds) ms old")
        }
    }

    package static func outputFull(_ limit: Int) -> String {
        "BUSY the unread replies of all clients are above the limit of \(limit) bytes; "
            + "nothing was executed, retry is safe"
    }

    package static func inputFull(_ limit: Int) -> String {
        "ERR input of all clients is above the limit of \(limit) bytes"
    }

    package static func commandTooLong(_ bytes: Int) -> String {
        "ERR command is \(bytes) bytes, above the limit of \(Limits.entryPayloadBytes)"
    }
}
