// Versions (order of level 0, binary search, overlap), and the life of a handle's file.

import Engine
import Synchronization
import Testing

@Suite struct VersionTests {
    /// In the sorted level that comes at `place` among those with tables.
    private func find(_ version: Version, _ place: Int, _ key: String) -> UInt64? {
        let found = bytes(key).withUnsafeBytes { version.sorted[place].find($0, keyPrefix($0)) }
        return found?.takeUnretainedValue().id.index.rawValue
    }

    @Test func `Finds the one table of a sorted level by its span`() throws {
        let version = try Version([
            .fake(3, points: ("t", "v")),
            .fake(1, points: ("c", "e")),
            // Its range tombstones reach beyond its points (trap 7: both ranges are kept).
            .fake(2, points: ("m", "n"), span: ("k", "q")),
            .fake(4, level: 2, points: ("a", "z")),
        ])
        #expect(version.levels[1].map(\.id.index.rawValue) == [1, 2, 3])
        #expect(find(version, 0, "b") == nil)
        #expect(find(version, 0, "c") == 1)
        #expect(find(version, 0, "e") == 1)
        #expect(find(version, 0, "f") == nil)
        #expect(find(version, 0, "k") == 2)
        #expect(find(version, 0, "p") == 2)
        #expect(find(version, 0, "q") == nil)
        #expect(find(version, 0, "v") == 3)
        #expect(find(version, 0, "w") == nil)
        #expect(find(version, 1, "m") == 4)
        #expect(version.sorted.count == 2, "empty levels are not looked at")
    }

    @Test func `Binary search agrees with a walk, for keys with long common prefixes too`() throws {
        var random = SeededRandom(seed: 4)
        for round in 0..<200 {
            let prefix = round % 2 == 0 ? "" : "a common prefix "
            var keys = Set<String>()
            for _ in 0..<40 {
                keys.insert(
                    prefix + String((0..<random.below(6)).map { _ in random.oneIn(2) ? "a" : "b" }))
            }
            let sorted = keys.map { bytes($0) }.sorted { $0.isKeyBefore($1) }
            let probe = bytes(prefix + (random.oneIn(2) ? "ab" : "ba") + "a")
            let expected = sorted.count { !probe.isKeyBefore($0) }
            let found = probe.withUnsafeBytes { SortedKeys(sorted).countAtOrBefore($0) }
            #expect(found == expected)
        }
    }

    @Test func `Lists what overlaps a span`() throws {
        let version = try Version([
            .fake(1, points: ("c", "e")), .fake(2, points: nil, span: ("k", "q")),
            .fake(3, points: ("t", "v")),
        ])
        func overlapping(_ start: String, _ end: String?) -> [UInt64] {
            version.overlapping(1, KeySpan(start: bytes(start), end: end.map { bytes($0) }))
                .map(\.id.index.rawValue)
        }
        #expect(overlapping("", nil) == [1, 2, 3])
        #expect(overlapping("e", "k") == [1])
        #expect(overlapping("f", "k") == [])
        #expect(overlapping("f", "l") == [2])
        #expect(overlapping("q", "t") == [])
        #expect(overlapping("p", nil) == [2, 3])
        #expect(overlapping("t", "a") == [])
    }

    @Test func `Trap 3: a run merged within level 0 keeps its age position`() throws {
        let version = try Version([
            .fake(10, level: 0, points: ("a", "z"), sequences: 1...10),
            .fake(30, level: 0, points: ("a", "z"), sequences: 41...50),
            // Made last, from runs that lie between the other two in age.
            .fake(99, level: 0, points: ("a", "z"), sequences: 11...40),
        ])
        #expect(version.levels[0].map(\.id.index.rawValue) == [30, 99, 10])
    }

