// Strangers, impostors and nonsense: refused, said so on both sides, and nobody else is disturbed.
import Engine
import NIOCore
import NIOSSL
import Replication
import Testing

@Suite struct RefusalTests {
    /// Node 1, which knows node 2, and a dialling node made by `start` that knows node 1.
    private func expectRefused(
        _ second: (PeerAddress) async throws -> TransportNode, first: String, second text: String,
        known: [UInt64] = [2, 3]
    ) async throws {
        let one = try await TransportNode.start(1)
        // Addresses where nobody listens: only accepted connections matter here.
        try one.transport.setPeers(
            known.map { PeerAddress(member: MemberID($0), host: "127.0.0.1", port: 1) })
        let two = try await second(one.address(1))
        #expect(await one.peer.lines.logged(first), "\(one.peer.lines.elements)")
        #expect(await two.peer.lines.logged(text), "\(two.peer.lines.elements)")
        #expect(
            !one.peer.events.elements.contains { if case .connected = $0 { true } else { false } })
        #expect(
            !two.peer.events.elements.contains { if case .connected = $0 { true } else { false } })
        await one.transport.stop()
        await two.transport.stop()
    }

    @Test func aNodeOfAnotherAuthority() async throws {
        // It trusts the first node's CA, too, so it is its own certificate that fails.
        try await expectRefused(
            { address in
                try await TransportNode.start(2, peers: [address], leaf: "stranger-2") {
                    $0.authorityPath = TestAuthority.shared.bothAuthorities
                }
            },
            first: "the peer's certificate is not signed by the cluster's CA",
            second: "the peer does not know the CA of this node's certificate")
    }

    @Test func aNodeThatTrustsAnotherAuthority() async throws {
        try await expectRefused(
            { address in
                try await TransportNode.start(2, peers: [address], leaf: "stranger-2") {
                    $0.authorityPath = TestAuthority.shared.otherAuthority
                }
            },
            first: "the peer does not know the CA of this node's certificate",
            second: "the peer's certificate is not signed by the cluster's CA")
    }

    @Test func aNodeOfAnotherCluster() async throws {
        try await expectRefused(
            { address in
                try await TransportNode.start(2, peers: [address], leaf: "beta-2") {
                    $0.cluster = "beta"
                }
            },
            first: "the certificate is of cluster beta",
            second: "the certificate is of cluster alpha")
    }

    @Test func aNodeThatIsNoMember() async throws {
        try await expectRefused(
            { try await TransportNode.start(4, peers: [$0]) },
            first: "node 4 is not a member known to martlet://alpha/1",
            second: "it refused this node: node 4 is not a member known to martlet://alpha/1")
    }

    @Test func aNodeAtAnotherNodesAddress() async throws {
        try await expectRefused(
            { address in
                try await TransportNode.start(
                    2,
                    peers: [
                        PeerAddress(member: MemberID(3), host: address.host, port: address.port)
                    ])
            },
            first: "refused this node: node 1 is not a member known to martlet://alpha/2",
            second: "node 1 is not a member known to martlet://alpha/2")
    }

    @Test func aNodeWithTheSameID() async throws {
        try await expectRefused(
            { address in
                try await TransportNode.start(
                    1,
                    peers: [
                        PeerAddress(member: MemberID(2), host: address.host, port: address.port)
                    ])
            },
            first: "the peer has the same node id as martlet://alpha/1",
            second: "the peer has the same node id as martlet://alpha/1")
    }

    @Test func anOldCopyOfANode() async throws {
        let (one, two) = try await TransportNode.pair()
        let clone = try await TransportNode.start(2, peers: [one.address(1)]) { $0.nonce = 5 }
        #expect(await one.peer.lines.logged("another process runs as node 2 at start 1"))
        #expect(await clone.peer.lines.logged("another process runs as node 2 at start 1"))
        #expect(one.transport.send(.forward(1, []), to: MemberID(2)))
        #expect(await two.peer.hasReceived(forward: 1))
        for node in [one, two, clone] { await node.transport.stop() }
    }

    @Test func aNodeIsNotStartedWithAWrongCertificate() async throws {
        for (leaf, part) in [
            ("alpha-3", "is the certificate of martlet://alpha/3"),
            ("beta-2", "is the certificate of martlet://beta/2"),
            ("nameless", "holds 0 URI names"), ("twice", "holds 2 URI names"),
            ("odd", "is not martlet://"),
        ] {
            let error = await #expect(throws: PeerTransportError.self) {
                _ = try await TransportNode.start(2, leaf: leaf)
            }
            #expect("\(error!)".contains(part), "\(error!)")
        }
        for (key, part) in [
            (TestAuthority.shared.leaf("alpha-1").key, "does not go with the key in"),
            (TestAuthority.shared.authority, "holds no PEM private key"),
        ] {
            let error = await #expect(throws: PeerTransportError.self) {
                _ = try await TransportNode.start(2) { $0.keyPath = key }
            }
            #expect("\(error!)".contains(part), "\(error!)")
        }
        await #expect(throws: PeerTransportError.self) {
            _ = try await TransportNode.start(2) { $0.authorityPath = "/nowhere/ca.pem" }
        }
        await #expect(throws: PeerTransportError.self) {
            _ = try await TransportNode.start(2) { $0.cluster = "al/pha" }
        }
    }

    /// Every peer would refuse it. One that is alone is asked by nobody.
    @Test func aNodeWithPeersIsNotStartedWithACertificateThatTheyRefuse() async throws {
        let peers = [PeerAddress(member: MemberID(1), host: "127.0.0.1", port: 1)]
        let unsigned = "is not signed by a CA in \(TestAuthority.shared.authority)"
        for (leaf, part) in [
            ("stranger-2", unsigned), ("twin-2", unsigned),
            ("serving-2", "is not for both ends of TLS"),
            ("calling-2", "is not for both ends of TLS"),
        ] {
            let error = await #expect(throws: PeerTransportError.self) {
                _ = try await TransportNode.start(2, peers: peers, leaf: leaf)
            }
            let text = error.map { "\($0)" } ?? ""
            #expect(text.contains(part), "\(leaf): \(text)")
            #expect(text.contains(TestAuthority.shared.leaf(leaf).certificate), "\(text)")
            await (try await TransportNode.start(2, leaf: leaf)).transport.stop()
        }
    }

    @Test func aTakenPortIsAnError() async throws {
        let one = try await TransportNode.start(1)
        await #expect(throws: PeerTransportError.self) {
            _ = try await TransportNode.start(2, port: one.port)
        }
        await one.transport.stop()
    }

    // MARK: Raw clients, while two members go on talking

    private func withRawClient(
        _ tls: TLSConfiguration?, logged part: String,
        _ body: (RawClient) async throws -> Void
    ) async throws {
        let (one, two) = try await TransportNode.pair()
        let client = try await RawClient.connect(one.port, tls: tls)
        try await body(client)
        #expect(await client.closed())
        #expect(await one.peer.lines.logged(part), "\(one.peer.lines.elements)")
        #expect(two.transport.send(.forward(77, []), to: MemberID(1)))
        #expect(await one.peer.hasReceived(forward: 77))
        let lost = one.peer.events.elements.contains {
            if case .disconnected = $0 { true } else { false }
        }
        #expect(!lost, "\(one.peer.lines.elements) \(two.peer.lines.elements)")
        await one.transport.stop()
        await two.transport.stop()
    }

    private func hello(_ change: (inout Hello) -> Void = { _ in }) -> Hello {
        var hello = Hello(
            cluster: "alpha", group: 0, sender: MemberID(3), receiver: MemberID(1),
            lane: .control, bootCounter: 1, nonce: 1)
        change(&hello)
        return hello
    }

    @Test func noCertificate() async throws {
        try await withRawClient(
            try RawClient.tls(nil), logged: "the peer presented no certificate"
        ) { client in
            client.send(hello().encodedFrame())
            #expect(
                await client.frames.wait { $0.contains { $0.contains("CERTIFICATE_REQUIRED") } })
        }
    }

    @Test func anOlderTLS() async throws {
        var tls = try RawClient.tls("alpha-2")
        tls.maximumTLSVersion = .tlsv12
        try await withRawClient(tls, logged: "the peer does not speak TLS 1.3") { client in
            #expect(await client.frames.wait { $0.contains { $0.contains("PROTOCOL_VERSION") } })
        }
    }

    @Test(arguments: [
        ("nameless", "holds 0 URI names"), ("twice", "holds 2 URI names"),
        ("odd", "URI name is not martlet://"),
    ])
    func aCertificateThatNamesNoMember(_ leaf: String, _ part: String) async throws {
        try await withRawClient(try RawClient.tls(leaf), logged: part) { client in
            client.send(hello().encodedFrame())
            #expect(await client.frames.wait { $0.contains { $0.contains(part) } })
            #expect(!client.frames.elements.contains("hello"))
        }
    }

    @Test func anotherNodesID() async throws {
        let part = "the peer says it is node 3, its certificate says martlet://alpha/2"
        try await withRawClient(try RawClient.tls("alpha-2"), logged: part) { client in
            client.send(hello().encodedFrame())
            #expect(await client.frames.wait { $0.contains { $0.contains(part) } })
        }
    }

    @Test func anUnknownProtocolVersion() async throws {
        let part = "the peer speaks protocol 2 to 4, martlet://alpha/1 1"
        try await withRawClient(try RawClient.tls("alpha-2"), logged: part) { client in
            client.send(
                hello {
                    $0.sender = MemberID(2)
                    $0.versions = 2...4
                }.encodedFrame())
            #expect(await client.frames.wait { $0.contains { $0.contains(part) } })
        }
    }

    @Test func garbageBeforeTLS() async throws {
        try await withRawClient(nil, logged: "refused a connection from 127.0.0.1") { client in
            client.send(Array("GET / HTTP/1.1\r\nHost: here\r\n\r\n".utf8))
        }
    }

    @Test func garbageInPlaceOfTheHello() async throws {
        try await withRawClient(
            try RawClient.tls("alpha-2"), logged: "a frame header's checksum does not match"
        ) { client in
            client.send([UInt8](repeating: 0xa5, count: 4096))
            #expect(await client.frames.wait { $0.contains { $0.hasPrefix("refusal") } })
        }
    }

    @Test func aMessageBeforeTheHello() async throws {
        try await withRawClient(
            try RawClient.tls("alpha-2"), logged: "a frame of type readIndex before the hello"
        ) { client in
            client.send(try frame(.readIndex(1)))
        }
    }

    @Test func garbageBehindTheHello() async throws {
        let (one, two) = try await TransportNode.pair()
        try one.transport.setPeers([
            two.address(2), PeerAddress(member: MemberID(3), host: "127.0.0.1", port: 1),
        ])
        let client = try await RawClient.connect(one.port, tls: try RawClient.tls("alpha-3"))
        client.send(hello().encodedFrame() + (try frame(.forward(9, [1]))) + [0xff, 0xff])
        #expect(await client.frames.wait { $0.contains("hello") })
        #expect(await one.peer.hasReceived(forward: 9))
        client.send([UInt8](repeating: 0xa5, count: 4096))
        #expect(await client.frames.wait { $0.contains { $0.contains("checksum") } })
        #expect(await client.closed())
        #expect(await one.peer.isDisconnected(3, .control, .incoming))
        #expect(await one.peer.lines.logged("refused what node 3 sent"))
        #expect(two.transport.send(.forward(10, []), to: MemberID(1)))
        #expect(await one.peer.hasReceived(forward: 10))
        await one.transport.stop()
        await two.transport.stop()
    }

    @Test func aSilentStrangerIsNotKept() async throws {
        let one = try await TransportNode.start(1) { $0.handshakeTimeoutMilliseconds = 50 }
        let client = try await RawClient.connect(one.port, tls: nil)
        #expect(await client.closed())
        #expect(await one.peer.lines.logged("no hello within 50 ms"))
        await one.transport.stop()
    }

    /// There is no room but that of the oldest.
    @Test func strangersKeepNoMemberFromConnecting() async throws {
        let one = try await TransportNode.start(1) { $0.maxUnknownConnections = 2 }
        try one.transport.setPeers([PeerAddress(member: MemberID(3), host: "127.0.0.1", port: 1)])
        let first = try await RawClient.connect(one.port, tls: nil)
        let second = try await RawClient.connect(one.port, tls: nil)
        let third = try await RawClient.connect(one.port, tls: nil)
        #expect(await one.peer.lines.logged("too many connections without a hello"))
        let member = try await RawClient.connect(one.port, tls: try RawClient.tls("alpha-3"))
        member.send(hello().encodedFrame())
        #expect(await member.frames.wait { $0.contains("hello") })
        for client in [first, second, third, member] { client.channel.close(promise: nil) }
        await one.transport.stop()
    }

    @Test func strangersAreCounted() async throws {
        let (one, two) = try await TransportNode.pair { $0.maxUnknownConnections = 2 }
        var clients: [RawClient] = []
        for _ in 0..<5 { clients.append(try await RawClient.connect(one.port, tls: nil)) }
        #expect(await one.peer.lines.logged("too many connections without a hello"))
        let closed = Recorder<Bool>()
        for client in clients {
            client.channel.closeFuture.whenComplete { _ in closed.record(true) }
        }
        #expect(await closed.wait { $0.count >= 3 })
        #expect(two.transport.send(.forward(1, []), to: MemberID(1)))
        #expect(await one.peer.hasReceived(forward: 1))
        for client in clients { client.channel.close(promise: nil) }
        await one.transport.stop()
        await two.transport.stop()
    }
}
