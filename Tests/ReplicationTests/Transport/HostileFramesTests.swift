// Frames of any length and content, from a member that has gone wrong: what does not decode ends its
// connection with the reason on both sides, and the other members go on talking.
import Engine
import NIOCore
import Replication
import Synchronization
import Testing

@Suite struct HostileFramesTests {
    /// Node 1, which talks to node 2 and knows node 3, whom `body` plays.
    private func withMemberThree(_ body: (TransportNode) async throws -> Void) async throws {
        let (one, two) = try await TransportNode.pair()
        try one.transport.setPeers([
            two.address(2), PeerAddress(member: MemberID(3), host: "127.0.0.1", port: 1),
        ])
        try await body(one)
        #expect(two.transport.send(.forward(1 << 40, []), to: MemberID(1)))
        #expect(await one.peer.hasReceived(forward: 1 << 40))
        let lost = one.peer.events.elements.contains {
            if case .disconnected(MemberID(2), _, _) = $0 { true } else { false }
        }
        #expect(!lost, "\(one.peer.lines.elements)")
        await one.transport.stop()
        await two.transport.stop()
    }

    private func connect(_ node: TransportNode, greets: Bool) async throws -> RawClient {
        let client = try await RawClient.connect(node.port, tls: try RawClient.tls("alpha-3"))
        guard greets else { return client }
        client.send(greeting)
        #expect(await client.frames.wait { $0.contains("hello") })
        return client
    }

    private var greeting: [UInt8] { greeting(boot: 1) }

    private func greeting(boot: UInt64, lane: PeerLane = .control) -> [UInt8] {
        Hello(
            cluster: "alpha", group: 0, sender: MemberID(3), receiver: MemberID(1), lane: lane,
            bootCounter: boot, nonce: 1
        ).encodedFrame()
    }

    /// It may bring what that process acknowledged and this one has forgotten.
    @Test func aNewStartEndsTheConnectionsOfTheLast() async throws {
        try await withMemberThree { node in
            let earlier = try await connect(node, greets: true)
            var later = earlier
            // One new start a second is taken, and others are told so.
            for _ in 0..<2_000 where !later.frames.elements.contains("hello") || later === earlier {
                later = try await connect(node, greets: false)
                later.send(greeting(boot: 2, lane: .urgent))
                #expect(await later.frames.wait { !$0.isEmpty })
            }
            #expect(later.frames.elements.contains("hello"))
            #expect(await earlier.closed())
            #expect(await node.peer.isDisconnected(3, .control, .incoming))
            later.channel.close(promise: nil)
        }
    }

    private func expectCutOff(_ client: RawClient, _ what: String) async {
        #expect(await client.frames.wait { $0.contains { $0.hasPrefix("refusal") } }, "\(what)")
        #expect(await client.closed(), "\(what)")
    }

    private func framed(_ type: FrameType, _ payload: [UInt8]) -> [UInt8] {
        payload.withUnsafeBytes { FrameHeader(type: type, payload: $0).encoded() } + payload
    }

    @Test(arguments: [false, true])
    func aLengthAboveItsTypesBound(greets: Bool) async throws {
        try await withMemberThree { node in
            for type in FrameType.allCases {
                let client = try await connect(node, greets: greets)
                var header = [UInt8]().withUnsafeBytes { FrameHeader(type: type, payload: $0) }
                header.length = FrameLimits().payloadBytes(of: type) + 1
                client.send(header.encoded())
                await expectCutOff(client, "\(type)")
            }
            let who = greets ? "refused what node 3 sent" : "refused a connection from"
            #expect(await node.peer.lines.logged(who))
        }
    }

    /// Behind right checksums. What decodes by chance is a message, and the connection goes on.
    @Test func contentOfAnyKind() async throws {
        try await withMemberThree { node in
            var random = TestGenerator(11)
            var id: RequestID = 0
            var refused = 0
            let types = FrameType.allCases.filter { $0 != .hello && $0 != .refusal }
            for type in types {
                for size in [0, 1, 7, 40, 120] {
                    let payload = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                    let decodes = payload.withUnsafeBytes { bytes in
                        (try? MessageCodec.decode(type, bytes)) != nil
                    }
                    id += 1
                    let client = try await connect(node, greets: true)
                    client.send(framed(type, payload) + (try Self.forward(id)))
                    if decodes {
                        #expect(await node.peer.hasReceived(forward: id), "\(type) \(size)")
                        client.channel.close(promise: nil)
                    } else {
                        refused += 1
                        await expectCutOff(client, "\(type) \(size)")
                        #expect(!node.peer.events.elements.contains { Self.isForward($0, id) })
                    }
                }
            }
            #expect(refused > types.count)
        }
    }

