// Streams cut anywhere, damaged anywhere, claiming anything.
import Engine
import Replication
import Testing

@Suite struct FrameAssemblerTests {
    private func feed(_ assembler: inout FrameAssembler, _ bytes: some Sequence<UInt8>) {
        Array(bytes).withUnsafeBytes { assembler.append($0) }
    }

    private func open(_ limits: FrameLimits = FrameLimits()) -> FrameAssembler {
        var assembler = FrameAssembler(limits: limits)
        assembler.isOpen = true
        return assembler
    }

    @Test func aStreamMayBeCutAnywhere() throws {
        let frames = try SampleMessages.all.map { try frame($0.message) }
        let stream = frames.flatMap { $0 }
        var generator = TestGenerator(5)
        for _ in 0..<50 {
            var assembler = open()
            var found: [[UInt8]] = []
            var at = 0
            while at < stream.count {
                let end = min(stream.count, at + Int.random(in: 1...400, using: &generator))
                feed(&assembler, stream[at..<end])
                at = end
                while let frame = try assembler.next() {
                    found.append(
                        try assembler.withPayload(of: frame) { bytes throws(DecodingError) in
                            [UInt8](bytes)
                        })
                }
            }
            #expect(found == frames.map { Array($0[FrameHeader.size...]) })
            #expect(assembler.pendingBytes == 0)
        }
    }

    @Test func everyDamagedBitIsNoticed() throws {
        let sound = try frame(SampleMessages.all[2].message)
        for at in sound.indices {
            for bit in 0..<8 {
                var damaged = sound
                damaged[at] ^= 1 << UInt8(bit)
                var assembler = open()
                feed(&assembler, damaged)
                #expect(throws: DecodingError.self) { _ = try assembler.next() }
            }
        }
    }

    @Test func aClaimAboveTheLimitIsRefusedAtTheHeader() throws {
        var assembler = open(FrameLimits(ordinaryBytes: 100, valueBytes: 1000))
        let big = try frame(.forward(1, [UInt8](repeating: 1, count: 2000)))
        feed(&assembler, big[..<FrameHeader.size])
        #expect(throws: DecodingError.self) { _ = try assembler.next() }
    }

    @Test func onlyHandshakeFramesComeBeforeTheHello() throws {
        var assembler = FrameAssembler(limits: FrameLimits())
        feed(&assembler, SampleMessages.hello.encodedFrame())
        #expect(try assembler.next()?.type == .hello)
        feed(&assembler, try frame(.readIndex(1)))
        #expect(throws: DecodingError.self) { _ = try assembler.next() }
    }

    @Test func onlyWhatHasArrivedIsHeld() throws {
        var assembler = open()
        let big = try frame(.forward(1, [UInt8](repeating: 1, count: 1 << 20)))
        feed(&assembler, big[..<100])
        #expect(try assembler.next() == nil)
        #expect(assembler.pendingBytes == 100)
    }
}
