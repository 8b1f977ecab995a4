// Damage of every kind in a table file: reads stay right meanwhile, the worker writes a new
// generation, the case is closed in order.
import Engine
import Testing

private enum Kind {
    static let data: UInt8 = 1
    static let index: UInt8 = 2
    static let filter: UInt8 = 3
    static let rangeTombstones: UInt8 = 4
    static let leaves: UInt8 = 6
}

@Suite struct HealTests {
    @Test func aDataBlockIsFetchedAndHealed() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        let data = try member.blocks(table.id).filter { $0.type == Kind.data }
        #expect(data.count > 5)
        member.damage(table.id, data[2])
        member.damage(table.id, data[4])
        try bed.checkReads(member)
        #expect(member.hints.count == 1)
        #expect(member.hints.first?.blocks.map(\.rawValue).sorted() == [2, 4])
        #expect(member.repair.calls == 2, "each block once, however often it is read")
        #expect(member.store.healer.ledger.rows().map(\.state) == [.detected])

        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
        let row = try #require(member.store.healer.ledger.rows().first)
        #expect(row.blocks == [2, 4] && row.peer == 2 && row.bytesFetched > 0)
        #expect(row.file == "group-0/sst/" + TableHandle.fileName(table.id, generation: 1))
        #expect(member.repair.calls == 2, "what a reader fetched is not fetched again")
        try bed.checkReads(member)
        try bed.reopen(member)
        try bed.checkReads(member)
        #expect(member.hints.isEmpty)
        #expect(member.store.healer.ledger.rows().map(\.state) == [.healedReplica, .detected])
    }

    @Test func everyKindOfBlockIsHealedFromAReplica() throws {
        for type in [Kind.data, Kind.index, Kind.rangeTombstones, Kind.leaves] {
            let bed = try HealBed()
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            let place = try #require(
                try member.blocks(table.id).last { $0.type == type }, "type \(type)")
            member.damage(table.id, place)
            try bed.reopen(member)
            try bed.checkReads(member, "type \(type)")
            #expect(member.hints.map(\.table) == [table.id], "type \(type)")
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica, "type \(type)")
            try bed.checkReads(member, "type \(type)")
        }
    }

    @Test func aMissingFileIsServedAndHealed() throws {
        for reopens in [true, false] {
            let bed = try HealBed()
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            try member.disk.unlink(member.path(table.id))
            if reopens {
                try bed.reopen(member)
                #expect(member.hints.first?.reason == .missing)
            }
            try bed.checkReads(member)
            #expect(member.hints.count == 1)
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica)
            try bed.checkReads(member)
        }
    }

    @Test func aTruncatedFileIsServedAndHealed() throws {
        for part in [0, 100, 1_000, 3_000] {
            let bed = try HealBed()
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            let file = try member.disk.open(member.path(table.id), .write)
            try file.truncate(to: UInt64(part))
            try file.sync()
            try bed.reopen(member)
            try bed.checkReads(member, "\(part) bytes")
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica, "\(part) bytes")
            try bed.checkReads(member, "\(part) bytes")
        }
    }

    @Test func anotherTablesFileIsHealed() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let (older, newer) = (member.tables[0], member.tables[1])
        let bytes = try member.disk.readAll(member.path(older.id), limit: 1 << 20)
        try member.disk.replace(member.path(newer.id), with: bytes)
        try bed.reopen(member)
        try bed.checkReads(member)
        try bed.settle()
        try bed.checkHealed(member, newer, .healedReplica)
    }

    @Test func localDamageNeedsNoReplica() throws {
        let bed = try HealBed(members: 1)
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        let size = UInt64(try member.disk.readAll(member.path(table.id), limit: 1 << 20).count)
        let mapStart = try #require(try member.blocks(table.id).last).end
        var generation: UInt64 = 0
        for offset in [20, size - 40, mapStart + 5] {
            member.disk.flip(member.path(table.id), offset)
            try bed.reopen(member)
            try bed.checkReads(member, "offset \(offset)")
            #expect(member.hints.count == 1, "offset \(offset)")
            try bed.settle()
            generation += 1
            try bed.checkHealed(
                member, table, .healedLocal, generation: generation, "offset \(offset)")
            try bed.checkReads(member, "offset \(offset)")
        }
    }

    @Test func aFilterAnswersMaybeUntilItIsHealed() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        let filter = try #require(try member.blocks(table.id).first { $0.type == Kind.filter })
        member.damage(table.id, filter)
        try bed.reopen(member)
        try bed.checkReads(member)
        #expect(member.repair.calls == 0, "no read needs it")
        #expect(member.hints.first?.blocks == [BlockOrdinal(filter.ordinal)])
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
    }

    /// Trap 25: damage is only what the medium says.
    @Test func aWrongPageInTheCacheIsNoDamage() throws {
        let bed = try HealBed(members: 1)
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        for type in [Kind.data, Kind.leaves] {
            let place = try #require(try member.blocks(table.id).first { $0.type == type })
            member.disk.flip(
                member.path(table.id), (place.offset + 80 + place.end) / 2, onMedium: false)
            if type == Kind.leaves { try bed.reopen(member) }
            try bed.checkReads(member, "type \(type)")
            #expect(member.hints.isEmpty, "type \(type)")
            #expect(member.store.healer.counters.transient > 0, "type \(type)")
        }
        #expect(member.store.manifest.local[table.id]?.generation == 0)
    }

    @Test func evidenceIsKept() throws {
        let bed = try HealBed { $0.heal.keepEvidence = true }
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try member.blocks(table.id)[1])
        try bed.checkReads(member)
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
        #expect(
            try member.disk.list("/data/group-0/quarantine")
                == [TableHandle.fileName(table.id, generation: 0)])
    }

    @Test func scrubFindsWhatNobodyReads() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        try bed.checkReads(member)
        let (older, newer) = (member.tables[0], member.tables[1])
        member.damage(older.id, try member.blocks(older.id)[3])
        try member.disk.unlink(member.path(newer.id))
        #expect(member.store.scrubber.start())
        #expect(!member.store.scrubber.start(), "one at a time")
        try bed.settle()
        let status = member.store.scrubber.status
        #expect(!status.isRunning && status.tablesDone == 2 && status.damagedTables == 2)
        // The missing one's open file still had its bytes.
        #expect(
            member.store.healer.ledger.rows().map(\.state)
                == [.healedLocal, .detected, .healedReplica, .detected])
        try bed.checkHealed(member, older, .healedLocal)
        try bed.checkHealed(member, newer, .healedLocal)
        #expect(member.store.scrubber.start())
        try bed.settle()
        #expect(member.store.scrubber.status.damagedTables == 0)
    }
}
