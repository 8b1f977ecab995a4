// Members that trust each other, over real loopback sockets and TLS.
import Engine
import NIOCore
import NIOPosix
import Replication
import Synchronization
import Testing

@Suite struct PeerTransportTests {
    private func heartbeat(_ round: UInt64) -> PeerMessage {
        .raft(
            group: 0,
            .heartbeat(
                Heartbeat(term: Term(1), commit: .zero, round: round, clock: 1, quorumAge: 0)))
    }

    @Test func twoNodesTalkOnAllLanes() async throws {
        let (one, two) = try await TransportNode.pair()
        for sample in SampleMessages.all {
            #expect(one.transport.send(sample.message, to: MemberID(2)))
            #expect(two.transport.send(sample.message, to: MemberID(1)))
        }
        for (node, from) in [(one, MemberID(2)), (two, MemberID(1))] {
            let arrived = await node.peer.events.wait { events in
                events.count { if case .received = $0 { true } else { false } }
                    == SampleMessages.all.count
            }
            #expect(arrived)
            // In order on each lane.
            for lane in PeerLane.allCases {
                let received = node.peer.events.elements.compactMap { event -> String? in
                    guard case .received(let message, from) = event, message.lane == lane else {
                        return nil
                    }
                    return "\(message)"
                }
                let sent = SampleMessages.all.map(\.message).filter { $0.lane == lane }
                #expect(received == sent.map { "\($0)" })
            }
        }
        #expect(!one.transport.send(heartbeat(1), to: MemberID(9)))
        await one.transport.stop()
        #expect(await two.peer.isDisconnected(1, .control, .outgoing))
        #expect(await two.peer.isDisconnected(1, .bulk, .incoming))
        await two.transport.stop()
    }

