// A child process: started with posix_spawn, output appended to a file, standard input a pipe whose
// other end we keep. When this process dies, however it dies, the pipe ends and so does the child.
// Not thread-safe: one supervisor owns it.
import Engine
import Glibc

final class ChildProcess {
    let pid: pid_t
    private let input: Int32
    /// The status of `waitpid`, once it has ended.
    private(set) var status: Int32?

    init(executable: String, arguments: [String], environment: [String], logFile: String)
        throws(NodeFailure)
    {
        var pipeEnds: [Int32] = [-1, -1]
        guard pipe(&pipeEnds) == 0 else {
            throw NodeFailure(.system, "pipe: \(String(cString: strerror(errno)))")
        }
        defer { close(pipeEnds[0]) }
        for end in pipeEnds { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipeEnds[0], 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Its own group, so that a Ctrl-C reaches only the supervisor, which stops it in order; and
        // none of the signals that the supervisor waits for blocked.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var all = sigset_t()
        sigemptyset(&all)
        for signal in [SIGTERM, SIGINT, SIGCHLD, SIGPIPE] { sigaddset(&all, signal) }
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
        var pid: pid_t = 0
        let code = ChildProcess.withStrings([executable] + arguments) { argv in
            ChildProcess.withStrings(environment) { envp in
                posix_spawn(&pid, executable, &actions, &attributes, argv, envp)
            }
        }
        guard code == 0 else {
            close(pipeEnds[1])
            throw NodeFailure(.system, "start \(executable): \(String(cString: strerror(code)))")
        }
        self.pid = pid
        input = pipeEnds[1]
    }

    deinit { close(input) }

    var isRunning: Bool { status == nil }

    /// Collects the child if it has ended.
    func poll() {
        guard status == nil else { return }
        var raw: Int32 = 0
        if waitpid(pid, &raw, WNOHANG) == pid { status = raw }
    }

    func signal(_ number: Int32) {
        // Not yet collected, so the id cannot have been given to another process.
        if status == nil { kill(pid, number) }
    }

    /// "exited with code 78" or "was killed by signal 9".
    var ending: String {
        guard let status else { return "is running" }
        let signal = status & 0x7f
        return signal == 0
            ? "exited with code \((status >> 8) & 0xff)" : "was killed by signal \(signal)"
    }

    private static func withStrings<Result>(
        _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
    ) -> Result {
        let copies = strings.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        return body(copies + [nil])
    }
}
