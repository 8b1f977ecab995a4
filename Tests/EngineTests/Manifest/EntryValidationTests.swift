// What an entry may hold before anybody acknowledges it.
import Engine
import Testing

@Suite struct EntryValidationTests {
    private func isRefused(
        _ kind: EntryKind, _ payload: [UInt8], index: UInt64 = 20, firstSequence: UInt64 = 1
    ) -> Bool {
        let made = Sample.entry(kind, payload, index: index, firstSequence: firstSequence)
        return Sample.throwsDecodingError { () throws(DecodingError) in
            try EntryValidation.validate(made)
        }
    }

    private func write(_ change: (inout WriteBatch) -> Void) -> [UInt8] {
        var batch = WriteBatch()
        change(&batch)
        return batch.payload(horizonDistance: 1)
    }

    @Test func wholeWritesAreTaken() {
        let payload = write {
            $0.put(Sample.key("a"), Sample.key("1"))
            $0.put(Sample.key("b"), Sample.key("2"), expiry: 5)
            $0.delete(Sample.key("c"))
            $0.deleteRange(Sample.key("d"), Sample.key("e"))
            $0.deleteRange(Sample.key("d"), nil)
            $0.put([], [])
            $0.merge(Sample.key("f"), Sample.key("1"), by: .int64Add)
            $0.merge([], [], by: MergeOperatorID(.max))
            $0.singleDelete(Sample.key("g"))
            $0.deletePrefix([0xff])
        }
        #expect(!isRefused(.write, payload))
        for count in payload.indices { #expect(isRefused(.write, Array(payload[..<count]))) }
        #expect(isRefused(.write, payload + [0]))
    }

    @Test func writesThatCannotBeAppliedAreRefused() {
        #expect(isRefused(.write, write { _ in }))
        #expect(isRefused(.write, write { $0.deleteRange(Sample.key("e"), Sample.key("d")) }))
        #expect(isRefused(.write, write { $0.deleteRange(Sample.key("d"), Sample.key("d")) }))
        let long = [UInt8](repeating: 1, count: Limits.keyBytes + 1)
        #expect(isRefused(.write, write { $0.delete(long) }))
        #expect(!isRefused(.write, write { $0.delete(Array(long.dropLast())) }))
        #expect(
            !isRefused(
                .write,
                write { $0.deleteRange(Sample.key("a"), Sample.key("b") + long.dropLast(2)) }))
    }

    /// The bytes of every effect, which no build may change.
    @Test func writePayloadsNeverChange() throws {
        let payload = write {
            $0.put([0x61], [1, 2])
            $0.put([0x62], [3], expiry: 0x0102)
            $0.delete([0x63])
            $0.deleteRange([0x64], [0x65])
            $0.deleteRange([0x66], nil)
            $0.merge([0x67], [9, 8], by: MergeOperatorID(0x0203))
            $0.singleDelete([0x68])
        }
        let golden: [UInt8] = [
            1, 7, 1, 1, 0x61, 2, 1, 2, 3, 1, 0x62, 9, 2, 1, 0, 0, 0, 0, 0, 0, 3, 2, 1, 0x63, 4, 1,
            0x64, 1, 1, 0x65, 4, 1, 0x66, 0, 5, 1, 0x67, 4, 3, 2, 9, 8, 6, 1, 0x68,
        ]
        #expect(payload == golden)
        try payload.withUnsafeBytes { raw in
            var reader = try WritePayloadReader(raw)
            var kinds: [String] = []
            while let effect = try reader.next() {
                switch effect {
                case .merge(let key, let stored):
                    let operand = try #require(MergeOperand(stored: stored))
                    kinds.append("merge \(text(key)) \(operand.id) \([UInt8](operand.bytes))")
                case .singleDelete(let key): kinds.append("single \(text(key))")
                default: kinds.append("-")
                }
            }
            #expect(kinds.suffix(2) == ["merge g 515 [9, 8]", "single h"])
        }
    }

    @Test func mergesWithoutAnOperatorAreRefused() {
        func merge(_ stored: [UInt8]) -> [UInt8] {
            [1, 1, 5, 1, 0x61, UInt8(stored.count)] + stored
        }
        #expect(!isRefused(.write, merge([1, 0])))
        // Another build may know it; who lacks it keeps the operand.
        #expect(!isRefused(.write, merge([0xff, 0xff, 1])))
        #expect(isRefused(.write, merge([])))
        #expect(isRefused(.write, merge([1])))
        #expect(isRefused(.write, merge([0, 0, 1])))
        // A length beyond the payload, or beyond the limit.
        #expect(isRefused(.write, [1, 1, 5, 1, 0x61, 9, 1, 0]))
        #expect(isRefused(.write, [1, 1, 5, 1, 0x61, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0]))
        let long = [UInt8](repeating: 1, count: Limits.keyBytes + 1)
        #expect(isRefused(.write, write { $0.singleDelete(long) }))
        #expect(isRefused(.write, write { $0.merge(long, [], by: .append) }))
        #expect(isRefused(.write, [1, 1, 7, 1, 0x61]))
    }

