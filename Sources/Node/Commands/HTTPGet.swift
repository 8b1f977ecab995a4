// A GET over a blocking socket: enough for the command line to ask a node on the same network
// something, without an HTTP client library. One request per connection, bounded in time and size.
import Glibc

package struct HTTPAddress: Sendable, Equatable, CustomStringConvertible {
    package var host: String
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// "http://host:port" with or without a slash; a path is not part of it.
    package init?(url: String) {
        guard url.hasPrefix("http://") else { return nil }
        var rest = url.dropFirst("http://".count)
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let place = try? SettingParsing.address(String(rest)) else { return nil }
        (host, port) = place
    }

    package var description: String {
        "http://" + (host.contains(":") ? "[\(host)]" : host) + ":\(port)"
    }
}

package struct HTTPAnswer: Sendable, Equatable {
    package var status: Int
    package var body: [UInt8]
    package var text: String { String(decoding: body, as: UTF8.self) }
}

package struct HTTPGetError: Error, Sendable, CustomStringConvertible {
    package var description: String
}

package enum HTTPGet {
    static let answerBytesMax = 256 << 20

    /// `timeoutSeconds` bounds the connect and each wait for bytes.
    package static func fetch(_ address: HTTPAddress, _ path: String, timeoutSeconds: Int = 5)
        throws(HTTPGetError) -> HTTPAnswer
    {
        let descriptor = try connect(address, timeoutSeconds)
        defer { close(descriptor) }
        let request =
            "GET \(path) HTTP/1.1\r\nHost: \(address.host):\(address.port)\r\n"
            + "Connection: close\r\nAccept: */*\r\n\r\n"
        let bytes = [UInt8](request.utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        else { throw failure(address, "send") }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let got = recv(descriptor, &chunk, chunk.count, 0)
            if got == 0 { break }
            if got < 0 {
                if errno == EINTR { continue }
                throw failure(address, "receive")
            }
            answer += chunk[..<got]
            guard answer.count <= answerBytesMax else {
                throw HTTPGetError(
                    description: "\(address): an answer above \(answerBytesMax) bytes")
            }
        }
        guard let parsed = parse(answer) else {
            throw HTTPGetError(description: "\(address): the answer is not HTTP")
        }
        return parsed
    }

    /// Nil if `bytes` is not a whole answer.
    package static func parse(_ bytes: [UInt8]) -> HTTPAnswer? {
        guard let headEnd = firstRange(of: [13, 10, 13, 10], in: bytes, from: 0) else { return nil }
        let head = String(decoding: bytes[..<headEnd], as: UTF8.self)
        var lines = head.split(separator: "\r\n", omittingEmptySubsequences: false)
        let parts = lines.removeFirst().split(separator: " ")
        guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), let status = Int(parts[1]) else {
            return nil
        }
        let body = Array(bytes[(headEnd + 4)...])
        var length: Int?
        for line in lines {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let name = line[..<colon].lowercased()
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            if name == "transfer-encoding", value.lowercased() == "chunked" {
                return unchunk(body).map { HTTPAnswer(status: status, body: $0) }
            }
            if name == "content-length" { length = Int(value) }
        }
        guard let length else { return HTTPAnswer(status: status, body: body) }
        guard length >= 0, body.count >= length else { return nil }
        return HTTPAnswer(status: status, body: Array(body[..<length]))
    }

    private static func unchunk(_ bytes: [UInt8]) -> [UInt8]? {
        var body: [UInt8] = []
        var offset = 0
        while let lineEnd = firstRange(of: [13, 10], in: bytes, from: offset) {
            let line = String(decoding: bytes[offset..<lineEnd], as: UTF8.self)
            let digits = line.prefix { $0.isHexDigit }
            guard let size = Int(digits, radix: 16), size <= bytes.count else { return nil }
            let start = lineEnd + 2
            if size == 0 { return body }
            guard start + size + 2 <= bytes.count else { return nil }
            body += bytes[start..<(start + size)]
            offset = start + size + 2
        }
        return nil
    }

    private static func firstRange(of pattern: [UInt8], in bytes: [UInt8], from start: Int) -> Int?
    {
        guard bytes.count >= pattern.count else { return nil }
        var offset = start
        while offset + pattern.count <= bytes.count {
            if bytes[offset..<(offset + pattern.count)] == pattern[...] { return offset }
            offset += 1
        }
        return nil
    }

    private static func connect(_ address: HTTPAddress, _ timeoutSeconds: Int)
        throws(HTTPGetError) -> Int32
    {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(address.host, String(address.port), &hints, &found) == 0, let found else {
            throw HTTPGetError(description: "\(address): no such host")
        }
        defer { freeaddrinfo(found) }
        var candidate: UnsafeMutablePointer<addrinfo>? = found
        while let info = candidate?.pointee {
            let descriptor = socket(
                info.ai_family, info.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), 0)
            if descriptor >= 0 {
                var timeout = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
                let size = socklen_t(MemoryLayout<timeval>.size)
                setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
                setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
                if Glibc.connect(descriptor, info.ai_addr, info.ai_addrlen) == 0 {
                    return descriptor
                }
                let code = errno
                close(descriptor)
                errno = code
            }
            candidate = info.ai_next
        }
        throw failure(address, "connect")
    }

    private static func failure(_ address: HTTPAddress, _ what: String) -> HTTPGetError {
        let code = errno
        let reason =
            code == EAGAIN || code == EINPROGRESS ? "timed out" : String(cString: strerror(code))
        return HTTPGetError(description: "\(address): \(what): \(reason)")
    }
}
