// Jobs in parts: which payloads are refused, and which entries are void.

import Engine
import Testing

@Suite struct JobPartsTests {
    private let upper = Sample.flush(1...4, "b", "m")
    private let lower = Sample.table(.compaction, 3, 1, level: 1, "c", "x", sequences: 1...2)
    private static let stride = UInt32(Limits.jobTables)

    private func spec(_ boundaries: [String]) -> CompactionSpec {
        var spec = Sample.spec([upper, lower], to: 1)
        spec.boundaries = boundaries.map { Sample.key($0) }
        return spec
    }

    private func isRefused(_ spec: CompactionSpec) -> Bool {
        Sample.throwsDecodingError { () throws(DecodingError) in
            try EntryValidation.validate(Sample.entry(.compact, spec.encoded(), index: 20))
        }
    }

    private func output(_ ordinal: UInt32, _ first: String, _ last: String) -> TableRecord {
        Sample.table(.compaction, 11, ordinal, level: 1, first, last, sequences: 1...4)
    }

    @Test func `Boundaries come back, and jobs without any are written as before`() throws {
        let divided = spec(["d", "k"])
        #expect(divided.encoded().prefix(2) == [6, 0])
        #expect(
            try divided.encoded().withUnsafeBytes { try CompactionSpec(decoding: $0) } == divided)
        #expect(spec([]).encoded().prefix(2) == [2, 0])
        var whole = divided.encoded()
        whole[0] = 5
        #expect(
            Sample.throwsDecodingError { () throws(DecodingError) in
                try EntryValidation.validate(Sample.entry(.compact, whole, index: 20))
            })
    }

    @Test func `Boundaries out of order, twice, empty, too many or too long are refused`() {
        #expect(!isRefused(spec(["d", "k"])))
        #expect(isRefused(spec(["k", "d"])))
        #expect(isRefused(spec(["d", "d"])))
        var other = spec([])
        other.boundaries = [[]]
        #expect(isRefused(other))
        other.boundaries = [[], Sample.key("d")]
        #expect(isRefused(other))
        other.boundaries = (0..<(Limits.jobParts - 1)).map { Sample.key("d") + [UInt8($0)] }
        #expect(!isRefused(other))
        other.boundaries.append(Sample.key("e"))
        #expect(isRefused(other))
        other.boundaries = [[UInt8](repeating: 0x64, count: Limits.keyBytes)]
        #expect(!isRefused(other))
        other.boundaries[0].append(0)
        #expect(isRefused(other))
        other = Sample.spec([upper], to: 0)
        other.boundaries = [Sample.key("d")]
        #expect(!isRefused(other))
        other.witnesses = [CompactionSpec.Input(Sample.flush(5...9, "a", "z"))]
        #expect(isRefused(other))
    }

    @Test func `A job whose boundaries are not inside its hull is void`() {
        let manifest = LogicalManifest(placing: [upper, lower])
        #expect(manifest.refusal(of: spec(["d", "k"])) == nil)
        #expect(manifest.refusal(of: spec(["ba", "x"])) == nil)
        for outside in [["a"], ["b"], ["d", "xa"], ["z"]] {
            #expect(manifest.refusal(of: spec(outside)) == .boundaryOutsideJob, "\(outside)")
        }
        var started = manifest
        let outcome = started.apply(Sample.entry(.compact, spec(["z"]).encoded(), index: 11))
        #expect(outcome == .jobVoid(.boundaryOutsideJob))
        #expect(started.jobs.isEmpty)
    }

    @Test func `Ordinals begin with each part, and have no gap in it`() {
        let stride = JobPartsTests.stride
        func isRefused(_ ordinals: [UInt32]) -> Bool {
            let tables = zip(ordinals, ["c", "e", "g", "i"]).map { output($0, $1, $1) }
            return Sample.throwsDecodingError { () throws(DecodingError) in
                let record = Sample.compacted(11, tables)
                try EntryValidation.validate(
                    Sample.entry(.compacted, record.encoded(), index: 20))
            }
        }
        #expect(!isRefused([0, 1, 2]))
        #expect(!isRefused([0, stride, stride + 1, 3 * stride]))
        #expect(!isRefused([stride, 2 * stride]))
        #expect(isRefused([1]))
        #expect(isRefused([0, 2]))
        #expect(isRefused([0, stride + 1]))
        #expect(isRefused([stride, stride]))
        #expect(isRefused([stride, 0]))
        #expect(isRefused([UInt32(Limits.jobParts) * stride]))
        #expect(isRefused([.max]))
        // A flush has no parts.
        let tables = [
            upper, Sample.table(.flush, 4, stride, level: 0, "n", "o", sequences: 1...4),
        ]
        #expect(
            Sample.throwsDecodingError { () throws(DecodingError) in
                try EntryValidation.validate(
                    Sample.entry(.seal, Sample.seal(1...4, tables).encoded(), index: 20))
            })
    }

    @Test func `Outputs outside of their part are void`() {
        let stride = JobPartsTests.stride
        var manifest = LogicalManifest(placing: [upper, lower])
        manifest.start(spec(["d", "k"]), at: 11)
        let strays = [
            output(0, "c", "d"), output(stride, "c", "f"), output(stride, "d", "k"),
            output(2 * stride, "j", "l"), output(3 * stride, "l", "m"),
        ]
        for (step, stray) in strays.enumerated() {
            let outcome = manifest.finish(11, [stray], at: UInt64(12 + step))
            #expect(outcome == .void(.outputOutsideJob(stray.id)), "\(stray.id)")
        }
        let good = [output(0, "b", "c"), output(stride, "d", "e"), output(2 * stride, "k", "x")]
        guard case .jobDone = manifest.finish(11, good, at: 30) else {
            Issue.record("its outputs are refused")
            return
        }
        #expect(manifest.tables.sortedByID.map(\.id) == good.map(\.id))
    }
}
