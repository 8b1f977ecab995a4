import Engine
import NIOCore
import Node
import Testing

/// What a parser made of an input, in a form to compare.
private struct Outcome: Equatable {
    var inputs: [ParsedInput] = []
    var error: RESPProtocolError?
}

/// Parses `bytes` in pieces that end at `cuts`.
private func parse(
    _ bytes: [UInt8], cuts: [Int] = [], settings: RESPSettings = RESPSettings()
) -> Outcome {
    var parser = RESPParser(settings: settings)
    var outcome = Outcome()
    var buffer = ByteBuffer()
    var start = 0
    for end in cuts + [bytes.count] {
        buffer.writeBytes(bytes[start..<end])
        start = end
        do throws(RESPProtocolError) {
            while let input = try parser.next(&buffer) { outcome.inputs.append(input) }
        } catch {
            outcome.error = error
            return outcome
        }
    }
    return outcome
}

private func parse(_ text: String) -> Outcome { parse([UInt8](text.utf8)) }

private func commands(_ arguments: [String]...) -> [ParsedInput] {
    arguments.map { .command(ClientCommand($0.map { [UInt8]($0.utf8) })) }
}

@Suite struct RESPParserTests {
    @Test func arraysAndInlineCommands() {
        let outcome = parse("*2\r\n$3\r\nGET\r\n$0\r\n\r\nPING\r\n\r\n*0\r\n*-1\r\n  set a  b \n")
        #expect(outcome.error == nil)
        #expect(outcome.inputs == commands(["GET", ""], ["PING"], ["set", "a", "b"]))
    }

    @Test func quotedInlineArguments() {
        let outcome = parse(#"SET "a\x41\n\"b" 'it\'s "x"' ""\#r\#n"#)
        #expect(outcome.inputs == commands(["SET", "aA\n\"b", "it's \"x\"", ""]))
    }

    @Test(arguments: [
        ("*x\r\n", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*99999999999999999999999\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n\u{1}", "expected '$', got '?'"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$abc\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("SET \"a\r\n", "unbalanced quotes in request"),
        ("SET 'a'b\r\n", "unbalanced quotes in request"),
    ])
    func brokenFraming(input: String, reason: String) {
        #expect(parse(input).error == RESPProtocolError(reason))
    }

    @Test func linesWithoutEnd() {
        let long = String(repeating: "1", count: 70_000)
        #expect(parse(long).error?.reason == "too big inline request")
        #expect(parse("*" + long).error?.reason == "too big mbulk count string")
        #expect(parse("*1\r\n$" + long).error?.reason == "too big bulk count string")
        #expect(parse(long + "\r\n").error?.reason == "too big inline request")
    }

    @Test func valueOverTheLimitIsDrainedAndNamed() {
        var settings = RESPSettings()
        settings.valueBytes = 8
        let outcome = parse(
            [UInt8]("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9\r\n123456789\r\nPING\r\n".utf8),
            settings: settings)
        #expect(
            outcome.inputs == [.refused("ERR value is 9 bytes, above the limit of 8")]
                + commands(["PING"]))
        #expect(parse("*1\r\n$536870913\r\n").error?.reason.contains("536870912") == true)
    }

    @Test func memoryNeverGrowsWithADeclaredLength() throws {
        var parser = RESPParser()
        var buffer = ByteBuffer(string: "*1048576\r\n$8388608\r\nabc")
        #expect(try parser.next(&buffer) == nil)
        #expect(parser.partialBytes < 1000)
        // Arguments within the value limit, but too many of them for one command.
        let piece = [UInt8](repeating: 0x61, count: 8 << 20)
        for round in 0..<9 {
            buffer.writeBytes(round == 0 ? piece.dropLast(3) : piece[...])
            buffer.writeString("\r\n$8388608\r\n")
            #expect(try parser.next(&buffer) == nil)
            buffer.discardReadBytes()
            #expect(parser.partialBytes <= RESPSettings().commandBytes)
        }
        #expect(parser.partialBytes < 1000)
    }

    @Test(arguments: 0..<300 as Range<UInt64>)
    func anySplitYieldsTheSameCommands(seed: UInt64) {
        var random = SeededGenerator(seed)
        var settings = RESPSettings()
        settings.valueBytes = 40
        var input = randomInput(&random)
        for _ in 0..<Int.random(in: 0...3, using: &random) { mutate(&input, &random) }
        let whole = parse(input, settings: settings)
        for _ in 0..<8 {
            let cuts = (0..<Int.random(in: 0...12, using: &random))
                .map { _ in Int.random(in: 0...input.count, using: &random) }.sorted()
            #expect(parse(input, cuts: cuts, settings: settings) == whole)
        }
        #expect(parse(input, cuts: Array(0..<input.count), settings: settings) == whole)
    }

    private func randomInput(_ random: inout SeededGenerator) -> [UInt8] {
        var input: [UInt8] = []
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            let count = Int.random(in: 0...4, using: &random)
            if Bool.random(using: &random) {
                input += "*\(count)\r\n".utf8
                for _ in 0..<count {
                    let length = Int.random(in: 0...50, using: &random)
                    input += "$\(length)\r\n".utf8
                    for _ in 0..<length { input.append(UInt8.random(in: 0...255, using: &random)) }
                    input += "\r\n".utf8
                }
            } else {
                for _ in 0..<count { input += #"word "quo\x00ted" 'x' "#.utf8 }
                input += "\r\n".utf8
            }
        }
        return input
    }

    private func mutate(_ input: inout [UInt8], _ random: inout SeededGenerator) {
        let place = Int.random(in: 0..<max(1, input.count), using: &random)
        guard place < input.count else { return }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: input[place] = UInt8.random(in: 0...255, using: &random)
        case 1: input.remove(at: place)
        case 2: input.insert(contentsOf: "$*\r\n-19\"'\\".utf8.shuffled(using: &random), at: place)
        default: input.removeSubrange(place...)
        }
    }
}

@Suite struct RESPWriterTests {
    private func written(_ version: RESPVersion, _ body: (inout RESPWriter) -> Void) -> String {
        var writer = RESPWriter(version: version)
        body(&writer)
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    @Test func bothVersions() {
        let body: (inout RESPWriter) -> Void = { writer in
            writer.map(1)
            writer.bulk("a")
            writer.null()
            writer.set(0)
            writer.nullArray()
            writer.verbatim("x")
        }
        #expect(written(.two, body) == "*2\r\n$1\r\na\r\n$-1\r\n*0\r\n*-1\r\n$1\r\nx\r\n")
        #expect(written(.three, body) == "%1\r\n$1\r\na\r\n_\r\n~0\r\n_\r\n=5\r\ntxt:x\r\n")
    }

    @Test func numbersAndErrors() {
        #expect(written(.two) { $0.integer(Int64.min) } == ":-9223372036854775808\r\n")
        #expect(written(.two) { $0.integer(0) } == ":0\r\n")
        #expect(written(.two) { $0.error("ERR a\r\nb") } == "-ERR a  b\r\n")
    }

    @Test func integersAsRedisReadsThem() {
        func parsed(_ text: String) -> Int64? {
            [UInt8](text.utf8).withUnsafeBytes { parseInteger($0) }
        }
        #expect(parsed("-9223372036854775808") == .min)
        #expect(parsed("9223372036854775807") == .max)
        for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "9223372036854775808", "1.0"] {
            #expect(parsed(text) == nil, "\(text)")
        }
    }
}
