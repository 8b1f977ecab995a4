// Payloads of job entries: bytes that never change, and decoders that refuse everything else.
import Engine
import Testing

@Suite struct JobPayloadTests {
    private let inputs = [
        Sample.flush(1...4, "a", "m"),
        Sample.table(.compaction, 3, 1, level: 1, "c", "k", sequences: 1...2),
    ]

    private var golden: [(name: String, bytes: [UInt8], digest: String)] {
        var job = Sample.spec(inputs, to: 1, bottommost: true, horizon: 77)
        job.clock = 1_700_000_000_000
        var extended = job
        extended.outputLevel = 0
        extended.inputs.removeLast()
        extended.functions = TestMerge.names
        extended.functions.compactionFilter = CompactionFilterID(id: 0x0102, version: 3)
        extended.witnesses = [
            CompactionSpec.Input(Sample.flush(5...9, "a", "z")), CompactionSpec.Input(inputs[1]),
        ]
        var collecting = extended
        collecting.witnesses = []
        collecting.blobFileBytes = 1 << 20
        collecting.collected = [
            TableID(index: LogIndex(4), kind: .flushBlob, ordinal: 0),
            TableID(index: LogIndex(7), kind: .compactionBlob, ordinal: 2),
        ]
        var divided = collecting
        divided.boundaries = [Sample.key("b"), Sample.key("bc"), Sample.key("e")]
        let moved = CompactionSpec.move(inputs.prefix(1).map { CompactionSpec.Input($0) }, to: 1)
        let root = FrontierRoot(frontier: LogIndex(9), root: Digest128(low: 1, high: 2))
        let output = Sample.table(.compaction, 12, level: 1, "a", "m", sequences: 1...4)
        return [
            ("compact", job.encoded(), "b6e763498c5b551cae51de064d5fe365"),
            ("extended", extended.encoded(), "78fc8498e61acbe118b4bde6fb7bd6a2"),
            ("collecting", collecting.encoded(), "b3ef3e4a2c37028e16eb19b187e475af"),
            (
                "drop", CompactionSpec.drop(moved.inputs).encoded(),
                "ab4b566a6e80ec62899cb9a979b9641e"
            ),
            ("divided", divided.encoded(), "e9319af562b4e384fb9c139fddeed7dc"),
            ("move", moved.encoded(), "8c9457b94f111399c4bbdb40ad7b9595"),
            (
                "seal", Sample.seal(1...4, [inputs[0]], leader: root).encoded(),
                "04e582319820fb37e4b337ca915caf28"
            ),
            (
                "compacted",
                CompactedRecord(job: LogIndex(12), tables: [output], leader: root).encoded(),
                "8e311ff049b28a61f6645335da8db162"
            ),
            (
                "cancelled",
                CancelledRecord(job: LogIndex(12), reason: .divergence, detail: "två").encoded(),
                "00f5cca2fca65c7f1d0586dea9fc9833"
            ),
        ]
    }

    @Test func bytesNeverChange() {
        for (name, bytes, digest) in golden {
            #expect(Digest128(of: bytes).description == digest, "\(name)")
        }
        let short = CancelledRecord(job: LogIndex(12), reason: .divergence, detail: "två")
        #expect(short.encoded() == [1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 2, 4, 116, 118, 195, 165])
    }

    @Test func roundTrips() throws {
        let job = Sample.spec(inputs, to: 1, bottommost: true, horizon: 77)
        #expect(try job.encoded().withUnsafeBytes { try CompactionSpec(decoding: $0) } == job)
        let sealed = Sample.seal(1...4, [inputs[0]])
        #expect(try sealed.encoded().withUnsafeBytes { try SealRecord(decoding: $0) } == sealed)
        let done = Sample.compacted(
            12, [Sample.table(.compaction, 12, level: 1, "a", "b", sequences: 1...4)])
        #expect(try done.encoded().withUnsafeBytes { try CompactedRecord(decoding: $0) } == done)
        let none = Sample.compacted(12, [])
        #expect(try none.encoded().withUnsafeBytes { try CompactedRecord(decoding: $0) } == none)
        let gone = CancelledRecord(job: LogIndex(12), reason: .failed, detail: "x")
        #expect(try gone.encoded().withUnsafeBytes { try CancelledRecord(decoding: $0) } == gone)
    }

