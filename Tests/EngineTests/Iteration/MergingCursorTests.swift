// The merge of several sources against a sorted array: every move, from every entry, in both
// directions.

import Engine
import Testing

@Suite struct MergingCursorTests {
    /// Random entries spread over `sources` cursors, and all of them in order.
    private func make(_ random: inout SeededRandom, sources: Int, count: Int)
        -> (cursor: MergingCursor, all: [ModelEntry])
    {
        var parts = Array(repeating: [ModelEntry](), count: sources)
        for sequence in 1...UInt64(count) {
            // Lengths from 0 to 11: prefixes shorter than a word, equal and longer.
            let length = random.below(12)
            let key = (0..<length).map { _ in UInt8(random.below(2) + 97) }
            parts[random.below(sources)].append(
                ModelEntry(key, sequence, .put, bytes("v\(sequence)")))
        }
        let cursor = MergingCursor(parts.map { ArrayCursor($0) })
        return (cursor, parts.flatMap { $0 }.sorted(by: ModelEntry.isBefore))
    }

    @Test(arguments: [1, 2, 3, 7])
    func `Yields every entry in order and in reverse`(sources: Int) throws {
        var random = SeededRandom(seed: UInt64(sources))
        for _ in 0..<20 {
            let (cursor, all) = make(&random, sources: sources, count: 60)
            try cursor.seekToFirst()
            #expect(try cursor.collectForward() == all)
            try cursor.seekToLast()
            #expect(try cursor.collectReverse() == all.reversed())
        }
    }

    @Test func `A random walk with changes of direction follows the array`() throws {
        var random = SeededRandom(seed: 11)
        for _ in 0..<20 {
            let (cursor, all) = make(&random, sources: 4, count: 40)
            var place = -1
            for _ in 0..<400 {
                switch random.below(place < 0 ? 2 : 8) {
                case 0:
                    let target = all[random.below(all.count)]
                    let sequence = target.trailer.sequence - UInt64(random.below(2))
                    let trailer = Trailer.seek(sequence)
                    try cursor.seek(at: target.key, trailer)
                    place = all.partitionPoint {
                        $0.key == target.key
                            ? $0.trailer > trailer : $0.key.isKeyBefore(target.key)
                    }
                case 1:
                    let key = all[random.below(all.count)].key
                    try cursor.seek(before: key)
                    place = all.partitionPoint { $0.key.isKeyBefore(key) } - 1
                case 2:
                    try cursor.next()
                    place += 1
                case 3...4:
                    let entry = try cursor.advance()
                    place += 1
                    #expect(
                        entry.map { [UInt8]($0.value) } == cursor.current.map { [UInt8]($0.value) })
                    #expect((entry != nil) == cursor.isValid)
                default:
                    try cursor.previous()
                    place -= 1
                }
                guard all.indices.contains(place) else {
                    try #require(!cursor.isValid)
                    place = -1
                    continue
                }
                try #require(cursor.isValid)
                #expect(cursor.modelEntry == all[place])
            }
        }
    }

    @Test func `Equal entries come in the order of their sources, both ways`() throws {
        let cursor = MergingCursor([
            ArrayCursor([ModelEntry("a", 1, .put, "first")]),
            ArrayCursor([ModelEntry("a", 1, .put, "second"), ModelEntry("b", 2)]),
        ])
        try cursor.seekToFirst()
        #expect(text(cursor.value) == "first")
        try cursor.next()
        #expect(text(cursor.value) == "second")
        try cursor.previous()
        #expect(text(cursor.value) == "first")
        try cursor.next()
        #expect(text(cursor.value) == "second")
        try cursor.next()
        #expect(text(cursor.key) == "b")
    }

    @Test func `Without sources or entries there is no entry`() throws {
        let none = MergingCursor([])
        try none.seekToFirst()
        #expect(!none.isValid)
        let empty = MergingCursor([ArrayCursor([]), ArrayCursor([])])
        try empty.seekToLast()
        #expect(!empty.isValid)
    }

    @Test func `A lost entry invalidates the cursor until it is sought again`() throws {
        let damaged = ArrayCursor([ModelEntry("a", 1), ModelEntry("c", 3)])
        let cursor = MergingCursor([damaged, ArrayCursor([ModelEntry("b", 2)])])
        damaged.lost = [1]
        try cursor.seekToFirst()
        #expect(throws: EngineError.self) { try cursor.next() }
        #expect(!cursor.isValid)
        damaged.lost = []
        try cursor.seekToFirst()
        #expect(try cursor.collectForward().map { text($0.key) } == ["a", "b", "c"])
    }
}
