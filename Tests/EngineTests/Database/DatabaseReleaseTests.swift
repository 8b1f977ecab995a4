// A database that was let go of leaves nothing in memory, however it ended.
import Engine
import Testing

@Suite struct DatabaseReleaseTests {
    private final class Remains {
        weak var rig: DatabaseRig?
        weak var database: Database?
        weak var store: Store?
        weak var files: MemoryFileSystem?
    }

    private enum Ending: CaseIterable {
        case close, letGo, kill
    }

    private func use(_ ending: Ending, isRead: Bool) throws -> Remains {
        let rig = try DatabaseRig(seed: 5)
        let remains = Remains()
        remains.rig = rig
        remains.database = rig.database
        remains.store = rig.store
        remains.files = rig.memory
        for number in 0..<200 {
            try rig.database.put(KeyValueModel.key(number), [UInt8](repeating: 7, count: 100))
            if number % 20 == 0 { rig.runJobs(1) }
        }
        if isRead {
            for number in 0..<200 { _ = try rig.database.get(KeyValueModel.key(number)) }
            #expect(try rig.database.scan(.everything).count == 200)
            _ = rig.database.snapshot()
        }
        try rig.database.compactAll()
        if ending == .close { try rig.close() }
        if ending == .kill { rig.kill() }
        return remains
    }

    @Test(arguments: [false, true])
    func `Nothing stays in memory`(isRead: Bool) throws {
        for ending in Ending.allCases {
            let remains = try use(ending, isRead: isRead)
            #expect(remains.rig == nil, "\(ending)")
            #expect(remains.database == nil, "\(ending)")
            #expect(remains.store == nil, "\(ending)")
            #expect(remains.files == nil, "\(ending)")
        }
    }
}
