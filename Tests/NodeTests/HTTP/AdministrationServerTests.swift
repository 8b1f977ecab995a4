// The real server over a loopback socket, asked by the command line's own client.
import Foundation
import Logging
import NIOCore
import NIOPosix
import Node
import Synchronization
import Testing

@Suite struct AdministrationServerTests {
    private func withServer(
        connectionsMax: Int = 128, idle: TimeAmount = .minutes(1),
        _ body: (HTTPAddress, FakeAdminSource) async throws -> Void
    ) async throws {
        let admin = FakeAdminSource()
        let server = AdministrationServer(
            host: "127.0.0.1", port: 0, source: admin,
            eventLoops: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"),
            connectionsMax: connectionsMax, idle: idle)
        try await server.start()
        let port = try #require(server.boundPort)
        do {
            try await body(HTTPAddress(host: "127.0.0.1", port: port), admin)
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    /// Blocking clients get a thread of their own: the server shares the tests' thread pool.
    private func onThread<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try body() }) }.start()
        }
    }

    private func fetch(_ address: HTTPAddress, _ path: String) async throws -> HTTPAnswer {
        try await onThread {
            try HTTPGet.fetch(address, path, timeoutSeconds: TestSocket.patienceSeconds)
        }
    }

    @Test func documentsHealthAndMetrics() async throws {
        try await withServer { address, _ in
            #expect(try await fetch(address, "/healthz").status == 200)
            #expect(try await fetch(address, "/readyz").text == "ready\n")
            let status = try await fetch(address, "/api/v1/status")
            #expect(status.body == AdminJSON.status(FakeAdminSource.status) + [10])
            let tables = try await fetch(address, "/api/v1/tables")
            #expect(tables.body == AdminJSON.tables([FakeAdminSource.table]) + [10])
            let metrics = try await fetch(address, "/metrics")
            #expect(metrics.text.contains("\nmartlet_commit_index 100\n"))
            #expect(try await fetch(address, "/nothing").status == 404)
        }
    }

    /// One request over a socket of its own; the bytes of the answer, head and body.
    private func exchange(_ address: HTTPAddress, _ method: String, _ path: String) async throws
        -> String
    {
        try await onThread {
            let socket = try TestSocket(port: address.port)
            try socket.send(
                "\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    + "Content-Length: 0\r\n\r\n")
            return try socket.receive()
        }
    }

    /// The second connection is served when the first, which went silent, is closed.
    @Test func connectionsAreBoundedInNumberAndIdleTime() async throws {
        try await withServer(connectionsMax: 1, idle: .seconds(1)) { address, _ in
            let hasEnded = try await onThread {
                // On a busy machine an answer may come later than the end: then once more.
                for _ in 0..<60 {
                    let silent = try TestSocket(port: address.port)
                    try silent.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    guard try silent.receive(15).hasPrefix("HTTP/1.1 200 OK"),
                        let answer = try? HTTPGet.fetch(address, "/healthz"), answer.status == 200
                    else { continue }
                    return silent.hasEnded
                }
                return false
            }
            #expect(hasEnded)
        }
    }

    @Test func headIsGetWithoutTheBody() async throws {
        try await withServer { address, admin in
            admin.readinessBox.withLock { $0 = .notReady(reason: "x") }
            for (path, status, type) in [
                ("/healthz", "200 OK", "text/plain"), ("/metrics", "200 OK", "text/plain"),
                ("/readyz", "503 Service Unavailable", "text/plain"),
                ("/api/v1/status", "200 OK", "application/json"),
                ("/api/v1/tables", "200 OK", "application/json"),
                ("/api/v1/ledger?limit=2", "200 OK", "application/json"),
                ("/nothing", "404 Not Found", "text/plain"),
            ] {
                let got = try await exchange(address, "GET", path).split(
                    separator: "\r\n\r\n", maxSplits: 1)
                let head = try await exchange(address, "HEAD", path)
                #expect(head.hasPrefix("HTTP/1.1 \(status)\r\n"), "\(path)")
                #expect(head.contains("\r\nContent-Type: \(type)"), "\(path)")
                #expect(head.contains("\r\nContent-Length: \(got[1].utf8.count)\r\n"), "\(path)")
                #expect(head.hasSuffix("\r\n\r\n"), "\(path)")
            }
        }
    }

    @Test func onlyReadingIsAllowed() async throws {
        try await withServer { address, _ in
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                for path in ["/healthz", "/metrics", "/api/v1/status", "/api/v1/ledger/?limit=0"] {
                    let answer = try await exchange(address, method, path)
                    #expect(answer.hasPrefix("HTTP/1.1 405 Method Not Allowed\r\n"), "\(method)")
                    #expect(answer.contains("\r\nAllow: GET, HEAD\r\n"), "\(method)")
                }
                let unknown = try await exchange(address, method, "/api/v1")
                #expect(unknown.hasPrefix("HTTP/1.1 404 Not Found\r\n"), "\(method)")
            }
        }
    }

    @Test func notReadySaysWhy() async throws {
        try await withServer { address, admin in
            admin.readinessBox.withLock { $0 = .notReady(reason: "no leader is known") }
            let answer = try await fetch(address, "/readyz")
            #expect(answer.status == 503)
            #expect(answer.text == "not ready: no leader is known\n")
            #expect(try await fetch(address, "/healthz").status == 200)
        }
    }

    @Test func aFailedNodeIsNotHealthy() async throws {
        try await withServer { address, admin in
            admin.failureBox.withLock { $0 = NodeFailure(.storage, "a sync failed") }
            let answer = try await fetch(address, "/healthz")
            #expect(answer.status == 503)
            #expect(answer.text == "failed: a sync failed\n")
        }
    }

    @Test func ledgerHonoursItsLimit() async throws {
        try await withServer { address, admin in
            let few = try await fetch(address, "/api/v1/ledger?limit=2")
            #expect(few.body == AdminJSON.ledger(admin.ledger(limit: 2)) + [10])
            let usual = try await fetch(address, "/api/v1/ledger")
            #expect(usual.body == AdminJSON.ledger(admin.ledger(limit: 1000)) + [10])
            for wrong in ["0", "-1", "many", "100001"] {
                #expect(try await fetch(address, "/api/v1/ledger?limit=\(wrong)").status == 400)
            }
        }
    }

    @Test func aTakenPortNamesTheSetting() async throws {
        try await withServer { address, admin in
            let second = AdministrationServer(
                host: "127.0.0.1", port: address.port, source: admin,
                eventLoops: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"))
            do {
                try await second.start()
                Issue.record("two servers on one port")
            } catch let failure as NodeFailure {
                #expect(failure.kind == .unavailable)
                #expect(
                    failure.message.hasPrefix(
                        "listen.http-port: 127.0.0.1:\(address.port) is in use"))
            }
        }
    }

    @Test func nobodyListensAfterTheStop() async throws {
        var used: HTTPAddress?
        try await withServer { address, _ in used = address }
        let address = try #require(used)
        await #expect(throws: HTTPGetError.self) { try await fetch(address, "/healthz") }
    }
}
