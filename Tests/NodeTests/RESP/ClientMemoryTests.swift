// What clients can make a node hold: replies that nobody takes, commands that never end. Each bound
// by itself and over all clients, who is closed for it and who is not, and that all of it is given
// back.
import Engine
import NIOCore
import NIOEmbedded
import Node
import Replication
import Synchronization
import Testing

/// The client's side of the wire: takes what is written only when the test says so.
private final class HeldWire: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer

    var isHolding = true
    private(set) var reads = 0
    private var held: [(data: NIOAny, bytes: Int, promise: EventLoopPromise<Void>?)] = []
    private var context: ChannelHandlerContext?

    var heldBytes: Int { held.reduce(0) { $0 + $1.bytes } }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard isHolding else { return context.write(data, promise: promise) }
        held.append((data, unwrapOutboundIn(data).readableBytes, promise))
    }

    func read(context: ChannelHandlerContext) {
        reads += 1
        context.read()
    }

    func channelInactive(context: ChannelHandlerContext) {
        let failed = held
        held = []
        for write in failed { write.promise?.fail(ChannelError.ioOnClosedChannel) }
        context.fireChannelInactive()
    }

    /// Takes the oldest `count` buffers.
    func take(_ count: Int = .max) {
        for write in held.prefix(count) {
            held.removeFirst()
            context?.writeAndFlush(write.data, promise: write.promise)
        }
    }
}

extension TestNode {
    fileprivate func connectHeld() throws -> (client: TestClient, wire: HeldWire) {
        let client = try connect()
        let wire = HeldWire()
        try client.channel.pipeline.syncOperations.addHandler(wire, position: .first)
        return (client, wire)
    }
}

private func settings(_ change: (inout RESPSettings) -> Void) -> RESPSettings {
    var settings = RESPSettings()
    settings.batchBytes = 1000
    settings.outputPauseBytes = 1000
    change(&settings)
    return settings
}

private let value = String(repeating: "v", count: 600)
/// The reply to a GET of `value`, bytes.
private let replyBytes = 608

@Suite struct OutputMemoryTests {
    private func node(_ change: (inout RESPSettings) -> Void = { _ in }) -> TestNode {
        let node = TestNode(FakeReplica(), settings: settings(change))
        node.replica.store.set("a", value)
        return node
    }

    @Test(arguments: [false, true])
    func executionPausesForAClientThatTakesNothing(isCold: Bool) throws {
        let node = node()
        if isCold { node.replica.store.state.withLock { $0.cold = [bytes("a")] } }
        let (client, wire) = try node.connectHeld()
        try client.push(String(repeating: "GET a\r\n", count: 50))
        node.settle()
        // One batch reaches the mark.
        #expect(wire.heldBytes == 2 * replyBytes)
        #expect(node.environment.output.bytes == wire.heldBytes)
        node.advance(1000)
        #expect(wire.heldBytes == 2 * replyBytes)
        for _ in 0..<100 {
            wire.take(1)
            node.settle()
            #expect(node.environment.output.bytes <= 1000 + 1000 + replyBytes)
        }
        #expect(try client.replies().utf8.count == 50 * replyBytes)
        #expect(node.environment.output.bytes == 0)
    }

    @Test func repliesOfTheConnectionItselfPauseToo() throws {
        let node = node()
        let (client, wire) = try node.connectHeld()
        try client.push(String(repeating: "ECHO \(value)\r\n", count: 50))
        node.settle()
        #expect(wire.heldBytes == 2 * replyBytes)
        for _ in 0..<100 { wire.take(1) }
        node.settle()
        #expect(try client.replies().utf8.count == 50 * replyBytes)
    }

    @Test func aBatchOfReportsIsCut() throws {
        let node = node()
        let (client, wire) = try node.connectHeld()
        try client.push(String(repeating: "INFO\r\n", count: 50))
        node.settle()
        let most = 2000 + (try node.connect().send("INFO").utf8.count)
        #expect(wire.heldBytes > 0 && wire.heldBytes < most)
        for _ in 0..<100 {
            wire.take(1)
            node.settle()
        }
        #expect(try client.replies().split(separator: "# Server").count == 51)
    }

    @Test func largeRepliesGoOutInPieces() throws {
        let node = TestNode(FakeReplica())
        let text = String(repeating: "x", count: 1 << 20)
        node.replica.store.set("a", text)
        let (client, wire) = try node.connectHeld()
        try client.push("GET a\r\n")
        node.settle()
        #expect(wire.heldBytes == 1 << 20 + 12)
        wire.take(1)
        #expect(wire.heldBytes < 1 << 20)
        #expect(node.environment.output.bytes == wire.heldBytes)
        wire.take()
        #expect(try client.replies() == "$1048576\r\n\(text)\r\n")
    }

