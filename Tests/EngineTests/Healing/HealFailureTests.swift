// What a heal may not do: answer wrongly without a replica, believe a liar, forget a hint, swap
// over a table that has changed, or be caught between two states by a power cut.
import Engine
import Testing

@Suite struct HealFailureTests {
    private func isLost(_ error: any Error) -> Bool {
        switch error as? EngineError {
        case .blockLost, .tableLost: return true
        default: return false
        }
    }

    /// No key is missing, none has its older value: right, or a typed error.
    private func readsRightOrFails(_ bed: HealBed, _ member: HealMember) -> Int {
        var lost = 0
        for number in 0..<100 {
            do {
                let found = try member.store.get(HealBed.key(number), now: 1, io: .blocking)
                #expect(found?.value == bed.model[HealBed.key(number)], "key \(number)")
            } catch {
                #expect(isLost(error), "\(error)")
                lost += 1
            }
        }
        for reverse in [false, true] {
            do {
                let pairs = try member.store.scan(
                    KeySpan(start: [], end: nil), reverse: reverse, limit: .max,
                    limitBytes: .max, now: 1)
                // Only a walk from an end of the table needs no index.
                #expect(pairs.count == bed.model.count)
                #expect(pairs.allSatisfy { $0.value.value == bed.model[$0.key] })
            } catch {
                #expect(isLost(error), "\(error)")
            }
        }
        return lost
    }

    /// Trap 24: a hint goes after success and not before.
    @Test func withoutAReplicaReadsFailAndTheHintStays() throws {
        // Data, range tombstones: how many keys lose their answer.
        for type: UInt8 in [1, 4] {
            let bed = try HealBed(members: 1)
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            let place = try #require(try member.blocks(table.id).first { $0.type == type })
            member.damage(table.id, place)
            try bed.reopen(member)
            let lost = readsRightOrFails(bed, member)
            // Keys that the newest range tombstone hides need no other block.
            let expected: [UInt8: Range<Int>] = [1: 1..<50, 4: 100..<101]
            #expect(expected[type]?.contains(lost) == true, "type \(type): \(lost)")
            // All for want of one block: asked for once, and not again for a while.
            #expect(member.repair.reads == 1)
            for _ in 0..<40 {
                try bed.settle()
                bed.now += 1_000
            }
            let hint = try #require(member.hints.first)
            #expect((5...7).contains(hint.failures), "backs off: \(hint.failures)")
            let states = member.store.healer.ledger.rows().map(\.state)
            #expect(states == [.irreparable, .fetching, .fetching, .detected], "\(states)")
            #expect(try member.disk.list(member.directory).count == 2, "no half-written file")
            #expect(try member.disk.list("/data/group-0/staged").isEmpty)

            // A restart goes on where it was; the block comes back.
            try bed.reopen(member)
            #expect(member.hints.map(\.table) == [table.id])
            member.damage(table.id, place)
            try bed.settle()
            #expect(member.hints.isEmpty)
            try bed.checkReads(member)
        }
    }

    /// Trap 18: what follows from the data is not lost with its block, replica or not. Reads fail
    /// until then, and are never wrong.
    @Test func whatFollowsFromTheDataIsMadeAnew() throws {
        // Index, leaf list, filter, all three; how many keys wait. Without its leaf list the file
        // does not open, and every block comes from the table made anew.
        let cases: [(types: [UInt8], lost: Int)] = [
            ([2], 95), ([6], 100), ([3], 0), ([2, 3, 6], 100),
        ]
        for (types, expected) in cases {
            let bed = try HealBed(members: 1)
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            let blocks = try member.blocks(table.id)
            for place in blocks where types.contains(place.type) {
                member.damage(table.id, place)
            }
            try bed.reopen(member)
            #expect(readsRightOrFails(bed, member) == expected, "\(types)")
            let asked = member.repair.calls
            try bed.settle()
            #expect(member.repair.calls <= asked + types.count, "\(types): peers are asked")
            try bed.checkHealed(member, table, .healedLocal, "\(types)")
            let row = try #require(member.store.healer.ledger.rows().first)
            let count = types.contains(6) ? blocks.count : types.count
            #expect(row.detail == "\(count) blocks made anew from the data")
            try bed.checkReads(member, "\(types)")
        }
    }

