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

    @Test func sequencesStayWithin56Bits() {
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

    @Test func otherKinds() {
        #expect(!isRefused(.noop, []))
        #expect(isRefused(.noop, [1]))
        #expect(!isRefused(.rotate, []))
        #expect(isRefused(.rotate, [0]))
        #expect(!isRefused(.settings, LoggedSettings().encoded()))
        #expect(isRefused(.settings, LoggedSettings().encoded() + [0]))
        let member = Member(id: MemberID(1), peerAddress: "a:1", clientAddress: "a:2")
        #expect(!isRefused(.membership, Membership([member]).encoded()))
        var learner = member
        learner.isVoter = false
        #expect(isRefused(.membership, Membership([learner]).encoded()))
        #expect(isRefused(.bulk, []))
        #expect(isRefused(.excise, []))
        let done = Sample.compacted(20, []).encoded()
        #expect(isRefused(.compacted, done, index: 20))
        #expect(!isRefused(.compacted, done, index: 21))
        let cancelled = CancelledRecord(job: LogIndex(20), reason: .failed).encoded()
        #expect(isRefused(.cancelled, cancelled, index: 20))
        #expect(!isRefused(.cancelled, cancelled, index: 21))
    }
}
