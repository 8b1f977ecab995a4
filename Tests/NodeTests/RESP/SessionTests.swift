// Sessions, turns and forwarding: order, confirmation, bounds. One thread and virtual time.
import Engine
import NIOCore
import NIOEmbedded
import Node
import Replication
import Synchronization
import Testing

/// A follower and the leader that it forwards to, over one store.
private struct Pair {
    let leader: TestNode
    let follower: TestNode

    init() {
        let store = FakeReader()
        leader = TestNode(FakeReplica(store: store))
        follower = TestNode(FakeReplica(store: store, term: nil))
        let replica = leader.replica
        follower.replica.set { $0.leader = replica }
    }
}

@Suite struct SessionTests {
    @Test func repliesKeepTheOrderOfAPipeline() throws {
        let node = TestNode(FakeReplica())
        node.replica.set { $0.commitsAtOnce = false }
        let client = try node.connect()
        try client.push(
            "PING\r\nSET a 1\r\nINCR a\r\nMGET a\r\nFROB x\r\nSET a 9\r\nPING z\r\n")
        node.settle()
        #expect(try client.replies() == "+PONG\r\n")
        // Both writes went out together; the read waits for them, and the last SET for the read.
        #expect(node.replica.state.withLock { $0.proposals.count } == 1)
        node.replica.commit()
        node.settle()
        #expect(
            try client.replies()
                == "+OK\r\n:2\r\n*1\r\n$1\r\n2\r\n"
                + "-ERR unknown command 'FROB', with args beginning with: 'x' \r\n")
        node.replica.commit()
        node.settle()
        #expect(try client.replies() == "+OK\r\n$1\r\nz\r\n")
    }

    /// They cost no round of their own: a pipeline of alternating writes and reads is one batch.
    @Test func pointReadsBetweenWritesGoWithTheWrites() throws {
        let node = TestNode(FakeReplica())
        node.replica.set { $0.commitsAtOnce = false }
        let client = try node.connect()
        try client.push(
            "SET a 1\r\nGET a\r\nPING\r\nDEL a\r\nGET a\r\nEXISTS a b\r\nSET b 2 EX 100\r\n"
                + "TTL b\r\nTYPE b\r\nTTL zz\r\n")
        node.settle()
        #expect(node.replica.state.withLock { $0.proposals.count } == 1)
        #expect(node.replica.state.withLock { $0.readCount } == 0)
        #expect(try client.replies() == "")
        node.replica.commit()
        node.settle()
        #expect(
            try client.replies()
                == "+OK\r\n$1\r\n1\r\n+PONG\r\n:1\r\n$-1\r\n:0\r\n+OK\r\n:100\r\n+string\r\n:-2\r\n"
        )
    }

    @Test func aTurnSharesOneProposalAndOneConfirmation() throws {
        let node = TestNode(FakeReplica())
        node.replica.set {
            $0.commitsAtOnce = false
            $0.readAnswer = nil
        }
        let clients = try (0..<6).map { _ in try node.connect() }
        for (index, client) in clients.enumerated() {
            try client.push(index < 3 ? "SET k\(index) v\r\n" : "GET k\r\n")
        }
        node.settle()
        #expect(node.replica.state.withLock { $0.proposalCount } == 1)
        #expect(node.replica.state.withLock { $0.readCount } == 1)
        // What comes later asks anew.
        let late = try node.connect()
        try late.push("GET k\r\n")
        node.settle()
        #expect(node.replica.state.withLock { $0.readCount } == 2)
        node.replica.commit()
        node.replica.confirmReads()
        node.settle()
        for (index, client) in clients.enumerated() {
            #expect(try client.replies() == (index < 3 ? "+OK\r\n" : "$-1\r\n"))
        }
    }

    @Test func getAfterSetOnAFollower() throws {
        let pair = Pair()
        let client = try pair.follower.connect()
        #expect(try client.send("SET a 1", "GET a") == "+OK\r\n$1\r\n1\r\n")
        #expect(pair.follower.replica.state.withLock { $0.forwardCount } == 1)
        #expect(pair.leader.replica.state.withLock { $0.proposalCount } == 1)
        #expect(pair.follower.replica.state.withLock { $0.proposalCount } == 0)
    }

    /// As on the leader: one message, whatever reads stand between the writes.
    @Test func aMixedPipelineOfAFollowerIsOneMessage() throws {
        let pair = Pair()
        let client = try pair.follower.connect()
        try client.push(
            "SET a 1\r\nGET a\r\nPING\r\nINCR a\r\nGET a\r\nEXISTS a b\r\nTTL a\r\nTYPE a\r\n")
        pair.follower.settle()
        #expect(
            try client.replies()
                == "+OK\r\n$1\r\n1\r\n+PONG\r\n:2\r\n$1\r\n2\r\n:1\r\n:-1\r\n+string\r\n")
        #expect(pair.follower.replica.state.withLock { $0.forwardCount } == 1)
    }

    @Test func aTurnIsForwardedInOneMessage() throws {
        let pair = Pair()
        let clients = try (0..<4).map { _ in try pair.follower.connect() }
        for client in clients { try client.push("INCR n\r\nINCR n\r\n") }
        pair.follower.settle()
        #expect(pair.follower.replica.state.withLock { $0.forwardCount } == 1)
        for (index, client) in clients.enumerated() {
            #expect(try client.replies() == ":\(2 * index + 1)\r\n:\(2 * index + 2)\r\n")
        }
    }

    @Test func aProxyNeverSendsTwice() throws {
        let follower = TestNode(FakeReplica(term: nil))
        let client = try follower.connect()
        try client.push("SET a 1\r\nINCR b\r\n")
        follower.settle()
        let sent = follower.replica.takeForwards()
        #expect(sent.count == 1)
        sent[0].completion(.unknown)
        follower.settle()
        let lines = try client.replies().split(separator: "\r\n")
        #expect(lines.count == 2)
        #expect(lines.allSatisfy { $0.hasPrefix("-UNCERTAIN 0 0 ") })
        follower.advance(10_000)
        #expect(follower.replica.state.withLock { $0.forwardCount } == 1)
    }

    @Test func aGarbledAnswerIsUncertain() throws {
        let follower = TestNode(FakeReplica(term: nil))
        let client = try follower.connect()
        try client.push("SET a 1\r\n")
        follower.settle()
        follower.replica.takeForwards()[0].completion(.answered([1, 2, 3, 4, 5, 6, 7]))
        follower.settle()
        #expect(try client.replies().hasPrefix("-UNCERTAIN 0 0 "))
    }

    @Test func notSentIsTriedUntilALeaderIsThere() throws {
        let pair = Pair()
        pair.follower.replica.set { $0.leader = nil }
        let client = try pair.follower.connect()
        try client.push("SET a 1\r\n")
        pair.follower.settle()
        for forward in pair.follower.replica.takeForwards() {
            forward.completion(.notSent(reason: "no leader is known"))
        }
        pair.follower.settle()
        #expect(try client.replies() == "")
        let leader = pair.leader.replica
        pair.follower.replica.set { $0.leader = leader }
        pair.follower.advance(25)
        #expect(try client.replies() == "+OK\r\n")
        #expect(leader.state.withLock { $0.proposalCount } == 1)
    }

    @Test func waitingForALeaderEnds() throws {
        let pair = Pair()
        // The member that is asked does not lead either: not evaluated, so it is asked again.
        pair.leader.replica.set { $0.term = nil }
        let client = try pair.follower.connect()
        try client.push("SET a 1\r\n")
        pair.follower.advance(1000)
        #expect(try client.replies() == "")
        for _ in 0..<150 { pair.follower.advance(20) }
        #expect(try client.replies().hasPrefix("-CLUSTERDOWN no leader"))
        #expect(pair.follower.replica.state.withLock { $0.forwardCount } > 10)
        #expect(client.isOpen)
    }

    @Test func aMemberThatBecomesLeaderEvaluatesWhatWaits() throws {
        let node = TestNode(FakeReplica(term: nil))
        let client = try node.connect()
        try client.push("SET a 1\r\n")
        node.settle()
        node.replica.takeForwards()[0].completion(.notSent(reason: "no leader"))
        node.settle()
        node.replica.set { $0.term = Term(2) }
        node.advance(25)
        #expect(try client.replies() == "+OK\r\n")
    }

    @Test func readsWaitForALeaderToo() throws {
        let node = TestNode(FakeReplica(term: nil))
        node.replica.set { $0.readAnswer = .failure(.noLeader) }
        let client = try node.connect()
        try client.push("GET a\r\n")
        node.advance(500)
        #expect(try client.replies() == "")
        node.replica.set { $0.readAnswer = .success(()) }
        node.advance(25)
        #expect(try client.replies() == "$-1\r\n")
        node.replica.set { $0.readAnswer = .failure(.timedOut) }
        try client.push("GET a\r\n")
        for _ in 0..<160 { node.advance(20) }
        #expect(try client.replies().hasPrefix("-CLUSTERDOWN"))
        node.replica.set { $0.readAnswer = .failure(.stopped) }
        #expect(try client.send("GET a").hasPrefix("-CLUSTERDOWN the node is stopping"))
    }

    @Test func readonlyReadsAreBoundedAndStillSeeOwnWrites() throws {
        let pair = Pair()
        let client = try pair.follower.connect()
        #expect(try client.send("READONLY", "GET a") == "+OK\r\n$-1\r\n")
        #expect(pair.follower.replica.state.withLock { $0.readCount } == 0)
        // The follower's applied index is behind this connection's write.
        #expect(try client.send("SET a 1", "GET a") == "+OK\r\n$1\r\n1\r\n")
        #expect(pair.follower.replica.state.withLock { $0.readCount } == 1)
        pair.follower.replica.set { $0.index = 1 }
        #expect(try client.send("GET a") == "$1\r\n1\r\n")
        #expect(pair.follower.replica.state.withLock { $0.readCount } == 1)
        pair.follower.replica.set { $0.bounded = .failure(.stale(milliseconds: 9000)) }
        try client.push("GET a\r\n")
        for _ in 0..<160 { pair.follower.advance(20) }
        #expect(try client.replies().hasPrefix("-CLUSTERDOWN the data here is 9000 ms old"))
        #expect(try client.send("READWRITE", "GET a") == "+OK\r\n$1\r\n1\r\n")
    }

    @Test func diskReadsLeaveTheLoopAndComeBackInOrder() throws {
        let node = TestNode(FakeReplica())
        for key in ["a", "b", "c"] { node.replica.store.set(key, key) }
        node.replica.store.state.withLock { _ = $0.cold.insert(bytes("b")) }
        let client = try node.connect()
        try client.push("GET a\r\nGET b\r\nGET c\r\n")
        node.eventLoop.run()
        #expect(try client.replies() == "")
        #expect(node.pool.run() == 1)
        node.eventLoop.run()
        #expect(try client.replies() == "$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")
    }

    /// Between the first key of a command and its second, an MSET of both is applied; once with the
    /// second key on disk, so that the command goes on in the pool.
    @Test(arguments: [false, true])
    func aCommandSeesAllOfAnAtomicWriteOrNothing(isCold: Bool) throws {
        let node = TestNode(FakeReplica())
        let store = node.replica.store
        let client = try node.connect()
        for (command, none, both) in [
            ("MGET a b", "*2\r\n$-1\r\n$-1\r\n", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n"),
            ("EXISTS a b", ":0\r\n", ":2\r\n"),
            ("GET a\r\nGET b", "$-1\r\n$-1\r\n", "$1\r\n1\r\n$1\r\n1\r\n"),
        ] {
            store.state.withLock { state in
                state.values = [:]
                state.cold = isCold ? [bytes("b")] : []
                state.afterRead = { values in
                    for key in ["a", "b"] { values[bytes(key)] = LiveValue(value: bytes("1")) }
                }
            }
            #expect(try client.send(command) == none)
            #expect(try client.send(command) == both)
        }
    }

    @Test func damageIsNeverNil() throws {
        let node = TestNode(FakeReplica())
        node.replica.store.state.withLock { _ = $0.damaged.insert(bytes("a")) }
        let client = try node.connect()
        for command in ["GET a", "MGET b a", "EXISTS a", "TTL a"] {
            #expect(
                try client.send(command)
                    == "-DAMAGED block 3 of table 0000000000000009-f0 is lost: nobody has it\r\n")
        }
    }

    @Test func waitAsksForThisConnectionsLastWrite() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        try client.send("SET a 1", "SET b 1")
        try client.push("WAIT 2 100\r\nPING\r\n")
        node.settle()
        let wait = node.replica.state.withLock { $0.waits[0] }
        #expect(wait.index == LogIndex(2))
        #expect(wait.count == 2)
        #expect(try client.replies() == "")
        wait.completion(1)
        node.settle()
        #expect(try client.replies() == ":1\r\n+PONG\r\n")
        #expect(try client.send("WAIT 1 -1") == "-ERR timeout is negative\r\n")
    }

    @Test func aClientThatLeavesWaitsNoMore() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        try client.push("WAIT 9 0\r\n")
        node.settle()
        let wait = node.replica.state.withLock { $0.waits[0] }
        #expect(!wait.cancellation.isCancelled)
        client.channel.close(promise: nil)
        node.settle()
        #expect(wait.cancellation.isCancelled)
        wait.completion(0)
        node.settle()
    }

    @Test func quitAnswersWhatCameBeforeItAndNothingAfter() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(try client.send("SET a 1", "QUIT", "SET b 1") == "+OK\r\n+OK\r\n")
        #expect(!client.isOpen)
        #expect(node.replica.store.value("b") == nil)
        #expect(node.environment.clients.count == 0)
    }

    @Test func aProtocolErrorIsAnsweredInItsPlace() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(
            try client.send("SET a 1", "*1", "oops")
                == "+OK\r\n-ERR Protocol error: expected '$', got 'o'\r\n")
        #expect(!client.isOpen)
    }

    @Test func aBrowserIsTurnedAway() throws {
        let node = TestNode(FakeReplica())
        let client = try node.connect()
        #expect(
            try client.send("POST / HTTP/1.1", "Host: x", "SET a 1")
                == "-ERR this is not an HTTP port\r\n")
        #expect(!client.isOpen)
    }

    @Test func theClientLimitIsToldAndKept() throws {
        var settings = RESPSettings()
        settings.clientsMax = 2
        let node = TestNode(FakeReplica(), settings: settings)
        let clients = try (0..<3).map { _ in try node.connect() }
        #expect(try clients[2].replies() == "-ERR max number of clients reached\r\n")
        #expect(!clients[2].isOpen)
        #expect(try clients[1].send("PING") == "+PONG\r\n")
        clients[0].channel.close(promise: nil)
        node.settle()
        #expect(try node.connect().send("PING") == "+PONG\r\n")
    }

    @Test func readingPausesWhileThePipelineIsFull() throws {
        var settings = RESPSettings()
        settings.pipelineCommands = 4
        let node = TestNode(FakeReplica(), settings: settings)
        node.replica.set { $0.commitsAtOnce = false }
        let gate = ReadCounter()
        let client = try node.connect()
        try client.channel.pipeline.syncOperations.addHandler(gate, position: .first)
        try client.push(String(repeating: "SET a 1\r\n", count: 20))
        node.settle()
        #expect(gate.count == 0)
        // Each batch that ends lets more be parsed; in the end all twenty are answered.
        for _ in 0..<20 {
            node.replica.commit()
            node.settle()
        }
        #expect(try client.replies() == String(repeating: "+OK\r\n", count: 20))
        #expect(gate.count > 0)
    }

    @Test func bigRepliesGoOutPieceByPiece() throws {
        var settings = RESPSettings()
        settings.batchBytes = 1000
        let node = TestNode(FakeReplica(), settings: settings)
        node.replica.store.set("a", String(repeating: "x", count: 600))
        let client = try node.connect()
        let text = try client.send("GET a", "GET a", "GET a", "GET a", "GET a", "PING")
        #expect(text.hasSuffix("+PONG\r\n"))
        #expect(text.utf8.count == 5 * 608 + 7)
        // Two a piece, each piece under its own confirmation.
        #expect(node.replica.state.withLock { $0.readCount } == 3)
    }

    @Test func stoppingAnswersWhatHasArrived() throws {
        let node = TestNode(FakeReplica())
        node.replica.set { $0.commitsAtOnce = false }
        let busy = try node.connect()
        let idle = try node.connect()
        try busy.push("SET a 1\r\n")
        node.settle()
        let stopped = node.loop.drain()
        node.settle()
        #expect(!idle.isOpen)
        #expect(busy.isOpen)
        node.replica.commit()
        node.settle()
        #expect(try busy.replies() == "+OK\r\n")
        #expect(!busy.isOpen)
        try stopped.wait()
    }

    @Test func aHalfClosedClientGetsItsAnswers() throws {
        let node = TestNode(FakeReplica())
        node.replica.set { $0.commitsAtOnce = false }
        let client = try node.connect()
        try client.push("SET a 1\r\nPING\r\n")
        node.settle()
        client.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        node.replica.commit()
        node.settle()
        #expect(try client.replies() == "+OK\r\n+PONG\r\n")
        #expect(!client.isOpen)
    }

    @Test func aClosedConnectionIsForgotten() throws {
        let node = TestNode(FakeReplica())
        node.replica.set {
            $0.commitsAtOnce = false
            $0.readAnswer = nil
        }
        weak var session: Session?
        do {
            let client = try node.connect()
            session = try client.channel.pipeline.syncOperations.handler(type: Session.self)
            try client.push("SET a 1\r\n")
            node.settle()
            client.channel.close(promise: nil)
            node.settle()
        }
        node.replica.commit()
        node.settle()
        #expect(session == nil)
        #expect(node.environment.input.bytes == 0)
    }
}

