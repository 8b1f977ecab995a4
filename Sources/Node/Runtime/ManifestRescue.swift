// A node whose manifest is lost in both copies cannot open its store. Before anything else it asks
// its peers for their manifest record: with it the tables on its disk are usable again, and what it
// lacks is healed from replicas.
import Engine
import Logging
import NIOCore
import Replication
import Synchronization

final class ManifestRescue: PeerTransportDelegate {
    private let configuration: PeerTransportConfiguration
    private let eventLoops: any EventLoopGroup
    private let logger: Logger
    private let answers = Mutex<[MemberID: ManifestState]>([:])
    private let connected = Mutex<Set<MemberID>>([])

    struct Answer: Sendable {
        var state: ManifestState
        var donor: MemberID
    }

    /// Longest the node waits for a peer before it gives up.
    static let patienceMilliseconds: UInt64 = 60_000
    /// The same if it may go on without.
    static let shortPatienceMilliseconds: UInt64 = 5_000
    /// The others have so long after the first answer: one of them may contradict it.
    private static let graceMilliseconds: UInt64 = 1_000

    init(
        configuration: PeerTransportConfiguration, eventLoops: any EventLoopGroup, logger: Logger
    ) {
        self.configuration = configuration
        self.eventLoops = eventLoops
        self.logger = logger
    }

    func fetch(patience: UInt64) async throws -> Answer {
        let transport = PeerTransport(
            configuration, eventLoopGroup: eventLoops, logger: logger, delegate: self)
        try await transport.start()
        let deadline = monotonicMilliseconds() + patience
        var request: RequestID = 1
        var firstAnswer: UInt64?
        while monotonicMilliseconds() < deadline {
            let given = answers.withLock { $0 }
            if !given.isEmpty, firstAnswer == nil { firstAnswer = monotonicMilliseconds() }
            if let firstAnswer, isEnough(given, since: firstAnswer),
                let donor = DonorChoice.choose(given, members: configuration.peers.count + 1),
                let state = given[donor]
            {
                await transport.stop()
                return Answer(state: state, donor: donor)
            }
            for member in connected.withLock({ $0 }) {
                transport.send(.fetch(request, .manifest), to: member)
                request += 1
            }
            try await Task.sleep(for: .milliseconds(200))
        }
        await transport.stop()
        guard answers.withLock({ $0.isEmpty }) else {
            throw NodeFailure(
                .damage,
                "the manifest is lost, and those of the peers contradict each other; start more of "
                    + "them, so that a majority agrees on one")
        }
        throw NodeFailure(
            .damage,
            "the manifest is lost and no peer gave its record; start a peer, or "
                + "restore the directory from a backup")
    }

    private func isEnough(_ given: [MemberID: ManifestState], since first: UInt64) -> Bool {
        given.count == configuration.peers.count
            || monotonicMilliseconds() >= first + ManifestRescue.graceMilliseconds
    }

    func takesMessages(of member: MemberID) -> Bool { true }

    func peerMessagesReceived(_ messages: [PeerMessage], from member: MemberID) {
        for case .fetchReply(_, .bytes(let bytes)) in messages {
            do throws(DecodingError) {
                let state = try ManifestState(decoding: bytes)
                answers.withLock { $0[member] = state }
            } catch {
                logger.error(
                    "a peer's manifest record is malformed",
                    metadata: ["peer": "\(member)", "reason": "\(error)"])
            }
        }
    }

    func peerConnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection) {
        guard lane == .bulk, direction == .outgoing else { return }
        connected.withLock { _ = $0.insert(member) }
    }

    func peerDisconnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection) {
        guard lane == .bulk, direction == .outgoing else { return }
        connected.withLock { _ = $0.remove(member) }
    }
}
