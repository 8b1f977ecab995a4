// The executor of flushes and compactions: equal digests for equal entries however they are split
// and encoded, books that show what is lost or altered, cuts that lose nothing, and what damage and
// cancelling do.

import Engine
import Testing

@Suite struct TableMergeTests {
    private func history(_ seed: UInt64, count: UInt64 = 400)
        -> (entries: [ModelEntry], tombstones: [RangeTombstone])
    {
        var random = SeededRandom(seed: seed)
        var entries: [ModelEntry] = []
        var tombstones: [RangeTombstone] = []
        for sequence in 1...count {
            let key = "key \(random.below(100))"
            switch random.below(20) {
            case 0:
                let end = "key \(random.below(100))"
                if key < end { tombstones.append(tombstone(key, end, sequence)) }
            case 1...3: entries.append(ModelEntry(key, sequence, .delete))
            case 4:
                entries.append(.expiring(key, sequence, at: UInt64(random.below(100)), "brief"))
            default: entries.append(ModelEntry(key, sequence, .put, "value \(sequence)"))
            }
        }
        return (entries, tombstones)
    }

    /// The history as runs of level 0, one for each part of it.
    private func runs(_ bed: TableBed, seed: UInt64, parts: UInt64) throws -> [TableHandle] {
        let (entries, tombstones) = history(seed)
        var tables: [TableHandle] = []
        for part in 0..<parts {
            let sequences = (400 * part / parts + 1)...(400 * (part + 1) / parts)
            tables += try bed.flush(
                TableBed.memtable(
                    entries.filter { sequences.contains($0.trailer.sequence.rawValue) },
                    tombstones.filter { sequences.contains($0.sequence.rawValue) }),
                at: part + 1)
        }
        return tables
    }

