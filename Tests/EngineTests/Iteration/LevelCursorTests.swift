// The tables of a level in a row, with tables that hold no point entries among them.

import Engine
import Testing

@Suite struct LevelCursorTests {
    /// Tables 1, 2, …: each with its entries; an empty one has a span but no points. `lying` ones
    /// have points in their record and none behind the cursor. The cursor is over those from `first`
    /// on, and is told where the spans of all end, or not.
    private func make(
        _ tables: [[String]], from first: Int = 0, lying: Set<Int> = [],
        but hidden: HiddenTables = .none, opened: Opened = Opened(), knowsEnds: Bool = false
    ) throws -> LevelCursor {
        let bed = try TableBed()
        var handles: [TableHandle] = []
        for (index, keys) in tables.enumerated() {
            let letter = String(UnicodeScalar(UInt8(97 + index)))
            let points = keys.first.map { (letter + $0, letter + (keys.last ?? "")) }
            let handle = TableHandle.fake(
                UInt64(index + 1), points: points, span: (letter, letter + "~"), source: opened)
            let entries = lying.contains(index) ? [] : keys.map { ModelEntry(letter + $0, 1) }
            // Not a table without anything: there are none.
            let memtable = TableBed.memtable(entries, [tombstone(letter, letter + "~", 1)])
            opened.files[handle.id] = try bed.flush(memtable, at: UInt64(index + 1))[0]
            handles.append(handle)
        }
        let ends = knowsEnds ? SortedKeys(handles.compactMap(\.record.span.end)) : nil
        return LevelCursor(handles[first...], ends: ends, but: hidden, io: .blocking)
    }

    /// Opens a handle by the table that stands in for it.
    private final class Opened: TableSource, @unchecked Sendable {
        // Unchecked: one thread.
        var files: [TableID: TableHandle] = [:]
        var ids: [UInt64] = []

        func openReader(_ handle: TableHandle, mending: Bool) throws(EngineError) -> TableReader {
            ids.append(handle.id.index.rawValue)
            guard let file = files[handle.id] else {
                throw .tableLost(handle.id, reason: "no file stands in for it")
            }
            return try file.reader(io: .blocking)
        }

        func noteOpen(_ table: OpenTable) {}
    }

    private func keys(_ entries: [ModelEntry]) -> [String] { entries.map { text($0.key) } }

    @Test func `Trap 14: an empty table is not the end, in any direction`() throws {
        let cursor = try make([[], ["1", "2"], [], [], ["1"], []])
        try cursor.seekToFirst()
        #expect(keys(try cursor.collectForward()) == ["b1", "b2", "e1"])
        try cursor.seekToLast()
        #expect(keys(try cursor.collectReverse()) == ["e1", "b2", "b1"])
        try cursor.seek(at: bytes("b3"), .seek(.max))
        #expect(keys(try cursor.collectForward()) == ["e1"])
        try cursor.seek(at: bytes("c"), .seek(.max))
        #expect(keys(try cursor.collectForward()) == ["e1"])
        try cursor.seek(before: bytes("e1"))
        #expect(keys(try cursor.collectReverse()) == ["b2", "b1"])
        try cursor.seek(at: bytes("e2"), .seek(.max))
        #expect(!cursor.isValid)
        try cursor.seek(before: bytes("b1"))
        #expect(!cursor.isValid)
    }

    @Test func `A table that has nothing behind its record is passed over`() throws {
        let cursor = try make([["1"], ["1", "9"], ["1"]], lying: [1])
        try cursor.seekToFirst()
        #expect(keys(try cursor.collectForward()) == ["a1", "c1"])
        try cursor.seek(at: bytes("b1"), .seek(.max))
        #expect(keys(try cursor.collectForward()) == ["c1"])
        try cursor.seek(before: bytes("b5"))
        #expect(keys(try cursor.collectReverse()) == ["a1"])
    }

    @Test func `What a range delete in a memtable hides whole is not opened`() throws {
        let memtable = Memtable()
        // Of tables a to e, the newest version of each at 100: b and c, and half of d.
        memtable.insert(
            RangeTombstone(
                span: KeySpan(start: bytes("b"), end: bytes("d5")), sequence: SequenceNumber(101)))
        let tables = [["1"], ["1", "2"], ["1"], ["1", "9"], ["1"]]
        let opened = Opened()
        let cursor = try make(
            tables, but: HiddenTables([memtable], at: SequenceNumber(101)), opened: opened)
        try cursor.seekToFirst()
        #expect(keys(try cursor.collectForward()) == ["a1", "d1", "d9", "e1"])
        try cursor.seekToLast()
        #expect(keys(try cursor.collectReverse()) == ["e1", "d9", "d1", "a1"])
        try cursor.seek(at: bytes("b2"), .seek(.max))
        #expect(keys(try cursor.collectForward()) == ["d1", "d9", "e1"])
        try cursor.seek(before: bytes("c5"))
        #expect(keys(try cursor.collectReverse()) == ["a1"])
        #expect(!opened.ids.contains(2) && !opened.ids.contains(3))
        // A reader from before the delete sees all.
        let earlier = try make(tables, but: HiddenTables([memtable], at: SequenceNumber(100)))
        try earlier.seekToFirst()
        #expect(try earlier.collectForward().count == 7)
    }

    @Test func `Only the tables that are needed are opened, one at a time`() throws {
        let opened = Opened()
        let cursor = try make([["1"], ["1", "2"], ["1"]], opened: opened)
        #expect(opened.ids.isEmpty)
        try cursor.seek(at: bytes("b1"), .seek(.max))
        #expect(opened.ids == [2])
        try cursor.next()
        try cursor.previous()
        try cursor.seek(at: bytes("b2"), .seek(.max))
        #expect(opened.ids == [2])
        try cursor.next()
        #expect(text(cursor.key) == "c1")
        #expect(opened.ids == [2, 3])
    }

    @Test func `Without tables there is no entry`() throws {
        let cursor = try make([])
        try cursor.seekToFirst()
        #expect(!cursor.isValid)
        try cursor.seekToLast()
        #expect(!cursor.isValid)
        try cursor.seek(at: bytes("a"), .seek(.max))
        #expect(!cursor.isValid)
        try cursor.seek(before: bytes("a"))
        #expect(!cursor.isValid)
    }

    @Test func `A random walk follows the concatenation`() throws {
        var random = SeededRandom(seed: 2)
        for round in 0..<60 {
            let tables = (0..<6).map { _ in
                (0..<random.below(4)).map { "\($0 * 2)" }
            }
            let first = random.below(3)
            let cursor = try make(tables, from: first, knowsEnds: round.isMultiple(of: 2))
            let all = tables.enumerated().dropFirst(first).flatMap { index, keys in
                keys.map { String(UnicodeScalar(UInt8(97 + index))) + $0 }
            }
            var place = -1
            for _ in 0..<100 {
                if place < 0 || random.oneIn(4) {
                    let key = "\(UnicodeScalar(UInt8(97 + random.below(7))))\(random.below(8))"
                    if random.oneIn(2) {
                        try cursor.seek(at: bytes(key), .seek(.max))
                        place = all.partitionPoint { $0 < key }
                    } else {
                        try cursor.seek(before: bytes(key))
                        place = all.partitionPoint { $0 < key } - 1
                    }
                } else if random.oneIn(2) {
                    try cursor.next()
                    place += 1
                } else {
                    try cursor.previous()
                    place -= 1
                }
                if !all.indices.contains(place) { place = -1 }
                try #require(cursor.isValid == (place >= 0))
                if place >= 0 { #expect(text(cursor.key) == all[place]) }
            }
        }
    }
}