    @Test func aBurstIsOneFlushAndOneHandOver() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let peer = TestPeer()
        let two = try await TransportNode.start(2)
        let files = TestAuthority.shared.leaf("alpha-1")
        let transport = PeerTransport(
            PeerTransportConfiguration(
                cluster: "alpha", node: MemberID(1), group: 0, listenHost: "127.0.0.1",
                listenPort: 0, peers: [two.address(2)], certificatePath: files.certificate,
                keyPath: files.key, authorityPath: TestAuthority.shared.authority, bootCounter: 1,
                nonce: 1), eventLoopGroup: group, logger: peer.logger, delegate: peer)
        try await transport.start()
        try two.transport.setPeers([
            PeerAddress(member: MemberID(1), host: "127.0.0.1", port: transport.localPort!)
        ])
        #expect(await peer.isConnected(2, .urgent))
        // On the only loop, so that nothing is written before the burst is over.
        try await group.next().submit {
            for round in 1...1000 { transport.send(heartbeat(UInt64(round)), to: MemberID(2)) }
            #expect(transport.counts.flushes == 0)
        }.get()
        #expect(await two.peer.batches.wait { $0.reduce(0, +) == 1000 })
        #expect(transport.counts.flushes == 1)
        #expect(transport.counts.messagesSent == 1000)
        #expect(two.peer.batches.elements.count < 20)
        await transport.stop()
        await two.transport.stop()
        try await group.shutdownGracefully()
    }

    @Test func aLargeTransferDelaysNothingElse() async throws {
        let (one, two) = try await TransportNode.pair()
        let done = Recorder<PeerSendFailure?>()
        let large = [UInt8](repeating: 0x5a, count: 64 << 20)
        one.transport.send(.fetchReply(1, .bytes(large)), to: MemberID(2)) { done.record($0) }
        for round in 1...50 { one.transport.send(.forward(RequestID(round), []), to: MemberID(2)) }
        let arrived = await two.peer.events.wait { events in
            events.contains { if case .received(.fetchReply, _) = $0 { true } else { false } }
        }
        #expect(arrived)
        #expect(await done.wait { $0 == [nil] })
        let received = two.peer.events.elements.compactMap { event -> PeerLane? in
            if case .received(let message, _) = event { message.lane } else { nil }
        }
        #expect(received == Array(repeating: .control, count: 50) + [.bulk])
        if case .received(.fetchReply(1, .bytes(let bytes)), _)? = two.peer.events.elements.last {
            #expect(bytes == large)
        }
        #expect(one.transport.queuedBytes(to: MemberID(2), lane: .bulk) == 0)
        await one.transport.stop()
        await two.transport.stop()
    }

    /// A log that grows faster than the way carries it must not unseat its leader.
    @Test func heartbeatsOvertakeTheLog() async throws {
        let (one, two) = try await TransportNode.pair()
        let entries = [UInt8](repeating: 0x5a, count: 3 << 20)
        for request in 1...8 {
            let isTaken = one.transport.send(
                .forward(RequestID(request), entries), to: MemberID(2))
            #expect(isTaken)
        }
        one.transport.send(heartbeat(1), to: MemberID(2))
        #expect(await two.peer.hasReceived(forward: 8))
        let received = two.peer.events.elements.compactMap { event -> PeerLane? in
            if case .received(let message, _) = event { message.lane } else { nil }
        }
        let place = try #require(received.firstIndex(of: .urgent))
        #expect(place < 8)
        await one.transport.stop()
        await two.transport.stop()
    }

    @Test func aRestartedPeerIsFoundAgain() async throws {
        let (one, two) = try await TransportNode.pair()
        let port = two.port
        await two.transport.stop()
        #expect(await one.peer.isDisconnected(2, .control, .outgoing))
        let again = try await TransportNode.start(2, port: port, peers: [one.address(1)]) {
            $0.bootCounter = 2
            $0.nonce = 7
        }
        #expect(await one.peer.isConnected(2, .control, times: 2))
        #expect(await again.peer.isConnected(1, .control))
        #expect(one.transport.send(.forward(5, []), to: MemberID(2)))
        #expect(await again.peer.hasReceived(forward: 5))
        #expect(again.transport.send(.forward(6, []), to: MemberID(1)))
        #expect(await one.peer.hasReceived(forward: 6))
        await one.transport.stop()
        await again.transport.stop()
    }

    @Test func aStoppedPeerCostsNoMoreThanTheCap() async throws {
        let stuck = try await StuckListener.start()
        let one = try await TransportNode.start(1) {
            $0.peers = [PeerAddress(member: MemberID(2), host: "127.0.0.1", port: stuck.port)]
            $0.maxQueuedControlBytes = 32 << 20
        }
        #expect(await one.peer.isConnected(2, .control))
        let message = PeerMessage.forward(1, [UInt8](repeating: 1, count: 256 << 10))
        let failures = Recorder<PeerSendFailure?>()
        var refused = 0
        // The kernel's buffers take some megabytes, fewer than the queue may hold.
        for _ in 0..<400
        where !one.transport.send(message, to: MemberID(2), completion: { failures.record($0) }) {
            refused += 1
        }
        #expect(refused > 0)
        #expect(one.transport.counts.controlDropped == refused)
        #expect(failures.elements.filter { $0 == .queueFull }.count == refused)
        let bound = (32 << 20) + (257 << 10)
        #expect(one.transport.queuedBytes(to: MemberID(2), lane: .control) <= bound)
        // Once the connection breaks, what was queued fails too: every completion is called.
        stuck.close()
        #expect(await failures.wait { $0.count == 400 })
        // What of it the loop had come to before, and what not.
        #expect(failures.elements.contains { $0 == .disconnected || $0 == .notConnected })
        await one.transport.stop()
    }

    /// What waits for a connection that never is made was certainly not sent.
    @Test func whatNeverLeftIsToldApart() async throws {
        let accepted = Recorder<any Channel>()
        let silent = try await ServerBootstrap(group: testGroup)
            .childChannelInitializer { channel in
                accepted.record(channel)
                return channel.eventLoop.makeSucceededVoidFuture()
            }.bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(silent.localAddress?.port)
        let one = try await TransportNode.start(
            1, peers: [PeerAddress(member: MemberID(2), host: "127.0.0.1", port: port)])
        // One of each lane: all are dialling.
        #expect(await accepted.wait { $0.count == PeerLane.allCases.count })
        let failures = Recorder<PeerSendFailure?>()
        let isTaken = one.transport.send(.forward(1, []), to: MemberID(2)) { failures.record($0) }
        #expect(isTaken)
        silent.close(promise: nil)
        for channel in accepted.elements { channel.close(promise: nil) }
        #expect(await failures.wait { !$0.isEmpty })
        #expect(failures.elements == [.notConnected])
        await one.transport.stop()
    }

    @Test func removedMembersAreCutOff() async throws {
        let (one, two) = try await TransportNode.pair()
        try one.transport.setPeers([])
        #expect(await one.peer.isDisconnected(2, .control, .outgoing))
        #expect(await two.peer.isDisconnected(1, .control, .outgoing))
        #expect(!one.transport.send(heartbeat(1), to: MemberID(2)))
        #expect(await two.peer.lines.logged("node 2 is not a member known to martlet://alpha/1"))
        await one.transport.stop()
        await two.transport.stop()
    }

    @Test func aMovedMemberIsFoundAtItsNewAddress() async throws {
        let (one, two) = try await TransportNode.pair()
        let other = try await TransportNode.start(2, peers: [one.address(1)]) { $0.bootCounter = 2 }
        #expect(await other.peer.isConnected(1, .control))
        try one.transport.setPeers([other.address(2)])
        #expect(await one.peer.isConnected(2, .control, times: 2))
        #expect(one.transport.send(.forward(8, []), to: MemberID(2)))
        #expect(await other.peer.hasReceived(forward: 8))
        for node in [one, two, other] { await node.transport.stop() }
    }

    @Test func certificatesAreReadAgain() async throws {
        let (one, two) = try await TransportNode.pair()
        try one.transport.reloadCertificates()
        let peers = [two.address(2)]
        try one.transport.setPeers([])
        #expect(await one.peer.isDisconnected(2, .control, .outgoing))
        try one.transport.setPeers(peers)
        #expect(await one.peer.isConnected(2, .control, times: 2))
        await one.transport.stop()
        await two.transport.stop()
    }

    @Test func aMessageAboveTheLimitFailsAlone() async throws {
        let (one, two) = try await TransportNode.pair()
        let failures = Recorder<PeerSendFailure?>()
        one.transport.send(
            .readIndexReply(1, .ready(index: LogIndex(1 << 63), clock: 1)),
            to: MemberID(2)
        ) { failures.record($0) }
        one.transport.send(.forward(2, []), to: MemberID(2)) { failures.record($0) }
        #expect(await two.peer.hasReceived(forward: 2))
        #expect(await failures.wait { $0.count == 2 })
        if case .unsendable? = failures.elements[0] {} else { Issue.record("it was sent") }
        #expect(failures.elements[1] == nil)
        await one.transport.stop()
        await two.transport.stop()
    }
}
