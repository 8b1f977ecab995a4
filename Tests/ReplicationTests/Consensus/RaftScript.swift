// Runs consensus tests that are written as text: one command a line, `#` starts a comment. Members
// are numbers. Messages wait in the network until a line delivers or drops them; each member has a
// clock of its own that only `tick`, `run`, `elapse` and `campaign` move.
//
//   nodes 3 [learners 4,5]        fresh members, voters first
//   log 2 1,1,4 [term 5]          member 2 starts over with a durable log of these terms
//   option inflight 2             inflight, inflight-bytes, message-bytes, alone-bytes,
//                                 uncommitted-bytes, lease, prefer (a leader);
//                                 before `nodes`
//   campaign 1                    its clock runs until it asks for votes
//   tick 100 [1 2]                clocks run in steps of 10 ms, nothing is delivered
//   elapse 400 [1 2]              clocks jump, without a tick
//   run 1000                      ticks, and delivers everything after each
//   deliver | once | deliver 1->2 until nothing moves | what is there now | what is on that link
//   drop | drop 1->2 | drop 1->2 ack     all, or of one link, or of one kind
//   reverse 1->2, repeat 1->2     reorders or duplicates what is on the link
//   cut 1->2, cut 1-2, isolate 1, heal
//   propose 1 [x3] [bytes 100]    read 1 a        transfer 1 2
//   slow 2, sync 2 [once], fast 2 when its appends become durable
//   broke 1 2, made 1 2           member 1 sees its connection to 2 break, or be made
//   restart 1, distrust 1         loses what is not durable | and its hard state
//   damage 1, mend 1, trim 1 5, members 1,2 [learners 3], silent 1 (no no-op)
//   join 4,5                      members that know nothing, not even who is one
//   change 1 1,2,4 [learners 5] [explicit]    member 1 proposes the way to this membership
//   leave 1                       member 1 proposes to leave a joint membership
//   tables 3 from 1 8             installs member 1's state as of entry 8 on member 3
//   lost 1 3                      member 1 hears that tables for member 3 will not come
//   lag 1, catch 1                stops and goes on applying what is committed
//   forge 3 1 ack term=1 index=9  member 1 receives what member 3 never said; see RaftScript+Forge
//   expect 1 leader term=2 commit=3 last=3 durable=3 lead=1 vote=1 log=1,2,2 match.2=3 next.2=4
//            mode.2=probe reads=a@3,b@3 refused=c dropped=1 tables=3 led=2,4 transfer=2
//            voters=1,2 old=1,3 learners=4 applied=3 lease=yes
//            lies=3:acknowledges (contradictions that it found)
//            changes=2 (membership entries in the log)
//   expect 1->2 append,heartbeat  what is on the link (`-` for nothing)
//   expect quiet                  nothing is under way
import Engine
import Replication
import Testing

final class RaftScript {
    struct Link: Equatable {
        var from: MemberID
        var to: MemberID
    }
    struct Envelope {
        var link: Link
        var message: RaftMessage
    }

    private(set) var nodes: [TestNode] = []
    private var network: [Envelope] = []
    private var cuts: [Link] = []
    private var template = RaftConfiguration(
        id: .none, members: RaftMembers(voters: []), seed: 7)
    private var line = ""
    private let location: SourceLocation
    /// Told of every message that arrives.
    var onDelivery: ((_ from: MemberID, _ to: MemberID, RaftMessage) -> Void)?

    @discardableResult
    init(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
        location = sourceLocation
        run(text)
    }

    func run(_ text: String) {
        for raw in text.split(separator: "\n") {
            line = String(raw.prefix { $0 != "#" })
            let words = line.split(separator: " ").map(String.init)
            if let command = words.first { perform(command, Array(words.dropFirst())) }
            for node in nodes where !node.violations.isEmpty {
                fail(node.violations.joined(separator: "; "))
                node.violations.removeAll()
            }
        }
    }

    func node(_ number: UInt64) -> TestNode {
        guard let node = nodes.first(where: { $0.id.rawValue == number }) else {
            fatalError("no member \(number) in: \(line)")
        }
        return node
    }

    func node(_ word: String) -> TestNode { node(UInt64(word) ?? 0) }

    /// Messages under way on a link.
    func names(from: UInt64, to: UInt64) -> [String] {
        let link = Link(from: MemberID(from), to: MemberID(to))
        return network.filter { $0.link == link }.map(\.message.name)
    }

