// Frames of any length and content, from a member that has gone wrong: what does not decode ends its
// connection with the reason on both sides, and the other members go on talking.
import Engine
import NIOCore
import Replication
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

    private var greeting: [UInt8] {
        Hello(
            cluster: "alpha", group: 0, sender: MemberID(3), receiver: MemberID(1), lane: .control,
            bootCounter: 1, nonce: 1
        ).encodedFrame()
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

    private static func forward(_ id: RequestID) throws -> [UInt8] {
        try frame(.forward(id, [1, 2, 3]))
    }

    private static func isForward(_ event: PeerEvent, _ id: RequestID) -> Bool {
        if case .received(.forward(id, _), _) = event { true } else { false }
    }
}
