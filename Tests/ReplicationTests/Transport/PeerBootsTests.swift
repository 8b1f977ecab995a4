// Members' starts, remembered over this node's own.
import Engine
import Replication
import Testing

@Suite struct PeerBootsTests {
    private let boots: PeerBoots.Boots = [
        MemberID(2): HandshakeRules.Boot(counter: 7, nonce: 0x1122_3344_5566_7788),
        MemberID(3): HandshakeRules.Boot(counter: 1, nonce: 5),
    ]

    @Test func theBytesNeverChange() throws {
        let bytes = PeerBoots.encode(boots)
        let text = bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
        #expect(text == PeerBootsTests.golden)
        #expect(try PeerBoots.decode(bytes) == boots)
    }

    private static let golden =
        "504545520100020002000000000000000700000000000000887766554433221103000000000000000100000000000000"
        + "050000000000000034f5a7f958f43e721172587cbdce4419"

    @Test func damagedBytesAreNeverBelieved() {
        let bytes = PeerBoots.encode(boots)
        for place in bytes.indices {
            var damaged = bytes
            damaged[place] ^= 0x20
            #expect(throws: DecodingError.self) { try PeerBoots.decode(damaged) }
            #expect(throws: DecodingError.self) { try PeerBoots.decode(Array(bytes[..<place])) }
        }
        #expect(throws: DecodingError.self) { try PeerBoots.decode(bytes + [0]) }
    }

    @Test func whatIsRememberedSurvivesAPowerCut() throws {
        let files = MemoryFileSystem(seed: 3)
        try files.createDirectory("g")
        var notes: [String] = []
        let first = try PeerBoots(files, path: "g/peers") { notes.append($0) }
        #expect(first.all.isEmpty)
        for (member, boot) in boots { try first.remember(boot, of: member) }
        files.powerCut()
        #expect(try PeerBoots(files, path: "g/peers") { notes.append($0) }.all == boots)
        #expect(notes.isEmpty)
        files.flip("g/peers", 20)
        #expect(try PeerBoots(files, path: "g/peers") { notes.append($0) }.all.isEmpty)
        #expect(notes.count == 1)
    }
}
