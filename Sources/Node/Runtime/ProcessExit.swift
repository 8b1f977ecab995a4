// The ends of the process: the message on standard error, the exit code, and the bound on stopping.
import Glibc

package enum ProcessExit {
    /// An orderly stop that takes longer than this is ended.
    package static let stopSecondsMax = 10

    /// Each line of `message` behind the program's name.
    package static func report(_ message: String) {
        var text = ""
        for line in message.split(separator: "\n") { text += "martlet: \(line)\n" }
        writeAll(2, text)
    }

    package static func exit(_ failure: NodeFailure) -> Never {
        report(failure.message)
        Glibc.exit(failure.exitCode)
    }

    /// From now on the process has `stopSecondsMax` to end by itself. `failure`: why it stops, if
    /// it is not told to; its exit code then is the process's.
    package static func limitStop(after failure: NodeFailure? = nil) {
        // A thread of its own: every pool may be stuck where the stop is.
        startThread(name: "stop-limit") {
            poll(nil, 0, Int32(stopSecondsMax * 1000))
            if let failure { report(failure.message) }
            report("stopping took more than \(stopSecondsMax) s; ended")
            _exit((failure?.kind ?? .software).rawValue)
        }
    }

    /// A line on standard output at once, whatever it is connected to.
    package static func printLine(_ line: String) { writeAll(1, line + "\n") }

    private static func writeAll(_ descriptor: Int32, _ text: String) {
        let bytes = [UInt8](text.utf8)
        var written = 0
        while written < bytes.count {
            let got = bytes[written...].withUnsafeBytes {
                write(descriptor, $0.baseAddress, $0.count)
            }
            if got < 0 {
                if errno == EINTR { continue }
                return
            }
            written += got
        }
    }
}
