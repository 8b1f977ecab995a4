// Sessions on an embedded channel over a fake replica: one thread, virtual time, no sockets.
import Engine
import NIOCore
import NIOEmbedded
import Node
import Replication
import Synchronization
import Testing

/// Closures that wait until the test runs them: the read pool.
final class ManualPool: Sendable {
    private let jobs = Mutex<[@Sendable () -> Void]>([])

    func submit(_ job: @escaping @Sendable () -> Void) { jobs.withLock { $0.append(job) } }

    @discardableResult
    func run() -> Int {
        let taken = jobs.withLock { jobs in
            defer { jobs = [] }
            return jobs
        }
        for job in taken { job() }
        return taken.count
    }
}

/// A node's client edge: one event loop, any number of connections.
final class TestNode {
    let replica: FakeReplica
    let eventLoop = EmbeddedEventLoop()
    let pool = ManualPool()
    let environment: SessionEnvironment
    let loop: ClientLoop

    init(_ replica: FakeReplica, settings: RESPSettings = RESPSettings()) {
        self.replica = replica
        let evaluator = Evaluator(service: replica, settings: settings) { $0() }
        environment = SessionEnvironment(
            service: replica, evaluator: evaluator, settings: settings, admin: FakeAdmin(),
            runBlocking: { [pool] in pool.submit($0) })
        loop = ClientLoop(eventLoop: eventLoop, environment: environment)
    }

    func connect() throws -> TestClient {
        let channel = EmbeddedChannel(handler: Session(loop: loop), loop: eventLoop)
        channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 7379), promise: nil)
        eventLoop.run()
        return TestClient(channel: channel, node: self)
    }

    /// Runs the loop and the pool until nothing is left to do now.
    func settle() {
        repeat { eventLoop.run() } while pool.run() > 0
    }

    func advance(_ milliseconds: Int64) {
        eventLoop.advanceTime(by: .milliseconds(milliseconds))
        settle()
    }
}

final class TestClient {
    let channel: EmbeddedChannel
    let node: TestNode

    init(channel: EmbeddedChannel, node: TestNode) {
        self.channel = channel
        self.node = node
    }

    /// Sends raw bytes without letting the loop's turn end.
    func push(_ text: String) throws { try push([UInt8](text.utf8)) }

    func push(_ bytes: [UInt8]) throws {
        if channel.isActive { try channel.writeInbound(ByteBuffer(bytes: bytes)) }
    }

    /// Everything that has been answered since the last call.
    func replies() throws -> String {
        var text = ""
        while let buffer = try channel.readOutbound(as: ByteBuffer.self) {
            text += String(decoding: buffer.readableBytesView, as: UTF8.self)
        }
        return text
    }

    /// Sends inline commands, one a line, and returns the replies.
    @discardableResult
    func send(_ lines: String...) throws -> String {
        for line in lines { try push(line + "\r\n") }
        node.settle()
        return try replies()
    }

    var isOpen: Bool { channel.isActive }
}
