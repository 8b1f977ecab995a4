import Node
import Testing

@Suite struct ReplyScannerTests {
    private func scan(_ pieces: [[UInt8]]) throws -> [ReplyScanner.Reply] {
        var scanner = ReplyScanner()
        var found: [ReplyScanner.Reply] = []
        for piece in pieces {
            try piece.withUnsafeBytes { bytes in
                var offset = 0
                while let reply = try scanner.next(bytes, &offset) { found.append(reply) }
                #expect(offset == bytes.count)
            }
        }
        return found
    }

    @Test func repliesAreReadWhereverTheyAreSplit() throws {
        let bytes = Array(
            "+OK\r\n:-2\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n-BUSY no room\r\n-ERR\r\n".utf8)
        let expected: [ReplyScanner.Reply] = [
            .simple, .integer(-2), .bulk(5), .bulk(0), .null, .error("BUSY"), .error("ERR"),
        ]
        #expect(try scan([bytes]) == expected)
        #expect(try scan(bytes.map { [$0] }) == expected)
        for first in 0...bytes.count {
            for second in first...bytes.count {
                let pieces = [bytes[..<first], bytes[first..<second], bytes[second...]]
                #expect(try scan(pieces.map(Array.init)) == expected)
            }
        }
    }

    @Test(arguments: [
        "*1\r\n", "OK\r\n", "\r\n", "+OK\n", ":x\r\n", "$-2\r\n", "$536870913\r\n", "$\r\n",
    ])
    func whatIsNoReplyIsAnError(_ text: String) {
        #expect(throws: ReplyScanner.Problem.self) { try scan([Array(text.utf8)]) }
    }

    @Test func aLineWithoutAnEndIsAnError() {
        #expect(throws: ReplyScanner.Problem.self) {
            try scan([[UInt8](repeating: UInt8(ascii: "+"), count: 4097)])
        }
    }
}
