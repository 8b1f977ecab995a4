// Which jobs the planner splits, and where.

import Engine
import Testing

@Suite struct PartBoundariesTests {
    private var options: CompactionOptions {
        var options = CompactionOptions()
        options.baseLevelBytes = 1000
        // Level 2 is never due.
        options.multiplier = 1000
        options.targetBytes = 1024
        options.jobBytesMax = 1 << 20
        return options
    }

    private let facts = CompactionPlanner.Facts(
        settings: LoggedSettings(), horizon: SequenceNumber(5), clock: 77, now: 0)

    /// From a wide table of level 1 to a row of level 2.
    private func plan(_ options: CompactionOptions, row bytes: [UInt64]) throws -> CompactionSpec {
        let wide = Sample.table(
            .compaction, 9, level: 1, "a", "z", sequences: 50...60, bytes: 2048)
        let row = bytes.enumerated().map { number, bytes in
            let letter = String(UnicodeScalar(UInt8(98 + number)))
            return Sample.table(
                .compaction, 5, UInt32(number), level: 2, letter, letter + "y", sequences: 1...1,
                bytes: bytes)
        }
        let manifest = LogicalManifest(placing: [wide] + row)
        var planner = CompactionPlanner(options: options)
        let planned = planner.plan(manifest, facts)
        let spec = try #require(planned)
        #expect(spec.inputs.count == 1 + row.count)
        #expect(manifest.refusal(of: spec) == nil)
        #expect(try spec.encoded().withUnsafeBytes { try CompactionSpec(decoding: $0) } == spec)
        return spec
    }

    private func letters(_ spec: CompactionSpec) -> String {
        spec.boundaries.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }

    @Test func `Parts of a large job have about as many bytes each`() throws {
        // A fifth of the 10 KiB at least.
        let even = try plan(options, row: Array(repeating: 1024, count: 8))
        #expect(letters(even) == "d f h")
        let uneven = try plan(options, row: [6144, 256, 256, 256, 256, 512, 512])
        #expect(letters(uneven) == "c g")
    }

    @Test func `A job of less than four tables stays whole`() throws {
        #expect(try plan(options, row: [512, 512, 512]).boundaries.isEmpty)
        #expect(try plan(options, row: [1024, 1024]).partCount == 2)
    }

    @Test func `There are no more parts than the options allow`() throws {
        let row = [UInt64](repeating: 4096, count: 20)
        for (most, parts) in [(1, 1), (2, 2), (3, 3), (8, 7), (100, 10)] {
            var options = options
            options.partsMax = most
            #expect(try plan(options, row: row).partCount == parts)
        }
    }

    @Test func `Nothing is split where no sorted table tells the place`() throws {
        var flushes: [TableRecord] = []
        for first in [10, 20, 30, 40] as [UInt64] {
            flushes.append(Sample.flush(first...(first + 5), "a", "z", bytes: 8192))
        }
        var planner = CompactionPlanner(options: options)
        let planned = planner.plan(LogicalManifest(placing: flushes), facts)
        let spec = try #require(planned)
        #expect(spec.outputLevel == 1 && spec.boundaries.isEmpty)
    }
}