    private func isRefused(_ entry: Entry) -> Bool {
        Sample.throwsDecodingError { () throws(DecodingError) in try EntryValidation.validate(entry)
        }
    }

    /// Every prefix is refused, and no flipped byte traps.
    @Test func cutAndFlippedPayloadsAreRefusedOrDecoded() {
        let kinds: [EntryKind] = [
            .compact, .compact, .compact, .compact, .compact, .compact, .seal, .compacted,
            .cancelled,
        ]
        for (kind, payload) in zip(kinds, golden) {
            let whole = Sample.entry(kind, payload.bytes, index: 20)
            #expect(!isRefused(whole))
            for count in payload.bytes.indices {
                let cut = Sample.entry(kind, Array(payload.bytes[..<count]), index: 20)
                #expect(isRefused(cut))
            }
            let long = Sample.entry(kind, payload.bytes + [0], index: 20)
            #expect(isRefused(long))
            for position in payload.bytes.indices {
                for mask: UInt8 in [1, 0x80, 0xff] {
                    var bytes = payload.bytes
                    bytes[position] ^= mask
                    let flipped = Sample.entry(kind, bytes, index: 20)
                    _ = isRefused(flipped)
                }
            }
        }
    }

    @Test func specsThatNoManifestCouldTakeAreRefused() {
        func isRefused(_ change: (inout CompactionSpec) -> Void) -> Bool {
            var job = Sample.spec(inputs, to: 1)
            change(&job)
            return Sample.throwsDecodingError { () throws(DecodingError) in
                try EntryValidation.validate(Sample.entry(.compact, job.encoded(), index: 20))
            }
        }
        #expect(!isRefused { _ in })
        #expect(isRefused { $0.inputs = [] })
        let blob = TableID(index: LogIndex(1), kind: .flushBlob, ordinal: 0)
        let ordinary = TableID(index: LogIndex(1), kind: .flush, ordinal: 7)
        for (id, refused) in [(blob, true), (ordinary, false)] {
            #expect(isRefused { $0.inputs[0].id = id } == refused, "\(id)")
            let covered = isRefused { job in
                job = Sample.spec([inputs[0]], to: inputs[0].level)
                job.witnesses = [
                    CompactionSpec.Input(id: id, level: inputs[0].level, digest: .zero)
                ]
            }
            #expect(covered == refused, "a witness \(id)")
        }
        #expect(isRefused { $0.inputs.reverse() })
        #expect(isRefused { $0.inputs.append($0.inputs[1]) })
        #expect(isRefused { $0.outputLevel = 2 })
        #expect(isRefused { $0.outputLevel = 0 })
        #expect(isRefused { $0.outputLevel = 7 })
        #expect(isRefused { $0.inputs[1].level = 2 })
        #expect(isRefused { $0.targetBytes = 0 })
        #expect(isRefused { $0.blockBytes = 1 })
        #expect(isRefused { $0.filter.keyBits = 33 })
        #expect(isRefused { $0.filter.prefixBits = 8 })
        #expect(isRefused { $0.filter.partitionAbove = 0 })
        #expect(isRefused { $0.filter.kind = .none })
        #expect(isRefused { $0.horizon = SequenceNumber(1 << 56) })
        #expect(isRefused { $0.tableFormat = 1 })
        func drops(_ change: (inout CompactionSpec) -> Void) -> Bool {
            isRefused {
                $0.inputs = [$0.inputs[0]]
                $0.outputLevel = 0
                $0.witnesses = [
                    CompactionSpec.Input(Sample.flush(5...9, "a", "z")),
                    CompactionSpec.Input(inputs[1]),
                ]
                change(&$0)
            }
        }
        let accepted = !drops { _ in }
        #expect(accepted)
        let unsorted = drops { $0.witnesses.reverse() }
        let twice = drops { $0.witnesses[1] = $0.witnesses[0] }
        let itself = drops { $0.witnesses[0] = $0.inputs[0] }
        let moving = drops { $0.outputLevel = 1 }
        let nowhere = drops { $0.witnesses[1].level = 7 }
        let disorder = isRefused { $0.functions.mergeOperators = TestMerge.references.reversed() }
        let engine = isRefused {
            $0.functions.mergeOperators = [
                MergeOperatorReference(id: .append, version: 1, isAssociative: true)
            ]
        }
        #expect(unsorted && twice && itself && moving && nowhere && disorder && engine)
    }

