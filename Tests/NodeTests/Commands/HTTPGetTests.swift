import Node
import Testing

@Suite struct HTTPGetTests {
    private func parse(_ text: String) -> HTTPAnswer? { HTTPGet.parse([UInt8](text.utf8)) }

    @Test func bodyByLengthByChunksAndToTheEnd() {
        let head = "HTTP/1.1 200 OK\r\n"
        #expect(parse(head + "content-length: 3\r\n\r\nabcd")?.text == "abc")
        #expect(parse(head + "\r\nabcd")?.text == "abcd")
        let chunked = head + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n"
        #expect(parse(chunked)?.text == "abcd")
        #expect(parse("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")?.status == 503)
    }

    @Test(arguments: [
        "", "HTTP/1.1 200 OK\r\n", "nonsense\r\n\r\n", "HTTP/1.1 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n",
    ])
    func brokenAnswersAreNone(text: String) {
        #expect(parse(text) == nil)
    }

    @Test func addresses() {
        #expect(HTTPAddress(url: "http://a:1") == HTTPAddress(host: "a", port: 1))
        #expect(HTTPAddress(url: "http://[::1]:80/") == HTTPAddress(host: "::1", port: 80))
        for url in ["", "a:1", "https://a:1", "http://a", "http://a:1/path", "http://"] {
            #expect(HTTPAddress(url: url) == nil)
        }
    }
}
