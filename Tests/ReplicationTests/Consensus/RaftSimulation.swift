// Many members, one seed: messages lost, repeated and reordered, links cut one way and both, disks
// that take their time, processes that die and lose what was not durable, or part of it. After
// every step the promises of Raft are checked against what an observer of everything knows.
import Engine
import Replication

final class RaftSimulation {
    private struct Envelope {
        var from: Int
        var to: Int
        var message: RaftMessage
    }

    private let seed: UInt64
    private var random: UInt64
    private var nodes: [TestNode] = []
    private var isUp: [Bool]
    private var network: [Envelope] = []
    private var isCut: [Bool]
    private var now: UInt64 = 0

    /// Every entry that anybody ever committed; entry `i` has index `i + 1`.
    private var truth: [Position] = []
    private var verified: [UInt64]
    private var leaders: [Term: MemberID] = [:]
    private var checkedLeaderships: [Int]
    /// What was committed anywhere when a read was asked.
    private var readFloors: [UInt64: LogIndex] = [:]
    private var checkedReads: [Int]
    private var contexts: UInt64 = 0
    /// Of its own, so that seeds without changes keep their meaning; nil without changes.
    private var changeRandom: SplitMix?
    /// Likewise for processes that start without their hard state.
    private var lossRandom: SplitMix?
    private(set) var lostVotes = 0
    private(set) var restoredVotes = 0
    private(set) var proposedChanges = 0
    private(set) var jointMemberships = 0

    private(set) var violations: [String] = []
    private(set) var answeredReads = 0
    var committed: Int { truth.count }
    var terms: Int { leaders.count }

    /// With `changes` the first three are voters at the start, and members come and go.
    init(seed: UInt64, members count: Int, changes: Bool = false, losesVotes: Bool = false) {
        self.seed = seed
        random = seed &* 0x9e37_79b9_7f4a_7c15 | 1
        isUp = Array(repeating: true, count: count)
        isCut = Array(repeating: false, count: count * count)
        verified = Array(repeating: 0, count: count)
        checkedLeaderships = Array(repeating: 0, count: count)
        checkedReads = Array(repeating: 0, count: count)
        changeRandom = changes ? SplitMix(state: seed) : nil
        lossRandom = losesVotes ? SplitMix(state: seed) : nil
        let ids = (1...UInt64(count)).map { MemberID($0) }
        let voters = changes ? Array(ids.prefix(3)) : ids
        for id in ids {
            var configuration = RaftConfiguration(
                id: id, members: RaftMembers(voters: voters.contains(id) ? voters : []), seed: seed)
            configuration.maxInflightMessages = 4
            configuration.maxMessageBytes = 300
            nodes.append(TestNode(configuration))
            nodes[nodes.count - 1].isDiskFast = false
        }
    }

    func run(steps: Int) {
        for step in 0..<steps where violations.isEmpty {
            passTime(draw(15))
            deliverSome()
            disturb()
            changeMembers()
            if step % 50 == 49 { checkLogMatching() }
        }
        guard violations.isEmpty else { return }
        converge()
        checkLogMatching()
    }

    // MARK: Events

    private func passTime(_ milliseconds: Int) {
        now += UInt64(milliseconds)
        for place in nodes.indices where isUp[place] { step(place, .tick) }
    }

    private func deliverSome() {
        for _ in 0..<min(network.count, draw(16)) where !network.isEmpty {
            // Mostly in order, as on a connection; sometimes anything.
            let place = draw(10) < 7 ? 0 : draw(network.count)
            let envelope = network[place]
            if draw(20) != 0 { network.remove(at: place) }
            if draw(25) != 0 { deliver(envelope) }
        }
        if network.count > 200 { network.removeFirst(100) }
    }

    private func deliver(_ envelope: Envelope) {
        guard isUp[envelope.to], !isCut[envelope.from * nodes.count + envelope.to] else { return }
        step(envelope.to, .message(from: nodes[envelope.from].id, envelope.message))
    }

