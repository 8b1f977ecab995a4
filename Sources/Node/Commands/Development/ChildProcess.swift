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
        let ends = try ChildSpawn.makePipe()
        defer { close(ends.reading) }
        do throws(NodeFailure) {
            // A group of its own: a Ctrl-C reaches only the supervisor, which stops it in order.
            pid = try ChildSpawn.start(executable, arguments, environment: environment) { actions in
                posix_spawn_file_actions_adddup2(&actions, ends.reading, 0)
                posix_spawn_file_actions_addopen(
                    &actions, 1, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o644)
                posix_spawn_file_actions_adddup2(&actions, 1, 2)
            }
        } catch {
            close(ends.writing)
            throw error
        }
        input = ends.writing
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
    var ending: String { status.map { ChildSpawn.ending($0) } ?? "is running" }
}
