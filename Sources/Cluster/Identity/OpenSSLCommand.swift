// Runs the `openssl` command and collects what it says. Blocks: for start-up and tests only.
import Engine

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

package struct OpenSSLCommand: Sendable {
    /// A name to look up in PATH, or a path.
    package var name: String

    private static let outputBytes = 64 << 10

    package init(name: String = "openssl") { self.name = name }

    /// Returns what the command wrote, on either stream; an exit other than 0 is an error with it.
    @discardableResult
    package func run(_ step: String, _ arguments: [String]) throws(DevelopmentCertificateError)
        -> String
    {
        var pipes: [Int32] = [0, 0]
        guard pipe(&pipes) == 0 else {
            throw .file(FileError(operation: "pipe", path: name, code: errno))
        }
        // A child that another thread starts meanwhile must not hold this pipe open.
        for end in pipes { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let child: pid_t
        do throws(DevelopmentCertificateError) {
            child = try spawn(arguments, output: pipes[1])
        } catch {
            close(pipes[0])
            close(pipes[1])
            throw error
        }
        close(pipes[1])
        let output = readAll(pipes[0])
        close(pipes[0])
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        // The shell's convention for "not found", which some C libraries use instead of an error.
        if status == 127 << 8 { throw .opensslMissing }
        guard status == 0 else { throw .opensslFailed(step: step, output: output) }
        return output
    }

    private func spawn(_ arguments: [String], output: Int32) throws(DevelopmentCertificateError)
        -> pid_t
    {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        var words: [UnsafeMutablePointer<CChar>?] = ([name] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        let code = posix_spawnp(&child, name, &actions, nil, words, environ)
        if code == ENOENT { throw .opensslMissing }
        guard code == 0 else {
            throw .file(FileError(operation: "start", path: name, code: code))
        }
        return child
    }

    private func readAll(_ descriptor: Int32) -> String {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            // What is above the bound is read, so that the command can end, and dropped.
            if all.count < OpenSSLCommand.outputBytes { all += chunk[..<count] }
        }
        return String(decoding: all, as: UTF8.self)
    }
}