    private func disturb() {
        let place = draw(nodes.count)
        let other = draw(nodes.count)
        switch draw(100) {
        case 0..<45: completeAppends(place, draw(4))
        case 45..<70: propose(1 + draw(3))
        case 70..<80: read()
        case 80..<84: fail(place)
        case 84..<88: isCut[place * nodes.count + other] = true
        case 88..<93: isCut = isCut.map { _ in false }
        case 93..<96: if isUp[place] { step(place, .unreachable(nodes[other].id)) }
        case 96..<98: if isUp[place] { step(place, .transfer(to: nodes[other].id)) }
        default: if isUp[place] { step(place, .reachable(nodes[other].id)) }
        }
    }

    /// A leader takes a step toward some other membership; somebody begins or stops to lag with
    /// applying.
    private func changeMembers() {
        guard var random = changeRandom else { return }
        defer { changeRandom = random }
        let lagging = random.below(nodes.count)
        if random.below(20) == 0 { nodes[lagging].isApplying = random.below(4) != 0 }
        guard random.below(3) == 0 else { return }
        let parts = nodes.map { _ in random.below(3) }
        let members = zip(nodes, parts).filter { $0.1 > 0 }.map {
            makeMember($0.0.id.rawValue, isVoter: $0.1 == 1)
        }
        guard members.contains(where: \.isVoter) else { return }
        for place in nodes.indices where isUp[place] && nodes[place].core.mayChangeMembership {
            let node = nodes[place]
            guard node.membership.leave == nil else { continue }
            let next = node.membership.step(toward: Membership(members))
            proposedChanges += 1
            if next.leave != nil { jointMemberships += 1 }
            node.now = now
            node.propose(next)
            collect(place)
        }
    }

    private func completeAppends(_ place: Int, _ count: Int) {
        guard isUp[place] else { return }
        var left = count
        while left > 0, !nodes[place].disk.pending.isEmpty {
            left -= 1
            nodes[place].now = now
            nodes[place].completeAppend()
            collect(place)
        }
    }

    private func propose(_ count: Int) {
        for place in nodes.indices where isUp[place] && nodes[place].core.leadTerm != nil {
            nodes[place].now = now
            nodes[place].propose(count, bytes: draw(200))
            collect(place)
        }
    }

    private func read() {
        for place in nodes.indices where isUp[place] && nodes[place].core.leadTerm != nil {
            contexts += 1
            readFloors[contexts] = LogIndex(UInt64(truth.count))
            step(place, .read(context: contexts))
        }
    }

    /// A process dies, or one that died starts again with what its disk kept.
    private func fail(_ place: Int) {
        if isUp[place] {
            isUp[place] = false
            network.removeAll { ($0.from == place || $0.to == place) && draw(2) == 0 }
            let tellsOthers = draw(2) == 0
            for other in nodes.indices where tellsOthers && other != place && isUp[other] {
                step(other, .unreachable(nodes[place].id))
            }
        } else {
            loseVote(place)
            nodes[place].restart(keeping: draw(3))
            verified[place] = 0
            isUp[place] = true
        }
    }

    /// One member at a time: what two forget together no rule brings back. Nothing that was sent
    /// to the process before reaches the next one, whose connections are its own.
    private func loseVote(_ place: Int) {
        guard lossRandom?.below(2) == 0, nodes.allSatisfy(\.isVoteTrusted) else { return }
        lostVotes += 1
        nodes[place].isVoteTrusted = false
        nodes[place].saved = (.zero, .none)
        network.removeAll { $0.to == place }
    }

    private func step(_ place: Int, _ input: RaftInput) {
        let wasTrusted = nodes[place].isVoteTrusted
        defer { if nodes[place].isVoteTrusted, !wasTrusted { restoredVotes += 1 } }
        nodes[place].now = now
        nodes[place].step(input)
        collect(place)
    }

    private func collect(_ place: Int) {
        for (to, message) in nodes[place].outbox {
            network.append(Envelope(from: place, to: Int(to.rawValue) - 1, message: message))
        }
        nodes[place].outbox.removeAll()
        check(place)
    }

    // MARK: What must hold

