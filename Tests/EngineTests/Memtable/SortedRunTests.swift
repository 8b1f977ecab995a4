// Sorted runs beside a skiplist against a sorted array of versions: one chain, several, and more
// than there may be.
import Engine
import Testing

@Suite struct SortedRunTests {
    private var random = TableTestRandom(seed: 3)

    private func payload(_ entries: [TestEntry]) throws -> [UInt8] {
        var builder = BulkPayloadBuilder()
        for entry in entries {
            try withKey(entry.key) { (key) throws(EngineError) in
                try withKey(entry.value) { (value) throws(EngineError) in
                    try builder.add(key, value)
                }
            }
        }
        return builder.take().payload
    }

    private func key(_ number: Int) -> [UInt8] {
        // Prefixes of eight bytes are shared, and lengths differ.
        bytes("shared/") + bytes(String(number + 1000)) + [UInt8](repeating: 0, count: number % 3)
    }

    private func run(_ numbers: some Sequence<Int>, from sequence: UInt64) -> [TestEntry] {
        numbers.enumerated().map { place, number in
            TestEntry(
                key: key(number), trailer: Trailer(SequenceNumber(sequence + UInt64(place)), .put),
                value: bytes("\(sequence)/\(number)"))
        }
    }

    private func insert(_ entries: [TestEntry], into memtable: Memtable) throws {
        let payload = try payload(entries)
        payload.withUnsafeBytes {
            memtable.insertRun($0, firstSequence: entries[0].trailer.sequence)
        }
    }

    /// Lookups at all kinds of sequences, cursors, and the books.
    private mutating func expect(_ memtable: Memtable, holds entries: [TestEntry]) throws {
        let model = TestModel(entries)
        try expectCursor(memtable.makeCursor(), matches: model, &random)
        let last = entries.map(\.trailer.sequence.rawValue).max() ?? 0
        for _ in 0..<1_500 {
            let key = key(random.below(420))
            let sequence = SequenceNumber(UInt64(random.below(Int(last) + 10)))
            let found = withBytes(key) { memtable.lookup($0, at: sequence) }
            let expected = model.lookup(key, sequence)
            if found?.trailer != expected?.trailer || found?.value != expected?.value {
                Issue.record("\(text(key)) at \(sequence)")
            }
        }
        var sum: UInt64 = 0
        for entry in entries {
            sum &+= withBytes(entry.key) { key in
                withBytes(entry.value) { EntrySum.of(key, entry.trailer, $0) }
            }
        }
        #expect(memtable.entrySum == sum)
        #expect(memtable.entryCount == entries.count)
        #expect(memtable.points?.smallest == model.entries.first?.key)
        #expect(memtable.points?.largest == model.entries.last?.key)
        #expect(memtable.smallestSequence == entries.map(\.trailer.sequence).min())
        #expect(memtable.largestSequence == entries.map(\.trailer.sequence).max())
    }

    @Test mutating func `One run is a memtable`() throws {
        let memtable = Memtable()
        let entries = run(stride(from: 5, to: 400, by: 3), from: 100)
        try insert(entries, into: memtable)
        try expect(memtable, holds: entries)
        #expect(memtable.byteCount > entries.count * 24)
    }

    @Test mutating func `Many runs in order are one chain`() throws {
        let memtable = Memtable()
        var entries: [TestEntry] = []
        for start in 0..<100 {
            let next = run((start * 4)..<(start * 4 + 1 + start % 4), from: UInt64(start * 10 + 1))
            try insert(next, into: memtable)
            entries += next
        }
        #expect(memtable.makeCursors().count == 2)
        try expect(memtable, holds: entries)
    }

    @Test mutating func `Runs that overlap, and more of them than there are chains`() throws {
        let memtable = Memtable()
        var entries: [TestEntry] = []
        for round in 0..<14 {
            let numbers = (0..<400).filter { _ in random.below(4) == 0 }
            let next = run(numbers, from: UInt64(round * 1_000 + 1))
            try insert(next, into: memtable)
            entries += next
            // Other versions of the same keys, of other kinds, in the skiplist.
            for step in 0..<50 {
                let kind: ValueKind = step % 3 == 0 ? .delete : .put
                let entry = TestEntry(
                    key: key(random.below(400)),
                    trailer: Trailer(SequenceNumber(UInt64(round * 1_000 + 500 + step)), kind),
                    value: kind == .put ? [UInt8(step)] : [])
                withBytes(entry.key) { key in
                    withBytes(entry.value) { memtable.insert(key, entry.trailer, $0) }
                }
                entries.append(entry)
            }
        }
        #expect(memtable.makeCursors().count == 9)
        try expect(memtable, holds: entries)
    }
}
