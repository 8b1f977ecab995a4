// The consensus machine under messages that nobody who follows the protocol would send: any terms,
// indexes and claims, in any order, from members and strangers, between the events of its own
// driver. It neither traps nor breaks what it promises about itself (`MachineDriver`).
//
// The bytes are choices. Numbers are mostly near those that the machine holds, so that a lie comes
// close to the truth; each message goes through the codec, as from a socket.

import Engine
import Replication

extension FuzzTarget {
    static let consensusTargets: [FuzzTarget] = [
        FuzzTarget("consensus") { bytes in
            var choices = Choices(bytes: [UInt8](bytes))
            var driver = MachineDriver(choices.take())
            for _ in 0..<1_000 where !choices.isOver { step(&driver, &choices) }
        }
    ]

    private static func step(_ driver: inout MachineDriver, _ choices: inout Choices) {
        switch choices.take() % 32 {
        case 0..<3: driver.pass(milliseconds: UInt64(choices.take()) * 4)
        case 3..<6: driver.finishAppend()
        case 6: driver.propose(count: Int(choices.take() % 4), bytes: Int(choices.take()))
        case 7: driver.input(.read(context: UInt64(choices.take())))
        case 8: driver.input(.transfer(to: choices.member()))
        case 9: driver.input(.unreachable(choices.member()))
        case 10: driver.input(.reachable(choices.member()))
        case 11, 12: driver.applyCommitted()
        case 13: driver.trim(keeping: UInt64(choices.take() % 8))
        case 14: driver.input(.tablesFailed(choices.member()))
        case 15: driver.restart(keeping: Int(choices.take() % 4))
        case 16: driver.input(.setDamaged(choices.take() & 1 == 0))
        case 17: driver.installTables(ahead: UInt64(choices.take() % 8), term: choices.take())
        default:
            let from = choices.member()
            guard let message = received(choices.message(driver)) else { return }
            driver.receive(message, from: from)
        }
    }

    /// As it arrives; nil if the codec refuses it.
    private static func received(_ message: RaftMessage) -> RaftMessage? {
        var writer = ByteWriter()
        let peerMessage = PeerMessage.raft(group: 0, message)
        guard (try? MessageCodec.encode(peerMessage, into: &writer)) != nil else { return nil }
        let decoded = try? writer.bytes.withUnsafeBytes {
            try MessageCodec.decode(
                peerMessage.frameType, UnsafeRawBufferPointer(rebasing: $0[FrameHeader.size...]))
        }
        guard case .raft(_, let message)? = decoded else {
            preconditionFailure("what the codec wrote it does not read")
        }
        return message
    }
}

/// A fuzzer's bytes, one after another; zeros behind their end.
private struct Choices {
    let bytes: [UInt8]
    private var place = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var isOver: Bool { place >= bytes.count }

    mutating func take() -> UInt8 {
        guard place < bytes.count else { return 0 }
        place += 1
        return bytes[place - 1]
    }

    /// One of three members, or (4) a stranger, or (0) nobody.
    mutating func member() -> MemberID { MemberID(UInt64(take() % 5)) }

    /// A number a little above or below `truth`, or one of the largest.
    mutating func near(_ truth: UInt64) -> UInt64 {
        let choice = take()
        switch choice {
        case 0xff: return (1 << 62) - 1
        case 0xfe: return (1 << 62) - 2
        case 0xfd: return 1 << 32
        case 0xf0..<0xfd: return UInt64(choice - 0xf0)
        default:
            let offset = UInt64(choice % 16)
            return truth + offset < 8 ? 0 : truth + offset - 8
        }
    }

    mutating func flag() -> Bool { take() & 1 == 1 }

    mutating func message(_ driver: MachineDriver) -> RaftMessage {
        let term = Term(near(driver.core.term.rawValue))
        switch take() % 9 {
        case 0:
            let isPreVote = flag()
            return .vote(
                VoteRequest(
                    term: term, isPreVote: isPreVote, lastIndex: index(driver),
                    lastTerm: Term(near(driver.core.lastTerm.rawValue)), isTransfer: flag()))
        case 1:
            let isPreVote = flag()
            return .voteReply(
                VoteReply(term: term, isPreVote: isPreVote, isGranted: flag(), clock: near(0)))
        case 2, 3: return .append(append(term, driver))
        case 4:
            let isAccepted = flag()
            return .appendReply(
                AppendReply(
                    term: term, isAccepted: isAccepted, index: index(driver),
                    hintIndex: index(driver), hintTerm: Term(near(driver.core.lastTerm.rawValue))))
        case 5:
            return .heartbeat(
                Heartbeat(
                    term: term, commit: index(driver), round: near(8), clock: near(0),
                    quorumAge: near(100), acked: near(8), lease: near(150)))
        case 6:
            return .heartbeatReply(
                HeartbeatReply(term: term, round: near(8), clock: near(0), isPromised: flag()))
        case 7: return .timeoutNow(term: term)
        default: return .transfer(term: term, to: member())
        }
    }

    private mutating func index(_ driver: MachineDriver) -> LogIndex {
        switch take() % 3 {
        case 0: LogIndex(near(driver.core.commitIndex.rawValue))
        case 1: LogIndex(near(driver.core.lastIndex.rawValue))
        default: LogIndex(near(driver.core.durableIndex.rawValue))
        }
    }

    private mutating func append(_ term: Term, _ driver: MachineDriver) -> AppendRequest {
        var request = AppendRequest(
            term: term, previousIndex: index(driver),
            previousTerm: Term(near(driver.core.lastTerm.rawValue)), entries: [],
            commit: index(driver))
        if flag(), let honest = driver.term(at: request.previousIndex) {
            request.previousTerm = honest
        }
        var entryTerm = request.previousTerm
        for place in 0..<UInt64(take() % 4) {
            entryTerm = min(entryTerm + UInt64(take() % 3), term)
            let members = flag() ? membership() : nil
            request.entries.append(
                Entry(
                    kind: members == nil ? .noop : .membership, payload: members ?? [],
                    previous: request.entries.last?.header.checksum ?? .zero, group: 0,
                    term: entryTerm, index: request.previousIndex + place + 1,
                    firstSequence: SequenceNumber(1), clock: 1,
                    commit: LogIndex(near(driver.core.commitIndex.rawValue))))
        }
        return request
    }

    /// Each of four members is out, a voter, a learner, or a voter on its way.
    private mutating func membership() -> [UInt8] {
        let parts = take()
        var members: [Member] = []
        for id in 0..<4 where parts >> (2 * id) & 3 != 0 {
            members.append(
                Member(
                    id: MemberID(UInt64(id) + 1), peerAddress: "p", clientAddress: "c",
                    isVoter: parts >> (2 * id) & 3 != 2))
        }
        let target = Membership(members)
        guard flag(), members.contains(where: \.isVoter) else { return target.encoded() }
        let three = (1...3).map {
            Member(id: MemberID(UInt64($0)), peerAddress: "p", clientAddress: "c")
        }
        return Membership(three).step(toward: target).encoded()
    }
}