    @Test func movesGoDownFromOneLevel() throws {
        let above = CompactionSpec.Input(inputs[0])
        let below = CompactionSpec.Input(inputs[1])
        func isRefused(_ spec: CompactionSpec) -> Bool {
            self.isRefused(Sample.entry(.compact, spec.encoded(), index: 20))
        }
        let move = CompactionSpec.move([above], to: 1)
        #expect(!isRefused(move))
        #expect(try move.encoded().withUnsafeBytes { try CompactionSpec(decoding: $0) } == move)
        #expect(move.encoded().count == 2 + 1 + 1 + 1 + 13 + 1 + 16)
        #expect(isRefused(.move([above, below], to: 1)), "from two levels")
        #expect(isRefused(.move([above], to: 0)), "to where it is")
        #expect(isRefused(.move([], to: 1)))
        var drop = CompactionSpec.drop([above])
        #expect(!isRefused(drop))
        drop.outputLevel = 1
        #expect(isRefused(drop), "what goes goes nowhere")
        #expect(isRefused(.drop([above, below])), "of two levels")
        var unsorted = CompactionSpec.move([below, below], to: 2)
        #expect(isRefused(unsorted), "twice")
        unsorted.inputs[0].id = TableID(index: LogIndex(9), kind: .compaction, ordinal: 0)
        #expect(isRefused(unsorted))
        var unknown = move.encoded()
        unknown[2] = 9
        #expect(self.isRefused(Sample.entry(.compact, unknown, index: 20)))
        unknown[2] = 0
        #expect(self.isRefused(Sample.entry(.compact, unknown, index: 20)), "a merge says more")
    }

    @Test func outputsMustFollowFromTheirWork() {
        let good = Sample.flush(1...4, "a", "f")
        var second = Sample.table(.flush, 4, 1, level: 0, "g", "k", sequences: 1...4)
        func isRefused(_ tables: [TableRecord], last: UInt64 = 4) -> Bool {
            Sample.throwsDecodingError { () throws(DecodingError) in
                try EntryValidation.validate(
                    Sample.entry(.seal, Sample.seal(1...last, tables).encoded(), index: 20))
            }
        }
        #expect(!isRefused([good, second]))
        #expect(isRefused([]))
        #expect(isRefused([good], last: 5))
        #expect(isRefused([second]))
        #expect(isRefused([good], last: 20))
        second.level = 1
        #expect(isRefused([good, second]))
        second.level = 0
        second.points = .init(smallest: Sample.key("f"), largest: Sample.key("k"))
        #expect(isRefused([good, second]), "points outside the span")
        second.span = KeySpan(smallest: Sample.key("f"), largest: Sample.key("k"))
        #expect(isRefused([good, second]), "overlap")
        var empty = good
        empty.span = KeySpan(start: Sample.key("b"), end: Sample.key("a"))
        #expect(isRefused([empty]))
        empty = good
        empty.deleteCount = empty.entryCount + 1
        #expect(isRefused([empty]))
    }
}