    @Test func aClientThatTakesNothingIsClosed() throws {
        let node = node()
        let (client, wire) = try node.connectHeld()
        try client.push(String(repeating: "GET a\r\n", count: 10))
        node.settle()
        node.advance(50_000)
        wire.take(1)
        node.advance(50_000)
        #expect(client.isOpen)
        // What the first look finds may have been taken just before it.
        node.advance(130_000)
        #expect(!client.isOpen)
        #expect(node.environment.statistics.slowClientsClosed.value == 1)
        #expect(node.environment.output.bytes == 0)
    }

    /// Little that is not taken holds nothing up: the client may come back for it any time.
    @Test func aClientWithLittleToTakeIsLeftAlone() throws {
        let node = node()
        let (client, wire) = try node.connectHeld()
        try client.push("GET a\r\n")
        node.advance(600_000)
        #expect(client.isOpen)
        wire.take()
        #expect(try client.replies().utf8.count == replyBytes)
    }

    @Test func quittingWithoutTakingTheRepliesEnds() throws {
        let node = node()
        let (client, _) = try node.connectHeld()
        try client.push("GET a\r\nQUIT\r\n")
        node.advance(30_000)
        #expect(client.isOpen)
        node.advance(130_000)
        #expect(!client.isOpen)
    }

    @Test func aboveTheLimitOfAllTheGreedyAreClosed() throws {
        let node = node { $0.outputTotalBytes = 10_000 }
        let modest = try node.connectHeld()
        try modest.client.push("PING\r\n")
        node.settle()
        let greedy = try (0..<12).map { _ in try node.connectHeld() }
        for (client, _) in greedy {
            try client.push(String(repeating: "GET a\r\n", count: 20))
            node.settle()
        }
        // What is over the limit is one batch at most.
        #expect(node.environment.output.bytes < 10_000 + 1000 + 2 * replyBytes)
        #expect(node.environment.output.isFull)
        let healthy = try node.connect()
        try healthy.push("GET a\r\n")
        node.settle()
        #expect(try healthy.replies() == "")
        // A write is executed meanwhile.
        #expect(try node.connect().send("SET b 1", "PING") == "+OK\r\n+PONG\r\n")
        for _ in 0..<20 { node.advance(50) }
        #expect(try healthy.replies().utf8.count == replyBytes)
        #expect(modest.client.isOpen && healthy.isOpen)
        let closed = greedy.filter { !$0.client.isOpen }.count
        #expect(closed > 0)
        #expect(node.environment.statistics.outputLimitClosed.value == UInt64(closed))
        #expect(!node.environment.output.isFull)
        let info = try healthy.send("INFO")
        #expect(info.contains("client_output_buffer_limit_disconnections:\(closed)\r\n"))
        for (client, _) in greedy + [modest] { client.channel.close(promise: nil) }
        node.settle()
        #expect(node.environment.output.bytes == 0)
        #expect(node.environment.output.fairShare == 10_000)
    }

    /// Slow is not greedy: who goes on taking is never closed, and what others ask for waits.
    @Test func aboveTheLimitWhoTakesIsKept() throws {
        let node = node {
            $0.outputTotalBytes = 3000
            $0.outputPauseBytes = 1 << 20
            $0.batchBytes = 500
        }
        let (slow, wire) = try node.connectHeld()
        for _ in 0..<20 { try slow.push("GET a\r\n") }
        node.settle()
        #expect(wire.heldBytes > 3000)
        #expect(node.environment.output.isFull)
        let other = try node.connect()
        try other.push("GET a\r\n")
        for _ in 0..<20 {
            node.advance(400)
            wire.take(1)
        }
        node.advance(50)
        #expect(slow.isOpen)
        #expect(try other.replies().utf8.count == replyBytes)
        #expect(node.environment.statistics.outputLimitClosed.value == 0)
    }

    @Test func waitingForRoomEnds() throws {
        let node = node {
            $0.outputTotalBytes = 1000
            $0.outputGraceMilliseconds = 60_000
        }
        let other = try node.connect()
        // Its read is on its way when the limit is reached.
        node.replica.set { $0.readAnswer = nil }
        try other.push("GET a\r\n")
        node.settle()
        node.environment.output.add(1000)
        node.replica.confirmReads()
        node.replica.set { $0.readAnswer = .success(()) }
        for _ in 0..<200 { node.advance(20) }
        #expect(try other.replies().hasPrefix("-BUSY the unread replies of all clients are above"))
        node.environment.output.add(-1000)
        #expect(try other.send("GET a").utf8.count == replyBytes)
    }
}

@Suite struct InputMemoryTests {
    private func command(_ arguments: String...) -> String {
        "*\(arguments.count)\r\n" + arguments.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
    }

    @Test func whatIsExecutedIsGivenBack() throws {
        let node = TestNode(FakeReplica())
        node.replica.set { $0.commitsAtOnce = false }
        let client = try node.connect()
        let text = String(repeating: "x", count: 100_000)
        try client.push(command("SET", "a", text))
        node.settle()
        #expect(node.environment.input.bytes >= 100_000)
        node.replica.commit()
        node.settle()
        #expect(try client.replies() == "+OK\r\n")
        #expect(node.environment.input.bytes == 0)
    }