    /// Nothing that comes over a wire traps: flipped and random bytes are refused or decoded.
    @Test func hostileWritesNeverTrap() {
        let whole = write {
            $0.merge(Sample.key("key"), Sample.key("operand"), by: .append)
            $0.singleDelete(Sample.key("gone"))
            $0.put(Sample.key("a"), Sample.key("1"), expiry: 5)
            $0.deleteRange(Sample.key("d"), nil)
        }
        for place in whole.indices {
            for mask: UInt8 in [1, 0x10, 0x80, 0xff] {
                var bytes = whole
                bytes[place] ^= mask
                _ = isRefused(.write, bytes)
            }
        }
        var random = SeededRandom(seed: 12)
        for _ in 0..<3000 {
            let tail = (0..<random.below(24)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            _ = isRefused(.write, [1, UInt8(1 + random.below(3)), UInt8(random.below(8))] + tail)
        }
    }

    /// Trap 19: sequence arithmetic is checked. What comes from outside is refused before it is
    /// added to; a sum that overflows all the same is a logic error, and stops.
    @Test func trap19SequencesStayWithin56Bits() {
        let two = write {
            $0.delete(Sample.key("a"))
            $0.delete(Sample.key("b"))
        }
        let last = SequenceNumber.max.rawValue
        #expect(!isRefused(.write, two, firstSequence: last - 2))
        #expect(isRefused(.write, two, firstSequence: last - 1))
        #expect(isRefused(.write, two, firstSequence: 0))
        var batch = WriteBatch()
        batch.delete(Sample.key("a"))
        #expect(!isRefused(.write, batch.payload(horizonDistance: 9), firstSequence: 9))
        #expect(isRefused(.write, batch.payload(horizonDistance: 10), firstSequence: 9))
        #expect(isRefused(.write, batch.payload(horizonDistance: 0), firstSequence: 9))
    }

    /// A result that nobody looks at is not computed in an optimized build.
    private static func use(_ sequence: SequenceNumber) {
        if sequence == SequenceNumber(7) { print(sequence) }
    }

    /// Trap 19, the other half.
    @Test func trap19OverflowStops() async {
        await #expect(processExitsWith: .failure) {
            EntryValidationTests.use(SequenceNumber(.max) + UInt64(CommandLine.arguments.count))
        }
        await #expect(processExitsWith: .failure) {
            EntryValidationTests.use(SequenceNumber(0) - UInt64(CommandLine.arguments.count))
        }
    }

    @Test func otherKinds() {
        #expect(!isRefused(.noop, []))
        #expect(isRefused(.noop, [1]))
        #expect(!isRefused(.rotate, []))
        #expect(isRefused(.rotate, [0]))
        #expect(!isRefused(.settings, LoggedSettings().encoded()))
        #expect(isRefused(.settings, LoggedSettings().encoded() + [0]))
        var settings = LoggedSettings()
        settings.functions = TestMerge.names
        #expect(!isRefused(.settings, settings.encoded()))
        for count in settings.encoded().indices {
            #expect(isRefused(.settings, Array(settings.encoded()[..<count])))
        }
        let member = Member(id: MemberID(1), peerAddress: "a:1", clientAddress: "a:2")
        #expect(!isRefused(.membership, Membership([member]).encoded()))
        var learner = member
        learner.isVoter = false
        #expect(isRefused(.membership, Membership([learner]).encoded()))
        var second = member
        second.id = MemberID(2)
        let joint = Membership([member]).step(toward: Membership([second]))
        #expect(!isRefused(.membership, joint.encoded()))
        // Its last byte: member 2 among the new voters.
        #expect(isRefused(.membership, joint.encoded().dropLast() + [0]))
        #expect(isRefused(.bulk, []))
        #expect(isRefused(.excise, []))
        let done = Sample.compacted(20, []).encoded()
        #expect(isRefused(.compacted, done, index: 20))
        #expect(!isRefused(.compacted, done, index: 21))
        let cancelled = CancelledRecord(job: LogIndex(20), reason: .failed).encoded()
        #expect(isRefused(.cancelled, cancelled, index: 20))
        #expect(!isRefused(.cancelled, cancelled, index: 21))
    }

    @Test func blockSizesOfLevels() throws {
        func settings(_ levels: [(UInt8, UInt32)]) -> LoggedSettings {
            var settings = LoggedSettings()
            settings.blockLevels = levels.map { LevelBlockBytes(level: $0.0, bytes: $0.1) }
            return settings
        }
        let sound = settings([(0, 256), (3, 8192), (6, 1 << 20)])
        let decoded = try sound.encoded().withUnsafeBytes { try LoggedSettings(decoding: $0) }
        #expect(decoded == sound)
        #expect([0, 1, 3].map { decoded.blockBytes(level: $0) } == [256, 4096, 8192])
        let unsound: [[(UInt8, UInt32)]] = [
            [(1, 512), (1, 512)], [(2, 512), (1, 512)], [(7, 512)], [(0, 255)], [(0, 2 << 20)],
            (0..<8 as Range<UInt8>).map { ($0, 512) },
        ]
        for levels in unsound {
            #expect(isRefused(.settings, settings(levels).encoded()), "\(levels)")
        }
    }
}