    @Test func aMissingFileThatNobodyHasIsIrreparable() throws {
        let bed = try HealBed(members: 1)
        try bed.load()
        let member = bed.first
        try member.disk.unlink(member.path(member.tables[1].id))
        try bed.reopen(member)
        #expect(readsRightOrFails(bed, member) == 100)
        for _ in 0..<40 {
            try bed.settle()
            bed.now += 1_000
        }
        let states = member.store.healer.ledger.rows().map(\.state)
        #expect(states == [.irreparable, .fetching, .fetching, .detected], "\(states)")
    }

    /// A full disk is no loss: the heal is tried again.
    @Test func aDiskTooFullToMakeATableAnewIsToldFromALoss() throws {
        let bed = try HealBed(members: 1)
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        for place in try member.blocks(table.id) where place.type == 2 {
            member.damage(table.id, place)
        }
        try bed.reopen(member)
        let capacity = member.disk.capacity
        // For hints and ledger.
        member.disk.capacity = member.disk.usedBytes + 3_000
        _ = readsRightOrFails(bed, member)
        try bed.settle()
        #expect(member.hints.map(\.table) == [table.id])
        #expect(try member.disk.list("/data/group-0/staged").isEmpty)
        let row = try #require(member.store.healer.ledger.rows().first)
        #expect(row.detail.contains("space"), "\(row.detail)")
        member.disk.capacity = capacity
        bed.now += 100_000
        try bed.settle()
        try bed.checkHealed(member, table, .healedLocal)
        try bed.checkReads(member)
    }

    @Test func withoutTheShapeNothingIsMadeAnew() throws {
        let bed = try HealBed(members: 1)
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        for place in try member.blocks(table.id) where [2, 5].contains(place.type) {
            member.damage(table.id, place)
        }
        try bed.reopen(member)
        _ = readsRightOrFails(bed, member)
        try bed.settle()
        #expect(member.hints.map(\.table) == [table.id])
        #expect(try member.disk.list("/data/group-0/staged").isEmpty)
    }