/// Counts the reads that a session asks for.
private final class ReadCounter: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer
    var count = 0
    func read(context: ChannelHandlerContext) {
        count += 1
        context.read()
    }
}

@Suite struct SessionFuzzTests {
    /// Whatever bytes come, in whatever pieces: answers or an end, never a trap, and nothing is
    /// kept when the client is gone.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func garbage(seed: UInt64) throws {
        var random = SeededGenerator(seed)
        var settings = RESPSettings()
        settings.valueBytes = 200
        settings.pipelineCommands = 8
        settings.batchBytes = 256
        let node = TestNode(FakeReplica(), settings: settings)
        node.replica.set { $0.commitsAtOnce = seed % 2 == 0 }
        let names = CommandTable.shared.specs.map(\.name) + ["nope", ""]
        let words = ["a", "b", "1", "-1", "NX", "EX", "GET", "LIMIT", "-", "+", "ID", "x\u{0}"]
        for _ in 0..<20 {
            let client = try node.connect()
            var input: [UInt8] = []
            for _ in 0..<30 {
                let name = names.randomElement(using: &random) ?? ""
                let count = Int.random(in: 0...4, using: &random)
                let arguments = (0..<count).map { _ in words.randomElement(using: &random) ?? "" }
                input += "*\(count + 1)\r\n".utf8
                for argument in [name] + arguments {
                    input += "$\(argument.utf8.count)\r\n\(argument)\r\n".utf8
                }
            }
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let place = Int.random(in: 0..<input.count, using: &random)
                input[place] = UInt8.random(in: 0...255, using: &random)
            }
            while !input.isEmpty, client.isOpen {
                let count = min(input.count, Int.random(in: 1...200, using: &random))
                try client.push([UInt8](input.prefix(count)))
                input.removeFirst(count)
                if Bool.random(using: &random) { node.settle() }
                if Bool.random(using: &random) { node.replica.commit(1) }
            }
            node.replica.commit()
            node.advance(1)
            _ = try client.replies()
            client.channel.close(promise: nil)
            node.settle()
        }
        node.replica.commit()
        node.settle()
        #expect(node.environment.input.bytes == 0)
        #expect(node.environment.output.bytes == 0)
        #expect(node.environment.clients.count == 0)
    }
}
