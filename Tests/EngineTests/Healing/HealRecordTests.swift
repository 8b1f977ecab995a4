// The files `hints` and `ledger`: their bytes, what damage does to them, how large they get.
import Engine
import Testing

private let path = "/g/file"

private func newDisk(seed: UInt64 = 1) throws -> MemoryFileSystem {
    let disk = MemoryFileSystem(seed: seed)
    try disk.createDirectory("/g")
    try disk.syncDirectory("/")
    return disk
}

private func table(_ index: UInt64) -> TableID {
    TableID(index: LogIndex(index), kind: .flush, ordinal: 1)
}

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { byte in
        let text = String(byte, radix: 16)
        return text.count == 1 ? "0" + text : text
    }.joined()
}

private func row(_ number: Int, blocks: [UInt32] = [7], detail: String = "d") -> LedgerRow {
    LedgerRow(
        time: UInt64(number), file: "group-0/sst/a.sst", blocks: blocks, reason: "lost",
        source: "replica", peer: 2, bytesFetched: 512, durationMilliseconds: 3,
        state: .healedReplica, detail: detail)
}

@Suite struct HealRecordTests {
    @Test func hintsHaveTheirGoldenBytes() throws {
        let disk = try newDisk()
        let hints = try HealHints(disk, path: path)
        hints.add(table(5), .lost, BlockOrdinal(3))
        hints.add(table(6), .missing, nil)
        hints.done(table(6))
        #expect(hex(try disk.readAll(path, limit: 1 << 20)) == goldenHints)
    }

    @Test func ledgerHasItsGoldenBytes() throws {
        let disk = try newDisk()
        let ledger = try Ledger(disk, path: path)
        ledger.append(row(9), sync: true)
        #expect(hex(try disk.readAll(path, limit: 1 << 20)) == goldenLedger)
    }

    @Test func hintsSurviveAReopenInTheirOrder() throws {
        let disk = try newDisk()
        var hints = try HealHints(disk, path: path)
        #expect(hints.add(table(9), .lost, BlockOrdinal(1)) == .table)
        #expect(hints.add(table(9), .lost, BlockOrdinal(1)) == .nothing)
        #expect(hints.add(table(9), .lost, BlockOrdinal(4)) == .block)
        #expect(hints.add(table(9), .lost, nil) == .nothing)
        #expect(hints.add(table(2), .missing, nil) == .table)
        hints.add(table(3), .lost, nil)
        hints.done(table(3))
        disk.restart()
        hints = try HealHints(disk, path: path)
        #expect(hints.all.map(\.table) == [table(9), table(2)])
        #expect(hints.all[0].blocks == [BlockOrdinal(1), BlockOrdinal(4)])
        #expect(hints.all[1].reason == .missing)
    }

    @Test func failedHintsBackOffAndOthersGoFirst() throws {
        let hints = try HealHints(try newDisk(), path: path)
        hints.add(table(1), .lost, nil)
        hints.add(table(2), .lost, nil)
        var waits: [UInt64] = []
        var now: UInt64 = 0
        for _ in 0..<12 {
            #expect(hints.take(now: now)?.table == table(1), "the oldest first")
            #expect(hints.take(now: now)?.table == table(2), "one heal of a table at a time")
            #expect(!hints.hasDue(now: now))
            hints.failed(table(1), now: now)
            hints.failed(table(2), now: now)
            let due = try #require(hints.hint(table(1))).notBefore
            waits.append(due - now)
            #expect(!hints.hasDue(now: due - 1))
            now = due
        }
        #expect(waits.prefix(4) == [1_000, 2_000, 4_000, 8_000])
        #expect(waits.last == 300_000)
    }

    @Test func damageGoesBeforeChangesOfKey() throws {
        let disk = try newDisk()
        var hints = try HealHints(disk, path: path)
        for number in 1...3 as ClosedRange<UInt64> { hints.add(table(number), .oldKey, nil) }
        #expect(hints.add(table(4), .lost, BlockOrdinal(1)) == .table)
        // Of a table that only waited for its key, too.
        #expect(hints.add(table(2), .missing, nil) == .table)
        #expect(hints.add(table(2), .oldKey, nil) == .nothing)
        hints = try HealHints(disk, path: path)
        let order = (0..<4).map { _ in hints.take(now: 0) }
        #expect(order.map { $0?.table } == [table(2), table(4), table(1), table(3)])
        #expect(order.map { $0?.reason } == [.missing, .lost, .oldKey, .oldKey])
    }

    @Test func hintsStaySmall() throws {
        let disk = try newDisk()
        let hints = try HealHints(disk, path: path)
        hints.add(table(1), .lost, BlockOrdinal(1))
        for round in 0..<6_000 {
            hints.add(table(2 + UInt64(round % 3)), .lost, BlockOrdinal(UInt32(round)))
            hints.done(table(2 + UInt64(round % 3)))
        }
        let size = try disk.open(path, .read).size()
        #expect(size <= HealHints.rewriteBytes)
        #expect(try HealHints(disk, path: path).all.map(\.table) == [table(1)])
        for block in 0..<10_000 { hints.add(table(1), .lost, BlockOrdinal(UInt32(block))) }
        #expect(hints.all[0].blocks.count == HealPlan.blocksMax)
    }