    @Test func aLyingReplicaIsRefused() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.repair.setLying(true)
        for type: UInt8 in [1, 4] {
            let place = try #require(try member.blocks(table.id).last { $0.type == type })
            member.damage(table.id, place)
            try bed.reopen(member)
            _ = readsRightOrFails(bed, member)
            try bed.settle()
            #expect(member.hints.count == 1)
            #expect(member.store.manifest.local[table.id]?.generation == 0)
            let counters = member.store.healer.counters
            #expect(counters.refused > 0 && counters.blocksFetched == 0)
            #expect(member.store.healer.repairedBytes == 0, "a lie is not kept")
            member.damage(table.id, place)
        }
        let place = try #require(try member.blocks(table.id).first)
        member.damage(table.id, place)
        member.repair.setLying(false)
        bed.now += 10_000
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
        try bed.checkReads(member)
    }

    @Test func twoDamagedReplicasHealEachOther() throws {
        let bed = try HealBed()
        try bed.load()
        let table = bed.first.tables[1]
        let blocks = try bed.first.blocks(table.id)
        for (at, place) in blocks.enumerated() where at != blocks.count - 1 {
            bed.members[at % 2].damage(table.id, place)
        }
        // One of them keeps its leaf list.
        bed.members[0].damage(table.id, blocks[blocks.count - 1])
        for member in bed.members { try bed.reopen(member) }
        for member in bed.members { try bed.checkReads(member) }
        try bed.settle()
        for member in bed.members {
            try bed.checkHealed(member, table, .healedReplica)
            try bed.checkReads(member)
        }
    }

    /// And a block of data, without which neither can make the list anew.
    @Test func bothLostTheLeafListAndNobodyWaitsForEver() throws {
        let bed = try HealBed()
        try bed.load()
        let table = bed.first.tables[1]
        for member in bed.members {
            let places = try member.blocks(table.id)
            for place in [try #require(places.first), try #require(places.last)] {
                member.damage(table.id, place)
            }
        }
        for member in bed.members { try bed.reopen(member) }
        #expect(readsRightOrFails(bed, bed.first) == 100)
        try bed.settle()
        #expect(bed.first.hints.count == 1)
    }

    @Test func aTableCompactedAwayMeanwhileIsForgotten() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try member.blocks(table.id)[1])
        try bed.checkReads(member)
        // The worker writes the new file and reports; its edit comes after the compaction's.
        let hint = try #require(member.hints.first)
        let result = try #require(member.store.healer.healNext(now: bed.now))
        #expect(result.hint.table == hint.table)
        #expect(try member.disk.list(member.directory).count == 3)
        try bed.compactAll()
        #expect(!member.tables.contains { $0.id == table.id })
        member.store.handle(.healEnded(result))
        try bed.settle()
        #expect(member.hints.isEmpty)
        #expect(member.store.healer.repairedBytes == 0)
        let names = try member.disk.list(member.directory)
        #expect(!names.contains { $0.hasPrefix("\(table.id).") }, "\(names)")
        try bed.checkReads(member)
        let roots = bed.members.map(\.store.stateRoot)
        #expect(roots[0] == roots[1], "the damaged input was read right")
    }

    /// Trap 24: a lost block does not fail the jobs of its table for ever.
    @Test func aJobThatMeetsALostBlockWaitsForIt() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try member.blocks(table.id)[1])
        member.repair.setDonors([])
        try bed.compactAll()
        #expect(member.tables.contains { $0.id == table.id })
        #expect(member.hints.map(\.table) == [table.id], "found by the job alone")
        bed.connect()
        for _ in 0..<3 {
            bed.now += 2_000
            try bed.settle()
        }
        #expect(!member.tables.contains { $0.id == table.id }, "the same job went on")
        #expect(member.hints.isEmpty)
        let roots = bed.members.map(\.store.stateRoot)
        #expect(roots[0] == roots[1])
        try bed.checkReads(member)
    }

    @Test func anOutdatedHealDoesNotReplaceANewerFile() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try member.blocks(table.id)[1])
        try bed.checkReads(member)
        let slow = try #require(member.store.healer.healNext(now: bed.now))
        member.store.healer.hints.failed(table.id, now: 0)
        bed.now += 2_000
        try bed.settle()
        // The slow one's file has generation 1, so the quick one took 2.
        #expect(member.store.manifest.local[table.id]?.generation == 2)
        member.store.handle(.healEnded(slow))
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica, generation: 2)
        try bed.checkReads(member)
    }

    /// Trap 27: who reads during a heal never sees the table empty.
    @Test func anIteratorKeepsTheOldGeneration() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        let (view, sequence) = member.store.pin()
        member.damage(table.id, try member.blocks(table.id)[1])
        try bed.checkReads(member)
        try bed.settle()
        #expect(member.hints.isEmpty)
        #expect(try member.disk.list(member.directory).count == 3, "the view pins it")
        let pairs = try view.scan(KeySpan(start: [], end: nil), at: sequence, now: 1)
        #expect(pairs.count == bed.model.count)
        #expect(member.hints.isEmpty, "the damage is known and mended")
        #expect(member.store.healer.counters.transient > 0)
    }

    @Test func aWriteThatFailsIsTriedAgain() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try member.blocks(table.id)[1])
        try bed.checkReads(member)
        member.disk.capacity = 1
        try bed.settle()
        #expect(member.hints.count == 1)
        member.disk.capacity = .max
        member.disk.failNextSync(
            "/data/group-0/staged/" + TableHandle.fileName(table.id, generation: 1))
        bed.now += 10_000
        try bed.settle()
        #expect(member.hints.count == 1)
        #expect(try member.disk.list(member.directory).count == 2)
        bed.now += 10_000
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
    }

    @Test func aNewFileThatReadsBackDamagedIsHealedInTurn() throws {
        let bed = try HealBed()
        try bed.load()
        let member = bed.first
        let table = member.tables[1]
        let block = try member.blocks(table.id)[1]
        member.damage(table.id, block)
        try bed.checkReads(member)
        while member.store.manifest.local[table.id]?.generation == 0 {
            if !member.deliver(now: bed.now) { try #require(member.runner.step()) }
        }
        // Swapped; the next job reads it back.
        member.damage(table.id, block)
        try bed.settle()
        #expect(member.hints.map(\.failures) == [1])
        #expect(try member.disk.list(member.directory).count == 3, "the old file is kept")
        try bed.checkReads(member)
        bed.now += 1_000
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica, generation: 2)
        try bed.checkReads(member)
    }

    /// What a heal closed stays healed, and its file's sync is what makes it so.
    @Test func aFinishedHealSurvivesAPowerCut() throws {
        var broken = 0
        for seed: UInt64 in 1...10 {
            for isSynced in [true, false] {
                let bed = try HealBed(seed: seed)
                try bed.load()
                let member = bed.first
                let table = member.tables[1]
                member.damage(table.id, try member.blocks(table.id)[1])
                try bed.checkReads(member)
                if !isSynced { member.disk.skipSync = [member.disk.syncCount + 1] }
                try bed.settle()
                #expect(member.hints.isEmpty)
                member.disk.powerCut()
                member.disk.skipSync = []
                member.repair.setDonors([])
                try bed.reopen(member)
                #expect(member.store.manifest.local[table.id]?.generation == 1)
                if isSynced {
                    try bed.checkReads(member, "seed \(seed)")
                    #expect(member.store.healer.ledger.rows().first?.state == .healedReplica)
                } else if !isSound(member, table) {
                    broken += 1
                }
            }
        }
        #expect(broken > 5, "without the sync \(broken) of 10 files were lost")
    }

    private func isSound(_ member: HealMember, _ table: TableRecord) -> Bool {
        do {
            let file = try member.disk.open(member.path(table.id), .read)
            return try TableReader.open(
                file: file, record: table, cache: BlockCache(capacity: 0)
            ).verify(fromMedium: true).isClean
        } catch {
            return false
        }
    }

    /// Trap 27: a healed file takes the place of the old one at once.
    @Test func aPowerCutAtEveryStepLeavesOldOrNew() throws {
        var cuts = 0
        var heals = 0
        var isOver = false
        while !isOver {
            let bed = try HealBed(seed: UInt64(cuts + 1))
            try bed.load(keys: 100)
            let member = bed.first
            let table = member.tables[1]
            member.damage(table.id, try member.blocks(table.id)[1])
            try bed.checkReads(member)
            let before = member.disk.operationCount
            member.disk.stop(after: cuts)
            while member.step(now: bed.now) {
                if member.disk.operationCount - before >= cuts { break }
            }
            isOver = member.hints.isEmpty && member.disk.operationCount - before < cuts
            member.disk.powerCut()
            try bed.reopen(member)
            let generation = try #require(member.store.manifest.local[table.id]?.generation)
            #expect(member.disk.exists(member.path(table.id)), "cut \(cuts)")
            if generation > 0 {
                heals += 1
                #expect(try member.describe(table.id).digest == table.digest, "cut \(cuts)")
            } else {
                #expect(!isOver, "cut \(cuts)")
            }
            try bed.checkReads(member, "cut \(cuts)")
            bed.now += 10_000
            try bed.settle()
            #expect(member.hints.isEmpty, "cut \(cuts)")
            #expect(try member.describe(table.id).digest == table.digest, "cut \(cuts)")
            #expect(try member.disk.list(member.directory).count == 2, "cut \(cuts)")
            cuts += 1
            try #require(cuts < 200)
        }
        #expect(heals > 2 && cuts > 8, "\(heals) heals in \(cuts) cuts")
    }
}
