// Healing of a database that nobody writes to: what a read finds is mended all the same.
import Engine
import Testing

@Suite struct DatabaseHealTests {
    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 200)
    }

    /// Opened, with nothing to do, on one table whose second copy of something is damaged.
    private func makeRig() throws -> DatabaseRig {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(options)
        for number in 0..<12 { try rig.database.put(key(number), value(number)) }
        try rig.database.flush()
        try rig.close()
        let directory = DatabaseRig.group + "/sst/"
        let name = try #require(rig.memory.list(directory).first)
        let size = try rig.memory.open(directory + name, .read).size()
        rig.memory.flip(directory + name, size - 20)
        try rig.open()
        rig.jobs.runAll()
        #expect(rig.store.healer.hints.all.isEmpty)
        return rig
    }

    private func expectAll(_ rig: DatabaseRig) throws {
        for number in 0..<12 { #expect(try rig.database.get(key(number)) == value(number)) }
    }

    @Test func `What a read finds is healed without a write`() throws {
        let rig = try makeRig()
        try expectAll(rig)
        #expect(rig.store.healer.hints.all.count == 1)
        let last = rig.store.applied
        rig.jobs.runAll()
        #expect(rig.store.healer.hints.all.isEmpty)
        #expect(rig.store.healer.ledger.rows(limit: 1).first?.state == .healedLocal)
        #expect(rig.store.applied == last)
        try expectAll(rig)
    }

    /// What is still being read finds damage when the directory may belong to another already.
    @Test func `After a close nothing is recorded`() throws {
        let directory = try TemporaryDirectory()
        let database = try Database.open(directory.path)
        try database.put([1], [1])
        try database.flush()
        let table = try #require(database.tables().first).id
        let healer = database.store.healer
        try database.close()
        let files = POSIXFileSystem()
        let other = try Database.open(directory.path)
        let paths = ["hints", "ledger"].map { directory.path + "/group-0/" + $0 }
        let before = try paths.map { try files.readAll($0, limit: 1 << 20) }
        healer.noteDamage(table, block: nil, reason: "a bad sector")
        #expect(healer.healNext(now: .max) == nil)
        #expect(try paths.map { try files.readAll($0, limit: 1 << 20) } == before)
        #expect(healer.hints.all.isEmpty && healer.ledger.rows().isEmpty)
        try other.close()
    }

    @Test func `A heal that failed is tried again when it is due`() throws {
        let rig = try makeRig()
        rig.memory.capacity = rig.memory.usedBytes
        try expectAll(rig)
        rig.jobs.runAll()
        #expect(rig.store.healer.counters.failed > 0)
        rig.memory.capacity = .max
        // Which needs no end of a segment.
        try rig.database.put(key(0), value(0))
        rig.jobs.runAll()
        #expect(rig.store.healer.hints.all.count == 1, "not due")
        rig.clock.advance(2_000)
        try rig.database.put(key(0), value(0))
        rig.jobs.runAll()
        #expect(rig.store.healer.hints.all.isEmpty)
        try expectAll(rig)
    }
}
