// The codec against golden frames, itself, and hostile bytes.
import Engine
import Replication
import Testing

/// Decodes one whole frame from a stream that holds nothing else.
private func decode(_ bytes: [UInt8]) throws -> PeerMessage {
    var assembler = FrameAssembler(limits: FrameLimits())
    assembler.isOpen = true
    bytes.withUnsafeBytes { assembler.append($0) }
    let frame = try #require(try assembler.next())
    #expect(assembler.pendingBytes == 0)
    return try assembler.withPayload(of: frame) { payload throws(DecodingError) in
        try MessageCodec.decode(frame.type, payload)
    }
}

private func decodePayload(_ type: FrameType, _ payload: [UInt8]) throws(DecodingError)
    -> PeerMessage
{
    let result = payload.withUnsafeBytes { bytes -> Result<PeerMessage, DecodingError> in
        do throws(DecodingError) {
            return .success(try MessageCodec.decode(type, bytes))
        } catch { return .failure(error) }
    }
    return try result.get()
}

@Suite struct MessageCodecTests {
    @Test func everyMessageHasItsGoldenFrame() throws {
        for sample in SampleMessages.all {
            let encoded = hex(try frame(sample.message))
            #expect(encoded == GoldenFrames.messages[sample.name], "\(sample.name)")
        }
        #expect(hex(SampleMessages.hello.encodedFrame()) == GoldenFrames.hello)
        #expect(
            hex(Refusal(.unknownMember, "node 9 is unknown").encodedFrame())
                == GoldenFrames.refusal)
        #expect(GoldenFrames.messages.count == SampleMessages.all.count)
    }

    @Test func everyTypeIsSampled() throws {
        let sampled = Set(SampleMessages.all.map(\.message.frameType))
        #expect(sampled == Set(FrameType.allCases).subtracting([.hello, .refusal]))
    }

    @Test func everyMessageComesBack() throws {
        for sample in SampleMessages.all {
            let bytes = try frame(sample.message)
            let decoded = try decode(bytes)
            #expect(try frame(decoded) == bytes, "\(sample.name)")
            #expect("\(decoded)" == "\(sample.message)")
        }
    }

    @Test func theEstimateIsNearTheTruth() throws {
        for sample in SampleMessages.all {
            let bytes = try frame(sample.message).count
            let estimate = MessageCodec.estimatedBytes(of: sample.message)
            #expect(estimate >= bytes && estimate <= bytes + 1024, "\(sample.name)")
        }
    }

    @Test func entriesAreVerified() throws {
        var request = AppendRequest(
            term: Term(4), previousIndex: LogIndex(4), previousTerm: Term(2),
            entries: SampleMessages.entries, commit: LogIndex(4))
        let sound = try frame(.raft(group: 7, .append(request)))
        // A flipped bit anywhere in the entries, under right frame checksums, is an error.
        let entriesStart = FrameHeader.size + 4 + 4 * 8 + 4
        for at in entriesStart..<sound.count {
            var payload = Array(sound[FrameHeader.size...])
            payload[at - FrameHeader.size] ^= 0x10
            #expect(throws: DecodingError.self) { try decodePayload(.append, payload) }
        }
        request.entries.reverse()
        #expect(throws: UnsendableMessage.self) { try frame(.raft(group: 7, .append(request))) }
        request.entries = SampleMessages.entries
        #expect(throws: UnsendableMessage.self) { try frame(.raft(group: 8, .append(request))) }
        request.term = Term(2)
        #expect(throws: UnsendableMessage.self) { try frame(.raft(group: 7, .append(request))) }
    }

    @Test func numbersOutOfRangeAreRefusedBothWays() throws {
        let message = PeerMessage.raft(group: 7, .timeoutNow(term: Term(1 << 62)))
        #expect(throws: UnsendableMessage.self) { try frame(message) }
        let payload = [7, 0, 0, 0] + [UInt8](repeating: 0xff, count: 8)
        #expect(throws: DecodingError.self) { try decodePayload(.timeoutNow, payload) }
    }

    @Test func aMessageAboveItsLimitIsNotSent() throws {
        let limits = FrameLimits(ordinaryBytes: 64, valueBytes: 64)
        var writer = ByteWriter()
        try MessageCodec.encode(.readIndex(1), limits: limits, into: &writer)
        let before = writer.bytes
        #expect(throws: UnsendableMessage.self) {
            try MessageCodec.encode(
                .forward(1, [UInt8](repeating: 0, count: 100)), limits: limits, into: &writer)
        }
        #expect(writer.bytes == before)
    }

    @Test func longReasonsAreCutAtACharacter() throws {
        let reason = String(repeating: "é", count: 2000)
        let bytes = try frame(.fetchReply(1, .unavailable(reason)))
        guard case .fetchReply(1, .unavailable(let cut)) = try decode(bytes) else {
            Issue.record("another message came back")
            return
        }
        #expect(cut.utf8.count == 1024 && cut.allSatisfy { $0 == "é" })
    }

    @Test func noVarintHasASecondSpelling() throws {
        let report = MemberReport(
            applied: LogIndex(1), durable: LogIndex(1), flushed: LogIndex(1),
            frontier: LogIndex(1), stateRoot: .zero,
            outcomes: [
                JobOutcome(
                    job: JobID(index: LogIndex(4), kind: .flush), attempt: 1,
                    result: .tables([], balanced: true))
            ])
        var payload = Array(try frame(.report(group: 7, report))[FrameHeader.size...])
        #expect(payload.removeLast() == 0)
        #expect(throws: DecodingError.self) {
            try decodePayload(.report, payload + [0x80, 0x00])
        }
    }

    /// Mutated payloads, each under right checksums so that the codec behind them is reached.
    @Test func hostilePayloadsNeverTrap() throws {
        var generator = TestGenerator(20_241)
        let samples = try SampleMessages.all.map {
            ($0.message.frameType, Array(try frame($0.message)[FrameHeader.size...]))
        }
        var decodedCount = 0
        for _ in 0..<20_000 {
            var (type, payload) = samples.randomElement(using: &generator)!
            for _ in 0...Int.random(in: 0..<4, using: &generator) {
                mutate(&payload, &generator)
            }
            if Int.random(in: 0..<8, using: &generator) == 0 {
                type = FrameType.allCases.randomElement(using: &generator)!
            }
            guard let message = try? decodePayload(type, payload) else { continue }
            decodedCount += 1
            let again = Array(try frame(message)[FrameHeader.size...])
            #expect(again == payload, "type \(type), payload \(hex(payload))")
        }
        #expect(decodedCount > 1000)
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout TestGenerator) {
        guard !bytes.isEmpty else {
            return bytes.append(UInt8.random(in: 0...255, using: &generator))
        }
        let at = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: bytes[at] = [0, 1, 0x7f, 0x80, 0xff][Int.random(in: 0..<5, using: &generator)]
        case 2: bytes.removeLast(bytes.count - at)
        case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: at)
        case 4: bytes.remove(at: at)
        default:
            // A length or count of everything.
            for place in at..<min(at + 4, bytes.count) { bytes[place] = 0xff }
        }
    }

    @Test func hostileHandshakesNeverTrap() throws {
        var generator = TestGenerator(77)
        let hello = Array(SampleMessages.hello.encodedFrame()[FrameHeader.size...])
        let refusal = Array(Refusal(.clone, "text").encodedFrame()[FrameHeader.size...])
        for _ in 0..<10_000 {
            var bytes = Bool.random(using: &generator) ? hello : refusal
            for _ in 0...Int.random(in: 0..<3, using: &generator) { mutate(&bytes, &generator) }
            bytes.withUnsafeBytes { raw in
                if let decoded = try? Hello(decoding: raw) {
                    // The fields that were read come back; what is behind them is ignored.
                    let again = decoded.encodedFrame()[FrameHeader.size...]
                    #expect(raw.starts(with: again))
                }
                if let decoded = try? Refusal(decoding: raw) {
                    let isOneLine = decoded.text.unicodeScalars.allSatisfy {
                        $0.properties.generalCategory != .control
                    }
                    #expect(isOneLine)
                }
            }
        }
    }
}