    /// A command in execution does not let the input behind it grow.
    @Test func inputBehindACommandInExecutionIsBounded() throws {
        let node = TestNode(FakeReplica(), settings: settings { $0.pipelineBytes = 10_000 })
        let (client, wire) = try node.connectHeld()
        wire.isHolding = false
        try client.push("WAIT 9 0\r\n")
        node.settle()
        var sent = 0
        var reads = -1
        // The client sends as long as it is asked for more.
        while wire.reads != reads, sent < 1000 {
            reads = wire.reads
            try client.push(String(repeating: "GET a\r\n", count: 10))
            node.settle()
            sent += 10
        }
        #expect(sent < 200)
        #expect(node.environment.input.bytes < 40_000)
        node.replica.state.withLock { $0.waits[0].completion }(0)
        node.settle()
        #expect(try client.replies() == ":0\r\n" + String(repeating: "$-1\r\n", count: sent))
        #expect(node.environment.input.bytes == 0)
    }

    @Test func aboveTheLimitOfAllTheGreedyAreClosed() throws {
        let node = TestNode(FakeReplica(), settings: settings { $0.inputBytes = 1 << 20 })
        let part = "*2\r\n$4\r\nPING\r\n$8000000\r\n"
        let modest = try node.connect()
        try modest.push(part + String(repeating: "x", count: 50 << 10))
        let greedy = try (0..<6).map { _ in try node.connect() }
        for client in greedy { try client.push(part) }
        for _ in 0..<30 {
            for client in greedy { try client.push(String(repeating: "x", count: 10 << 10)) }
            node.settle()
            #expect(node.environment.input.bytes < 1 << 20 + 400_000)
        }
        #expect(modest.isOpen)
        let closed = greedy.filter { !$0.isOpen }
        #expect(!closed.isEmpty && closed.count < 6)
        for client in closed {
            #expect(
                try client.replies()
                    == "-ERR input of all clients is above the limit of 1048576 bytes\r\n")
        }
        let count = UInt64(closed.count)
        #expect(node.environment.statistics.inputLimitClosed.value == count)
        for client in greedy + [modest] { client.channel.close(promise: nil) }
        node.settle()
        #expect(node.environment.input.bytes == 0)
    }

    /// Arguments cost memory that the wire does not show: four bytes for an empty one.
    @Test func emptyArgumentsCount() throws {
        let node = TestNode(FakeReplica(), settings: settings { $0.pipelineBytes = 1 << 20 })
        node.replica.set { $0.commitsAtOnce = false }
        let (client, wire) = try node.connectHeld()
        try client.push("SET a 1\r\n")
        node.settle()
        let many =
            "*100001\r\n$4\r\nMSET\r\n"
            + String(repeating: "$1\r\nk\r\n$0\r\n\r\n", count: 50_000)
        var commands = 0
        var reads = -1
        while wire.reads != reads, commands < 100 {
            reads = wire.reads
            try client.push(many)
            node.settle()
            commands += 1
        }
        #expect(commands <= 4)
        #expect(node.environment.input.bytes >= 400_000 * (commands - 1))
    }

    @Test func aLongCommandDoesNotGrowToTheDouble() throws {
        var parser = RESPParser()
        var buffer = ByteBuffer()
        func feed(_ text: String) throws -> ParsedInput? {
            buffer.writeString(text)
            return try parser.next(&buffer)
        }
        // The last argument: to its end and no further.
        var parsed = try feed("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000000\r\n")
        var most = 0
        for _ in 0..<1000 {
            parsed = try feed(String(repeating: "x", count: 5000))
            most = max(most, parser.partialBytes)
        }
        #expect(parsed == nil)
        #expect(most < 5_100_000)
        _ = try feed("\r\n")
        #expect(parser.partialBytes == 0)
        // Many arguments: a quarter more than is there.
        _ = try feed("*200\r\n$4\r\nMSET\r\n")
        for count in 1..<150 {
            _ = try feed("$20000\r\n" + String(repeating: "x", count: 20000) + "\r\n")
            let most = max(2 << 20, 20000 * count / 4 * 5)
            if count > 1 { #expect(parser.partialBytes < most + 40_000) }
        }
    }

    /// Forwarded commands count at the leader too.
    @Test func aFullLeaderRefusesForwards() throws {
        let leader = TestNode(FakeReplica(), settings: settings { $0.inputBytes = 100_000 })
        let follower = TestNode(FakeReplica(term: nil))
        let replica = leader.replica
        follower.replica.set { $0.leader = replica }
        leader.environment.input.add(100_000)
        let client = try follower.connect()
        try client.push("SET a 1\r\n")
        follower.advance(100)
        #expect(try client.replies() == "")
        leader.environment.input.add(-100_000)
        follower.advance(30)
        #expect(try client.replies() == "+OK\r\n")
        #expect(leader.environment.input.bytes == 0)
    }
}