    private func check(_ place: Int) {
        let node = nodes[place]
        violations += node.violations.map { "seed \(seed), at \(now) ms: \($0)" }
        node.violations.removeAll()
        checkCommits(place)
        for term in node.ledTerms[checkedLeaderships[place]...] { checkLeader(node, term) }
        checkedLeaderships[place] = node.ledTerms.count
        for read in node.ready[checkedReads[place]...] {
            answeredReads += 1
            expect(read.index >= readFloors[read.context] ?? .zero, "a read is stale")
        }
        checkedReads[place] = node.ready.count
    }

    private func checkCommits(_ place: Int) {
        let node = nodes[place]
        while verified[place] < node.committed.rawValue {
            let index = LogIndex(verified[place] + 1)
            verified[place] += 1
            guard let entry = node.disk.entry(at: index) else {
                return expect(false, "member \(node.id) commits \(index) without having it")
            }
            if index.rawValue <= UInt64(truth.count) {
                let known = truth[Int(index.rawValue) - 1]
                expect(known == entry.position, "two entries are committed at \(index)")
            } else {
                truth.append(entry.position)
                let holders = nodes.count { $0.disk.isDurable(index, term: entry.term) }
                expect(
                    changeRandom != nil || holders > nodes.count / 2,
                    "\(index) is committed, durable on \(holders)")
            }
        }
    }

    private func checkLeader(_ node: TestNode, _ term: Term) {
        expect(leaders[term] ?? node.id == node.id, "two leaders in term \(term)")
        leaders[term] = node.id
        for known in truth {
            let held = node.disk.entry(at: known.index)?.position
            expect(held == known, "leader of term \(term) lacks committed entry \(known.index)")
        }
    }

    private func checkLogMatching() {
        for left in nodes {
            for right in nodes where right.id > left.id {
                for (one, two) in zip(left.disk.stored, right.disk.stored)
                where one.entry.term == two.entry.term {
                    expect(one.entry.position == two.entry.position, "logs do not match")
                }
            }
        }
    }

    private func expect(_ condition: Bool, _ message: @autoclosure () -> String) {
        if !condition { violations.append("seed \(seed), at \(now) ms: \(message())") }
    }

    /// Faults stop: within a bound, one leader commits, all logs are equal, and who lost its vote
    /// has it back.
    private func converge() {
        isCut = isCut.map { _ in false }
        for place in nodes.indices {
            if !isUp[place] { fail(place) }
            nodes[place].isDiskFast = true
            nodes[place].isApplying = true
            completeAppends(place, .max)
        }
        let goal = truth.count
        for round in 0..<300 {
            passTime(20)
            for _ in 0..<4 {
                let due = network
                network.removeAll()
                for envelope in due { deliver(envelope) }
            }
            if round % 20 == 10 { propose(1) }
            let ends = expectedToConverge.map(\.committed)
            if truth.count > goal, !ends.isEmpty, nodes.allSatisfy(\.isVoteTrusted),
                ends.allSatisfy({ $0 == ends[0] && $0.rawValue > UInt64(goal) })
            {
                return
            }
        }
        expect(
            false, "did not converge: \(nodes.map { ($0.core.role, $0.core.term, $0.committed) })")
    }

    /// Whoever the leader counts as a member, once no change is half done.
    private var expectedToConverge: [TestNode] {
        guard changeRandom != nil else { return nodes }
        let leaders = nodes.filter { $0.core.leadTerm != nil }
        guard let leader = leaders.max(by: { $0.core.term < $1.core.term }), !leader.core.isJoint
        else { return [] }
        return nodes.filter { node in leader.core.members.contains { $0.id == node.id } }
    }

    /// 0 ..< bound.
    private func draw(_ bound: Int) -> Int {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return bound <= 1 ? 0 : Int(random >> 11) % bound
    }
}

private struct SplitMix {
    var state: UInt64

    /// 0 ..< bound.
    mutating func below(_ bound: Int) -> Int {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return Int((mixed ^ (mixed >> 31)) >> 33) % bound
    }
}