    private func fail(_ message: String) {
        let state = nodes.map { describe($0) }.joined(separator: "\n")
        Issue.record("\(line.trimmed): \(message)\n\(state)", sourceLocation: location)
    }

    // MARK: Commands

    private func perform(_ command: String, _ words: [String]) {
        switch command {
        case "nodes": makeNodes(words)
        case "log": replaceLog(words)
        case "option": setOption(words)
        case "campaign": campaign(node(words[0]))
        case "tick":
            for node in select(words.dropFirst()) { tick(node, Int(words[0]) ?? 0) }
        case "elapse":
            for node in select(words.dropFirst()) { node.now += UInt64(words[0]) ?? 0 }
        case "run":
            for _ in 0..<((Int(words[0]) ?? 0) / 10) {
                for node in nodes { tick(node, 10) }
                deliverAll()
            }
        case "deliver": words.isEmpty ? deliverAll() : deliver(on: links(words[0]))
        case "once": deliver(on: nil)
        case "drop": drop(words)
        case "reverse": rearrange(words[0]) { $0.reversed() }
        case "repeat": rearrange(words[0]) { $0 + $0 }
        case "cut": cuts += links(words[0])
        case "isolate":
            for other in nodes where other !== node(words[0]) {
                cuts += links("\(words[0])-\(other.id)")
            }
        case "heal": cuts.removeAll()
        case "propose": propose(words)
        case "read": step(node(words[0]), .read(context: UInt64(words[1].utf8.first ?? 0)))
        case "transfer": step(node(words[0]), .transfer(to: member(words[1])))
        case "slow": node(words[0]).isDiskFast = false
        case "sync", "fast": sync(command, words)
        case "broke": step(node(words[0]), .unreachable(member(words[1])))
        case "made": step(node(words[0]), .reachable(member(words[1])))
        case "restart": node(words[0]).restart()
        case "distrust":
            node(words[0]).isVoteTrusted = false
            node(words[0]).saved = (.zero, .none)
            node(words[0]).restart()
        case "damage", "mend": step(node(words[0]), .setDamaged(command == "damage"))
        case "trim": trim(node(words[0]), before: LogIndex(UInt64(words[1]) ?? 0))
        case "members": setMembers(words)
        case "join": makeNodes(list(words[0]), RaftMembers(voters: []))
        case "change": change(words)
        case "leave": leaveJoint(node(words[0]))
        case "tables":
            installTables(node(words[0]), from: node(words[2]), LogIndex(UInt64(words[3]) ?? 0))
        case "lost": step(node(words[0]), .tablesFailed(member(words[1])))
        case "lag": node(words[0]).isApplying = false
        case "catch":
            node(words[0]).isApplying = true
            node(words[0]).applyCommitted()
            collect(node(words[0]))
        case "forge": forge(words)
        case "silent": node(words[0]).proposesNoop = false
        case "expect": expect(words)
        default: fail("unknown command")
        }
    }

    private func makeNodes(_ words: [String]) {
        let voters = (1...(UInt64(words[0]) ?? 1)).map { MemberID($0) }
        let learners = words.count > 2 ? list(words[2]).map { MemberID($0) } : []
        makeNodes(
            (voters + learners).map(\.rawValue), RaftMembers(voters: voters, learners: learners))
    }

    private func makeNodes(_ ids: [UInt64], _ members: RaftMembers) {
        for id in ids {
            var configuration = template
            configuration.id = MemberID(id)
            configuration.members = members
            nodes.append(TestNode(configuration))
        }
    }

    private func change(_ words: [String]) {
        let learners = words.firstIndex(of: "learners").map { list(words[$0 + 1]) } ?? []
        let target = Membership(
            list(words[1]).map { makeMember($0, isVoter: true) }
                + learners.map { makeMember($0, isVoter: false) })
        let node = node(words[0])
        let leave = words.contains("explicit") ? Membership.Leave.explicit : .automatic
        node.propose(node.membership.step(toward: target, leave: leave))
        collect(node)
    }

    private func installTables(_ node: TestNode, from donor: TestNode, _ base: LogIndex) {
        node.installTables(from: donor, base)
        collect(node)
    }

    private func leaveJoint(_ node: TestNode) {
        node.propose(node.membership.left())
        collect(node)
    }

