// The listener on real sockets, with real threads: a plain blocking client against it.
import Engine
import NIOCore
import NIOPosix
import Node
import Replication
import Synchronization
import Testing

/// Runs closures on a thread of an own event loop: the pool and the evaluator's thread.
private func runner(_ group: MultiThreadedEventLoopGroup)
    -> @Sendable (@escaping @Sendable () -> Void) -> Void
{
    { job in group.next().execute(job) }
}

private func withListener(
    settings: RESPSettings = RESPSettings(),
    _ body: (_ port: Int, FakeReplica, RESPListener) throws -> Void
) throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let workers = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let replica = FakeReplica()
    let evaluator = Evaluator(service: replica, settings: settings, run: runner(workers))
    let environment = SessionEnvironment(
        service: replica, evaluator: evaluator, settings: settings, admin: FakeAdmin(),
        runBlocking: runner(workers))
    let listener = try RESPListener.start(
        host: "127.0.0.1", port: 0, group: group, environment: environment
    ).wait()
    defer {
        try? listener.stop(grace: .seconds(5)).wait()
        try? group.syncShutdownGracefully()
        try? workers.syncShutdownGracefully()
    }
    try body(try #require(listener.address.port), replica, listener)
}

@Suite struct ListenerTests {
    @Test func aClientTalks() throws {
        try withListener { port, replica, _ in
            let client = try TestSocket(port: port)
            try client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\nGET a\r\nINCR a\r\nINFO\r\n")
            let expected = "+OK\r\n$1\r\n1\r\n:2\r\n$"
            #expect(try client.receive(expected.utf8.count).hasPrefix(expected))
            #expect(replica.store.value("a") == "2")
        }
    }

    @Test func manyClientsPipeline() throws {
        try withListener { port, replica, _ in
            let clients = try (0..<8).map { _ in try TestSocket(port: port) }
            for client in clients {
                try client.send(String(repeating: "INCR n\r\nGET n\r\n", count: 500))
            }
            for client in clients {
                client.endInput()
                let lines = try client.receive().split(separator: "\r\n")
                // Each INCR, and a GET that saw it or a later one.
                #expect(lines.count == 500 * 3)
                for index in stride(from: 0, to: lines.count, by: 3) {
                    let written = Int(lines[index].dropFirst()) ?? 0
                    #expect(written > 0 && Int(lines[index + 2]) ?? 0 >= written)
                }
            }
            #expect(replica.store.value("n") == "4000")
        }
    }

    @Test func largeValuesAndManyOfThem() throws {
        try withListener { port, _, _ in
            let client = try TestSocket(port: port)
            let value = String(repeating: "v", count: 3 << 20)
            try client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$\(value.utf8.count)\r\n\(value)\r\n")
            #expect(try client.receive(5) == "+OK\r\n")
            // 150 MB of replies, above the output limit: paused, not closed, while they are read.
            try client.send(String(repeating: "GET a\r\n", count: 50))
            let size = 50 * ("$\(value.utf8.count)\r\n\r\n".utf8.count + value.utf8.count)
            #expect(try client.receive(size).utf8.count == size)
        }
    }

    @Test func stoppingEndsConnections() throws {
        try withListener { port, _, listener in
            let client = try TestSocket(port: port)
            try client.send("PING\r\n")
            #expect(try client.receive(7) == "+PONG\r\n")
            let stopped = listener.stop(grace: .seconds(5))
            #expect(try client.receive() == "")
            try stopped.wait()
        }
    }
}
