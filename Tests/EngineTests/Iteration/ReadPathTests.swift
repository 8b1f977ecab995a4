// Point reads and scans over hand-made trees: each trap that others fell into, by its number in the
// engine's list, and what damage does to reads.

import Engine
import Testing

@Suite struct ReadPathTests {
    @Test func `Trap 2: in overlapping runs the sequence decides, not the place`() throws {
        let bed = try TableBed()
        // Two runs whose sequences interleave: neither is newer as a whole.
        let one = try bed.flush(
            TableBed.memtable([ModelEntry("a", 1, .put, "old"), ModelEntry("b", 9, .put, "new")]),
            at: 1)
        let two = try bed.flush(
            TableBed.memtable([ModelEntry("a", 5, .put, "new"), ModelEntry("b", 3, .put, "old")]),
            at: 2)
        for tables in [one + two, two + one] {
            for view in [try ReadView(tables: tables), try ReadView(standIns: tables, tables: [])] {
                #expect(try view.text("a") == "new")
                #expect(try view.text("b") == "new")
                #expect(try view.text("a", at: 4) == "old")
                #expect(try view.text("b", at: 8) == "old")
                let pairs = try view.scan(.everything, at: SequenceNumber(9), now: 0)
                #expect(pairs.map { text($0.value.value) } == ["new", "new"])
            }
        }
    }

    @Test func `A stand-in may be newer than a memtable that is still waiting`() throws {
        let bed = try TableBed()
        let standIn = try bed.flush(TableBed.memtable([ModelEntry("a", 5, .put, "new")]), at: 2)
        let waiting = TableBed.memtable([ModelEntry("a", 1, .put, "old")])
        let view = try ReadView([waiting], standIns: standIn, tables: [])
        #expect(try view.text("a") == "new")
        #expect(try view.text("a", at: 4) == "old")
    }

    @Test func `No read is at an earlier clock than the tables were compacted by`() throws {
        let brief = ModelEntry.expiring("a", 1, at: 500, "old")
        let memtable = TableBed.memtable([brief, .merge("a", 2, .append, bytes("+"))])
        for (clock, now, seen) in [(0, 499, "old+"), (499, 1, "old+"), (500, 1, "+")]
            as [(UInt64, UInt64, String)]
        {
            let view = ReadView(
                memtables: [memtable], standIns: [], version: .empty, clock: clock)
            #expect(try view.text("a", now: now) == seen)
            let below = SequenceNumber(1)
            let isLive = seen == "old+"
            #expect(try view.text("a", at: 1, now: now) == (isLive ? "old" : nil))
            for reverse in [false, true] {
                let pairs = try view.scan(.everything, reverse: reverse, at: below, now: now)
                #expect(pairs.map(\.value.expiry) == (isLive ? [500] : []))
                let merged = try view.scan(
                    .everything, reverse: reverse, at: SequenceNumber(2), now: now)
                #expect(merged.map { text($0.value.value) } == [seen])
            }
        }
    }

    @Test func `A range tombstone hides what is older in every source below`() throws {
        let bed = try TableBed()
        let base = try bed.flush(
            TableBed.memtable((1...9).map { ModelEntry("k\($0)", UInt64($0), .put, "v") }), at: 1)
        let level1 = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let deleting = try bed.flush(
            TableBed.memtable([ModelEntry("k5", 21, .put, "again")], [tombstone("k3", "k7", 20)]),
            at: 3)
        let view = try ReadView(tables: level1 + deleting)
        #expect(try view.keys() == ["k1", "k2", "k5", "k7", "k8", "k9"])
        #expect(try view.keys(reverse: true) == ["k9", "k8", "k7", "k5", "k2", "k1"])
        #expect(try view.keys(at: 20) == ["k1", "k2", "k7", "k8", "k9"])
        #expect(try view.keys(at: 19).count == 9)
        #expect(try view.text("k4") == nil)
        #expect(try view.text("k4", at: 19) == "v")
        #expect(try view.text("k7") == "v")
        // The same from a memtable.
        let above = TableBed.memtable([], [tombstone("", nil, 30)])
        #expect(try ReadView([above], tables: level1 + deleting).keys().isEmpty)
    }