    private func replaceLog(_ words: [String]) {
        let old = node(words[0])
        let terms = list(words[1])
        let term = words.count > 3 ? UInt64(words[3]) ?? 0 : terms.last ?? 0
        let fresh = TestNode(old.configuration, disk: makeDisk(terms), term: Term(term))
        nodes = nodes.map { $0 === old ? fresh : $0 }
    }

    private func setOption(_ words: [String]) {
        let value = Int(words[1]) ?? 0
        switch words[0] {
        case "inflight": template.maxInflightMessages = value
        case "inflight-bytes": template.maxInflightBytes = value
        case "message-bytes": template.maxMessageBytes = value
        case "alone-bytes": template.aloneBytes = value
        case "lease": template.leaseMilliseconds = UInt64(value)
        case "prefer": template.preferredLeader = MemberID(UInt64(value))
        case "uncommitted-bytes": template.maxUncommittedBytes = value
        default: fail("unknown option")
        }
    }

    private func campaign(_ node: TestNode) {
        let before = network.count
        for _ in 0..<200 where network.count == before && node.core.role != .leader {
            tick(node, 10)
        }
    }

    private func tick(_ node: TestNode, _ milliseconds: Int) {
        for _ in 0..<max(1, milliseconds / 10) {
            node.now += 10
            step(node, .tick)
        }
    }

    func step(_ node: TestNode, _ input: RaftInput) {
        node.step(input)
        collect(node)
    }

    private func collect(_ node: TestNode) {
        for (to, message) in node.outbox {
            let link = Link(from: node.id, to: to)
            if !cuts.contains(link) { network.append(Envelope(link: link, message: message)) }
        }
        node.outbox.removeAll()
    }

    private func deliverAll() {
        var count = 0
        while !network.isEmpty {
            deliver(on: nil)
            count += 1
            guard count < 1000 else { return fail("the network never falls silent") }
        }
    }

    /// Delivers what is under way now (on some links), not what it causes.
    private func deliver(on links: [Link]?) {
        let due = network.filter { links?.contains($0.link) ?? true }
        network.removeAll { links?.contains($0.link) ?? true }
        for envelope in due where !cuts.contains(envelope.link) {
            guard let node = nodes.first(where: { $0.id == envelope.link.to }) else { continue }
            onDelivery?(envelope.link.from, envelope.link.to, envelope.message)
            step(node, .message(from: envelope.link.from, envelope.message))
        }
    }

    private func drop(_ words: [String]) {
        guard let first = words.first else { return network.removeAll() }
        let dropped = links(first)
        network.removeAll {
            dropped.contains($0.link) && (words.count < 2 || $0.message.name == words[1])
        }
    }

    private func rearrange(_ word: String, _ change: ([Envelope]) -> [Envelope]) {
        let chosen = links(word)
        let matching = network.filter { chosen.contains($0.link) }
        network = network.filter { !chosen.contains($0.link) } + change(matching)
    }

    private func propose(_ words: [String]) {
        var count = 1
        var bytes = 8
        for (place, word) in words.enumerated().dropFirst() {
            if word.hasPrefix("x") { count = Int(word.dropFirst()) ?? 1 }
            if word == "bytes" { bytes = Int(words[place + 1]) ?? 8 }
        }
        node(words[0]).propose(count, bytes: bytes)
        collect(node(words[0]))
    }

    private func sync(_ command: String, _ words: [String]) {
        let target = node(words[0])
        if command == "fast" { target.isDiskFast = true }
        while !target.disk.pending.isEmpty {
            target.completeAppend()
            if words.count > 1 { break }
        }
        collect(target)
    }

    private func trim(_ node: TestNode, before first: LogIndex) {
        node.disk.trim(before: first)
        step(node, .trimmed(first: first))
    }

    private func setMembers(_ words: [String]) {
        let voters = list(words[0]).map { MemberID($0) }
        let learners = words.count > 2 ? list(words[2]).map { MemberID($0) } : []
        let members = RaftMembers(voters: voters, learners: learners)
        for node in nodes { step(node, .membership(members)) }
    }

    // MARK: Expectations

    private func expect(_ words: [String]) {
        if words[0] == "quiet" {
            if !network.isEmpty { fail("\(network.map(\.message.name)) under way") }
        } else if words[0].contains("-") {
            let chosen = links(words[0])
            let names = network.filter { chosen.contains($0.link) }.map(\.message.name)
            let text = names.isEmpty ? "-" : names.joined(separator: ",")
            if text != words[1] { fail("\(text) is on the link") }
        } else {
            for word in words.dropFirst() { expect(node(words[0]), word) }
        }
    }