    /// A second hello, and an older one sent again, are no way into an open connection.
    @Test func aHelloThatIsSentAgain() async throws {
        try await withMemberThree { node in
            let client = try await connect(node, greets: true)
            client.send(greeting)
            await expectCutOff(client, "a second hello")
            #expect(await node.peer.lines.logged("refused what node 3 sent"))
        }
    }

    /// Each start is written down. On a slow machine a second may pass between two of them.
    @Test func aMemberThatCountsUpWithEveryHello() async throws {
        try await withMemberThree { node in
            var isRefused = false
            for boot in 1...100 as ClosedRange<UInt64> where !isRefused {
                let client = try await connect(node, greets: false)
                client.send(greeting(boot: boot))
                #expect(await client.frames.wait { !$0.isEmpty })
                isRefused = client.frames.elements.contains { $0.contains("tooManyStarts") }
                if isRefused { #expect(await client.closed()) }
                client.channel.close(promise: nil)
            }
            #expect(isRefused)
            #expect(await node.peer.lines.logged("node 3 has started again within a second"))
        }
    }

    @Test func bytesThatComeOneByOne() async throws {
        try await withMemberThree { node in
            let client = try await connect(node, greets: false)
            for byte in greeting + (try Self.forward(5)) { client.send([byte]) }
            #expect(await node.peer.hasReceived(forward: 5))
            client.channel.close(promise: nil)
        }
    }

    @Test func aFrameThatIsCutShort() async throws {
        try await withMemberThree { node in
            let client = try await connect(node, greets: true)
            client.send(Array(try Self.forward(6).dropLast()))
            client.channel.close(promise: nil)
            #expect(await node.peer.isDisconnected(3, .control, .incoming))
            #expect(!node.peer.events.elements.contains { Self.isForward($0, 6) })
        }
    }

    /// It answers the hello and reads nothing after it, while it goes on to talk.
    @Test func aPeerThatStopsReading() async throws {
        let stuck = try await StuckListener.start()
        let one = try await TransportNode.start(1) { $0.stallTimeoutMilliseconds = 2_000 }
        let three = try await TransportNode.start(3, peers: [one.address(1)])
        try one.transport.setPeers([
            PeerAddress(member: MemberID(2), host: "127.0.0.1", port: stuck.port),
            three.address(3),
        ])
        let client = try await RawClient.connect(one.port, tls: try RawClient.tls("alpha-2"))
        client.send(
            Hello(
                cluster: "alpha", group: 0, sender: MemberID(2), receiver: MemberID(1),
                lane: .control, bootCounter: 1, nonce: 1
            ).encodedFrame())
        #expect(await client.frames.wait { $0.contains("hello") })
        #expect(await one.peer.isConnected(2, .control))
        #expect(await one.peer.isConnected(3, .control))
        let failures = Recorder<PeerSendFailure?>()
        for _ in 0..<64 {
            one.transport.send(
                .forward(1, [UInt8](repeating: 1, count: 1 << 20)), to: MemberID(2)
            ) { failures.record($0) }
        }
        let reason = "node 2 has read nothing for 2000 ms"
        #expect(await one.peer.lines.logged("lost the connection to node 2 (control)"))
        #expect(await one.peer.lines.logged(reason))
        #expect(await failures.wait { $0.count == 64 })
        #expect(one.transport.queuedBytes(to: MemberID(2), lane: .control) == 0)
        #expect(
            await client.frames.wait { frames in
                frames.contains { $0.hasPrefix("refusal") && $0.contains(reason) }
            }, "\(client.frames.elements)")
        #expect(await client.closed())
        #expect(one.transport.send(.forward(7, []), to: MemberID(3)))
        #expect(await three.peer.hasReceived(forward: 7))
        await one.transport.stop()
        await three.transport.stop()
        stuck.close()
    }

    /// It is not read while too much of it waits, which holds it back and nobody else.
    @Test func aPeerThatFloods() async throws {
        try await withMemberThree { node in
            node.peer.isTaking.store(false, ordering: .relaxed)
            let client = try await connect(node, greets: true)
            let large = try frame(.forward(9, [UInt8](repeating: 1, count: 1 << 20)))
            for _ in 0..<64 { client.send(large) }
            client.send(try Self.forward(10))
            #expect(await node.peer.lines.logged("node 3 sends faster than this node takes"))
            #expect(!node.peer.events.elements.contains { Self.isForward($0, 10) })
            node.peer.isTaking.store(true, ordering: .relaxed)
            #expect(await node.peer.hasReceived(forward: 10))
            client.channel.close(promise: nil)
        }
    }

    private static func forward(_ id: RequestID) throws -> [UInt8] {
        try frame(.forward(id, [1, 2, 3]))
    }

    private static func isForward(_ event: PeerEvent, _ id: RequestID) -> Bool {
        if case .received(.forward(id, _), _) = event { true } else { false }
    }
}
