// Whether ports are free, asked before nodes are started, so that the answer is one clear line and
// not three nodes' logs.
import Glibc
import NIOCore

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
        guard let address = try? SocketAddress(ipAddress: host, port: port) else {
            return "\(host) is not an address"
        }
        let result = address.withSockAddr { bind(descriptor, $0, socklen_t($1)) }
        return result == 0 ? nil : String(cString: strerror(errno))
    }
}
