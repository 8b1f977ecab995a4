// What a flush or a compaction makes of operands and single deletes: by example, rule for rule.

import Engine
import Testing

@Suite struct MergePassTests {
    private func add(_ sequence: UInt64, _ amount: UInt64) -> ModelEntry {
        .merge("k", sequence, .int64Add, MergeReference.bytes(amount))
    }

    private func put(_ sequence: UInt64, _ amount: UInt64) -> ModelEntry {
        ModelEntry(bytes("k"), sequence, .put, MergeReference.bytes(amount))
    }

    /// A version in a word: `5=12` a put, `5+12` an operand, `5-` and `5x` deletes, `5?` other.
    private func word(_ entry: ModelEntry) -> String {
        func number(_ value: some Collection<UInt8>) -> UInt64 {
            value.reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        let sequence = entry.trailer.sequence.rawValue
        switch entry.trailer.kind {
        case .put: return "\(sequence)=\(number(entry.value))"
        case .merge: return "\(sequence)+\(number(entry.value.dropFirst(2)))"
        case .delete: return "\(sequence)-"
        case .singleDelete: return "\(sequence)x"
        case .expiringPut, .blobReference, nil: return "\(sequence)?"
        }
    }

    private func entries(_ table: TableHandle) throws -> [ModelEntry] {
        let cursor = try table.makeCursor(io: .blocking)
        try cursor.seekToFirst()
        return try cursor.collectForward()
    }

    /// The versions of `k` that a job leaves, newest first, from inputs split in two.
    private func compact(
        _ versions: [ModelEntry], _ tombstones: [RangeTombstone] = [], horizon: UInt64,
        clock: UInt64 = 0, bottommost: Bool = false, functions: JobFunctionNames = TestMerge.names
    ) throws -> String {
        var results: [String] = []
        for split in [0, versions.count / 2] {
            let bed = try TableBed()
            let halves = [versions[..<split], versions[split...]]
            var tables: [TableHandle] = []
            for (index, half) in halves.enumerated() where !half.isEmpty || index == 1 {
                let memtable = TableBed.memtable(Array(half), index == 1 ? tombstones : [])
                tables += try bed.flush(memtable, at: UInt64(index + 1))
            }
            let result = try bed.compact(
                tables,
                bed.spec(
                    tables, to: 1, horizon: horizon, clock: clock, bottommost: bottommost,
                    functions: functions), at: 9)
            #expect(result.isBalanced)
            results.append(
                try result.outputs.flatMap { try entries(bed.handle($0)) }.map(word)
                    .joined(separator: " "))
        }
        #expect(results[0] == results[1])
        return results[0]
    }

    // MARK: operands

    @Test func `Operands fold onto a put below them, up to the horizon`() throws {
        let versions = [put(1, 10), add(3, 1), add(5, 2), add(7, 4)]
        #expect(try compact(versions, horizon: 0) == "7+4 5+2 3+1 1=10")
        #expect(try compact(versions, horizon: 3) == "7+4 5+2 3=11")
        #expect(try compact(versions, horizon: 6) == "7+4 5=13")
        #expect(try compact(versions, horizon: 9) == "7=17")
        #expect(try compact(versions, horizon: 9, bottommost: true) == "7=17")
    }

    @Test func `Without a base operands of an associative operator become one`() throws {
        let versions = [add(3, 1), add(5, 2), add(7, 4), add(9, 8)]
        #expect(try compact(versions, horizon: 7) == "9+8 7+7")
        #expect(try compact(versions, horizon: 9) == "9+15")
        // At the bottom nothing lies below.
        #expect(try compact(versions, horizon: 9, bottommost: true) == "9=15")
    }

    @Test func `Operands above a tombstone start from nothing`() throws {
        let versions = [put(1, 10), ModelEntry("k", 2, .delete), add(3, 1), add(5, 2)]
        #expect(try compact(versions, horizon: 9) == "5=3")
        #expect(try compact(versions, horizon: 9, bottommost: true) == "5=3")
        #expect(try compact(versions, horizon: 4) == "5+2 3=1")
        let singly = [put(1, 10), ModelEntry("k", 2, .singleDelete), add(3, 1), add(5, 2)]
        #expect(try compact(singly, horizon: 9) == "5=3")
        // Its put may be further down: it waits for it below what the operands made.
        #expect(try compact(Array(singly.dropFirst()), horizon: 9) == "5=3 2x")
    }

    @Test func `Trap 5: operands do not reach below a range tombstone`() throws {
        let deleted = [tombstone("a", "z", 4)]
        let versions = [put(1, 10), add(2, 3), add(5, 1), add(7, 2)]
        #expect(try compact(versions, deleted, horizon: 9) == "7=3")
        // The base is in another table: it is not brought back, either.
        #expect(try compact(Array(versions.dropFirst(2)), deleted, horizon: 9) == "7=3")
        // Not every reader sees the range delete.
        #expect(try compact(versions, deleted, horizon: 3) == "7+2 5+1 2=13")
        // Nor the operands.
        #expect(try compact(versions, deleted, horizon: 4) == "7+2 5+1")
    }

    @Test func `Trap 5: insert, range delete, merge, compact: the base stays deleted`() throws {
        let bed = try TableBed()
        let base = try bed.flush(TableBed.memtable([put(1, 10)]), at: 1)
        let bottom = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let deleting = try bed.flush(TableBed.memtable([], [tombstone("a", "z", 5)]), at: 3)
        let merging = try bed.flush(TableBed.memtable([add(7, 1)]), at: 4)
        func value(_ tables: [TableHandle], at sequence: UInt64 = 99) throws -> [UInt8]? {
            let view = try ReadView(tables: tables)
            let found = try view.get(
                bytes("k"), at: SequenceNumber(sequence), now: 0, io: .blocking)?.value
            let scanned = try view.scan(.everything, at: SequenceNumber(sequence), now: 0)
            let reverse = try view.scan(
                .everything, reverse: true, at: SequenceNumber(sequence), now: 0)
            #expect(scanned.first?.value.value == found)
            #expect(same(scanned, reverse))
            return found
        }
        let one = MergeReference.bytes(1)
        #expect(try value(bottom + deleting + merging) == one)
        #expect(try value(bottom + deleting + merging, at: 6) == nil)
        #expect(try value(bottom + deleting + merging, at: 4) == MergeReference.bytes(10))
        // Merged without the base, then with it.
        let runs = deleting + merging
        let run = try bed.compacted(runs, bed.spec(runs, to: 0, horizon: 9), at: 5)
        #expect(try value(bottom + run) == one)
        let all = run + bottom
        let last = try bed.compacted(
            all, bed.spec(all, to: 1, horizon: 9, bottommost: true), at: 6)
        #expect(try value(last) == one)
        #expect(last.map(\.record.entryCount) == [1])
    }

    @Test func `Trap 1: a reader at the horizon sees what its operands make`() throws {
        let bed = try TableBed()
        let run = try bed.flush(
            TableBed.memtable([put(1, 10), add(3, 1), add(5, 2), add(9, 4)]), at: 1)
        let merged = try bed.compacted(run, bed.spec(run, to: 1, horizon: 7), at: 2)
        let view = try ReadView(tables: merged)
        for (sequence, sum) in [(7, 13), (8, 13), (9, 17), (99, 17)] as [(UInt64, UInt64)] {
            let found = try view.get(
                bytes("k"), at: SequenceNumber(sequence), now: 0, io: .blocking)
            #expect(found?.value == MergeReference.bytes(sum))
        }
    }

    @Test func `Trap 29: an expired base is a tombstone under operands`() throws {
        let brief = ModelEntry.expiring("k", 2, at: 100, "12345678")
        let versions = [put(1, 10), brief, add(3, 1), add(5, 2)]
        // It may expire yet: then the operands stand on nothing, so they stay operands.
        #expect(try compact(versions, horizon: 9, clock: 50, bottommost: true) == "5+3 2?")
        #expect(try compact(versions, horizon: 9, clock: 500) == "5+3 2?")
        #expect(try compact(versions, horizon: 9, clock: 500, bottommost: true) == "5=3")
        let view = try ReadView([TableBed.memtable([put(1, 10), brief, add(3, 1)])], tables: [])
        func read(_ now: UInt64) throws -> LiveValue? {
            try view.get(bytes("k"), at: .max, now: now, io: .blocking)
        }
        let base = bytes("12345678").reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        #expect(try read(99) == LiveValue(value: MergeReference.bytes(base + 1)))
        #expect(try read(100) == LiveValue(value: MergeReference.bytes(1)))
    }

    @Test func `Trap 28: a version that two sources hold is counted once`() throws {
        let bed = try TableBed()
        let memtable = TableBed.memtable([put(1, 10), add(3, 1), add(5, 2)])
        let flushed = try bed.flush(memtable, at: 1)
        let view = try ReadView([memtable], standIns: flushed, tables: [])
        let sum = MergeReference.bytes(13)
        #expect(try view.get(bytes("k"), at: .max, now: 0, io: .blocking)?.value == sum)
        #expect(try view.scan(.everything, at: .max, now: 0).map(\.value.value) == [sum])
        // To a job that is no version, but damage.
        #expect(throws: EngineError.self) {
            let twice = flushed + (try bed.flush(memtable, at: 2))
            _ = try bed.compact(twice, bed.spec(twice, to: 1, horizon: 9), at: 3)
        }
    }

