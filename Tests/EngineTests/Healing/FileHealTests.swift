// What is healed besides tables shows in the ledger, too.
import Engine
import Testing

@Suite struct FileHealTests {
    private func rows(_ rig: DatabaseRig, _ file: String) -> [LedgerRow] {
        rig.store.healer.ledger.rows().filter { $0.file == "group-0/" + file }
    }

    private func filled() throws -> DatabaseRig {
        let rig = try DatabaseRig()
        for number in 0..<50 { try rig.database.put(Array("key \(number)".utf8), [1, 2, 3]) }
        try rig.database.flush()
        try rig.close()
        return rig
    }

    @Test(arguments: ["MANIFEST-1", "MANIFEST-1.mirror", "CURRENT"])
    func `A damaged copy of the manifest is healed from the other one`(name: String) throws {
        let rig = try filled()
        rig.memory.flip("\(DatabaseRig.group)/\(name)", 20)
        try rig.open()
        let row = try #require(rows(rig, name).first)
        #expect(row.state == .healedLocal)
        #expect(row.source == "local")
        #expect(try rig.database.get(Array("key 7".utf8)) == [1, 2, 3])
        try rig.close()
        try rig.open()
        #expect(rows(rig, name).count == 1, "healed once, told once")
    }

    @Test(arguments: 0..<4)
    func `A damaged copy of hard state is healed from the others`(copy: Int) throws {
        let rig = try filled()
        rig.memory.flip("\(DatabaseRig.group)/state", HardStateFormat.copyOffset(copy) + 8)
        try rig.open()
        let row = try #require(rows(rig, "state").first)
        #expect(row.state == .healedLocal)
        #expect(row.detail.contains("copies \(copy) of"))
        try rig.close()
        try rig.open()
        #expect(rows(rig, "state").count == 1)
    }

    @Test func `Nothing is told of a sound open`() throws {
        let rig = try filled()
        try rig.open()
        #expect(rig.store.healer.ledger.rows().isEmpty)
    }
}
