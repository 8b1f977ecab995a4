// Runs the command that prints the node's key: through the shell, once, at start. Its output is
// bounded in size and in time; its standard error goes to ours, where an operator sees it.
import Engine
import Foundation
import Glibc

package enum KeyCommand {
    package static let outputBytesMax = 4096
    package static let patienceMilliseconds: UInt64 = 30_000

    package static func run(
        _ command: String, _ setting: String, patience: UInt64 = patienceMilliseconds
    ) throws(NodeFailure) -> [UInt8] {
        let (pid, output) = try start(command, setting)
        defer { close(output) }
        let deadline = monotonicMilliseconds() + patience
        let bytes: [UInt8]
        let status: Int32
        do throws(NodeFailure) {
            bytes = try read(output, until: deadline, setting)
            status = try wait(for: pid, until: deadline, setting)
        } catch {
            // The group: what the shell started, too.
            kill(-pid, SIGKILL)
            var ignored: Int32 = 0
            while waitpid(pid, &ignored, 0) < 0, errno == EINTR {}
            throw error
        }
        guard status == 0 else {
            throw NodeFailure(
                .configuration, "\(setting): the command \(ChildSpawn.ending(status))")
        }
        return bytes
    }

    private static func start(_ command: String, _ setting: String) throws(NodeFailure)
        -> (pid: pid_t, output: Int32)
    {
        let ends = try ChildSpawn.makePipe()
        defer { close(ends.writing) }
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        do throws(NodeFailure) {
            let pid = try ChildSpawn.start(
                "/bin/sh", ["-c", command], environment: environment
            ) { actions in
                posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
                posix_spawn_file_actions_adddup2(&actions, ends.writing, 1)
            }
            return (pid, ends.reading)
        } catch {
            close(ends.reading)
            throw NodeFailure(error.kind, "\(setting): \(error.message)")
        }
    }

    private static func read(_ output: Int32, until deadline: UInt64, _ setting: String)
        throws(NodeFailure) -> [UInt8]
    {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: outputBytesMax)
        while true {
            let now = monotonicMilliseconds()
            guard now < deadline else { throw tooLong(setting) }
            var waiting = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waiting, 1, Int32(clamping: deadline - now))
            guard ready > 0 else { continue }
            let got = Glibc.read(output, &chunk, chunk.count)
            if got < 0 {
                if errno == EINTR { continue }
                throw NodeFailure(.system, "\(setting): \(String(cString: strerror(errno)))")
            }
            if got == 0 { return bytes }
            bytes += chunk[..<got]
            guard bytes.count <= outputBytesMax else {
                throw NodeFailure(
                    .configuration,
                    "\(setting): the command prints more than \(outputBytesMax) bytes; a key is "
                        + "32 bytes, or 64 hexadecimal digits")
            }
        }
    }

    private static func wait(for pid: pid_t, until deadline: UInt64, _ setting: String)
        throws(NodeFailure) -> Int32
    {
        var status: Int32 = 0
        while waitpid(pid, &status, WNOHANG) != pid {
            guard monotonicMilliseconds() < deadline else { throw tooLong(setting) }
            // It has closed its output, so it is about to end.
            poll(nil, 0, 5)
        }
        return status
    }

    private static func tooLong(_ setting: String) -> NodeFailure {
        NodeFailure(.configuration, "\(setting): the command took too long and was ended")
    }
}