    @Test func `Operands that are not associative fold onto a base only`() throws {
        func add(_ sequence: UInt64, _ number: Double) -> ModelEntry {
            .merge("k", sequence, .float64Add, MergeReference.bytes(number.bitPattern))
        }
        let operands = [add(3, 1e16), add(4, 1), add(5, -1e16)]
        let kept = try compact(operands, horizon: 9)
        #expect(kept.split(separator: " ").count == 3)
        let sum = ((0 + 1e16) + 1) + -1e16
        #expect(try compact(operands, horizon: 9, bottommost: true) == "5=\(sum.bitPattern)")
        let based = [put(1, 1.0.bitPattern)] + operands
        #expect(
            try compact(based, horizon: 9) == "5=\((((1 + 1e16) + 1) + -1e16).bitPattern)")
    }

    @Test func `An operator that the job does not name keeps its operands`() throws {
        func triple(_ sequence: UInt64, _ amount: UInt64) -> ModelEntry {
            .merge("k", sequence, TestMerge.triple, MergeReference.bytes(amount))
        }
        let none = JobFunctionNames()
        let versions = [put(1, 10), triple(2, 5), triple(3, 6)]
        #expect(try compact(versions, horizon: 9) == "3=111")
        #expect(try compact(versions, horizon: 9, functions: none) == "3+6 2+5 1=10")
        // What is below is folded as far as it goes, what is above combined among itself.
        let mixed = [put(1, 10), add(2, 1), triple(3, 6), add(4, 1), add(5, 1)]
        #expect(try compact(mixed, horizon: 9) == "5=41")
        #expect(try compact(mixed, horizon: 9, functions: none) == "5+2 3+6 2=11")
        // Over a tombstone, too, which stays: nobody could say that nothing is below.
        let deleted = [put(1, 10), ModelEntry("k", 2, .delete), triple(3, 6), add(4, 1)]
        #expect(try compact(deleted, horizon: 9, functions: none) == "4+1 3+6 2-")
        #expect(
            try compact(deleted, horizon: 9, bottommost: true, functions: none) == "4+1 3+6")
    }

    @Test func `A flush folds by the engine's operators alone`() throws {
        let bed = try TableBed()
        let own = ModelEntry.merge("l", 4, TestMerge.list, [1])
        let tables = try bed.flush(
            TableBed.memtable([
                put(1, 10), add(2, 1), add(5, 1), own, .merge("l", 6, TestMerge.list, [2]),
            ]), at: 1, horizon: 9)
        #expect(try entries(tables[0]).map(word) == ["5=12", "6+2", "4+1"])
    }

    @Test func `Many operands of one key are folded in bounded batches`() throws {
        let bed = try TableBed()
        // Of 100 KiB each, of which 32 MiB wait at a time.
        let count: UInt64 = 400
        func piece(_ sequence: UInt64) -> [UInt8] {
            [UInt8](repeating: UInt8(truncatingIfNeeded: sequence), count: 100 << 10)
        }
        let memtable = Memtable()
        for sequence in 1...count {
            memtable.insert(.merge("k", sequence, .append, piece(sequence)))
        }
        let tables = try bed.flush(memtable, at: 1, horizon: count)
        // Newest first; each batch is one operand.
        #expect(try entries(tables[0]).count == 2)
        let whole = (1...count).flatMap(piece)
        let view = try ReadView(tables: tables)
        #expect(try view.get(bytes("k"), at: .max, now: 0, io: .blocking)?.value == whole)
        // The older one becomes a value, and then the younger one is folded onto it.
        var last = tables
        for index in 2...3 as ClosedRange<UInt64> {
            last = try bed.compacted(
                last, bed.spec(last, to: 1, horizon: count, bottommost: true), at: index)
        }
        let left = try entries(last[0])
        #expect(left.map(\.trailer) == [Trailer(SequenceNumber(count), .put)])
        #expect(left.first?.value == whole)
    }

    /// They cannot be joined among themselves, so more of them than wait at a time need a job each.
    @Test func `Each job shortens a chain of operands that only fold onto their base`() throws {
        let bed = try TableBed()
        let count: UInt64 = 800
        let memtable = Memtable()
        memtable.insert(put(1, 7))
        for sequence in 2...count {
            // Anything but eight bytes counts as nothing.
            memtable.insert(
                .merge("k", sequence, .float64Add, [UInt8](repeating: 1, count: 100 << 10)))
        }
        var tables = try bed.flush(memtable, at: 1, horizon: count)
        var lengths = [try entries(tables[0]).count]
        while let length = lengths.last, length > 1, lengths.count < 10 {
            let index = UInt64(lengths.count + 1)
            tables = try bed.compacted(
                tables, bed.spec(tables, to: 1, horizon: count, bottommost: true), at: index)
            lengths.append(try tables.reduce(0) { try $0 + entries($1).count })
        }
        #expect(lengths.last == 1)
        #expect(zip(lengths, lengths.dropFirst()).allSatisfy(>))
        let view = try ReadView(tables: tables)
        #expect(
            try view.get(bytes("k"), at: .max, now: 0, io: .blocking)?.value
                == MergeReference.bytes(7))
    }

    @Test func `A cut operand in a table is damage, typed`() throws {
        let bed = try TableBed()
        let cut = ModelEntry("k", 3, .merge, "x")
        let tables = try bed.flush(TableBed.memtable([cut]), at: 1)
        #expect(throws: EngineError.self) {
            try bed.compact(tables, bed.spec(tables, to: 1, horizon: 9), at: 2)
        }
        #expect(throws: EngineError.self) { try ReadView(tables: tables).text("k") }
    }

    // MARK: single deletes

    private func single(_ sequence: UInt64) -> ModelEntry {
        ModelEntry("k", sequence, .singleDelete)
    }

    @Test func `A single delete and its put vanish where they meet`() throws {
        #expect(try compact([put(3, 1), single(5)], horizon: 9) == "")
        #expect(try compact([put(3, 1), single(5)], horizon: 4) == "5x 3=1")
        #expect(try compact([put(3, 1), single(5)], horizon: 2) == "5x 3=1")
        #expect(try compact([single(5)], horizon: 9) == "5x")
        #expect(try compact([single(5)], horizon: 9, bottommost: true) == "")
        let brief = ModelEntry.expiring("k", 3, at: 1, "x")
        #expect(try compact([brief, single(5)], horizon: 9, clock: 50) == "")
        #expect(try compact([put(1, 1), single(2), put(3, 1), single(5)], horizon: 9) == "")
        #expect(try compact([put(1, 1), single(2), put(3, 7)], horizon: 9) == "3=7")
    }

    @Test func `A hidden single delete stays until it meets its put`() throws {
        // Else the deep put would come back when the two above are gone.
        #expect(try compact([single(5), put(7, 2)], horizon: 9) == "7=2 5x")
        #expect(try compact([single(5), put(7, 2), single(8)], horizon: 9) == "5x")
        let bed = try TableBed()
        let deep = try bed.flush(TableBed.memtable([put(3, 1)]), at: 1)
        let bottom = try bed.compacted(deep, bed.spec(deep, to: 1), at: 2)
        var run = try bed.flush(TableBed.memtable([single(5), put(7, 2)]), at: 3, horizon: 7)
        run += try bed.flush(TableBed.memtable([single(8)]), at: 4, horizon: 8)
        let merged = try bed.compacted(run, bed.spec(run, to: 0, horizon: 9), at: 5)
        #expect(try ReadView(tables: merged + bottom).text("k") == nil)
        let all = merged + bottom
        #expect(try bed.compact(all, bed.spec(all, to: 1, horizon: 9), at: 6).outputs.isEmpty)
    }

    @Test func `Single deletes against the rule do what is written, and nothing worse`() throws {
        // Twice put: what is in the job goes, too.
        #expect(try compact([put(1, 1), put(3, 2), single(5)], horizon: 9) == "")
        // Twice deleted.
        #expect(try compact([single(5), single(6)], horizon: 9) == "5x")
        // Above a delete: that one stays, and goes on hiding.
        let deleted = ModelEntry("k", 4, .delete)
        #expect(try compact([put(1, 1), deleted, single(5)], horizon: 9) == "4-")
        // Above operands: they go like everything that it hides.
        #expect(try compact([add(3, 1), add(4, 1), single(5)], horizon: 9) == "5x")
        #expect(try compact([put(1, 1), add(4, 1), single(5)], horizon: 9) == "")
    }

    @Test func `A range tombstone takes single deletes and puts below it`() throws {
        let deleted = [tombstone("a", "z", 6)]
        #expect(try compact([put(3, 1), single(5)], deleted, horizon: 9) == "")
        #expect(try compact([single(5), put(7, 1)], deleted, horizon: 9) == "7=1")
        #expect(try compact([put(3, 1), single(8)], deleted, horizon: 9) == "")
    }
}
