// Golden vectors of the log's formats, and hostile bytes.
import Engine
import Testing

@Suite struct LogFormatTests {
    private let position = Position(
        term: Term(7), index: LogIndex(0x1234), checksum: Digest128(low: 0xaabb, high: 0xccdd))

    private func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Compares a format's bytes, zero padding left out, with the golden ones.
    private func expect(_ bytes: [UInt8], _ golden: String) {
        var text = ""
        var zeros = 0
        for byte in bytes {
            if byte == 0 {
                zeros += 1
                continue
            }
            if zeros > 8 {
                text += " \(zeros) zeros "
            } else {
                text += String(repeating: "00", count: zeros)
            }
            zeros = 0
            text += hex([byte])
        }
        if zeros > 0 { text += " \(zeros) zeros" }
        #expect(text == golden)
    }

    private var header: SegmentHeader {
        SegmentHeader(
            group: 3, epoch: 5, genesis: Digest128(low: 1, high: 2), first: LogIndex(0x1235),
            previous: position, settings: LoggedSettings())
    }

    @Test func frame() {
        let frame = LogFrame(
            epoch: 5, length: 184, durableTerm: Term(7), durableIndex: LogIndex(0x1234))
        let place = LogFrame.Place(first: LogIndex(0x1000), offset: 0x600)
        var bytes = [UInt8](repeating: 0, count: LogFrame.size)
        bytes.withUnsafeMutableBytes { frame.encode(into: $0, at: place) }
        expect(
            bytes,
            "42aefaae05000000b80000000000010007000000000000003412 22 zeros")
        bytes.withUnsafeBytes { raw in
            #expect(LogFrame(decoding: raw, at: place) == frame)
            let elsewhere = LogFrame.Place(first: LogIndex(0x1000), offset: 0x800)
            #expect(LogFrame(decoding: raw, at: elsewhere) == nil)
            let recycled = LogFrame.Place(first: LogIndex(0x2000), offset: 0x600)
            #expect(LogFrame(decoding: raw, at: recycled) == nil)
        }
        for bit in 0..<(LogFrame.size * 8) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            damaged.withUnsafeBytes { #expect(LogFrame(decoding: $0, at: place) == nil) }
        }
        [UInt8](repeating: 0, count: LogFrame.size).withUnsafeBytes {
            #expect(LogFrame(decoding: $0, at: place) == nil)
        }
    }

