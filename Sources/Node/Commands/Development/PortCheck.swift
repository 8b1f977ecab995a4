// Whether ports are free, asked before nodes are started, so that the answer is one clear line and
// not three nodes' logs.
import Glibc

enum PortCheck {
    /// The first of `ports` that nobody may listen on now, with the reason.
    static func firstTaken(_ ports: [Int], host: String) -> (port: Int, reason: String)? {
        for port in ports {
            if let reason = reason(port, host: host) { return (port, reason) }
        }
        return nil
    }

    private static func reason(_ port: Int, host: String) -> String? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return String(cString: strerror(errno)) }
        defer { close(descriptor) }
        var on: Int32 = 1
        setsockopt(
            descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        inet_pton(AF_INET, host, &address.sin_addr)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return result == 0 ? nil : String(cString: strerror(errno))
    }
}
