// What the transport's tests share: recorders of events and log lines that can be awaited, nodes on
// ephemeral loopback ports, and a raw TLS client that says whatever a test wants.
import Engine
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Replication
import Synchronization
import Testing

let testGroup = MultiThreadedEventLoopGroup(numberOfThreads: 3)

/// A growing list that can be awaited.
final class Recorder<Element: Sendable>: Sendable {
    private struct Waiter {
        var condition: @Sendable ([Element]) -> Bool
        var continuation: CheckedContinuation<Bool, Never>
    }
    private struct State {
        var elements: [Element] = []
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
    }
    private let state = Mutex(State())

    var elements: [Element] { state.withLock { $0.elements } }

    func record(_ element: Element) { record([element]) }

    func record(_ more: [Element]) {
        let ready = state.withLock { state in
            state.elements += more
            let ready = state.waiters.filter { $0.value.condition(state.elements) }
            for key in ready.keys { state.waiters[key] = nil }
            return ready.values.map(\.continuation)
        }
        for continuation in ready { continuation.resume(returning: true) }
    }

    /// True once the elements fulfil `condition`, false if they do not in time.
    func wait(
        _ seconds: Int64 = 60, until condition: @escaping @Sendable ([Element]) -> Bool
    ) async -> Bool {
        await withCheckedContinuation { continuation in
            let key = state.withLock { state -> Int? in
                if condition(state.elements) { return nil }
                state.nextWaiter += 1
                state.waiters[state.nextWaiter] = Waiter(
                    condition: condition, continuation: continuation)
                return state.nextWaiter
            }
            guard let key else { return continuation.resume(returning: true) }
            testGroup.next().scheduleTask(in: .seconds(seconds)) {
                let late = self.state.withLock { $0.waiters.removeValue(forKey: key) }
                late?.continuation.resume(returning: false)
            }
        }
    }
}

extension Recorder<String> {
    func logged(_ part: String) async -> Bool {
        await wait { $0.contains { line in line.contains(part) } }
    }
}

struct RecordingLogHandler: LogHandler {
    let lines: Recorder<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.record("\(event.level): \(event.message)") }
}

enum PeerEvent: Sendable {
    case received(PeerMessage, MemberID)
    case connected(MemberID, PeerLane, PeerDirection)
    case disconnected(MemberID, PeerLane, PeerDirection)
}

final class TestPeer: PeerTransportDelegate {
    let events = Recorder<PeerEvent>()
    let batches = Recorder<Int>()
    let lines = Recorder<String>()

    func peerMessagesReceived(_ messages: [PeerMessage], from member: MemberID) {
        batches.record(messages.count)
        events.record(messages.map { .received($0, member) })
    }

    /// Whether what members send is taken.
    let isTaking = Atomic(true)

    func takesMessages(of member: MemberID) -> Bool { isTaking.load(ordering: .relaxed) }

    func peerConnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection) {
        events.record(.connected(member, lane, direction))
    }

    func peerDisconnected(_ member: MemberID, lane: PeerLane, direction: PeerDirection) {
        events.record(.disconnected(member, lane, direction))
    }

    var logger: Logger {
        let lines = lines
        return Logger(label: "test") { _ in RecordingLogHandler(lines: lines) }
    }

    func isConnected(_ member: UInt64, _ lane: PeerLane, times: Int = 1) async -> Bool {
        await events.wait { events in
            events.count { event in
                if case .connected(MemberID(member), lane, .outgoing) = event { return true }
                return false
            } >= times
        }
    }

    func isDisconnected(_ member: UInt64, _ lane: PeerLane, _ direction: PeerDirection) async
        -> Bool
    {
        await events.wait { events in
            events.contains { event in
                if case .disconnected(MemberID(member), lane, direction) = event { return true }
                return false
            }
        }
    }

    /// Forwarded requests are what these tests count by.
    func hasReceived(forward id: RequestID) async -> Bool {
        await events.wait { events in
            events.contains { event in
                if case .received(.forward(id, _), _) = event { return true }
                return false
            }
        }
    }
}

struct TransportNode {
    let peer: TestPeer
    let transport: PeerTransport