    @Test func segmentHeader() throws {
        let bytes = header.encoded()
        expect(
            bytes,
            "4d544c545345473101000000030000000500000001000000000000000200000000000000351200000000"
                + "000007000000000000003412000000000000bbaa000000000000ddcc0000000000000400000000040000"
                + "000000100000000200000a0000000000000040 405 zeros 838756c3")
        let decoded = try bytes.withUnsafeBytes { try SegmentHeader(decoding: $0) }
        #expect(decoded == header)
        for offset in 0..<bytes.count {
            var damaged = bytes
            damaged[offset] ^= 0x20
            #expect(throws: DecodingError.self) {
                _ = try damaged.withUnsafeBytes { try SegmentHeader(decoding: $0) }
            }
        }
    }

    /// As many functions and levels as there may be fit into the header.
    @Test func segmentHeaderWithFunctions() throws {
        var full = header
        full.settings.functions.mergeOperators = (0..<JobFunctionNames.mergeOperatorsMax).map {
            MergeOperatorReference(
                id: MergeOperatorID(UInt16(300 + $0)), version: 7, isAssociative: $0 % 2 == 0)
        }
        full.settings.functions.compactionFilter = CompactionFilterID(id: 5, version: 6)
        full.settings.blockLevels = (0..<UInt8(TableRecord.levelCount)).map {
            LevelBlockBytes(level: $0, bytes: 1 << 20)
        }
        full.settings.blobThreshold = 1 << 10
        let bytes = full.encoded()
        #expect(bytes.count == 512)
        #expect(try bytes.withUnsafeBytes { try SegmentHeader(decoding: $0) } == full)
        var few = LoggedSettings()
        few.functions.mergeOperators = [
            MergeOperatorReference(id: MergeOperatorID(300), version: 2, isAssociative: true)
        ]
        few.functions.compactionFilter = CompactionFilterID(id: 5, version: 6)
        expect(
            few.encoded(),
            "0400000000040000000000100000000200000a00000000000000400000000000012c0102"
                + "0001010500000006 3 zeros")
    }

    @Test func settingsWithBlobFiles() throws {
        var settings = LoggedSettings()
        settings.blobThreshold = 0x400
        settings.blobFileBytes = 0x123_4567
        let bytes = settings.encoded()
        expect(
            bytes,
            "0500000000040000000000100000000200000a0000000000000040000000000000000004000067452301"
                + " 4 zeros")
        #expect(try bytes.withUnsafeBytes { try LoggedSettings(decoding: $0) } == settings)
        func isRefused(_ change: (inout [UInt8]) -> Void) -> Bool {
            var changed = bytes
            change(&changed)
            return (try? changed.withUnsafeBytes { try LoggedSettings(decoding: $0) }) == nil
        }
        let end = bytes.count
        #expect(isRefused { $0[0] = 4 }, "another format")
        #expect(isRefused { $0.removeLast() })
        let tiny: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0]
        #expect(isRefused { $0.replaceSubrange((end - 8)..<end, with: tiny) })
        #expect(isRefused { $0[end - 9] = 0x7f }, "a threshold above all values")
        #expect(
            isRefused {
                $0.replaceSubrange((end - 12)..<end, with: [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
            }, "what an earlier format says")
        var wide = LoggedSettings()
        wide.blobFileBytes = 1 << 20
        #expect(try wide.encoded().withUnsafeBytes { try LoggedSettings(decoding: $0) } == wide)
    }

    @Test func segmentFooter() throws {
        let offsets: [UInt64] = [512, 1024, OffsetTable.missing, 1300]
        let summary = SegmentSummary(
            first: LogIndex(0x1231), last: position, next: LogIndex(0x1235), end: 1500,
            termRuns: [TermRun(term: Term(7), first: LogIndex(0x1231))])
        let bytes = SegmentFooter.encoded(offsets, summary, at: 1536)
        expect(
            bytes,
            "800480040094020100311200000000000007000000000000003412000000000000bbaa000000000000dd"
                + "cc0000000000003512000000000000dc050000000000000107000000000000003112 372 zeros 4d544"
                + "64f4f5452310006000000000000070000000000000012ad92824b00000039ed5e51 24 zeros fd6eee9"
                + "3")
        let files = MemoryFileSystem(seed: 1)
        let file = try files.open("f", .create)
        try file.writeAll(bytes, at: 1536)
        #expect(SegmentFooter.readSummary(file) == summary)
        #expect(SegmentFooter.readOffsets(file) == offsets)
        for offset in 0..<bytes.count {
            files.flip("f", UInt64(1536 + offset), mask: 0x20)
            if let seen = SegmentFooter.readSummary(file) { #expect(seen == summary) }
            if let seen = SegmentFooter.readOffsets(file) { #expect(seen == offsets) }
            files.flip("f", UInt64(1536 + offset), mask: 0x20)
        }
    }

    @Test func stateCopy() throws {
        var record = HardStateRecord()
        record.term = Term(0x0102_0304)
        record.vote = MemberID(3)
        record.bootCounter = 5
        record.nonce = 0x1122_3344_5566_7788
        record.cut = LogIndex(77)
        record.cutTerm = Term(9)
        record.epoch = 6
        let bytes = HardStateFormat.encode(record, counter: 41)
        expect(
            bytes,
            "4d5453544154453101000000290000000000000004030201000000000300000000000000050000000000"
                + "000088776655443322114d00000000000000090000000000000006 439 zeros a01d5207")
        let decoded = try HardStateFormat.decodeCopy(bytes)
        #expect(decoded.0 == record && decoded.1 == 41)
        for offset in 0..<bytes.count {
            var damaged = bytes
            damaged[offset] ^= 0x20
            #expect(throws: DecodingError.self) { try HardStateFormat.decodeCopy(damaged) }
        }
    }

    @Test func termsOutOfRangeAreRefused() {
        var record = HardStateRecord()
        record.term = .limit
        var cut = HardStateRecord()
        cut.cutTerm = Term(.max)
        for bytes in [record, cut].map({ HardStateFormat.encode($0, counter: 1) }) {
            #expect(throws: DecodingError.self) { try HardStateFormat.decodeCopy(bytes) }
        }
        let page = VolatilePage(
            position: Position(term: .limit, index: LogIndex(1), checksum: .zero), epoch: 1,
            counter: 1)
        #expect(throws: DecodingError.self) {
            try HardStateFormat.decodePage(HardStateFormat.encode(page))
        }
        let entry = LogRig.entry(after: position, term: .max)
        #expect(throws: DecodingError.self) { try Entry(decoding: entry.encoded) }
    }

    @Test func volatilePage() throws {
        let page = VolatilePage(position: position, epoch: 6, counter: 9)
        let bytes = HardStateFormat.encode(page)
        expect(
            bytes,
            "4d545650414745310100000009000000000000000600000007000000000000003412000000000000bbaa"
                + "000000000000ddcc 458 zeros 2e86d5f3")
        #expect(try HardStateFormat.decodePage(bytes) == page)
        #expect(throws: DecodingError.self) { try HardStateFormat.decodeCopy(bytes) }
    }
}
