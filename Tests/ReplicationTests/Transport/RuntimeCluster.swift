// Two members of three as a node runs them, with threads, disks and sockets; the third is the
// test's: it says what it wants over a connection of its own.
import Engine
import Logging
import NIOCore
import NIOPosix
import Replication
import Testing

final class RuntimeCluster: Sendable {
    struct Node: Sendable {
        let id: MemberID
        let port: Int
        let runtime: ReplicaRuntime
        let lines: Recorder<String>
    }

    let nodes: [Node]

    /// `thirdPort`: where member 3 listens; by default nobody does.
    static func start(thirdPort: Int = 1) async throws -> RuntimeCluster {
        let ports = [try await freePort(), try await freePort(), thirdPort]
        var nodes: [Node] = []
        for id in 1...2 { nodes.append(try await start(id, ports)) }
        return RuntimeCluster(nodes)
    }

    private init(_ nodes: [Node]) { self.nodes = nodes }

    private static func freePort() async throws -> Int {
        let channel = try await ServerBootstrap(group: testGroup)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(channel.localAddress?.port)
        try await channel.close().get()
        return port
    }

    private static func start(_ id: Int, _ ports: [Int]) async throws -> Node {
        let lines = Recorder<String>()
        let logger = Logger(label: "test") { _ in RecordingLogHandler(lines: lines) }
        let runtime = ReplicaRuntime(logger: logger, backgroundThreads: 1) {
            lines.record("halted: \($0)")
        }
        let member = MemberID(UInt64(id))
        let directory = "\(TestAuthority.shared.directory)/node-\(id)-\(ports[id - 1])"
        let files = StoreFiles(fileSystem: POSIXFileSystem(), directory: directory)
        let genesis = logGenesis(cluster: "alpha", group: 0)
        let opened = try OpenedReplica.open(
            StoreConfiguration(
                files: files,
                identity: ManifestIdentity(genesis: genesis, group: 0, node: member),
                options: StoreOptions(), jobs: runtime.jobs,
                healEnvironment: HealEnvironment(
                    clock: { wallMilliseconds() }, wake: {}, note: { lines.record($0) },
                    halt: { lines.record("halted: \($0)") })), log: LogOptions(),
            nonce: UInt64(id))
        let members = ports.indices.map {
            Member(
                id: MemberID(UInt64($0 + 1)), peerAddress: "127.0.0.1:\(ports[$0])",
                clientAddress: "127.0.0.1:1")
        }
        var options = ReplicaOptions(
            cluster: "alpha", node: member, seedMembers: Membership(members),
            seedSettings: LoggedSettings(), store: StoreOptions())
        options.seed = UInt64(id)
        // Whoever leads goes on to, however busy the machine is with other tests.
        options.electionTimeoutMilliseconds = 2_000
        let certificate = TestAuthority.shared.leaf("alpha-\(id)")
        let transport = PeerTransportConfiguration(
            cluster: "alpha", node: member, group: 0, listenHost: "127.0.0.1",
            listenPort: ports[id - 1],
            peers: ports.indices.filter { $0 + 1 != id }.map {
                PeerAddress(
                    member: MemberID(UInt64($0 + 1)), host: "127.0.0.1", port: ports[$0])
            }, certificatePath: certificate.certificate, keyPath: certificate.key,
            authorityPath: TestAuthority.shared.authority, bootCounter: 1, nonce: UInt64(id))
        try await runtime.start(
            opened, options: options, transport: transport, on: testGroup.next())
        return Node(id: member, port: ports[id - 1], runtime: runtime, lines: lines)
    }

    func stop() async {
        for node in nodes { await node.runtime.stop() }
    }

    var leader: Node? { nodes.first { $0.runtime.replica.evaluatingTerm != nil } }

    /// A client's write: it goes to whoever leads, again until it is applied. Nil if it is not in a
    /// minute.
    @discardableResult
    func put(_ key: String) async -> (leader: Node, position: Position)? {
        let deadline = monotonicMilliseconds() + 60_000
        while monotonicMilliseconds() < deadline {
            guard let leader, let term = leader.runtime.replica.evaluatingTerm else {
                await turn()
                continue
            }
            var batch = WriteBatch()
            batch.put(Array(key.utf8), [1])
            let outcome = await withCheckedContinuation { done in
                leader.runtime.replica.propose(batch, term: term) { done.resume(returning: $0) }
            }
            if case .applied(let position) = outcome { return (leader, position) }
            await turn()
        }
        return nil
    }

    /// Other threads go on.
    private func turn() async {
        try? await testGroup.next().scheduleTask(in: .milliseconds(10)) {}.futureResult.get()
    }

    /// Member 3 dials `node`; its hello is answered.
    func thirdMember(at node: Node, boot: UInt64 = 1) async throws -> RawClient {
        let client = try await RawClient.connect(node.port, tls: try RawClient.tls("alpha-3"))
        client.send(
            Hello(
                cluster: "alpha", group: 0, sender: MemberID(3), receiver: node.id, lane: .control,
                bootCounter: boot, nonce: boot
            ).encodedFrame())
        #expect(await client.frames.wait { $0.contains("hello") }, "\(client.frames.elements)")
        return client
    }
}