    private func expect(_ node: TestNode, _ word: String) {
        guard let split = word.firstIndex(of: "=") else {
            if role(node) != word { fail("is \(role(node))") }
            return
        }
        let key = String(word[..<split])
        let value = String(word[word.index(after: split)...])
        let actual = field(node, key) ?? "unknown field"
        if actual != value { fail("\(key) is \(actual)") }
    }

    private func field(_ node: TestNode, _ key: String) -> String? {
        let core = node.core
        if let dot = key.firstIndex(of: ".") {
            let id = member(String(key[key.index(after: dot)...]))
            return core.members.first { $0.id == id }.flatMap { progress($0, key[..<dot]) }
        }
        switch key {
        case "term": return "\(core.term)"
        case "commit": return "\(node.committed)"
        case "last": return "\(core.lastIndex)"
        case "durable": return "\(core.durableIndex)"
        case "lead": return "\(core.leader)"
        case "vote": return "\(node.saved.vote)"
        case "saved": return "\(node.saved.term)"
        case "log": return joined(node.disk.stored.map { "\($0.entry.term)" })
        case "reads": return joined(node.ready.map { "\(letter($0.context))@\($0.index)" })
        case "refused": return joined(node.refused.map(letter))
        case "dropped": return "\(node.dropped)"
        case "tables": return joined(node.needTables.map(\.description))
        case "led": return joined(node.ledTerms.map(\.description))
        case "commits": return joined(node.commits.map(\.description))
        case "transfer": return "\(core.transferTarget ?? .none)"
        case "voters": return joined(core.members.filter(\.isVoter).map(\.id.description))
        case "old": return joined(core.members.filter(\.wasVoter).map(\.id.description))
        case "learners": return joined(core.members.filter { !$0.votes }.map(\.id.description))
        case "lease": return core.hasLease ? "yes" : "no"
        case "lies": return joined(node.contradictions.map { "\($0.by):\($0.what.name)" })
        case "waiting": return "\(core.waitingReads)"
        case "applied": return "\(node.applied)"
        case "changes":
            return "\(node.disk.stored.count { $0.entry.header.kind == .membership })"
        default: return nil
        }
    }

    private func progress(_ progress: Progress, _ key: Substring) -> String? {
        switch key {
        case "match": "\(progress.match)"
        case "next": "\(progress.next)"
        case "mode": "\(progress.mode)"
        case "inflight": "\(progress.inflightCount)"
        default: nil
        }
    }

    private func role(_ node: TestNode) -> String {
        switch node.core.role {
        case .follower: "follower"
        case .preCandidate: "precandidate"
        case .candidate: "candidate"
        case .leader: "leader"
        }
    }

    private func describe(_ node: TestNode) -> String {
        let keys = ["term", "lead", "vote", "commit", "durable", "last", "log", "reads"]
        let fields = keys.map { "\($0)=\(field(node, $0) ?? "")" }.joined(separator: " ")
        return "  \(node.id) \(role(node)) \(fields)"
    }

    // MARK: Words

    private func joined(_ parts: [String]) -> String {
        parts.isEmpty ? "-" : parts.joined(separator: ",")
    }

    private func letter(_ context: UInt64) -> String {
        String(UnicodeScalar(UInt8(truncatingIfNeeded: context)))
    }

    func list(_ word: String) -> [UInt64] {
        word.split(separator: ",").compactMap { UInt64($0) }
    }
    func member(_ word: String) -> MemberID { MemberID(UInt64(word) ?? 0) }

    private func select(_ words: ArraySlice<String>) -> [TestNode] {
        words.isEmpty ? nodes : words.map { node($0) }
    }

    /// `1->2`, `1-2` (both ways) or `1->*`, `*->1`.
    private func links(_ word: String) -> [Link] {
        let isOneWay = word.contains(">")
        let ends = word.split { $0 == "-" || $0 == ">" }.map(String.init)
        let all = nodes.map(\.id)
        let from = ends[0] == "*" ? all : [member(ends[0])]
        let to = ends[1] == "*" ? all : [member(ends[1])]
        var found: [Link] = []
        for left in from {
            for right in to where left != right {
                found.append(Link(from: left, to: right))
                if !isOneWay { found.append(Link(from: right, to: left)) }
            }
        }
        return found
    }
}

extension String {
    fileprivate var trimmed: String { String(drop { $0 == " " }) }
}
