// An embedded database whose long values live in blob files: they come, are collected and go; copies,
// snapshots, restarts and rebuilt manifests take them along.
import Engine
import Testing

@Suite struct DatabaseBlobTests {
    private static let keys = 200

    private func options(_ change: (inout DatabaseOptions) -> Void = { _ in }) -> DatabaseOptions {
        var options = DatabaseRig.smallOptions()
        options.settings.blobThreshold = 64
        options.settings.blobFileBytes = 4096
        change(&options)
        return options
    }

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }

    private func value(_ number: Int, _ round: Int) -> [UInt8] {
        let length = number % 5 == 0 ? 20 : 100 + number % 7 * 30
        return [UInt8](repeating: UInt8((number * 7 + round * 31) % 251), count: length)
    }

    /// Puts every key, then some of them again.
    private func fill(_ rig: DatabaseRig, rounds: Int = 4) throws -> [[UInt8]: [UInt8]] {
        var content: [[UInt8]: [UInt8]] = [:]
        for round in 0..<rounds {
            for number in stride(from: 1, to: DatabaseBlobTests.keys, by: 1 + round % 3) {
                try rig.database.put(key(number), value(number, round))
                content[key(number)] = value(number, round)
                rig.runJobs(number % 2)
            }
        }
        return content
    }

    private func check(
        _ database: some KeyValueReader, _ content: [[UInt8]: [UInt8]], now: UInt64 = 0
    ) throws {
        let found = try database.scan(
            .everything, reverse: false, limit: .max, limitBytes: .max, now: now)
        #expect(found.map(\.key) == content.keys.sorted { $0.lexicographicallyPrecedes($1) })
        #expect(found.allSatisfy { content[$0.key] == $0.value.value })
        for (key, value) in content {
            #expect(try database.get(key, now: now, io: .blocking)?.value == value)
        }
    }

    private func ledger(_ rig: DatabaseRig) -> BlobLedger {
        rig.store.manifest.manifest.tables.ledger
    }

    private func fileNames(_ rig: DatabaseRig) throws -> Set<String> {
        Set(try rig.memory.list(DatabaseRig.group + "/sst"))
    }

    private func expectNoStrays(_ rig: DatabaseRig) throws {
        let named = rig.store.manifest.local.map {
            TableHandle.fileName($0.key, generation: UInt64($0.value.generation))
        }
        #expect(try fileNames(rig) == Set(named))
    }

    @Test func `Dead values are collected, and dead files go`() throws {
        let rig = try DatabaseRig(options())
        let content = try fill(rig, rounds: 8)
        try rig.database.flush()
        rig.jobs.runAll()
        try check(rig.store, content)
        let ledger = ledger(rig)
        #expect(!ledger.rows.isEmpty)
        #expect(ledger.rows.contains { $0.file.kind == .compactionBlob })
        #expect(!ledger.isWorthJobs(deadPercent: 25), "\(ledger.rows)")
        #expect(rig.database.multiGetIsLike(content))
        try expectNoStrays(rig)

        try rig.database.deletePrefix([])
        try rig.database.compactAll()
        rig.jobs.runAll()
        try rig.database.flush()
        rig.jobs.runAll()
        try rig.database.compactAll()
        rig.jobs.runAll()
        #expect(self.ledger(rig).rows.isEmpty, "\(self.ledger(rig).rows)")
        try expectNoStrays(rig)
    }

    @Test func `Without collection dead values stay`() throws {
        let rig = try DatabaseRig(options { $0.store.compaction.blobDeadPercent = 0 })
        let content = try fill(rig, rounds: 8)
        try rig.database.flush()
        rig.jobs.runAll()
        try check(rig.store, content)
        #expect(ledger(rig).rows.contains { $0.deadBytes * 4 > $0.bytes })
        #expect(ledger(rig).rows.allSatisfy { $0.file.kind == .flushBlob })
    }

    @Test func `A snapshot keeps what it reads`() throws {
        let rig = try DatabaseRig(options())
        let before = try fill(rig, rounds: 2)
        try rig.database.flush()
        var snapshots = [rig.database.snapshot()]
        for number in 1..<DatabaseBlobTests.keys {
            try rig.database.put(key(number), value(number, 77))
        }
        try rig.database.flush()
        try rig.database.compactAll()
        rig.jobs.runAll()
        for (key, value) in before { #expect(try snapshots[0].get(key) == value) }
        snapshots.removeAll()
        try rig.database.put(key(1), [1])
        rig.jobs.runAll()
        try expectNoStrays(rig)
    }

    @Test func `Restarts find everything, under a key or without`() throws {
        for isEncrypted in [false, true] {
            let rig = try DatabaseRig(
                options { if isEncrypted { $0.encryption = try? testKeys(1) } })
            let content = try fill(rig)
            let blobs = try fileNames(rig).filter { $0.contains("-b") }
            #expect(!blobs.isEmpty)
            if isEncrypted {
                for name in blobs {
                    let bytes = try rig.memory.readAll(
                        DatabaseRig.group + "/sst/" + name, limit: 1 << 20)
                    #expect(bytes[12] == 1, "the epoch of its key")
                }
            }
            rig.powerCut()
            try rig.open()
            try check(rig.store, content)
            try rig.close()
            try rig.open()
            try check(rig.store, content)
            rig.jobs.runAll()
            try expectNoStrays(rig)
        }
    }

    @Test func `A checkpoint takes them along`() throws {
        let rig = try DatabaseRig(options())
        let content = try fill(rig)
        try rig.database.checkpoint(to: "copy")
        try rig.database.deletePrefix([])
        try rig.database.compactAll()
        rig.jobs.runAll()
        let jobs = ManualJobs(seed: 1, .random)
        let copy = try Database.open(
            rig.memory, "copy", rig.options,
            DatabaseEnvironment(
                jobs: jobs, wall: { 0 }, monotonic: { 0 }, yield: { jobs.runOne() }, seed: 99))
        try check(copy.store, content)
        try copy.close()
    }

    @Test func `A lost manifest is made anew with them`() throws {
        for retainsLog in [true, false] {
            let rig = try DatabaseRig(options { $0.retainLogBytes = retainsLog ? .max : 0 })
            var content = try fill(rig)
            try rig.database.flush()
            rig.jobs.runAll()
            try rig.close()
            for name in try rig.memory.list(DatabaseRig.group)
            where name.hasPrefix("MANIFEST-") || name == "CURRENT" {
                try rig.memory.unlink(DatabaseRig.group + "/" + name)
            }
            let result = try ManifestRebuild.run(
                rig.memory, path: DatabaseRig.path, isForced: true)
            #expect(result.isWritten)
            #expect(result.isExact || !retainsLog)
            try rig.open()
            try check(rig.store, content)
            try rig.database.put(key(1), value(1, 99))
            content[key(1)] = value(1, 99)
            try rig.database.compactAll()
            rig.jobs.runAll()
            try check(rig.store, content)
            try expectNoStrays(rig)
        }
    }

    @Test func `A blob file that is lost with the manifest is missed`() throws {
        let rig = try DatabaseRig(options { $0.retainLogBytes = 0 })
        _ = try fill(rig)
        try rig.database.flush()
        try rig.database.compactAll()
        rig.jobs.runAll()
        try rig.close()
        let blob = try #require(try fileNames(rig).sorted().first { $0.contains("-b") })
        try rig.memory.unlink(DatabaseRig.group + "/sst/" + blob)
        for name in try rig.memory.list(DatabaseRig.group)
        where name.hasPrefix("MANIFEST-") || name == "CURRENT" {
            try rig.memory.unlink(DatabaseRig.group + "/" + name)
        }
        let careful = try ManifestRebuild.run(rig.memory, path: DatabaseRig.path, isForced: false)
        #expect(!careful.isWritten)
        #expect(careful.doubts.contains { $0.contains("blob file") }, "\(careful.doubts)")
    }

    @Test func `A rebuild that is forced goes on without a lost blob file`() throws {
        let rig = try DatabaseRig(options { $0.retainLogBytes = 0 })
        var content = try fill(rig)
        try rig.database.flush()
        try rig.database.compactAll()
        rig.jobs.runAll()
        try rig.close()
        let name = try #require(try fileNames(rig).sorted().first { $0.contains("-b") })
        let blob = try #require(TableHandle.parse(fileName: name)?.0)
        try rig.memory.unlink(DatabaseRig.group + "/sst/" + name)
        for name in try rig.memory.list(DatabaseRig.group)
        where name.hasPrefix("MANIFEST-") || name == "CURRENT" {
            try rig.memory.unlink(DatabaseRig.group + "/" + name)
        }
        let forced = try ManifestRebuild.run(rig.memory, path: DatabaseRig.path, isForced: true)
        #expect(forced.isWritten && forced.absent.map(\.id) == [blob])
        try rig.open()
        let lost = try lostKeys(rig, content, blob)
        #expect(!lost.isEmpty && lost.count < content.count)

        for round in 0..<8 {
            for number in stride(from: 2, to: DatabaseBlobTests.keys, by: 2) {
                try rig.database.put(key(number), value(number, 50 + round))
                content[key(number)] = value(number, 50 + round)
                rig.runJobs(number % 2)
            }
        }
        try rig.database.flush()
        for _ in 0..<50 {
            rig.clock.advance(1_000)
            rig.jobs.runAll()
            try rig.database.put([255], [1])
        }
        content[[255]] = [1]
        #expect(rig.store.manifest.manifest.jobs.isEmpty)
        #expect(rig.store.manifest.manifest.tables.tables(at: 0).count < 8)
        #expect(try lostKeys(rig, content, blob).isSubset(of: lost))
        try rig.close()
        try rig.open()
        #expect(try lostKeys(rig, content, blob).isSubset(of: lost))
    }

    /// Keys whose values are errors for the sake of `blob`; all others are as they should be.
    private func lostKeys(
        _ rig: DatabaseRig, _ content: [[UInt8]: [UInt8]], _ blob: TableID
    ) throws -> Set<[UInt8]> {
        var lost = Set<[UInt8]>()
        for (key, value) in content {
            do throws(EngineError) {
                let found = try rig.database.get(key)
                #expect(found == value)
            } catch {
                guard case .blockLost(let address, _) = error else { throw error }
                #expect(address.table == blob)
                lost.insert(key)
            }
        }
        return lost
    }

    @Test func `FIFO counts the values of a table`() throws {
        let rig = try DatabaseRig(
            options {
                $0.store.compaction.strategy = .fifo(bytesMax: 30_000, ageMilliseconds: 0)
            })
        for part in 0..<10 {
            for number in (part * 60)..<(part * 60 + 60) {
                try rig.database.put(key(number), [UInt8](repeating: 1, count: 100))
            }
            try rig.database.flush()
        }
        rig.jobs.runAll()
        let bytes = rig.database.tables().reduce(0) { $0 + $1.canonicalBytes }
        #expect((10_000...30_000).contains(bytes), "\(bytes)")
        let live = try rig.database.scan(.everything).map(\.key)
        #expect(live == (600 - live.count..<600).map { key($0) })
        try expectNoStrays(rig)
    }
}

extension Database {
    /// All keys at once give what they give alone.
    fileprivate func multiGetIsLike(_ content: [[UInt8]: [UInt8]]) -> Bool {
        let keys = Array(content.keys)
        return (try? multiGet(keys)) == keys.map { content[$0] }
    }
}
