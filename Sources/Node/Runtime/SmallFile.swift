// Small text files of the command line: configuration, process ids. Not for data: nothing here
// syncs. Errors name the path and the reason of the system.
import Engine
import Glibc

package enum SmallFile {
    package static func read(_ path: String, limit: UInt64) throws(FileError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw FileError(operation: "open", path: path, code: errno)
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let got = Glibc.read(descriptor, &chunk, chunk.count)
            if got < 0 {
                if errno == EINTR { continue }
                throw FileError(operation: "read", path: path, code: errno)
            }
            if got == 0 { return bytes }
            bytes += chunk[..<got]
            guard UInt64(bytes.count) <= limit else {
                throw FileError(operation: "read", path: path, code: EFBIG)
            }
        }
    }

    /// Replaces the file.
    package static func write(_ path: String, _ text: String) throws(FileError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw FileError(operation: "create", path: path, code: errno)
        }
        defer { close(descriptor) }
        let bytes = [UInt8](text.utf8)
        var written = 0
        while written < bytes.count {
            let got = bytes[written...].withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if got < 0 {
                if errno == EINTR { continue }
                throw FileError(operation: "write", path: path, code: errno)
            }
            written += got
        }
    }
}
