// Starts the nodes of a local cluster, waits until all serve, watches them, stops them. Runs on the
// main thread with SIGTERM, SIGINT and SIGCHLD blocked and taken synchronously, so that no handler
// ever runs. What it started, it ends: SIGTERM first, SIGKILL after a bound.
import Engine
import Glibc

final class DevelopmentSupervisor {
    private let plan: DevelopmentPlan
    private let directory: DevelopmentDirectory
    private let overrides: [String]
    private let restarts: Bool
    private let executable: String
    private var children: [Int: ChildProcess] = [:]
    private var restartTimes: [Int: UInt64] = [:]
    private var signals = sigset_t()

    static let readySecondsMax: UInt64 = 60
    static let stopSecondsMax: UInt64 = 15
    static let restartSeconds: UInt64 = 1

    private enum Event {
        case stop
        case child
        case nothing
    }

    /// Blocks the signals; call on the main thread before any other thread is started.
    init(
        _ plan: DevelopmentPlan, _ directory: DevelopmentDirectory, overrides: [String],
        restarts: Bool
    ) {
        self.plan = plan
        self.directory = directory
        self.overrides = overrides
        self.restarts = restarts
        executable = DevelopmentSupervisor.ownPath()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGCHLD] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }

    /// Returns after an orderly stop; throws if a node does not come up or none is left.
    func run() throws {
        defer { stopAll() }
        for node in plan.nodes { try start(node) }
        guard try waitUntilReady() else { return }
        ProcessExit.printLine(plan.readyLine)
        while true {
            switch nextEvent(milliseconds: 500) {
            case .stop: return
            case .child, .nothing:
                try superviseOnce()
            }
        }
    }

    private func start(_ node: DevelopmentPlan.NodePlan) throws {
        var arguments = [
            "serve", "--config", directory.path + "/" + node.configFile, "--stop-with-input",
        ]
        for override in overrides { arguments += ["--set", override] }
        let child = try ChildProcess(
            executable: executable, arguments: arguments, environment: childEnvironment(),
            logFile: directory.path + "/" + node.logFile)
        children[node.id] = child
        try SmallFile.write(directory.path + "/" + node.pidFile, "\(child.pid)\n")
    }

    /// False if a stop was asked for meanwhile.
    private func waitUntilReady() throws -> Bool {
        let deadline =
            monotonicNanoseconds() + DevelopmentSupervisor.readySecondsMax * 1_000_000_000
        var waiting = plan.nodes
        var reason = "no answer"
        while let node = waiting.first {
            if nextEvent(milliseconds: 50) == .stop { return false }
            for node in plan.nodes {
                children[node.id]?.poll()
                guard let child = children[node.id], child.isRunning else {
                    throw endedFailure(node)
                }
            }
            let address = HTTPAddress(host: DevelopmentPlan.host, port: node.httpPort)
            if let answer = try? HTTPGet.fetch(address, "/readyz", timeoutSeconds: 2) {
                if answer.status == 200 {
                    waiting.removeFirst()
                    continue
                }
                reason = answer.text.split(separator: "\n").first.map(String.init) ?? reason
            }
            if monotonicNanoseconds() > deadline {
                throw NodeFailure(
                    .unavailable,
                    "node \(node.id) is not ready after"
                        + " \(DevelopmentSupervisor.readySecondsMax) s: \(reason); its log is"
                        + " \(directory.path)/\(node.logFile)")
            }
        }
        return true
    }

    private func superviseOnce() throws {
        let now = monotonicNanoseconds()
        for node in plan.nodes {
            guard let child = children[node.id] else {
                if let time = restartTimes[node.id], now >= time {
                    restartTimes[node.id] = nil
                    try start(node)
                    ProcessExit.report("node \(node.id) started again")
                }
                continue
            }
            child.poll()
            if child.isRunning { continue }
            ProcessExit.report("node \(node.id) (process \(child.pid)) \(child.ending)")
            unlink(directory.path + "/" + node.pidFile)
            children[node.id] = nil
            if restarts {
                restartTimes[node.id] = now + DevelopmentSupervisor.restartSeconds * 1_000_000_000
            } else {
                ProcessExit.report(
                    "start it again with: \(executable) serve --config"
                        + " \(directory.path)/\(node.configFile)")
            }
        }
        if children.isEmpty, restartTimes.isEmpty {
            throw NodeFailure(.unavailable, "no node is left; run the same command to resume")
        }
    }

    private func stopAll() {
        for node in plan.nodes { children[node.id]?.signal(SIGTERM) }
        let deadline = monotonicNanoseconds() + DevelopmentSupervisor.stopSecondsMax * 1_000_000_000
        while collect() {
            let isImpatient = nextEvent(milliseconds: 100) == .stop
            if isImpatient || monotonicNanoseconds() > deadline {
                for node in plan.nodes { children[node.id]?.signal(SIGKILL) }
            }
        }
    }

    /// Collects what has ended; true while something runs.
    private func collect() -> Bool {
        for node in plan.nodes {
            guard let child = children[node.id] else { continue }
            child.poll()
            if !child.isRunning {
                children[node.id] = nil
                unlink(directory.path + "/" + node.pidFile)
            }
        }
        return !children.isEmpty
    }

    private func endedFailure(_ node: DevelopmentPlan.NodePlan) -> NodeFailure {
        let ending = children[node.id]?.ending ?? "is gone"
        return NodeFailure(
            .unavailable,
            "node \(node.id) \(ending) before it was ready; the end of"
                + " \(directory.path)/\(node.logFile):\n\(directory.logTail(node, lines: 5))")
    }

    private func nextEvent(milliseconds: Int) -> Event {
        var timeout = timespec(
            tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        switch sigtimedwait(&signals, nil, &timeout) {
        case SIGTERM, SIGINT: return .stop
        case SIGCHLD: return .child
        default: return .nothing
        }
    }

    /// Without the variables that would make all nodes the same node.
    private func childEnvironment() -> [String] {
        let own = ["node.id", "data.directory", "members", "cluster.id", "listen.", "tls."]
        let dropped = own.map(ConfigurationLoader.variable)
        var environment: [String] = []
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if !dropped.contains(where: { text.hasPrefix($0) }) { environment.append(text) }
            next += 1
        }
        return environment
    }

    private static func ownPath() -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path =
            count > 0
            ? String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
        return !path.isEmpty && access(path, X_OK) == 0 ? path : "/proc/self/exe"
    }
}
