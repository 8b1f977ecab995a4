// Members that store the same tables under different codecs heal each other, and a dictionary that
// is damaged costs no more than its own file.
import Engine
import Testing

private enum Kind {
    static let data: UInt8 = 1
    static let index: UInt8 = 2
    static let leaves: UInt8 = 6
    static let dictionary: UInt8 = 64
}

@Suite struct HealCodecTests {
    /// One member for each codec; the first uses a dictionary.
    private func bed(members: Int = Compression.ofEachCodec.count) throws -> HealBed {
        let codecs = [Compression](Compression.ofEachCodec.reversed())
        let bed = try HealBed(
            members: members,
            configureMember: { number, options in
                options.compression = CompressionPolicy(codecs[number])
            })
        // What values have in common is worth a dictionary.
        try bed.load(suffix: #"{"state":"active","currency":"EUR","mail":"@example.com"}"#)
        return bed
    }

    private func dictionary(_ member: HealMember, _ table: TableRecord) throws -> HealMember.Place {
        try #require(try member.blocks(table.id).first { $0.type == Kind.dictionary })
    }

    @Test func `Members of every codec hold the same tables and heal each other`() throws {
        let bed = try bed()
        var names: [String] = []
        for member in bed.members {
            #expect(member.tables == bed.first.tables)
            for table in member.tables {
                let file = try member.disk.open(member.path(table.id), .read)
                names.append("\(try TableImport.localHeader(file).codec)")
            }
        }
        #expect(Set(names) == ["none", "lz4", "zstd", "zstd-dict"])
        var generation: UInt64 = 0
        for donor in bed.members {
            generation += 1
            for member in bed.members where member !== donor {
                member.repair.setDonors([donor])
                let table = member.tables[1]
                let places = try member.blocks(table.id)
                for type in [Kind.data, Kind.index, Kind.leaves] {
                    member.damage(
                        table.id, try #require(places.last { $0.type == type }))
                }
                try bed.reopen(member)
                try bed.checkReads(member, "\(member.id) from \(donor.id)")
                try bed.settle()
                let found = member.store.manifest.local[table.id]?.generation ?? 0
                try bed.checkHealed(
                    member, table, .healedReplica, generation: UInt64(found),
                    "\(member.id) from \(donor.id)")
                #expect(found > 0)
            }
        }
        // A heal writes with the member's own codec.
        let file = try bed.first.disk.open(bed.first.path(bed.first.tables[1].id), .read)
        #expect(try TableImport.localHeader(file).codec == .zstdDictionary)
        #expect(try dictionary(bed.first, bed.first.tables[1]).end > 0)
    }

    @Test func `Blocks behind a damaged dictionary come from a replica, then from a clean file`()
        throws
    {
        let bed = try bed(members: 2)
        let member = bed.first
        let table = member.tables[1]
        let place = try dictionary(member, table)
        member.damage(table.id, place)
        try bed.reopen(member)
        try bed.checkReads(member)
        #expect(member.repair.calls > 0)
        #expect(member.hints.map(\.table) == [table.id])
        #expect(
            bed.members[0].store.donateBlock(
                table.id, digest: table.digest, ordinal: BlockOrdinal(0)) == nil,
            "a donor gives nothing that it cannot decode")
        try bed.settle()
        try bed.checkHealed(member, table, .healedReplica)
        #expect(try dictionary(member, table).end == place.end, "trained from the same blocks")
        try bed.reopen(member)
        try bed.checkReads(member)
        #expect(member.hints.isEmpty)
    }

    @Test func `Without a replica a damaged dictionary is an error, and never no answer`() throws {
        let bed = try bed(members: 1)
        let member = bed.first
        let table = member.tables[1]
        member.damage(table.id, try dictionary(member, table))
        try bed.reopen(member)
        for number in 0..<20 {
            let error = #expect(throws: EngineError.self) {
                _ = try member.store.get(HealBed.key(number), now: 1, io: .blocking)
            }
            guard case .blockLost? = error else {
                Issue.record("key \(number): \(String(describing: error))")
                continue
            }
        }
        try bed.settle()
        #expect(member.hints.map(\.table) == [table.id], "it waits for a replica")
    }

    @Test func `A dictionary that only the page cache has wrong is no damage`() throws {
        let bed = try bed(members: 1)
        let member = bed.first
        let table = member.tables[1]
        let place = try dictionary(member, table)
        member.disk.flip(member.path(table.id), place.offset + 100, onMedium: false)
        try bed.reopen(member)
        try bed.checkReads(member)
        #expect(member.store.healer.counters.transient > 0)
        try bed.settle()
        #expect(member.hints.isEmpty)
        #expect(member.store.manifest.local[table.id]?.generation == 0, "nothing was rewritten")
        try bed.checkReads(member)
    }

    @Test func `Another compression holds for what is written from then on`() throws {
        let bed = try bed(members: 1)
        let member = bed.first
        member.options.compression = .lz4
        try bed.reopen(member)
        try bed.checkReads(member)
        let table = member.tables[1]
        #expect(try dictionary(member, table).end > 0)
        // The footer: a heal from this node's own blocks.
        let size = UInt64(try member.disk.readAll(member.path(table.id), limit: 1 << 20).count)
        member.disk.flip(member.path(table.id), size - 40)
        try bed.reopen(member)
        try bed.checkReads(member)
        try bed.settle()
        try bed.checkHealed(member, table, .healedLocal)
        let file = try member.disk.open(member.path(table.id), .read)
        #expect(try TableImport.localHeader(file).codec == .lz4)
        try bed.checkReads(member)
    }
}
