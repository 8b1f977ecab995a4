// Messages that nobody sent, for scripts: `forge FROM TO KIND field=value…`.
//
//   ack, refusal          term index [hint hint-term]
//   append                term after=INDEX@TERM [terms=2,2] [commit]
//   heartbeat             term [commit] [round]
//   heartbeat-ack         term [round]
//   vote                  term last=INDEX@TERM
//   timeout-now           term
//   transfer              term to
import Engine
import Replication

extension RaftScript {
    func forge(_ words: [String]) {
        var fields: [String: String] = [:]
        for word in words.dropFirst(3) {
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            fields[parts[0]] = parts[1]
        }
        let message = forged(words[2], fields, for: node(words[1]))
        step(node(words[1]), .message(from: member(words[0]), message))
    }

    /// Entries continue the hash chain of the receiver, so that only the machine can refuse them.
    private func forged(_ kind: String, _ fields: [String: String], for receiver: TestNode)
        -> RaftMessage
    {
        func number(_ key: String) -> UInt64 { fields[key].flatMap { UInt64($0) } ?? 0 }
        func position(_ key: String) -> (index: LogIndex, term: Term) {
            let parts = fields[key, default: "0@0"].split(separator: "@").map { UInt64($0) ?? 0 }
            return (LogIndex(parts[0]), Term(parts[1]))
        }
        let term = Term(number("term"))
        switch kind {
        case "ack", "refusal":
            return .appendReply(
                AppendReply(
                    term: term, isAccepted: kind == "ack", index: LogIndex(number("index")),
                    hintIndex: LogIndex(number("hint")), hintTerm: Term(number("hint-term"))))
        case "append":
            let after = position("after")
            var entries: [Entry] = []
            for entryTerm in list(fields["terms", default: ""]) {
                entries.append(
                    makeEntry(
                        after.index + UInt64(entries.count) + 1, Term(entryTerm),
                        previous: entries.last?.header.checksum
                            ?? receiver.disk.entry(at: after.index)?.header.checksum ?? .zero))
            }
            return .append(
                AppendRequest(
                    term: term, previousIndex: after.index, previousTerm: after.term,
                    entries: entries, commit: LogIndex(number("commit"))))
        case "heartbeat":
            return .heartbeat(
                Heartbeat(
                    term: term, commit: LogIndex(number("commit")), round: number("round"),
                    clock: 0, quorumAge: 0))
        case "heartbeat-ack":
            return .heartbeatReply(HeartbeatReply(term: term, round: number("round"), clock: 0))
        case "vote":
            let last = position("last")
            return .vote(
                VoteRequest(
                    term: term, isPreVote: false, lastIndex: last.index, lastTerm: last.term,
                    isTransfer: false))
        case "timeout-now": return .timeoutNow(term: term)
        case "transfer": return .transfer(term: term, to: member(fields["to", default: "0"]))
        default: fatalError("nobody forges \(kind)")
        }
    }
}

extension Contradiction {
    /// As scripts call it.
    var name: String {
        switch self {
        case .acknowledges: "acknowledges"
        case .answers: "answers"
        case .leads: "leads"
        case .orders: "orders"
        case .entries: "entries"
        case .committed: "committed"
        case .jumps: "jumps"
        }
    }
}