    var port: Int { transport.localPort ?? 0 }

    /// Starts node `id` of cluster alpha; `change` may break the configuration.
    static func start(
        _ id: UInt64, port: Int = 0, peers: [PeerAddress] = [], leaf: String? = nil,
        change: (inout PeerTransportConfiguration) -> Void = { _ in }
    ) async throws -> TransportNode {
        let files = TestAuthority.shared.leaf(leaf ?? "alpha-\(id)")
        var configuration = PeerTransportConfiguration(
            cluster: "alpha", node: MemberID(id), group: 0, listenHost: "127.0.0.1",
            listenPort: port, peers: peers, certificatePath: files.certificate, keyPath: files.key,
            authorityPath: TestAuthority.shared.authority, bootCounter: 1, nonce: 1000 + id)
        // A busy machine is not what these tests are about.
        configuration.connectTimeoutMilliseconds = 60_000
        configuration.handshakeTimeoutMilliseconds = 60_000
        configuration.stallTimeoutMilliseconds = 60_000
        change(&configuration)
        let peer = TestPeer()
        let transport = PeerTransport(
            configuration, eventLoopGroup: testGroup, logger: peer.logger, delegate: peer)
        try await transport.start()
        return TransportNode(peer: peer, transport: transport)
    }

    func address(_ id: UInt64) -> PeerAddress {
        PeerAddress(member: MemberID(id), host: "127.0.0.1", port: port)
    }

    /// Two nodes that know each other, connected on all lanes.
    static func pair(
        change: (inout PeerTransportConfiguration) -> Void = { _ in }
    ) async throws -> (TransportNode, TransportNode) {
        let one = try await start(1, change: change)
        let two = try await start(2, peers: [one.address(1)])
        try one.transport.setPeers([two.address(2)])
        for lane in PeerLane.allCases {
            #expect(await one.peer.isConnected(2, lane))
            #expect(await two.peer.isConnected(1, lane))
        }
        return (one, two)
    }
}

/// A TLS (or bare TCP) client under a test's control.
final class RawClient: Sendable {
    let channel: any Channel
    let frames: Recorder<String>
    let isClosed: Recorder<Bool>

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let frames: Recorder<String>
        var assembler = FrameAssembler(limits: FrameLimits())

        init(_ frames: Recorder<String>) { self.frames = frames }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            unwrapInboundIn(data).withUnsafeReadableBytes { assembler.append($0) }
            while let frame = try? assembler.next() {
                if frame.type == .refusal,
                    let refusal = try? assembler.withPayload(of: frame, Refusal.init(decoding:))
                {
                    frames.record("refusal: \(refusal)")
                } else {
                    frames.record("\(frame.type)")
                }
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            frames.record("error: \(error)")
            context.close(promise: nil)
        }
    }

    private init(_ channel: any Channel, _ frames: Recorder<String>) {
        self.channel = channel
        self.frames = frames
        let isClosed = Recorder<Bool>()
        self.isClosed = isClosed
        channel.closeFuture.whenComplete { _ in isClosed.record(true) }
    }

    static func connect(_ port: Int, tls: TLSConfiguration?) async throws -> RawClient {
        let frames = Recorder<String>()
        let context = try tls.map { try NIOSSLContext(configuration: $0) }
        let channel = try await ClientBootstrap(group: testGroup)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: context, serverHostname: nil))
                    }
                    try channel.pipeline.syncOperations.addHandler(Handler(frames))
                }
            }.connect(host: "127.0.0.1", port: port).get()
        return RawClient(channel, frames)
    }

    /// TLS as a member does it, with the certificate `leaf`, nil for none.
    static func tls(_ leaf: String?) throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .file(TestAuthority.shared.authority)
        configuration.certificateVerification = .noHostnameVerification
        if let leaf {
            let files = TestAuthority.shared.leaf(leaf)
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(files.certificate)
                .map { .certificate($0) }
            configuration.privateKey = .privateKey(
                try NIOSSLPrivateKey(file: files.key, format: .pem))
        }
        return configuration
    }

    func send(_ bytes: [UInt8]) { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    func closed() async -> Bool { await isClosed.wait { !$0.isEmpty } }
}