    @Test(arguments: [1, 2, 3, 4])
    func `Equal entries give equal digests, however split and encoded`(seed: UInt64) throws {
        var records: [[TableRecord]] = []
        for codec in [Compression.none, .lz4] {
            for parts in [1, 2, 7] as [UInt64] {
                let bed = try TableBed(codec: codec)
                let inputs = try runs(bed, seed: seed, parts: parts)
                let spec = bed.spec(
                    inputs, to: 1, target: 1024, horizon: 300, clock: 50,
                    bottommost: seed % 2 == 0)
                let result = try bed.compact(inputs, spec, at: 100)
                #expect(result.isBalanced)
                records.append(result.outputs.map(\.record))
            }
        }
        #expect(records[0].count > 2)
        for other in records { #expect(other == records[0]) }
        for (ordinal, record) in records[0].enumerated() {
            #expect(record.id.ordinal == UInt32(ordinal))
            #expect(record.level == 1)
        }
    }

    @Test func `Inputs that an earlier job cut give the same outputs as one that it did not`()
        throws
    {
        var records: [[TableRecord]] = []
        for target in [1024, 4096, 1 << 20] as [UInt64] {
            let bed = try TableBed()
            let inputs = try runs(bed, seed: 9, parts: 3)
            // Drops nothing: only the cuts differ.
            let cut = try bed.compacted(inputs, bed.spec(inputs, to: 1, target: target), at: 50)
            records.append(
                try bed.compact(cut, bed.spec(cut, to: 2, target: 2048, horizon: 350), at: 100)
                    .outputs.map(\.record))
        }
        #expect(records[0] == records[1])
        #expect(records[0] == records[2])
    }

    @Test func `Spans of outputs follow each other without overlap`() throws {
        for seed in 20..<30 as Range<UInt64> {
            let bed = try TableBed()
            let inputs = try runs(bed, seed: seed, parts: 2)
            let outputs = try bed.compacted(
                inputs, bed.spec(inputs, to: 1, target: 1024, horizon: 200), at: 50)
            #expect(try Version(outputs).levels[1].map(\.id) == outputs.map(\.id))
        }
    }

    @Test func `Trap 4: a range tombstone in the gap between two outputs is kept`() throws {
        let bed = try TableBed()
        let deep = try bed.flush(
            TableBed.memtable((1...9).map { ModelEntry("m\($0)", UInt64($0), .put, "old") }), at: 1)
        let level1 = try bed.compacted(deep, bed.spec(deep, to: 1), at: 2)
        let level2 = try bed.compacted(level1, bed.spec(level1, to: 2), at: 3)
        let long = String(repeating: "x", count: 1200)
        let run = try bed.flush(
            TableBed.memtable(
                [ModelEntry("a", 21, .put, long), ModelEntry("z", 22, .put, long)],
                [tombstone("m2", "m8", 20)]), at: 4)
        let cut = try bed.compacted(run, bed.spec(run, to: 1, target: 1024, horizon: 30), at: 5)
        #expect(cut.count > 1)
        let view = try ReadView(tables: cut + level2)
        #expect(try view.keys() == ["a", "m1", "m8", "m9", "z"])
        for number in 2...7 { #expect(try view.text("m\(number)") == nil) }
        #expect(cut.reduce(0) { $0 + $1.record.entryCount } == 2)
    }

    @Test func `Trap 6: tables that hold only range tombstones`() throws {
        let bed = try TableBed()
        let base = try bed.flush(TableBed.memtable([ModelEntry("m", 1, .put, "v")]), at: 1)
        let level1 = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let run = try bed.flush(
            TableBed.memtable([], [tombstone("c", "f", 5), tombstone("k", nil, 6)]), at: 3)
        #expect(run.count == 1)
        #expect(run[0].record.points == nil)
        #expect(run[0].record.entryCount == 0)
        #expect(run[0].record.rangeTombstoneCount == 2)
        #expect(run[0].record.span == KeySpan(start: bytes("c"), end: nil))
        #expect(try ReadView(tables: run + level1).keys().isEmpty)
        #expect(try ReadView(tables: run + level1).keys(at: 5) == ["m"])
        // Many of them are cut into several tables, none of which has a point.
        var tombstones: [RangeTombstone] = []
        for index in 100..<200 {
            tombstones.append(tombstone("\(index)", "\(index)5", UInt64(index)))
        }
        let many = try bed.flush(TableBed.memtable([], tombstones), at: 4)
        let cut = try bed.compacted(many, bed.spec(many, to: 1, target: 1024), at: 5)
        #expect(cut.count > 1)
        #expect(cut.reduce(0) { $0 + $1.record.rangeTombstoneCount } == 100)
        #expect(cut.allSatisfy { $0.record.points == nil })
        _ = try Version(cut)
        let bottom = try bed.compact(
            cut, bed.spec(cut, to: 2, horizon: 500, bottommost: true), at: 6)
        #expect(bottom.outputs.isEmpty)
        #expect(bottom.isBalanced)
    }

    @Test func `Trap 7: records keep the range of points and the range with range tombstones`()
        throws
    {
        let bed = try TableBed()
        let table = try bed.flush(
            TableBed.memtable(
                [ModelEntry("f", 1), ModelEntry("h", 2)], [tombstone("c", "g", 3)]), at: 1)
        #expect(
            table[0].record.points
                == TableRecord.PointRange(smallest: bytes("f"), largest: bytes("h")))
        #expect(table[0].record.span == KeySpan(start: bytes("c"), end: bytes("h") + [0]))
    }

    @Test func `Versions of one key never part`() throws {
        let bed = try TableBed()
        let entries = (1...60).map {
            ModelEntry("k\($0 % 3)", UInt64($0), .put, String(repeating: "v", count: 100))
        }
        let run = try bed.flush(TableBed.memtable(entries), at: 1)
        let cut = try bed.compacted(run, bed.spec(run, to: 1, target: 1024), at: 2)
        #expect(cut.count == 3)
        #expect(cut.map(\.record.points?.smallest) == [bytes("k0"), bytes("k1"), bytes("k2")])
        #expect(cut.allSatisfy { $0.record.entryCount == 20 })
    }

    @Test func `Trap 1: a reader at the horizon finds its version after the merge`() throws {
        let bed = try TableBed()
        let run = try bed.flush(
            TableBed.memtable([3, 5, 9].map { ModelEntry("k", $0, .put, "v\($0)") }), at: 1)
        let merged = try bed.compacted(
            run, bed.spec(run, to: 1, horizon: 7, bottommost: true), at: 2)
        let view = try ReadView(tables: merged)
        #expect(try view.text("k", at: 7) == "v5")
        #expect(try view.text("k", at: 8) == "v5")
        #expect(try view.text("k", at: 9) == "v9")
        #expect(merged[0].record.smallestSequence == SequenceNumber(5))
    }

    @Test func `An empty memtable flushes to no table`() throws {
        let bed = try TableBed()
        #expect(try bed.flush(Memtable(), at: 1).isEmpty)
    }

    // MARK: Books

    /// Yields the entries of another cursor, but for a planted fault.
    private final class FaultyCursor: EntryCursor {
        enum Fault { case drops, alters, repeatsPrevious }
        private let base: ArrayCursor
        private let fault: Fault
        private let place: Int
        private var position = 0
        private let altered: [UInt8] = [0]

        init(_ entries: [ModelEntry], _ fault: Fault, at place: Int) {
            base = ArrayCursor(entries)
            self.fault = fault
            self.place = place
        }

        var isValid: Bool { base.isValid }
        var key: UnsafeRawBufferPointer { base.key }
        var trailer: Trailer { base.trailer }
        var value: UnsafeRawBufferPointer {
            guard fault == .alters, position == place else { return base.value }
            return UnsafeRawBufferPointer(rebasing: base.value.dropLast())
        }
        func seekToFirst() throws(EngineError) {
            position = 0
            try base.seekToFirst()
            if fault == .drops, place == 0 { try base.next() }
        }
        func next() throws(EngineError) {
            position += 1
            if fault == .repeatsPrevious, position == place { return }
            try base.next()
            if fault == .drops, position == place { try base.next() }
        }
        func seekToLast() throws(EngineError) { try base.seekToLast() }
        func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
            try base.seek(key, trailer)
        }
        func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
            try base.seekBefore(key)
        }
        func previous() throws(EngineError) { try base.previous() }
    }

    private func merge(
        _ cursor: any EntryCursor, _ tombstones: [RangeTombstone], of memtable: Memtable,
        cancellation: CancellationFlag = CancellationFlag()
    ) throws -> MergeResult? {
        let bed = try TableBed()
        let job = JobID(index: LogIndex(7), kind: .compaction)
        let parameters = MergeParameters(
            job: job, level: 1,
            rules: .compaction(horizon: SequenceNumber(200), clock: 50, isBottommost: false),
            targetBytes: 2048, shape: bed.shape)
        let input = MergeInput(
            cursors: [cursor], rangeTombstones: tombstones, entrySum: memtable.entrySum,
            entryCount: UInt64(memtable.entryCount))
        return try TableMerge.run(
            [input], parameters, TableMerge.Storage(codec: .none), cancellation: cancellation,
            makeFile: bed.factory)
    }

    @Test func `The books show an entry that was dropped or altered on the way`() throws {
        let (entries, tombstones) = history(5)
        let memtable = TableBed.memtable(entries, tombstones)
        let good = try merge(ArrayCursor(entries), tombstones, of: memtable)
        #expect(try #require(good).isBalanced)
        #expect(try #require(good).dropped(.shadowed).count > 0)
        #expect(try #require(good).dropped(.rangeDeleted).count > 0)
        for place in stride(from: 0, to: entries.count, by: 7) {
            let dropping = FaultyCursor(entries, .drops, at: place)
            #expect(try #require(try merge(dropping, tombstones, of: memtable)).isBalanced == false)
        }
        let sorted = entries.sorted(by: ModelEntry.isBefore)
        for place in stride(from: 1, to: entries.count, by: 7) where sorted[place].value.count > 8 {
            let altering = FaultyCursor(entries, .alters, at: place)
            #expect(try #require(try merge(altering, tombstones, of: memtable)).isBalanced == false)
        }
    }

    @Test func `The books show a range tombstone that was dropped or altered on the way`() throws {
        let (entries, tombstones) = history(6)
        let memtable = TableBed.memtable(entries, tombstones)
        for place in tombstones.indices {
            var fewer = tombstones
            fewer.remove(at: place)
            var altered = tombstones
            altered[place].span.end = altered[place].span.end.map { $0 + [0] }
            for wrong in [fewer, altered] {
                let result = try merge(ArrayCursor(entries), wrong, of: memtable)
                #expect(try #require(result).isBalanced == false)
            }
        }
    }

    @Test func `Entries out of order are refused`() throws {
        let (entries, _) = history(8)
        let memtable = TableBed.memtable(entries)
        #expect(throws: EngineError.self) {
            try merge(FaultyCursor(entries, .repeatsPrevious, at: 40), [], of: memtable)
        }
    }

    // MARK: Stopping and damage

    @Test func `A cancelled merge ends without a result`() throws {
        let (entries, tombstones) = history(5)
        let flag = CancellationFlag()
        flag.cancel()
        let memtable = TableBed.memtable(entries, tombstones)
        #expect(
            try merge(ArrayCursor(entries), tombstones, of: memtable, cancellation: flag) == nil)
    }

    /// Asks for a stop after some entries and counts how many were read.
    private final class CancellingCursor: EntryCursor {
        private let base: ArrayCursor
        private let flag: CancellationFlag
        private(set) var moves = 0

        init(_ entries: [ModelEntry], _ flag: CancellationFlag) {
            base = ArrayCursor(entries)
            self.flag = flag
        }

        var isValid: Bool { base.isValid }
        var key: UnsafeRawBufferPointer { base.key }
        var trailer: Trailer { base.trailer }
        var value: UnsafeRawBufferPointer { base.value }
        func seekToFirst() throws(EngineError) { try base.seekToFirst() }
        func next() throws(EngineError) {
            moves += 1
            if moves == 100 { flag.cancel() }
            try base.next()
        }
        func seekToLast() throws(EngineError) { try base.seekToLast() }
        func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
            try base.seek(key, trailer)
        }
        func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
            try base.seekBefore(key)
        }
        func previous() throws(EngineError) { try base.previous() }
    }

    @Test func `A merge cancelled on the way stops soon`() throws {
        let entries = (1...5000).map { ModelEntry("key \($0)", UInt64($0), .put, "v") }
        let flag = CancellationFlag()
        let cursor = CancellingCursor(entries, flag)
        let memtable = TableBed.memtable(entries)
        #expect(try merge(cursor, [], of: memtable, cancellation: flag) == nil)
        #expect(cursor.moves < 2000)
    }

    @Test func `A lost block of an input fails the job, typed`() throws {
        let bed = try TableBed()
        let inputs = try runs(bed, seed: 3, parts: 2)
        let spec = bed.spec(inputs, to: 1, horizon: 300)
        let good = try bed.compact(inputs, spec, at: 100)
        var failures = 0
        for (attempt, offset) in stride(from: UInt64(0), to: inputs[0].fileBytes, by: 211)
            .enumerated()
        {
            bed.fileSystem.flip(bed.path(inputs[0]), offset, mask: 0x01)
            let cold = inputs.map { bed.reopened($0) }
            do {
                let result = try bed.compact(cold, spec, at: 200 + UInt64(attempt))
                // The flip hit nothing that the job reads.
                #expect(result.isBalanced)
                #expect(
                    result.outputs.map(\.record.entrySum) == good.outputs.map(\.record.entrySum))
            } catch let error as EngineError {
                switch error {
                case .blockLost, .tableLost, .corrupt: failures += 1
                default: Issue.record("\(error)")
                }
            }
            bed.fileSystem.flip(bed.path(inputs[0]), offset, mask: 0x01)
        }
        #expect(failures > 0)
        // Mended, the same job gives the same tables.
        let again = try bed.compact(inputs.map { bed.reopened($0) }, spec, at: 999)
        #expect(again.outputs.map(\.record.entrySum) == good.outputs.map(\.record.entrySum))
    }

    @Test func `Tables that the job does not name are refused`() throws {
        let bed = try TableBed()
        let inputs = try runs(bed, seed: 3, parts: 3)
        let spec = bed.spec(Array(inputs.dropLast()), to: 1)
        #expect(throws: EngineError.self) {
            try CompactionJob(spec, at: LogIndex(9), inputs: inputs)
        }
        #expect(throws: EngineError.self) {
            try CompactionJob(spec, at: LogIndex(9), inputs: [inputs[0], inputs[2]])
        }
        #expect(throws: EngineError.self) {
            try CompactionJob(spec, at: LogIndex(9), inputs: [inputs[0]])
        }
    }
}
