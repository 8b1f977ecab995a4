// The memtable against a sorted array, and under concurrent readers.

import Engine
import Synchronization
import Testing

@Suite struct MemtableTests {
    private func insert(_ entry: TestEntry, into memtable: Memtable) {
        withBytes(entry.key) { key in
            withBytes(entry.value) { value in memtable.insert(key, entry.trailer, value) }
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func behavesLikeASortedArray(seed: UInt64) throws {
        var random = TableTestRandom(seed: seed)
        let model = TestModel.random(2000, &random)
        let memtable = Memtable()
        for entry in model.entries.shuffled(using: &random) { insert(entry, into: memtable) }
        try expect(memtable, model, &random)
    }

    /// Most keys begin alike, and what comes after the first few hundred may begin otherwise: with
    /// less or more, with a part of it, or with exactly that.
    @Test(arguments: [1, 2, 3, 4] as [UInt64], [7, 10, 13])
    func keysThatBeginAlike(seed: UInt64, common: Int) throws {
        var random = TableTestRandom(seed: seed)
        let head = Array("user:profile:".utf8.prefix(common))
        var entries = TestModel.random(2000, &random).entries.shuffled(using: &random)
        for place in entries.indices where place < 300 || random.below(5) > 0 {
            entries[place].key = head + entries[place].key
        }
        for place in 300..<400 {
            entries[place].key =
                [
                    Array(head.prefix(random.below(common))), head, head.dropLast() + [0],
                    head.dropLast() + [0xff], head + [0xff],
                ][random.below(5)]
        }
        let memtable = Memtable()
        for entry in entries { insert(entry, into: memtable) }
        #expect(memtable.usesCommonBytes)
        try expect(memtable, TestModel(entries), &random)
    }

    private func expect(
        _ memtable: Memtable, _ model: TestModel, _ random: inout TableTestRandom
    ) throws {
        try expectCursor(memtable.makeCursor(), matches: model, &random)
        for _ in 0..<2000 {
            let key =
                random.below(3) == 0
                ? TestModel.randomKey(&random) : model.entries[random.below(2000)].key
            let sequence = SequenceNumber(UInt64(random.below(1_200_000)))
            let found = withBytes(key) { memtable.lookup($0, at: sequence) }
            let expected = model.lookup(key, sequence)
            if found?.trailer != expected?.trailer || found?.value != expected?.value {
                Issue.record("\(key) at \(sequence)")
            }
        }
    }

    @Test func accountsForWhatItHolds() {
        var random = TableTestRandom(seed: 9)
        let model = TestModel.random(500, &random)
        let memtable = Memtable()
        #expect(memtable.isEmpty && memtable.points == nil && memtable.smallestSequence == nil)
        for entry in model.entries.shuffled(using: &random) { insert(entry, into: memtable) }
        let tombstone = RangeTombstone(
            span: KeySpan(start: [1], end: nil), sequence: SequenceNumber(1 << 40))
        var sum = EntrySum.of(tombstone)
        for entry in model.entries {
            sum &+= withBytes(entry.key) { key in
                withBytes(entry.value) { EntrySum.of(key, entry.trailer, $0) }
            }
        }
        memtable.insert(tombstone)
        #expect(memtable.entrySum == sum)
        #expect(memtable.entryCount == 500 && memtable.rangeTombstoneCount == 1)
        #expect(
            memtable.deleteCount
                == UInt64(model.entries.count { $0.trailer.kind == .delete }))
        #expect(memtable.smallestSequence == model.entries.map(\.trailer.sequence).min())
        #expect(memtable.largestSequence == SequenceNumber(1 << 40))
        #expect(memtable.points?.smallest == model.entries.first?.key)
        #expect(memtable.points?.largest == model.entries.last?.key)
        #expect(memtable.byteCount > 500 * 24)
    }

    @Test func appendsInOrderLandAtTheEnd() throws {
        let memtable = Memtable()
        var entries: [TestEntry] = []
        for number in 1...5000 as ClosedRange<UInt64> {
            let digits = String(number + 10_000_000)
            let entry = TestEntry(
                key: [UInt8](digits.utf8), trailer: Trailer(SequenceNumber(number), .put),
                value: [UInt8(truncatingIfNeeded: number)])
            entries.append(entry)
            insert(entry, into: memtable)
        }
        var random = TableTestRandom(seed: 1)
        try expectCursor(memtable.makeCursor(), matches: TestModel(entries), &random)
    }

    @Test(arguments: ["k", "user:profile:"])
    func readersSeeEverythingPublishedWhileTheWriterInserts(head: String) {
        let memtable = Memtable()
        let total: UInt64 = 20_000
        let shared = Shared()
        // Sequence n writes key n × 7919 mod 4096 with n as its value.
        @Sendable func key(_ sequence: UInt64) -> [UInt8] {
            [UInt8]("\(head)\(sequence &* 7919 % 4096)".utf8)
        }
        @Sendable func write() {
            for sequence in 1...total {
                withBytes(key(sequence)) { key in
                    withUnsafeBytes(of: sequence) { value in
                        memtable.insert(key, Trailer(SequenceNumber(sequence), .put), value)
                    }
                }
                shared.published.store(sequence, ordering: .releasing)
            }
        }
        runOnThreads(3) { thread in
            if thread == 0 { return write() }
            var random = TableTestRandom(seed: UInt64(thread))
            for round in 0..<20_000 {
                let seen = shared.published.load(ordering: .acquiring)
                guard seen > 0 else { continue }
                let sequence = random.next() % seen + 1
                let found = withBytes(key(sequence)) {
                    memtable.lookup($0, at: SequenceNumber(sequence))
                }
                if found?.trailer.sequence != SequenceNumber(sequence) { shared.fail() }
                if round % 2000 == 0, Self.disorder(memtable, upTo: seen) > 0 { shared.fail() }
            }
        }
        #expect(shared.failures.load(ordering: .relaxed) == 0)
        #expect(Self.disorder(memtable, upTo: total) == 0)
    }

    private final class Shared: Sendable {
        let published = Atomic<UInt64>(0)
        let failures = Atomic<Int>(0)
        func fail() { failures.wrappingAdd(1, ordering: .relaxed) }
    }

    /// Counts out-of-order neighbours, and published versions that a full walk misses.
    private static func disorder(_ memtable: Memtable, upTo published: UInt64) -> Int {
        let cursor = MemtableCursor(memtable)
        var wrong = 0
        var visible: UInt64 = 0
        var previous: TestEntry?
        cursor.seekToFirst()
        while cursor.isValid {
            let entry = cursor.entry
            if let previous, !TestEntry.isBefore(previous, entry) { wrong += 1 }
            if entry.trailer.sequence.rawValue <= published { visible += 1 }
            previous = entry
            cursor.next()
        }
        return visible == published ? wrong : wrong + 1
    }

    @Test func rangeTombstonesStandBesideTheEntries() {
        let memtable = Memtable()
        #expect(memtable.rangeTombstones.isEmpty)
        memtable.insert(
            RangeTombstone(span: KeySpan(start: [10], end: [20]), sequence: SequenceNumber(5)))
        let early = memtable.rangeTombstones
        memtable.insert(
            RangeTombstone(span: KeySpan(start: [15], end: nil), sequence: SequenceNumber(9)))
        let covering = { (list: RangeTombstoneList, key: [UInt8], at: UInt64) in
            withBytes(key) { list.covering($0, at: SequenceNumber(at)) }
        }
        #expect(covering(early, [16], 100) == SequenceNumber(5))
        #expect(covering(memtable.rangeTombstones, [16], 100) == SequenceNumber(9))
        #expect(covering(memtable.rangeTombstones, [16], 8) == SequenceNumber(5))
        #expect(covering(memtable.rangeTombstones, [9], 100) == nil)
        #expect(covering(memtable.rangeTombstones, [20], 8) == nil)
        #expect(memtable.entryCount == 0 && !memtable.isEmpty)
    }
}
