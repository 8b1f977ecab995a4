// The replica of a node as it runs, on a real directory: what it refuses at its start, and what it
// reads again.
import Cluster
import Engine
import Foundation
import Logging
import NIOCore
import Node
import Replication
import Synchronization
import Testing

private final class LogLines: Sendable {
    let all = Mutex<[String]>([])

    func contain(_ part: String) -> Bool { all.withLock { $0.contains { $0.contains(part) } } }
}

private struct LinesHandler: LogHandler {
    let lines: LogLines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.all.withLock { $0.append("\(event.message)") } }
}

/// The parts of a node that a replica needs.
private final class TestReplica {
    let lines = LogLines()
    let loops = NodeEventLoops(clientThreads: 0, processors: 1)
    let directory: DirectoryComponent
    let replica: ReplicaComponent

    init(_ configuration: NodeConfiguration) {
        let lines = self.lines
        let logger = Logger(label: "test") { _ in LinesHandler(lines: lines) }
        directory = DirectoryComponent(configuration, logger: logger)
        replica = ReplicaComponent(
            configuration, directory: directory, loops: loops, fatal: FatalReport(),
            logger: logger)
    }

    func start() async throws {
        try await directory.start()
        try await loops.start()
        do { try await replica.start() } catch {
            await loops.stop()
            await directory.stop()
            throw error
        }
    }

    /// Waits until the first entries, which name the members, are applied.
    func found() async throws {
        let loop = try #require(loops.replica)
        for _ in 0..<6000 where (replica.replica?.status().applied ?? .zero) < LogIndex(2) {
            try await loop.scheduleTask(in: .milliseconds(10)) {}.futureResult.get()
        }
        #expect((replica.replica?.status().applied ?? .zero) >= LogIndex(2))
    }

    func stop() async {
        await replica.stop()
        await loops.stop()
        await directory.stop()
    }
}

@Suite struct ReplicaComponentTests {
    private func configuration(_ directory: TemporaryDirectory) -> NodeConfiguration {
        var configuration = NodeConfiguration()
        configuration.dataDirectory = directory.path + "/data"
        configuration.listen.peerPort = 0
        configuration.log.segmentBytes = 1 << 20
        return configuration
    }

    private func members(_ ids: [UInt64]) -> [NodeConfiguration.ConfiguredMember] {
        ids.map {
            .init(id: MemberID($0), peer: "127.0.0.1:\($0)", client: "127.0.0.1:1\($0)")
        }
    }

    /// It would lead alone, and the new ones would found a history of their own.
    @Test func aChangedListOfMembersIsRefused() async throws {
        let directory = try TemporaryDirectory()
        let alone = configuration(directory)
        let first = TestReplica(alone)
        try await first.start()
        try await first.found()
        await first.stop()

        var grown = alone
        grown.members = members([1, 2, 3])
        let file = try directory.write("x.pem", "x")
        grown.tls.ca = file
        grown.tls.certificate = file
        grown.tls.key = file
        let failure = await #expect(throws: NodeFailure.self) {
            try await TestReplica(grown).start()
        }
        #expect(failure?.kind == .configuration)
        #expect(
            failure?.message.hasPrefix(
                "members: the configuration names 1, 2, 3, but this node's data belongs to"
                    + " a cluster of 1,") == true, "\(failure?.message ?? "")")

        let again = TestReplica(alone)
        try await again.start()
        await again.stop()
    }

    @Test func certificatesAreReadAgain() async throws {
        let directory = try TemporaryDirectory()
        var one = configuration(directory)
        one.members = members([1, 2, 3])
        let files = try DevelopmentCertificates.make(
            directory: directory.path + "/certificates", cluster: one.clusterID,
            nodes: [MemberID(1)]
        ).files(of: MemberID(1))
        one.tls.ca = files.authority
        one.tls.certificate = files.certificate
        one.tls.key = files.key
        let node = TestReplica(one)
        try await node.start()
        await node.replica.reload()
        #expect(node.lines.contain("certificates are read again"))
        #expect(!node.lines.contain("the old ones stay in use"))
        try "no certificate".write(toFile: files.certificate, atomically: false, encoding: .utf8)
        await node.replica.reload()
        #expect(node.lines.contain("the old ones stay in use"))
        await node.stop()
    }
}