    @Test func `Trap 5: a deleted base does not come back through compactions`() throws {
        let bed = try TableBed()
        let base = try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "base")]), at: 1)
        let bottom = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let deleting = try bed.flush(TableBed.memtable([], [tombstone("a", "z", 5)]), at: 3)
        let newer = try bed.flush(
            TableBed.memtable([ModelEntry("k", 7, .delete), ModelEntry("l", 6, .put, "x")]), at: 4)
        // The delete and the range delete merge first, without the base, then with it.
        let run = try bed.compacted(
            deleting + newer, bed.spec(deleting + newer, to: 0, horizon: 9), at: 5)
        #expect(try ReadView(tables: bottom + run).text("k") == nil)
        let all = run + bottom
        let merged = try bed.compacted(
            all, bed.spec(all, to: 1, horizon: 9, bottommost: true), at: 6)
        let view = try ReadView(tables: merged)
        #expect(try view.text("k") == nil)
        #expect(try view.keys() == ["l"])
        #expect(merged.map(\.record.entryCount) == [1])
        #expect(merged.map(\.record.rangeTombstoneCount) == [0])
    }

    @Test func `Trap 29: an expired version hides an older one that never expires`() throws {
        let bed = try TableBed()
        let base = try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "forever")]), at: 1)
        let deep = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let deeper = try bed.compacted(deep, bed.spec(deep, to: 2), at: 3)
        let top = try bed.flush(
            TableBed.memtable([.expiring("k", 5, at: 100, "brief")]), at: 4, horizon: 5)
        let view = try ReadView(tables: top + deeper)
        #expect(try view.text("k", now: 99) == "brief")
        #expect(try view.text("k", now: 100) == nil)
        let expiry = try view.get(bytes("k"), at: .max, now: 50, io: .blocking)?.expiry
        #expect(expiry == 100)
        // Compacted above the bottom, long expired, it still hides.
        let moved = try bed.compacted(top, bed.spec(top, to: 1, horizon: 9, clock: 1000), at: 5)
        let after = try ReadView(tables: moved + deeper)
        #expect(try after.text("k", now: 1000) == nil)
        #expect(try after.scan(.everything, at: .max, now: 1000).isEmpty)
        // At the bottom both go.
        let all = moved + deeper
        let last = try bed.compact(
            all, bed.spec(all, to: 2, horizon: 9, clock: 1000, bottommost: true), at: 6)
        #expect(last.outputs.isEmpty)
        #expect(last.isBalanced)
        #expect(last.dropped(.expired).count == 1)
        #expect(last.dropped(.shadowed).count == 1)
    }

    @Test func `A scan ends at its limits`() throws {
        let memtable = TableBed.memtable(
            (0...9).map { ModelEntry("k\($0)", UInt64($0 + 1), .put, "12345678") })
        let view = try ReadView([memtable], tables: [])
        func count(limit: Int = .max, limitBytes: Int = .max) throws -> Int {
            try view.scan(
                .everything, limit: limit, limitBytes: limitBytes, at: .max, now: 0
            ).count
        }
        #expect(try count() == 10)
        #expect(try count(limit: 3) == 3)
        #expect(try count(limit: 0) == 0)
        #expect(try count(limitBytes: 1) == 1)
        #expect(try count(limitBytes: 30) == 3)
        #expect(try count(limitBytes: 31) == 4)
        #expect(try view.keys(KeySpan(start: bytes("k3"), end: bytes("k3"))).isEmpty)
        #expect(try view.keys(KeySpan(start: bytes("k3"), end: bytes("k5"))) == ["k3", "k4"])
        #expect(try view.keys(KeySpan(start: bytes("k7"), end: bytes("k2"))).isEmpty)
    }

    @Test func `Many versions of a key are passed by seeking, both ways`() throws {
        var entries = (1...50).map { ModelEntry("b", UInt64($0), .put, "v\($0)") }
        entries += [ModelEntry("a", 60, .put, "first"), ModelEntry("c", 61, .put, "last")]
        let view = try ReadView([TableBed.memtable(entries)], tables: [])
        for sequence in [1, 2, 20, 42, 43, 49, 50] as [UInt64] {
            for reverse in [false, true] {
                let pairs = try view.scan(
                    .everything, reverse: reverse, at: SequenceNumber(sequence), now: 0)
                #expect(pairs.map { text($0.value.value) } == ["v\(sequence)"])
            }
        }
        #expect(try view.keys(at: 61) == ["a", "b", "c"])
        #expect(try view.keys(at: 61, reverse: true) == ["c", "b", "a"])
    }

    @Test func `A malformed version is damage, not a missing key`() throws {
        let cut = ModelEntry("k", 2, .expiringPut, "short")
        let memtable = TableBed.memtable([ModelEntry("k", 1, .put, "v"), cut])
        let view = try ReadView([memtable], tables: [])
        #expect(throws: EngineError.self) { try view.text("k") }
        #expect(throws: EngineError.self) { try view.keys() }
    }

    // MARK: Damage

    /// An old value of every key at level 1, a newer one in level 0.
    private func makeDamaged(_ bed: TableBed, damage: (TableHandle) throws -> Void) throws
        -> (old: [TableHandle], new: TableHandle)
    {
        let oldEntries = (10...99).map { ModelEntry("k\($0)", UInt64($0), .put, "old \($0)") }
        let base = try bed.flush(TableBed.memtable(oldEntries), at: 1)
        let old = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let newEntries = (10...99).map { ModelEntry("k\($0)", UInt64($0 + 100), .put, "new \($0)") }
        let new = try bed.flush(TableBed.memtable(newEntries), at: 3)
        try damage(new[0])
        return (old, bed.reopened(new[0]))
    }

    private func outcome(_ body: () throws -> String?) -> String {
        do { return try body() ?? "absent" } catch let error as EngineError {
            switch error {
            case .blockLost, .tableLost, .corrupt: return "lost"
            default: return "\(error)"
            }
        } catch {
            return "\(error)"
        }
    }

    @Test func `A flipped bit anywhere is the right value or an error, never an older value`()
        throws
    {
        let bed = try TableBed()
        let (old, new) = try makeDamaged(bed) { _ in }
        let size = new.fileBytes
        var lost = 0
        for offset in stride(from: UInt64(0), to: size, by: 37) {
            bed.fileSystem.flip(bed.path(new), offset, mask: 0x10)
            let view = try ReadView(tables: old + [bed.reopened(new)])
            for number in [10, 11, 40, 77, 99] {
                let found = outcome { try view.text("k\(number)") }
                #expect(found == "new \(number)" || found == "lost", "offset \(offset)")
                if found == "lost" { lost += 1 }
                #expect(try view.text("k\(number)", at: UInt64(number)) == "old \(number)")
            }
            bed.fileSystem.flip(bed.path(new), offset, mask: 0x10)
        }
        #expect(lost > 0)
    }

    @Test func `Trap 13: a scan over damage is an error, not an early end`() throws {
        let bed = try TableBed()
        let (_, new) = try makeDamaged(bed) { _ in }
        var errors = 0
        for offset in stride(from: UInt64(0), to: new.fileBytes, by: 101) {
            bed.fileSystem.flip(bed.path(new), offset, mask: 0xff)
            // Alone: nothing below makes up for a key that is missed.
            let view = try ReadView(tables: [bed.reopened(new)])
            for reverse in [false, true] {
                let found = outcome { String(try view.keys(reverse: reverse).count) }
                #expect(found == "90" || found == "lost", "offset \(offset)")
                if found == "lost" { errors += 1 }
            }
            bed.fileSystem.flip(bed.path(new), offset, mask: 0xff)
        }
        #expect(errors > 0)
    }

    @Test func `A missing file is a lost table, and only where it is needed`() throws {
        let bed = try TableBed()
        let (old, new) = try makeDamaged(bed) { try bed.fileSystem.unlink(bed.path($0)) }
        let newest = TableBed.memtable([ModelEntry("k50", 500, .put, "newest")])
        let view = try ReadView([newest], tables: old + [new])
        #expect(try view.text("k50") == "newest")
        #expect(try view.text("zz") == nil)
        #expect { try view.text("k51") } throws: {
            if case EngineError.tableLost(new.id, _) = $0 { true } else { false }
        }
        #expect { try view.keys() } throws: {
            if case EngineError.tableLost(new.id, _) = $0 { true } else { false }
        }
        // A sequence before everything in the lost table does not need it.
        #expect(try view.text("k51", at: 99) == "old 51")
    }

    @Test func `Lost range tombstones make their span unreadable below, and nothing else`() throws {
        let bed = try TableBed()
        let base = try bed.flush(
            TableBed.memtable((1...9).map { ModelEntry("k\($0)", UInt64($0), .put, "v") }), at: 1)
        let level1 = try bed.compacted(base, bed.spec(base, to: 1), at: 2)
        let deleting = try bed.flush(
            TableBed.memtable([ModelEntry("k5", 19, .put, "point")], [tombstone("k3", "k7", 20)]),
            at: 3)[0]
        try loseRangeTombstones(of: deleting, in: bed)
        let newest = TableBed.memtable([ModelEntry("k4", 30, .put, "newest")])
        let view = try ReadView([newest], tables: level1 + [bed.reopened(deleting)])
        #expect(try view.text("k2") == "v")
        #expect(try view.text("k8") == "v")
        #expect(try view.text("k4") == "newest")
        #expect(outcome { try view.text("k3") } == "lost")
        #expect(outcome { try view.text("k5") } == "lost")
        #expect(try view.keys(KeySpan(start: [], end: bytes("k3"))) == ["k1", "k2"])
        #expect(try view.keys(KeySpan(start: bytes("k7"), end: nil)) == ["k7", "k8", "k9"])
        #expect(outcome { "\(try view.keys())" } == "lost")
        #expect(outcome { "\(try view.keys(reverse: true))" } == "lost")
        let inputs = level1 + [bed.reopened(deleting)]
        #expect(
            outcome { "\(try bed.compact(inputs, bed.spec(inputs, to: 1), at: 9))" } == "lost")
    }

    /// Flips bytes until the block of range tombstones, and no other, cannot be read.
    private func loseRangeTombstones(of table: TableHandle, in bed: TableBed) throws {
        for offset in stride(from: UInt64(0), to: table.fileBytes, by: 16) {
            bed.fileSystem.flip(bed.path(table), offset, mask: 0xff)
            if let reader = try? bed.reopened(table).reader(io: .blocking) {
                let tombstones = try? reader.rangeTombstones(io: .blocking)
                let cursor = reader.makeCursor(io: .blocking)
                if tombstones == nil, (try? cursor.seekToFirst()) != nil, cursor.isValid { return }
            }
            bed.fileSystem.flip(bed.path(table), offset, mask: 0xff)
        }
        throw EngineError.invalid(reason: "no byte of the range tombstones was found")
    }
}
