// What flushes and compactions write is counted once, and waiting for them ends when they do.
import Engine
import Testing

@Suite struct StorageUseTests {
    private func key(_ number: Int) -> [UInt8] { [UInt8]("key\(100_000 + number)".utf8) }

    private func fill(_ rig: DatabaseRig, _ byte: UInt8) throws {
        let value = [UInt8](repeating: byte, count: 50)
        for number in 0..<200 { try rig.database.put(key(number), value) }
    }

    private func fileBytes(_ rig: DatabaseRig) -> UInt64 {
        rig.database.store.manifest.local.values.reduce(0) { $0 + $1.fileBytes }
    }

    @Test func flushesAndCompactionsAreCountedApart() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        options.store.compression = .none
        let rig = try DatabaseRig(options, jobs: .first)
        #expect(rig.database.storageUse == StorageUse())
        try fill(rig, 1)
        try rig.database.flush()
        let flushed = rig.database.storageUse
        #expect(flushed.flushedBytes > 200 * 50 && flushed.compactedBytes == 0)
        #expect(flushed.liveBytes == flushed.flushedBytes && flushed.liveBytes == fileBytes(rig))

        // The same keys again: a merge writes each once.
        try fill(rig, 2)
        try rig.database.compactAll()
        let merged = rig.database.storageUse
        #expect(merged.compactedBytes >= merged.liveBytes && merged.liveBytes == fileBytes(rig))
        #expect(merged.flushedBytes > flushed.flushedBytes + 200 * 50)
        #expect(merged.liveBytes < flushed.liveBytes * 3 / 2)

        // Counted since the open.
        try rig.close()
        try rig.open()
        let opened = rig.database.storageUse
        #expect(opened.flushedBytes == 0 && opened.compactedBytes == 0)
        #expect(opened.liveBytes == merged.liveBytes)
    }

    @Test func whoWaitsForCompactionsFindsNoneLeft() throws {
        let rig = try DatabaseRig()
        for number in 0..<2000 {
            try rig.database.put(key(number * 7919 % 1000), [UInt8](repeating: 3, count: 40))
        }
        try rig.database.awaitIdle()
        let use = rig.database.storageUse
        #expect(use.compactedBytes > 0)
        // Nothing more comes of what may still wait to be run.
        rig.jobs.runAll()
        try rig.database.awaitIdle()
        #expect(rig.database.storageUse == use)
        try rig.close()
        #expect(throws: EngineError.self) { try rig.database.awaitIdle() }
    }
}