    @Test func theLedgerStaysSmall() throws {
        let disk = try newDisk()
        var ledger = try Ledger(disk, path: path)
        let long = String(repeating: "x", count: 2_000)
        for number in 0..<20_000 { ledger.append(row(number, detail: long), sync: false) }
        #expect(try disk.open(path, .read).size() <= Ledger.rewriteBytes)
        #expect(ledger.rows().count <= Ledger.rowsMax * 9 / 8)
        ledger = try Ledger(disk, path: path)
        #expect(ledger.rows(limit: 2).map(\.time) == [19_999, 19_998])
        #expect(ledger.rows().count > 5_000)
    }

    @Test func longRowsAreCut() throws {
        let disk = try newDisk()
        var ledger = try Ledger(disk, path: path)
        let text = String(repeating: "ü", count: 9_000)
        ledger.append(row(1, blocks: [UInt32](0..<1_200), detail: text), sync: true)
        let kept = try #require(ledger.rows().first)
        #expect(kept.blocks.count == Ledger.blocksMax)
        #expect(kept.detail.hasPrefix("1200 blocks in all"))
        ledger = try Ledger(disk, path: path)
        #expect(ledger.rows() == [kept])
    }

    @Test func syncedRowsSurviveAPowerCut() throws {
        for seed: UInt64 in 1...20 {
            let disk = try newDisk(seed: seed)
            var ledger = try Ledger(disk, path: path)
            ledger.append(row(1), sync: true)
            ledger.append(row(2), sync: false)
            disk.powerCut()
            ledger = try Ledger(disk, path: path)
            #expect(ledger.rows().last == row(1))
            ledger.append(row(3), sync: true)
            disk.powerCut()
            ledger = try Ledger(disk, path: path)
            #expect(ledger.rows().first == row(3))
        }
    }

    @Test func damageCostsTheRecordsItHits() throws {
        let disk = try newDisk()
        var ledger = try Ledger(disk, path: path)
        for number in 0..<10 { ledger.append(row(number), sync: true) }
        disk.flip(path, 30)
        ledger = try Ledger(disk, path: path)
        #expect(ledger.rows().map(\.time) == (1..<10).reversed().map(UInt64.init))
        disk.failReads(path, [0..<8])
        ledger = try Ledger(disk, path: path)
        #expect(ledger.rows().isEmpty, "an unreadable ledger stops no node")
    }

    /// Flips, cuts and garbage: never a trap, never more than was written.
    @Test func hostileFilesAreRead() throws {
        var random = SeededRandom(seed: 11)
        let disk = try newDisk()
        let ledger = try Ledger(disk, path: path)
        for number in 0..<5 { ledger.append(row(number), sync: false) }
        let rows = try disk.readAll(path, limit: 1 << 20)
        let hints = try HealHints(disk, path: "/g/hints")
        for number in 1...5 { hints.add(table(UInt64(number)), .lost, BlockOrdinal(1)) }
        let records = try disk.readAll("/g/hints", limit: 1 << 20)
        for _ in 0..<400 {
            for sound in [rows, records] {
                var bytes = sound
                for _ in 0...random.below(3) {
                    bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
                }
                if random.oneIn(3) { bytes.removeLast(random.below(bytes.count)) }
                try disk.replace(path, with: bytes)
                #expect(try Ledger(disk, path: path).rows().count <= 5)
                try disk.replace(path, with: bytes)
                #expect(try HealHints(disk, path: path).all.count <= 5)
            }
        }
    }

    /// Bodies with sound checksums and wild content.
    @Test func wildRowsAreRefused() {
        var random = SeededRandom(seed: 12)
        var writer = ByteWriter()
        row(1).encode(into: &writer)
        for _ in 0..<3_000 {
            var bytes = writer.bytes
            bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            if random.oneIn(2) { bytes.removeLast(random.below(bytes.count)) }
            bytes.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                do throws(DecodingError) {
                    let decoded = try LedgerRow(&reader)
                    #expect(decoded.blocks.count <= bytes.count / 4)
                } catch {}
            }
        }
    }
}

private let goldenHints =
    "14000000adfceb7501010500000000000000660100000002030000001400000039a68d2101010600"
    + "000000000000660100000004ffffffff14000000e1052cef01020600000000000000660100000004"
    + "ffffffff"
private let goldenLedger =
    "480000008564a27a0109000000000000001167726f75702d302f7373742f612e7373740107000000"
    + "046c6f7374077265706c696361020000000000000000020000000000000300000000000000050164"
