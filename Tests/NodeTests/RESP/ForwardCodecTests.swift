import Engine
import Node
import Testing

private func batch(_ version: RESPVersion, _ lines: [String]...) -> CommandBatch {
    CommandBatch(
        version: version,
        commands: lines.map { words in
            RoutedCommand(
                id: CommandTable.shared.id(of: words[0]) ?? .ping,
                command: ClientCommand(words.map(bytes)))
        })
}

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

@Suite struct ForwardCodecTests {
    private let batches = [
        batch(.two, ["SET", "a", "1"], ["del", "b"]), batch(.three, ["INCR", "c"]),
    ]

    @Test func goldenRequest() throws {
        let encoded = ForwardCodec.encode(batches)
        #expect(
            hex(encoded)
                == "0102" + "0202" + "03" + "03534554" + "0161" + "0131" + "02" + "0364656c"
                + "0162"
                + "0301" + "02" + "04494e4352" + "0163" + "2beff553")
        let decoded = try ForwardCodec.decodeRequest(encoded)
        #expect(decoded.map(\.version) == [.two, .three])
        #expect(decoded.flatMap { $0.commands.map(\.id) } == [.set, .del, .incr])
        #expect(decoded[0].commands[0].command == ClientCommand("SET", "a", "1"))
    }

    @Test func goldenReplies() throws {
        let bundle = ReplyBundle(
            bytes: bytes("+OK\r\n:1\r\n"), ends: [5, 9], writeIndex: LogIndex(7))
        let encoded = ForwardCodec.encode(.replied(bundle))
        #expect(
            hex(encoded)
                == "0100" + "0700000000000000" + "02" + "0504" + "2b4f4b0d0a" + "3a310d0a"
                + "5da9e56f")
        #expect(try ForwardCodec.decodeReply(encoded) == .replied(bundle))
        let refused = ForwardCodec.encode(.notEvaluated(reason: "no"))
        #expect(hex(refused) == "0101" + "026e6f" + "e6f9dba4")
        #expect(try ForwardCodec.decodeReply(refused) == .notEvaluated(reason: "no"))
    }

    @Test func everyFlippedBitIsRefused() {
        let request = ForwardCodec.encode(batches)
        for bit in 0..<(request.count * 8) {
            var broken = request
            broken[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: DecodingError.self) { try ForwardCodec.decodeRequest(broken) }
        }
        for length in 0..<request.count {
            #expect(throws: DecodingError.self) {
                try ForwardCodec.decodeRequest([UInt8](request.prefix(length)))
            }
        }
    }

    /// A byte on the wire costs many once it is a command.
    @Test func commandsAreBounded() throws {
        let half = Array(repeating: ["DEL", "a"], count: ForwardCodec.commandsMax / 2)
        func batches(_ counts: Int...) -> [CommandBatch] {
            counts.map { count in
                let commands = half.prefix(count).map { words in
                    RoutedCommand(id: .del, command: ClientCommand(words.map(bytes)))
                }
                return CommandBatch(version: .two, commands: commands)
            }
        }
        let most = ForwardCodec.encode(batches(half.count, half.count))
        #expect(
            try ForwardCodec.decodeRequest(most).reduce(0) { $0 + $1.commands.count }
                == ForwardCodec.commandsMax)
        let tooMany = ForwardCodec.encode(batches(half.count, half.count, 1))
        #expect(throws: DecodingError.self) { try ForwardCodec.decodeRequest(tooMany) }
        let empty = Array(
            repeating: CommandBatch(version: .two, commands: []),
            count: ForwardCodec.commandsMax + 1)
        #expect(throws: DecodingError.self) {
            try ForwardCodec.decodeRequest(ForwardCodec.encode(empty))
        }
    }

    @Test func whatALeaderDoesNotEvaluateIsRefusedWhole() {
        let mixed = [batch(.two, ["SET", "a", "1"], ["GET", "a"], ["PING"], ["EXISTS", "a"])]
        #expect(throws: Never.self) { try ForwardCodec.decodeRequest(ForwardCodec.encode(mixed)) }
        for other in [
            ["MGET", "a"], ["PING", "a"], ["INFO"], ["SELECT", "0"], ["WAIT", "1", "0"],
        ] {
            let request = ForwardCodec.encode([batch(.two, ["SET", "a", "1"], other)])
            #expect(throws: DecodingError.self) { try ForwardCodec.decodeRequest(request) }
        }
        let unknown = ForwardCodec.encode([batch(.two, ["FROBNICATE", "a"])])
        #expect(throws: DecodingError.self) { try ForwardCodec.decodeRequest(unknown) }
    }

    /// Random content under a right checksum: decoded or refused, never a trap or a huge
    /// allocation.
    @Test(arguments: 0..<200 as Range<UInt64>)
    func garbageUnderARightChecksum(seed: UInt64) {
        var random = SeededGenerator(seed)
        var content: [UInt8] = [ForwardCodec.format]
        for _ in 0..<Int.random(in: 0...60, using: &random) {
            content.append(
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...4, using: &random)
                    : UInt8.random(in: 0...255, using: &random))
        }
        var writer = ByteWriter()
        writer.write(raw: content)
        writer.write(Checksum.crc32c(content))
        _ = try? ForwardCodec.decodeRequest(writer.bytes)
        _ = try? ForwardCodec.decodeReply(writer.bytes)
    }
}
