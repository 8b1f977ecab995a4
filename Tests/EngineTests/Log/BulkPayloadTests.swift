// The payload of `bulk` entries: its bytes, what is refused, and what the builder lets through.
import Engine
import Testing

@Suite struct BulkPayloadTests {
    private func isRefused(_ payload: [UInt8], firstSequence: UInt64 = 1) -> Bool {
        let made = Sample.entry(.bulk, payload, index: 20, firstSequence: firstSequence)
        return Sample.throwsDecodingError { () throws(DecodingError) in
            try EntryValidation.validate(made)
        }
    }

    private func payload(_ pairs: [(String, String)]) throws -> [UInt8] {
        var builder = BulkPayloadBuilder()
        for (key, value) in pairs { try add(bytes(key), bytes(value), to: &builder) }
        return builder.take().payload
    }

    private func add(_ key: [UInt8], _ value: [UInt8], to builder: inout BulkPayloadBuilder)
        throws(EngineError)
    {
        try withKey(key) { (key) throws(EngineError) in
            try withKey(value) { (value) throws(EngineError) in try builder.add(key, value) }
        }
    }

    /// The bytes, which no build may change.
    @Test func bulkPayloadsNeverChange() throws {
        let golden: [UInt8] = [1, 3, 1, 0x61, 2, 0x31, 0x32, 2, 0x61, 0x62, 0, 1, 0x63, 1, 0x33]
        #expect(try payload([("a", "12"), ("ab", ""), ("c", "3")]) == golden)
        #expect(!isRefused(golden))
        let entry = Sample.entry(.bulk, golden, index: 20, firstSequence: 7)
        #expect(entry.effectCount == 3)
        var seen: [String] = []
        try entry.withPayload { payload in
            try EntryEffects.forEach(of: .bulk, payload, from: SequenceNumber(7)) {
                (sequence, effect) throws(DecodingError) in
                guard case .put(let key, let value) = effect else { return }
                seen.append("\(sequence.rawValue) \(text(key))=\(text(value))")
            }
        }
        #expect(seen == ["7 a=12", "8 ab=", "9 c=3"])
    }

    @Test func partsAndOtherOrdersAreRefused() throws {
        let whole = try payload([("a", "12"), ("ab", ""), ("c", "3")])
        for count in whole.indices { #expect(isRefused(Array(whole[..<count]))) }
        #expect(isRefused(whole + [0]))
        #expect(isRefused([0] + whole.dropFirst()))
        #expect(isRefused([2] + whole.dropFirst()))
        // None, an empty key, twice the same, descending.
        #expect(isRefused([1, 0]))
        #expect(isRefused([1, 1, 0, 1, 9]))
        #expect(isRefused([1, 2, 1, 0x61, 0, 1, 0x61, 0]))
        #expect(isRefused([1, 2, 1, 0x62, 0, 1, 0x61, 0]))
        #expect(!isRefused([1, 2, 1, 0x61, 0, 1, 0x62, 0]))
        // A count that the bytes cannot hold, before anything is allocated for it.
        #expect(isRefused([1, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0x61, 0]))
        // A length beyond the payload.
        #expect(isRefused([1, 1, 1, 0x61, 0xff, 0xff, 0xff, 0x7f]))
    }

    @Test func sequencesStayWithin56Bits() throws {
        let two = try payload([("a", ""), ("b", "")])
        let last = SequenceNumber.max.rawValue
        #expect(!isRefused(two, firstSequence: last - 2))
        #expect(isRefused(two, firstSequence: last - 1))
        #expect(isRefused(two, firstSequence: 0))
    }

    @Test func hostileBytesNeverTrap() throws {
        let whole = try payload((0..<20).map { ("key\($0 + 10)", "value") })
        for place in whole.indices {
            for mask: UInt8 in [1, 0x10, 0x80, 0xff] {
                var bytes = whole
                bytes[place] ^= mask
                _ = isRefused(bytes)
            }
        }
    }

    @Test func theBuilderRefusesWhatAPayloadMayNotHold() throws {
        var builder = BulkPayloadBuilder()
        func refuses(_ key: [UInt8], _ value: [UInt8] = []) -> Bool {
            do throws(EngineError) { try add(key, value, to: &builder) } catch { return true }
            return false
        }
        #expect(refuses([]))
        #expect(refuses([UInt8](repeating: 1, count: Limits.keyBytes + 1)))
        #expect(!refuses(bytes("b")))
        #expect(refuses(bytes("a")) && refuses(bytes("b")))
        // Nothing of it is left, and the order holds across payloads.
        let (first, last) = builder.take()
        #expect(first == [1, 1, 1, 0x62, 0] && last == bytes("b") && builder.isEmpty)
        #expect(refuses(bytes("b")) && refuses(bytes("a")) && refuses([]))
        #expect(!refuses(bytes("ba"), [7]))
        #expect(builder.take().payload == [1, 1, 2, 0x62, 0x61, 1, 7])
    }
}