    @Test func `Tables that overlap in a sorted level are refused`() {
        #expect(throws: EngineError.self) {
            try Version([
                .fake(1, points: ("a", "c")), .fake(2, points: ("e", "f"), span: ("c", "g")),
            ])
        }
        #expect(throws: EngineError.self) {
            try Version([
                .fake(1, points: ("a", "c"), span: ("a", nil)), .fake(2, points: ("x", "y")),
            ])
        }
        #expect(throws: EngineError.self) { try Version([.fake(1, level: 7, points: ("a", "c"))]) }
    }

    @Test func `An obsolete table's file goes with the last version that holds it`() throws {
        let removed = Mutex<[String]>([])
        let remember: @Sendable (String) -> Void = { name in removed.withLock { $0.append(name) } }
        var old: Version? = try Version([
            .fake(1, points: ("a", "c"), remember), .fake(2, points: ("e", "f"), remember),
        ])
        let first = try #require(old?.levels[1].first?.id)
        let new = try #require(old).replacing(removed: [first], added: [])
        old?.levels[1].first?.markObsolete()
        #expect(removed.withLock { $0 }.isEmpty)
        old = nil
        #expect(removed.withLock { $0 } == ["\(first).0.sst"])
        #expect(new.tableCount == 1)
        withExtendedLifetime(new) {}
        #expect(removed.withLock { $0 }.count == 1)
    }

    @Test func `Few files are open at a time, and reads go on`() throws {
        let bed = try TableBed(openLimit: 3)
        var tables: [TableHandle] = []
        for index in 1...UInt64(10) {
            let entry = ModelEntry("k\(index)", index, .put, "v\(index)")
            tables += try bed.flush(TableBed.memtable([entry]), at: index)
        }
        let view = try ReadView(tables: tables)
        for _ in 0..<3 {
            for index in 1...10 { #expect(try view.text("k\(index)") == "v\(index)") }
            #expect(tables.count { $0.isOpen } <= 3)
        }
        #expect(bed.source.openCount <= 3)
        #expect(try view.keys().count == 10)
    }

    /// The clock does not hold handles, but what is open of them it does.
    @Test func `A table that is let go is closed at once, and not when its turn comes`() throws {
        let bed = try TableBed(openLimit: 3)
        var table = try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "v")]), at: 1).first
        weak let reader = try table?.reader(io: .blocking)
        #expect(reader != nil)
        table = nil
        #expect(bed.source.openCount == 1)
        #expect(reader == nil)
    }

    /// Another thread may choose it as soon as it counts as open.
    @Test func `A table that is told to close as soon as it counts as open is not left open`()
        throws
    {
        let bed = try TableBed()
        let table = try #require(
            try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "v")]), at: 1).first)
        let hasty = TableHandle(
            record: table.record, generation: 0, fileBytes: table.fileBytes, codec: table.codec,
            source: HastySource(bed.source)
        ) { _ in }
        let reader = try hasty.reader(io: .blocking)
        #expect(!hasty.isOpen)
        withExtendedLifetime(reader) {}
    }

    @Test func `Many threads read while files are opened and closed`() throws {
        let bed = try TableBed(openLimit: 2)
        var tables: [TableHandle] = []
        for index in 1...UInt64(8) {
            let entry = ModelEntry("k\(index)", index, .put, "v\(index)")
            tables += try bed.flush(TableBed.memtable([entry]), at: index)
        }
        let view = try ReadView(tables: tables)
        let wrong = Mutex<[String]>([])
        let pool = ThreadPool(name: "reads", threads: 4)
        for seed in 1...4 as ClosedRange<UInt64> {
            pool.submit(.flush) { @Sendable in
                var random = SeededRandom(seed: seed)
                for _ in 0..<300 {
                    let number = 1 + random.below(8)
                    let found = try? view.text("k\(number)")
                    let pairs = number == 1 ? try? view.keys().count : 8
                    if found != "v\(number)" || pairs != 8 {
                        wrong.withLock { $0.append("\(number): \(found ?? "lost")") }
                    }
                }
            }
        }
        pool.stop()
        #expect(wrong.withLock { $0 }.isEmpty)
    }

    @Test func `A cache-only read never opens a file`() throws {
        let bed = try TableBed()
        let table = try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "v")]), at: 1)
        let view = try ReadView(tables: table)
        func get() throws(EngineError) -> LiveValue? {
            try view.get(bytes("k"), at: .max, now: 0, io: .cacheOnly)
        }
        #expect { try get() } throws: {
            if case EngineError.wouldBlock = $0 { true } else { false }
        }
        _ = try view.text("k")
        #expect(try get()?.value == bytes("v"))
    }
}

/// Closes what was opened at once.
private final class HastySource: TableSource {
    private let source: OpenTables

    init(_ source: OpenTables) { self.source = source }

    func openReader(_ handle: TableHandle, mending: Bool) throws(EngineError) -> TableReader {
        try source.openReader(handle, mending: mending)
    }

    func noteOpen(_ table: OpenTable) { table.close() }
}

extension TableHandle {
    fileprivate static func fake(
        _ index: UInt64, points: (String, String), _ remove: @escaping @Sendable (String) -> Void
    ) -> TableHandle {
        .fake(index, level: 1, points: points, remove: remove)
    }
}
