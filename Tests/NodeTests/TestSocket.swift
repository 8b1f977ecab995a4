// A plain client of a listening port, for tests of what goes over the wire.
import NIOCore
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A blocking socket with a deadline on reads, so that a missing reply fails instead of hanging.
final class TestSocket {
    private let socket: Int32
    /// How long a reply may take. No promise of the server's: it shares the machine, and its tasks'
    /// few threads, with tests that keep them busy.
    static let patienceSeconds = 120

    init(port: Int) throws {
        #if canImport(Glibc)
            socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
            socket = Musl.socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var deadline = timeval(tv_sec: TestSocket.patienceSeconds, tv_usec: 0)
        setsockopt(
            socket, SOL_SOCKET, SO_RCVTIMEO, &deadline, socklen_t(MemoryLayout<timeval>.size))
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: port)
        let result = address.withSockAddr { connect(socket, $0, socklen_t($1)) }
        try #require(result == 0, "connect: errno \(errno)")
    }

    deinit { close(socket) }

    func send(_ text: String) throws {
        var rest = [UInt8](text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(socket, $0.baseAddress, $0.count) }
            try #require(count > 0)
            rest = rest.dropFirst(count)
        }
    }

    func endInput() { shutdown(socket, Int32(SHUT_WR)) }

    /// Whether the other side has closed, and nothing that it sent before is unread. Does not wait.
    var hasEnded: Bool {
        var rest = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let got = rest.withUnsafeMutableBytes {
                recv(socket, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
            }
            if got <= 0 { return got == 0 || errno == ECONNRESET }
        }
    }

    /// Reads until `count` bytes are there or the other side closed.
    func receive(_ count: Int = .max) throws -> String {
        var received: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while received.count < count {
            let got = piece.withUnsafeMutableBytes { read(socket, $0.baseAddress, $0.count) }
            try #require(got >= 0, "read: errno \(errno)")
            if got == 0 { break }
            received += piece[..<got]
        }
        return String(decoding: received, as: UTF8.self)
    }
}
