// Members with different keys and without: equal digests, and each heals the others, since what
// they give each other is never what stands on their disks.
import Engine
import Testing

@Suite struct HealEncryptionTests {
    private func bed() throws -> HealBed {
        try HealBed(
            members: 3,
            keys: [
                KeyRing(try testKeys(1), random: seededNumbers(1)), .plain,
                KeyRing(try testKeys(2), random: seededNumbers(2)),
            ])
    }

    @Test func membersWithOtherKeysHealEachOther() throws {
        let bed = try bed()
        try bed.load()
        for member in bed.members { #expect(member.tables == bed.first.tables) }
        for (place, member) in bed.members.enumerated() {
            let table = member.tables[1]
            let blocks = try member.blocks(table.id)
            #expect(blocks.count > 8)
            member.damage(table.id, blocks[place])
            member.damage(table.id, blocks[place + 4])
            try bed.checkReads(member)
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica)
            try bed.checkReads(member)
            let file = try member.disk.open(member.path(table.id), .read)
            #expect(try TableImport.localHeader(file).keyEpoch == member.keys.currentEpoch)
        }
    }

    @Test func aLostFileComesFromMembersWithOtherKeys() throws {
        let bed = try bed()
        try bed.load()
        for member in bed.members {
            let table = member.tables[1]
            try member.disk.unlink(member.path(table.id))
            try bed.reopen(member)
            try bed.checkReads(member)
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica)
        }
    }

    @Test func theLedgerTellsTamperingFromRot() throws {
        for tampers in [true, false] {
            let bed = try bed()
            try bed.load()
            let member = bed.first
            let table = member.tables[1]
            let block = try member.blocks(table.id)[2]
            let path = member.path(table.id)
            var bytes = try member.disk.readAll(path, limit: 1 << 30)
            let (start, end) = (Int(block.offset), Int(block.end))
            bytes[start + 90] ^= 1
            if tampers {
                put(Checksum.crc32c(Array(bytes[(start + 80)..<end])), start + 36, &bytes)
                put(Checksum.crc32c(Array(bytes[start..<(start + 76)])), start + 76, &bytes)
            }
            let file = try member.disk.open(path, .write)
            try file.writeAll(bytes, at: 0)
            try file.sync()
            try bed.reopen(member)
            try bed.checkReads(member)
            let row = try #require(member.store.healer.ledger.rows().first)
            #expect(row.state == .detected)
            #expect(row.reason.contains("tampered") == tampers, "\(row.reason)")
            try bed.settle()
            try bed.checkHealed(member, table, .healedReplica)
        }
    }

    private func put(_ value: UInt32, _ at: Int, _ bytes: inout [UInt8]) {
        for byte in 0..<4 { bytes[at + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte)) }
    }
}
