// The load generator against a server under the tests' control.
import ArgumentParser
import NIOCore
import NIOPosix
import Node
import Synchronization
import Testing

/// Answers each line that names a command with the bytes that `answer` gives for it; nil closes.
private final class ScriptedServer: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: @Sendable (String) -> String?
    private let rest = Mutex("")

    init(_ answer: @escaping @Sendable (String) -> String?) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let text = String(buffer: unwrapInboundIn(data))
        let lines = rest.withLock { rest in
            var lines = (rest + text).split(separator: "\r\n", omittingEmptySubsequences: false)
            rest = String(lines.removeLast())
            return lines.map(String.init)
        }
        for line in lines where ["SET", "GET", "WAIT"].contains(line) {
            guard let reply = answer(line) else { return context.close(promise: nil) }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: reply)), promise: nil)
        }
    }
}

@Suite struct ClusterLoadTests {
    private func options(_ change: (inout LoadOptions) -> Void) -> LoadOptions {
        var options = LoadOptions()
        options.clients = 3
        options.seconds = nil
        options.requests = 100
        change(&options)
        return options
    }

    private func load(
        _ options: LoadOptions, answer: @escaping @Sendable (String) -> String?
    ) throws -> LoadReport {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { group.shutdownGracefully { _ in } }
        let server = try ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.pipeline.addHandler(ScriptedServer(answer))
            }.bind(host: "127.0.0.1", port: 0).wait()
        var options = options
        options.endpoints = [.init(host: "127.0.0.1", port: server.localAddress?.port ?? 0)]
        let report = try ClusterLoad.run(options)
        try server.close().wait()
        return report
    }

    @Test func everyRequestIsMadeOnce() throws {
        let asked = Counter()
        let report = try load(options { $0.threads = 2 }) { _ in
            asked.add()
            return "+OK\r\n"
        }
        #expect(report.sets.operations == 100 && report.gets.operations == 0)
        #expect(report.errors.isEmpty && asked.value == 100)
        #expect(report.json.contains("\"ops\":100"))
    }

    @Test func getsThatFindNothingAreSaid() throws {
        let report = try load(options { $0.readPercent = 100 }) { _ in "$-1\r\n" }
        #expect(report.gets.operations == 100 && report.missing == 100)
    }

    @Test func errorsAreCountedByTheirKindAndHaveNoLatency() throws {
        let asked = Counter()
        let report = try load(options { $0.clients = 1 }) { _ in
            switch asked.add() % 4 {
            case 0: "-BUSY wait\r\n"
            case 1: "-UNCERTAIN who knows\r\n"
            default: "+OK\r\n"
            }
        }
        #expect(report.errors == ["BUSY": 25, "UNCERTAIN": 25])
        #expect(report.sets.operations == 50)
    }

    @Test func waitIsPartOfItsWrite() throws {
        let waits = Counter()
        let report = try load(options { $0.waitReplicas = 1 }) { command in
            guard command == "WAIT" else { return "+OK\r\n" }
            return waits.add() < 10 ? ":0\r\n" : ":2\r\n"
        }
        #expect(waits.value == 100)
        #expect(report.errors == ["too-few-replicas": 10] && report.sets.operations == 90)
    }

    @Test func aLostConnectionIsAnErrorAndIsOpenedAnew() throws {
        let asked = Counter()
        let report = try load(options { $0.clients = 1 }) { _ in asked.add() == 50 ? nil : "+OK\r\n"
        }
        #expect(report.errors == ["connection-lost": 1] && report.reconnects >= 1)
        #expect(report.sets.operations == 99)
    }

    @Test func whatIsNoReplyIsAnError() throws {
        let asked = Counter()
        let report = try load(options { $0.clients = 1 }) { _ in
            asked.add() == 0 ? "what\r\n" : "+OK\r\n"
        }
        #expect(report.errors == ["no-reply-of-RESP2": 1] && report.sets.operations == 99)
    }

    @Test func anOpenLoopCountsWaitingForABusyClient() throws {
        // The first answer never comes: the requests that were due meanwhile waited for the client.
        let asked = Counter()
        let report = try load(
            options {
                $0.clients = 1
                $0.requests = nil
                $0.seconds = 1
                $0.rate = 100
                $0.timeoutSeconds = 0.5
            }
        ) { _ in asked.add() == 0 ? "" : "+OK\r\n" }
        #expect(report.errors == ["timeout": 1], "\(report.line)")
        #expect(report.sets.operations == 99)
        #expect(report.sets.maximumMicroseconds >= 400_000)
    }

    @Test(arguments: [
        ["--endpoints", ""], ["--endpoints", "here"], ["--endpoints", "h:1,"], ["--clients", "0"],
        ["--threads", "65"], ["--threads", "2", "--clients", "1"], ["--rate", "0"],
        ["--rate", "nan"], ["--seconds", "0"], ["--seconds", "1", "--requests", "1"],
        ["--requests", "0"], ["--requests", "5", "--warmup", "1"], ["--keys", "0"],
        ["--value-size", "-1"], ["--reads", "101"], ["--wait", "-1"], ["--wait-timeout", "0"],
        ["--timeout", "0"], ["--warmup", "-1"],
    ])
    func wrongFlagsAreRefused(arguments: [String]) {
        #expect(throws: (any Error).self) { try ClusterBenchCommand.parse(arguments) }
    }

    @Test func everyFlagArrives() throws {
        let options = try ClusterBenchCommand.parse([
            "--endpoints", "a:1,[::1]:2", "--clients", "7", "--threads", "2", "--rate", "1000.5",
            "--seconds", "3", "--warmup", "1", "--keys", "9", "--value-size", "0", "--reads", "50",
            "--wait", "1", "--wait-timeout", "200", "--timeout", "2", "--seed", "4",
        ]).options()
        #expect(options.endpoints == [.init(host: "a", port: 1), .init(host: "::1", port: 2)])
        #expect(options.clients == 7 && options.threads == 2 && options.rate == 1000.5)
        #expect(options.seconds == 3 && options.requests == nil && options.warmupSeconds == 1)
        #expect(options.keys == 9 && options.valueBytes == 0 && options.readPercent == 50)
        #expect(options.waitReplicas == 1 && options.waitMilliseconds == 200)
        #expect(options.timeoutSeconds == 2 && options.seed == 4)
    }
}

private final class Counter: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }

    /// The count before.
    @discardableResult
    func add() -> Int {
        count.withLock { count in
            defer { count += 1 }
            return count
        }
    }
}
