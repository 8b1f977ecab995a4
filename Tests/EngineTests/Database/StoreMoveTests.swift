// Tables that move unread, in a whole database: their files stay under their names, and whoever
// pinned the old level can open them for as long as he likes.

import Engine
import Testing

@Suite struct StoreMoveTests {
    private func files(_ rig: DatabaseRig) throws -> Set<String> {
        Set(try rig.memory.list(DatabaseRig.group + "/sst"))
    }

    private func fileNames(_ tables: [TableRecord]) -> Set<String> {
        Set(tables.map { TableHandle.fileName($0.id, generation: 0) })
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `Ascending writes are never rewritten, and snapshots outlast their tables`(seed: UInt64)
        throws
    {
        var options = DatabaseRig.smallOptions()
        // A reader that lets go of a file has to find it again.
        options.store.openTables = 1
        let rig = try DatabaseRig(seed: seed, options)
        var snapshots: [Snapshot] = []
        for part in 0..<12 {
            for key in (part * 50)..<(part * 50 + 50) {
                try rig.database.put(
                    KeyValueModel.key(key), [UInt8](repeating: UInt8(part), count: 100))
            }
            try rig.database.flush()
            snapshots.append(rig.database.snapshot())
            rig.runJobs(part % 4)
        }
        rig.jobs.runAll()
        let tables = rig.database.tables()
        #expect(tables.allSatisfy { $0.id.kind == .flush }, "nothing was merged")
        #expect(Set(tables.map(\.level)).count > 1 && tables.contains { $0.level > 1 })
        #expect(try files(rig) == fileNames(tables))

        // Everything is written anew, and the files that moved go when nobody needs them.
        for key in 0..<600 { try rig.database.put(KeyValueModel.key(key), [9]) }
        try rig.database.compactAll()
        rig.jobs.runAll()
        #expect(fileNames(tables).isSubset(of: try files(rig)), "they are pinned")
        for (part, snapshot) in snapshots.enumerated() {
            for key in stride(from: 0, to: 600, by: 7) {
                let written = [UInt8](repeating: UInt8(key / 50), count: 100)
                #expect(
                    try snapshot.get(KeyValueModel.key(key)) == (key / 50 <= part ? written : nil))
            }
        }
        snapshots.removeAll()
        try rig.database.put(KeyValueModel.key(0), [9])
        try rig.database.flush()
        rig.jobs.runAll()
        #expect(try files(rig) == fileNames(rig.database.tables()))
        #expect(try rig.database.get(KeyValueModel.key(300)) == [9])
    }

    @Test func `Tables that moved are found at the next open`() throws {
        let rig = try DatabaseRig()
        for key in 0..<300 {
            try rig.database.put(KeyValueModel.key(key), [UInt8](repeating: 1, count: 100))
        }
        try rig.database.flush()
        rig.jobs.runAll()
        let tables = rig.database.tables()
        #expect(tables.contains { $0.id.kind == .flush && $0.level > 0 })
        try rig.close()
        try rig.open()
        #expect(rig.database.tables() == tables)
        #expect(try files(rig) == fileNames(tables))
        for key in 0..<300 { #expect(try rig.database.get(KeyValueModel.key(key))?.count == 100) }
    }
}
