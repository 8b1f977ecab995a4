// How child processes start: in a group of their own, with none of the signals blocked or ignored
// that this process waits for, and with no descriptor but those that it is given.
import Engine
import Glibc

enum ChildSpawn {
    /// Both ends are closed in children; give one to a child with `adddup2`.
    static func makePipe() throws(NodeFailure) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw NodeFailure(.system, "pipe: \(String(cString: strerror(errno)))")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    /// `redirect` says what its descriptors are.
    static func start(
        _ executable: String, _ arguments: [String], environment: [String],
        redirect: (inout posix_spawn_file_actions_t) -> Void
    ) throws(NodeFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        redirect(&actions)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var handled = sigset_t()
        sigemptyset(&handled)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE] { sigaddset(&handled, signal) }
        posix_spawnattr_setsigdefault(&attributes, &handled)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
        var pid: pid_t = 0
        let code = withStrings([executable] + arguments) { argv in
            withStrings(environment) { envp in
                posix_spawn(&pid, executable, &actions, &attributes, argv, envp)
            }
        }
        guard code == 0 else {
            throw NodeFailure(.system, "start \(executable): \(String(cString: strerror(code)))")
        }
        return pid
    }

    /// What a status of `waitpid` means: "exited with code 78" or "was killed by signal 9".
    static func ending(_ status: Int32) -> String {
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
