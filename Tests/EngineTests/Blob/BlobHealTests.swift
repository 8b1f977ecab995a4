// Damage in blob files: served from replicas and healed like that of tables; never served as it is.
import Engine
import Testing

@Suite struct BlobHealTests {
    private static let data: UInt8 = 1
    private static let leaves: UInt8 = 6

    private func bed(
        members: Int = 2, keys: [KeyRing] = [], configure: (inout StoreOptions) -> Void = { _ in }
    ) throws -> HealBed {
        let bed = try HealBed(
            members: members, keys: keys, blobThreshold: 32, configure: configure)
        try bed.load()
        return bed
    }

    private func blob(_ member: HealMember) throws -> TableRecord {
        try #require(member.tables.last { $0.isBlob })
    }

    @Test func aBlockIsFetchedAndHealed() throws {
        let bed = try bed()
        let member = bed.first
        #expect(member.tables == bed.members[1].tables)
        #expect(member.tables.count { $0.isBlob } == 2)
        let blob = try blob(member)
        let data = try member.blocks(blob.id).filter { $0.type == BlobHealTests.data }
        #expect(data.count > 5)
        member.damage(blob.id, data[2])
        try bed.checkReads(member)
        #expect(member.hints.map(\.table) == [blob.id])
        try bed.settle()
        try bed.checkHealed(member, blob, .healedReplica)
        try bed.checkReads(member)
        try bed.reopen(member)
        try bed.checkReads(member)
    }

    @Test func theLeafListAndTheFileAreHealed() throws {
        for isMissing in [false, true] {
            let bed = try bed()
            let member = bed.first
            let blob = try blob(member)
            if isMissing {
                try member.disk.unlink(member.path(blob.id))
            } else {
                let list = try #require(
                    try member.blocks(blob.id).last { $0.type == BlobHealTests.leaves })
                member.damage(blob.id, list)
            }
            try bed.reopen(member)
            try bed.checkReads(member)
            try bed.settle()
            try bed.checkHealed(member, blob, .healedReplica)
            try bed.checkReads(member)
        }
    }

    @Test func membersWithOtherKeysHealEachOther() throws {
        let bed = try bed(
            members: 2, keys: [KeyRing(try testKeys(1), random: seededNumbers(1)), .plain])
        #expect(bed.first.tables == bed.members[1].tables)
        for member in bed.members {
            let blob = try blob(member)
            member.damage(blob.id, try member.blocks(blob.id)[3])
            try bed.checkReads(member)
            try bed.settle()
            try bed.checkHealed(member, blob, .healedReplica)
            try bed.checkReads(member)
        }
    }

    /// No replica: the values of the block are errors, all others are served.
    @Test func whatNobodyHasIsAnError() throws {
        let bed = try bed(members: 1)
        let member = bed.first
        let blob = try blob(member)
        member.damage(blob.id, try member.blocks(blob.id)[2])
        var lost = 0
        for number in 0..<100 {
            let key = HealBed.key(number)
            do throws(EngineError) {
                let found = try member.store.get(key, now: 1, io: .blocking)
                #expect(found?.value == bed.model[key])
            } catch {
                guard case .blockLost(let address, _) = error else { throw error }
                #expect(address.table == blob.id)
                lost += 1
            }
        }
        #expect((1...8).contains(lost), "\(lost)")
    }

    @Test func aDamagedFileIsCollectedAllTheSame() throws {
        let bed = try bed { $0.compaction.isEnabled = true }
        let member = bed.first
        let blob = try blob(member)
        let data = try member.blocks(blob.id).filter { $0.type == BlobHealTests.data }
        // Of values that stay.
        member.damage(blob.id, data[data.count - 2])
        try bed.overwrite(0..<60)
        try bed.compactAll()
        try bed.compactAll()
        #expect(member.repair.calls > 0)
        #expect(!member.tables.contains { $0.id == blob.id })
        #expect(member.tables.contains { $0.id.kind == .compactionBlob })
        #expect(member.tables == bed.members[1].tables)
        try bed.checkReads(member)
    }

    /// The file stays as long as a table counts it.
    @Test func twoJobsCollectAFileAndOneIsCalledOff() throws {
        let bed = try bed(members: 1) { $0.compaction.targetBytes = 1024 }
        let member = bed.first
        let blob = try blob(member)
        try bed.compactAll()
        func users() -> [TableRecord] {
            member.tables.filter { table in
                !table.isBlob && table.blobs.contains { $0.file == blob.id }
            }
        }
        func collect(_ table: TableRecord) throws -> LogIndex {
            let spec = CompactionSpec(
                inputs: [CompactionSpec.Input(table)], outputLevel: table.level,
                targetBytes: 1 << 20, horizon: .zero, clock: 0, blockBytes: 512, filter: .none,
                isBottommost: false, collected: [blob.id])
            try bed.append(.compact, spec.encoded())
            return try #require(bed.entries.last?.index)
        }
        let before = users()
        try #require(before.count > 1)
        let first = try collect(before[0])
        _ = try collect(before[1])
        #expect(member.store.jobFacts(at: 0).manifest.jobs.count == 2)
        let record = CancelledRecord(job: first, reason: .requested, detail: "test")
        try bed.append(.cancelled, record.encoded())
        try bed.settle()
        #expect(users() == before.filter { $0.id != before[1].id })
        #expect(member.tables.contains { $0.id == blob.id })
        try bed.checkReads(member)
        for table in users() {
            #expect(member.tables.contains { $0.id == blob.id })
            _ = try collect(table)
            try bed.settle()
            try bed.checkReads(member)
        }
        #expect(!member.tables.contains { $0.id == blob.id })
        try bed.reopen(member)
        try bed.checkReads(member)
    }
}
