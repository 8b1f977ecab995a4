// A whole tree (memtables, stand-ins, tables on all levels) that lives at random: written,
// flushed, compacted, merged within level 0, its snapshots kept. Every read of it, at every
// sequence from the horizon on, must be what a sorted map says.

import Engine
import Testing

@Suite struct TreeOracleTests {
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `Reads at random sequences match the model`(seed: UInt64) throws {
        var tree = try RandomTree(seed: seed)
        for step in 0..<400 {
            try tree.step()
            if step % 10 == 9 { try tree.check() }
        }
        #expect(tree.compactions > 10)
    }
}

private struct RandomTree {
    private let bed: TableBed
    private var random: SeededRandom
    private var model = ModelStore()
    private var memtables = [Memtable()]
    private var standIns: [TableHandle] = []
    private var tables: [TableHandle] = []
    private var sequence: UInt64 = 0
    private var index: UInt64 = 0
    private var horizon: UInt64 = 0
    /// Reads and jobs share one clock, which never goes back.
    private var clock: UInt64 = 0
    private var snapshots: [(view: ReadView, sequence: UInt64, now: UInt64)] = []
    private(set) var compactions = 0

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        bed = try TableBed(codec: seed % 2 == 0 ? .lz4 : .none, openLimit: 4)
    }

    /// Settings change while a tree lives: tables differ in their filters.
    private mutating func changeShape() {
        let kind: FilterKind = random.oneIn(2) ? .burr : .bloom
        let hasPrefixes = random.oneIn(2)
        bed.shape.filter = FilterShape(
            kind: kind, keyBits: random.oneIn(4) ? 0 : 8, prefixBits: hasPrefixes ? 8 : 0,
            partitionAbove: 64, prefix: hasPrefixes ? .fixed(length: 2) : .none)
    }

    mutating func step() throws {
        clock += UInt64(random.below(3))
        switch random.below(12) {
        case 0...5: write()
        case 6: if !memtables[0].isEmpty { memtables.insert(Memtable(), at: 0) }
        case 7:
            changeShape()
            try flush()
        case 8: try sealStandIns()
        case 9, 10: try compact()
        default: try pin()
        }
    }

    private mutating func randomKey() -> [UInt8] { bytes("k\(random.below(40))") }

    private mutating func write() {
        for _ in 0..<random.below(8) {
            sequence += 1
            if random.oneIn(10) {
                var (start, end) = (randomKey(), Optional(randomKey()))
                if let last = end, last.isKeyBefore(start) { (start, end) = (last, start) }
                if random.oneIn(8) { end = nil }
                let span = KeySpan(start: start, end: end)
                guard !span.isEmpty else { continue }
                let deleted = RangeTombstone(span: span, sequence: SequenceNumber(sequence))
                model.tombstones.append(deleted)
                memtables[0].insert(deleted)
                continue
            }
            let number = random.below(40)
            let key = "k\(number)"
            let value = "value \(sequence) of \(key)"
            if number % 3 == 0 {
                let isThere = model.holds(bytes(key))
                write(
                    ModelEntry(key, sequence, isThere ? .singleDelete : .put, isThere ? "" : value))
                continue
            }
            let entry =
                switch random.below(10) {
                case 0: ModelEntry(key, sequence, .delete)
                case 6...9:
                    ModelEntry.merge(
                        key, sequence, TestMerge.all[random.below(TestMerge.all.count)],
                        Array(bytes("operand \(sequence)").suffix(random.oneIn(4) ? 3 : 8)))
                case 1:
                    ModelEntry.expiring(
                        key, sequence, at: clock + UInt64(random.below(60)), value)
                default: ModelEntry(key, sequence, .put, value)
                }
            write(entry)
        }
    }

    private mutating func write(_ entry: ModelEntry) {
        model.add(entry)
        memtables[0].insert(entry)
    }

    private mutating func raiseHorizon() {
        horizon += UInt64(random.below(Int(sequence - horizon) + 1))
    }

    /// The oldest full memtable becomes a stand-in.
    private mutating func flush() throws {
        guard memtables.count > 1, let oldest = memtables.last else { return }
        index += 1
        // A flush's horizon is that of its segment's last write: it lags the others.
        let limit = oldest.largestSequence?.rawValue ?? 0
        let made = try bed.flush(oldest, at: index, horizon: min(horizon, limit))
        memtables.removeLast()
        standIns.insert(contentsOf: made, at: 0)
    }

    private mutating func sealStandIns() throws {
        tables += standIns
        standIns = []
    }

    private mutating func compact() throws {
        let version = try Version(tables)
        let occupied = version.levels.indices.filter { !version.levels[$0].isEmpty && $0 < 5 }
        guard let level = occupied.isEmpty ? nil : occupied[random.below(occupied.count)] else {
            return
        }
        raiseHorizon()
        index += 1
        compactions += 1
        if level == 0, random.oneIn(3) {
            try mergeWithinLevel0(version.levels[0])
        } else {
            try compact(version, level)
        }
        #expect(try Version(tables).tableCount == tables.count)
    }

    /// Some runs that follow each other in age become one.
    private mutating func mergeWithinLevel0(_ runs: [TableHandle]) throws {
        let first = random.below(runs.count)
        let last = first + random.below(runs.count - first)
        try replace(Array(runs[first...last]), to: 0, isBottommost: false)
    }

    private mutating func compact(_ version: Version, _ level: Int) throws {
        var inputs: [TableHandle]
        if level == 0 {
            // The oldest runs, as many as it likes.
            let runs = version.levels[0]
            inputs = Array(runs[random.below(runs.count)...])
        } else {
            inputs = [version.levels[level][random.below(version.levels[level].count)]]
        }
        let hull = try #require(CompactionSpec.hull(of: inputs.map(\.record)))
        inputs += version.overlapping(level + 1, hull)
        let wide = try #require(CompactionSpec.hull(of: inputs.map(\.record)))
        let deeper = (level + 2)..<version.levels.count
        let isBottommost = deeper.allSatisfy { version.overlapping($0, wide).isEmpty }
        try replace(inputs, to: UInt8(level + 1), isBottommost: isBottommost)
    }

    private mutating func replace(_ inputs: [TableHandle], to level: UInt8, isBottommost: Bool)
        throws
    {
        let spec = bed.spec(
            inputs, to: level, target: UInt64(1024 << random.below(3)), horizon: horizon,
            clock: clock, bottommost: isBottommost)
        let outputs = try bed.compacted(inputs, spec, at: index)
        let gone = Set(inputs.map(\.id))
        for table in inputs { table.markObsolete() }
        tables = tables.filter { !gone.contains($0.id) } + outputs
    }

    private func view() throws -> ReadView {
        try ReadView(memtables, standIns: standIns, tables: tables)
    }

    /// A snapshot pins the view, and sees its sequence whatever is merged later.
    private mutating func pin() throws {
        snapshots.append((try view(), randomSequence(), clock))
        if snapshots.count > 4 { snapshots.remove(at: random.below(snapshots.count)) }
    }

    private mutating func randomSequence() -> UInt64 {
        horizon + UInt64(random.below(Int(sequence - horizon) + 1))
    }

    mutating func check() throws {
        try check(try view(), sequence, clock)
        try check(try view(), randomSequence(), clock)
        for snapshot in snapshots { try check(snapshot.view, snapshot.sequence, snapshot.now) }
    }

    private mutating func check(_ view: ReadView, _ sequence: UInt64, _ now: UInt64) throws {
        let at = SequenceNumber(sequence)
        for number in 0..<41 {
            let key = bytes("k\(number)")
            let found = try view.get(key, at: at, now: now, io: .blocking)
            #expect(found == model.get(key, at: at, now: now))
        }
        var span = KeySpan.everything
        switch random.below(3) {
        case 0: span = KeySpan(start: randomKey(), end: randomKey())
        case 1: span = KeySpan.prefix(randomKey())
        default: break
        }
        let expected = model.scan(span, at: at, now: now)
        #expect(same(try view.scan(span, at: at, now: now), expected))
        #expect(same(try view.scan(span, reverse: true, at: at, now: now), expected.reversed()))
        let limit = 1 + random.below(10)
        #expect(
            same(
                try view.scan(span, reverse: true, limit: limit, at: at, now: now),
                Array(expected.reversed().prefix(limit))))
        try walk(view.makeIterator(span, at: at, now: now, io: .blocking), expected)
    }

    /// Moves at random and compares each stop.
    private mutating func walk(
        _ iterator: VisibleIterator, _ expected: [(key: [UInt8], value: LiveValue)]
    ) throws {
        var place = -1
        for _ in 0..<20 {
            switch random.below(place < 0 ? 4 : 12) {
            case 0:
                try iterator.seekToFirst()
                place = 0
            case 1:
                try iterator.seekToLast()
                place = expected.count - 1
            case 2:
                let key = randomKey()
                try key.withUnsafeBytes { try iterator.seek($0) }
                place = expected.partitionPoint { $0.key.isKeyBefore(key) }
            case 3:
                let key = randomKey()
                try key.withUnsafeBytes { try iterator.seekForPrevious($0) }
                place = expected.partitionPoint { !key.isKeyBefore($0.key) } - 1
            case 4...7:
                try iterator.next()
                place += 1
            default:
                try iterator.previous()
                place -= 1
            }
            if !expected.indices.contains(place) { place = -1 }
            try #require(iterator.isValid == (place >= 0))
            guard place >= 0 else { continue }
            #expect([UInt8](iterator.key) == expected[place].key)
            #expect([UInt8](iterator.value) == expected[place].value.value)
            #expect(iterator.expiry == expected[place].value.expiry)
        }
    }
}
