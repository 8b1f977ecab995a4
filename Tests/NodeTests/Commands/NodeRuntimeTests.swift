import Engine
import Foundation
import Glibc
import Logging
import Node
import Replication
import Synchronization
import Testing

/// One at a time: a signal reaches every node of this process.
@Suite(.serialized) struct NodeRuntimeTests {
    private final class Part: NodeComponent {
        let name: String
        let journal: Journal
        let failure: NodeFailure?

        init(_ name: String, _ journal: Journal, failure: NodeFailure? = nil) {
            self.name = name
            self.journal = journal
            self.failure = failure
        }

        func start() async throws {
            if let failure { throw failure }
            journal.lines.withLock { $0.append("start \(name)") }
        }

        func stop() async { journal.lines.withLock { $0.append("stop \(name)") } }
        func reload() async { journal.lines.withLock { $0.append("reload \(name)") } }
    }

    private final class Journal: Sendable {
        let lines = Mutex<[String]>([])
    }

    @Test func partsStopInReverseOrder() async throws {
        let journal = Journal()
        let fatal = FatalReport()
        let runtime = NodeRuntime(
            components: [Part("a", journal), Part("b", journal)], fatal: fatal,
            logger: Logger(label: "test"), onReady: { fatal.close() })
        try await runtime.run()
        #expect(
            journal.lines.withLock { $0 } == ["start a", "start b", "stop b", "stop a"])
    }

    @Test func aFailedStartStopsWhatWasStarted() async {
        let journal = Journal()
        let failure = NodeFailure(.unavailable, "port")
        let runtime = NodeRuntime(
            components: [
                Part("a", journal), Part("b", journal, failure: failure), Part("c", journal),
            ], fatal: FatalReport(), logger: Logger(label: "test"),
            onReady: { Issue.record("ready") })
        await #expect(throws: failure) { try await runtime.run() }
        #expect(journal.lines.withLock { $0 } == ["start a", "stop a"])
    }

    @Test func aFatalReportStopsEverythingAndIsThrown() async {
        let journal = Journal()
        let fatal = FatalReport()
        let failure = NodeFailure(.storage, "a sync failed")
        let runtime = NodeRuntime(
            components: [Part("a", journal)], fatal: fatal, logger: quiet,
            onReady: {
                fatal.report(failure)
                fatal.report(NodeFailure(.software, "later ones do not count"))
            })
        await #expect(throws: failure) { try await runtime.run() }
        #expect(journal.lines.withLock { $0 } == ["start a", "stop a"])
    }

    /// The bound on stopping begins with the report, before anything is stopped.
    @Test func theFirstFailureIsToldAtOnce() async {
        let journal = Journal()
        let fatal = FatalReport { failure in
            journal.lines.withLock { $0.append("failed: \(failure)") }
        }
        let runtime = NodeRuntime(
            components: [Part("a", journal)], fatal: fatal, logger: quiet,
            onReady: {
                fatal.report(NodeFailure(.storage, "x"))
                fatal.report(NodeFailure(.storage, "y"))
            })
        await #expect(throws: NodeFailure(.storage, "x")) { try await runtime.run() }
        #expect(journal.lines.withLock { $0 } == ["start a", "failed: x", "stop a"])
    }

    @Test func aFailedStartIsTold() async {
        let journal = Journal()
        let fatal = FatalReport { failure in
            journal.lines.withLock { $0.append("failed: \(failure)") }
        }
        let failure = NodeFailure(.unavailable, "port")
        let runtime = NodeRuntime(
            components: [Part("a", journal), Part("b", journal, failure: failure)], fatal: fatal,
            logger: quiet)
        await #expect(throws: failure) { try await runtime.run() }
        #expect(journal.lines.withLock { $0 } == ["start a", "failed: port", "stop a"])
        #expect(fatal.failure == failure)
    }

    @Test func aHangUpReloads() async throws {
        // Until it is trapped it would end this process.
        signal(SIGHUP, SIG_IGN)
        let journal = Journal()
        let stop = StopRequest()
        let runtime = NodeRuntime(
            components: [Part("a", journal)], fatal: FatalReport(), logger: quiet,
            onReady: {
                Thread {
                    while !journal.lines.withLock({ $0.contains { $0 != "start a" } }) {
                        kill(getpid(), SIGHUP)
                        poll(nil, 0, 10)
                    }
                    stop.request()
                }.start()
            })
        try await runtime.runProcess(stop: stop)
        let lines = journal.lines.withLock { $0 }
        #expect(lines.contains("reload a"))
        #expect(lines.filter { $0 != "reload a" } == ["start a", "stop a"])
    }

    @Test func aStopRequestEndsTheProcessLoop() async throws {
        let journal = Journal()
        let stop = StopRequest()
        let runtime = NodeRuntime(
            components: [Part("a", journal)], fatal: FatalReport(), logger: quiet,
            onReady: { stop.request() })
        try await runtime.runProcess(stop: stop)
        #expect(journal.lines.withLock { $0 } == ["start a", "stop a"])
    }

    @Test func cancellationStopsInOrder() async throws {
        let journal = Journal()
        let runtime = NodeRuntime(
            components: [Part("a", journal)], fatal: FatalReport(), logger: quiet)
        let task = Task { try await runtime.run() }
        task.cancel()
        try await task.value
        let lines = journal.lines.withLock { $0 }
        #expect(lines.isEmpty || lines == ["start a", "stop a"])
    }

    private var quiet: Logger { Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }) }
}

@Suite struct NodeFailureTests {
    @Test func everyErrorHasItsExitCode() {
        func code(_ error: any Error) -> Int32 { NodeFailure(classifying: error).exitCode }
        let full = FileError(operation: "write", path: "/d/x", code: ENOSPC)
        #expect(code(EngineError.file(full)) == 74)
        #expect(
            NodeFailure(classifying: full).message
                == "write /d/x: No space left on device (errno 28);"
                + " free space there and start again")
        #expect(code(EngineError.locked(path: "/d")) == 75)
        #expect(code(EngineError.identity(reason: "of another cluster")) == 77)
        #expect(code(EngineError.poisoned(reason: "EIO")) == 74)
        #expect(code(ConfigurationError([.init("x")])) == 78)
        #expect(code(NodeFailure(.usage, "x")) == 64)
        #expect(code(CancellationError()) == 70)
        #expect(code(FileError(operation: "open", path: "/d", code: EACCES)) == 71)
        #expect(code(FileError(operation: "open", path: "/d", code: ENOENT)) == 66)
        #expect(code(PeerTransportError.certificate(path: "/x", reason: "is another's")) == 77)
        #expect(code(PeerTransportError.bind(address: "x:1", reason: "taken")) == 69)
        #expect(code(PeerTransportError.configuration("x")) == 78)
    }
}
