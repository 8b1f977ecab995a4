// A lost manifest made anew from tables and log: what it serves, what it refuses, and that nothing
// is "not found" for being damaged.
import Engine
import Testing

@Suite struct ManifestRebuildTests {
    private static let group = DatabaseRig.group

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int, _ round: Int) -> [UInt8] {
        [UInt8](repeating: UInt8((number * 7 + round * 31) % 251), count: 120)
    }

    /// A database whose tables are in several levels, with deletes and merges in them, and its
    /// content.
    private func makeRig(
        retainsLog: Bool, rounds: Int = 4, encryption: EncryptionKeys? = nil
    ) throws -> (DatabaseRig, content: [[UInt8]: [UInt8]]) {
        var options = DatabaseRig.smallOptions()
        options.encryption = encryption
        options.retainLogBytes = retainsLog ? .max : 0
        let rig = try DatabaseRig(options)
        var content: [[UInt8]: [UInt8]] = [:]
        for round in 0..<rounds {
            for number in stride(from: round % 3, to: 120, by: 1 + round % 2) {
                try rig.database.put(key(number), value(number, round))
                content[key(number)] = value(number, round)
                rig.runJobs(number % 3)
            }
            for number in stride(from: round, to: 120, by: 7) {
                try rig.database.delete(key(number))
                content[key(number)] = nil
            }
            for number in stride(from: round, to: 120, by: 11) {
                try rig.database.merge(key(number), [UInt8(round)], by: .append)
                content[key(number), default: []] += [UInt8(round)]
            }
        }
        return (rig, content)
    }

    private func close(_ rig: DatabaseRig) throws {
        try rig.close()
        rig.jobs.runAll()
    }

    private func loseManifest(_ rig: DatabaseRig) throws {
        for name in try rig.memory.list(ManifestRebuildTests.group)
        where name.hasPrefix("MANIFEST-") || name == "CURRENT" {
            try rig.memory.unlink(ManifestRebuildTests.group + "/" + name)
        }
    }

    private func rebuild(_ rig: DatabaseRig, isForced: Bool = false) throws -> ManifestRebuild {
        try ManifestRebuild.run(rig.memory, path: DatabaseRig.path, isForced: isForced)
    }

    private func expect(_ content: [[UInt8]: [UInt8]], _ rig: DatabaseRig) throws {
        let found = try rig.database.scan(.everything)
        #expect(found.map(\.key) == content.keys.sorted { $0.lexicographicallyPrecedes($1) })
        for (key, value) in content { #expect(try rig.database.get(key) == value) }
        for pair in found { #expect(content[pair.key] == pair.value.value) }
    }

    private func error(of body: () throws -> Void) -> EngineError? {
        do { try body() } catch { return error as? EngineError }
        return nil
    }

    // MARK: what comes of it

    @Test func `With the whole log the manifest is what it was`() throws {
        let (rig, content) = try makeRig(retainsLog: true)
        try rig.database.flush()
        rig.jobs.runAll()
        let before = rig.database.tables()
        #expect(Set(before.map(\.level)).count > 1)
        try rig.database.put([1], [1])
        try close(rig)
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(result.isExact && result.isWritten && result.doubts.isEmpty)
        #expect(result.absent.isEmpty && result.unreadable.isEmpty)
        // Flushes that nothing was merged from yet are made again.
        let kept = Set(result.tables)
        #expect(kept.isSubset(of: before) && !kept.isEmpty)
        try rig.open()
        try expect(content.merging([[1]: [1]]) { $1 }, rig)
        try rig.database.compactAll()
        try expect(content.merging([[1]: [1]]) { $1 }, rig)
    }

    @Test func `Without the log of the jobs all tables go to level 0, and nothing is lost`() throws
    {
        let (rig, content) = try makeRig(retainsLog: false, rounds: 7)
        try rig.database.flush()
        rig.jobs.runAll()
        let before = rig.database.tables()
        #expect(Set(before.map(\.level)).count > 2)
        try close(rig)
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(!result.isExact && result.isWritten && result.doubts.isEmpty)
        #expect(result.tables.allSatisfy { $0.level == 0 })
        #expect(Set(result.tables.map(\.digest)) == Set(before.map(\.digest)))
        // No job holds them all: those whose ages interleave go together all the same.
        rig.options.store.compaction.jobBytesMax = 1
        try rig.open()
        try expect(content, rig)
        let sequence = rig.database.sequence
        for round in 0..<3 {
            try rig.database.put([9, UInt8(round)], [1])
            rig.jobs.runAll()
        }
        #expect(rig.database.sequence.rawValue == sequence.rawValue + 3)
        var all = content
        for round in 0..<3 { all[[9, UInt8(round)]] = [1] }
        try expect(all, rig)
        try rig.database.compactAll()
        try expect(all, rig)
        #expect(rig.database.tables().allSatisfy { $0.level > 0 })
        try close(rig)
        rig.options.recovery = .strict
        try rig.open()
        try expect(all, rig)
    }

    @Test func `What was never flushed comes from the log alone`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(key(1), [1])
        try close(rig)
        try loseManifest(rig)
        #expect(try rebuild(rig).isWritten)
        try rig.open()
        try expect([key(1): [1]], rig)
    }

    @Test func `Tables that were moved unread are at their levels`() throws {
        var options = DatabaseRig.smallOptions()
        options.retainLogBytes = .max
        let rig = try DatabaseRig(options)
        var content: [[UInt8]: [UInt8]] = [:]
        // In order, so that tables meet nothing; at last some that have to be merged.
        for number in Array(0..<600) + Array(repeating: 599, count: 400) {
            try rig.database.put(key(number), value(number, content.count))
            content[key(number)] = try rig.database.get(key(number))
            rig.runJobs(3)
        }
        try rig.database.flush()
        rig.jobs.runAll()
        let before = rig.database.tables()
        let moved = before.filter { $0.id.kind == .flush && $0.level > 0 }
        #expect(!moved.isEmpty && before.contains { $0.id.kind == .compaction })
        try close(rig)
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(result.isExact && result.isWritten && result.doubts.isEmpty)
        let kept = result.tables.filter { $0.id.kind == .flush && $0.level > 0 }
        #expect(!kept.isEmpty && Set(kept).isSubset(of: moved))
        try rig.open()
        try expect(content, rig)
        rig.jobs.runAll()
        try expect(content, rig)
    }

    @Test func `What a crash left of the log is replayed`() throws {
        for seed in 1...6 as ClosedRange<UInt64> {
            let (rig, content) = try makeRig(retainsLog: seed % 2 == 0, rounds: Int(seed % 3) + 1)
            rig.powerCut()
            try loseManifest(rig)
            let result = try rebuild(rig)
            #expect(result.isWritten, "\(result.doubts)")
            try rig.open()
            try expect(content, rig)
            rig.jobs.runAll()
            try rig.database.compactAll()
            try expect(content, rig)
        }
    }

    @Test func `A crash at any step leaves a directory that can be rebuilt`() throws {
        for step in stride(from: 0, to: 30, by: 2) {
            let (rig, content) = try makeRig(retainsLog: true, rounds: 1)
            try close(rig)
            try loseManifest(rig)
            try rig.memory.syncDirectory(ManifestRebuildTests.group)
            rig.memory.stop(after: step)
            _ = try? rebuild(rig)
            rig.powerCut()
            // It is there already, or it is made now.
            if (try? rebuild(rig)) == nil, error(of: { try rig.open() }) == nil {
                try expect(content, rig)
                continue
            }
            try rig.open()
            try expect(content, rig)
        }
    }

    // MARK: damage

    @Test func `A table that the log names and nobody can read is an error, never nothing`() throws
    {
        let (rig, content) = try makeRig(retainsLog: true)
        try rig.database.compactAll()
        try close(rig)
        let group = ManifestRebuildTests.group
        let name = try #require(rig.memory.list(group + "/sst").first)
        try rig.memory.unlink(group + "/sst/" + name)
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(result.absent.count == 1 && result.isWritten && result.isExact)
        let lost = try #require(result.absent.first)
        #expect(TableHandle.fileName(lost.id, generation: 0) == name)
        try rig.open()
        var errors = 0
        for number in 0..<120 {
            if lost.span.contains(key(number)) {
                guard case .blockLost? = error(of: { _ = try rig.database.get(key(number)) }) else {
                    Issue.record("key \(number)")
                    continue
                }
                errors += 1
            } else {
                #expect(try rig.database.get(key(number)) == content[key(number)])
            }
        }
        #expect(errors > 0)
    }

    @Test func `A table that the log names and that has no file is an error or a doubt`() throws {
        var doubtful = 0
        for writes in stride(from: 100, to: 400, by: 20) {
            var (rig, content) = try makeRig(retainsLog: false, rounds: 1)
            // A job under way that reads what another wrote: that one may be gone from the log.
            var read: TableID?
            for number in 0..<400 where read == nil || number < writes {
                try rig.database.put(key(number % 120), value(number, 7))
                content[key(number % 120)] = value(number, 7)
                rig.runJobs(number % 3)
                let inputs = rig.store.manifest.manifest.jobs.flatMap(\.spec.inputs)
                read = inputs.first { $0.id.kind == .compaction }?.id
            }
            guard let read else { continue }
            rig.powerCut()
            try loseManifest(rig)
            let files = try rig.memory.list(ManifestRebuildTests.group + "/sst")
            for name in files where TableHandle.parse(fileName: name)?.0 == read {
                try rig.memory.unlink(ManifestRebuildTests.group + "/sst/" + name)
            }
            let result = try rebuild(rig)
            guard result.isWritten else {
                doubtful += 1
                #expect(result.doubts.contains { $0.contains("\(read)") })
                continue
            }
            try rig.open()
            for number in 0..<120 {
                do {
                    #expect(try rig.database.get(key(number)) == content[key(number)])
                } catch {
                    guard case .blockLost = error else { throw error }
                }
            }
        }
        #expect(doubtful > 0)
    }

    @Test func `A table that nobody knows anything of stops the rebuild, unless it is forced`()
        throws
    {
        let (rig, content) = try makeRig(retainsLog: false)
        try rig.database.compactAll()
        // The log lets go of the entries that name the tables.
        try rig.database.put([200], [1])
        try rig.database.flush()
        rig.jobs.runAll()
        try close(rig)
        let group = ManifestRebuildTests.group
        let name = try #require(rig.memory.list(group + "/sst").first)
        try rig.memory.replace(group + "/sst/" + name, with: [1, 2, 3])
        try loseManifest(rig)
        let before = try rig.memory.list(group + "/sst")
        let refused = try rebuild(rig)
        #expect(!refused.isWritten && refused.unreadable.map(\.file) == [name])
        #expect(refused.doubts.contains { $0.contains(name) })
        #expect(try rig.memory.list(group + "/sst") == before)
        #expect(error(of: { try rig.open() }) != nil)
        let forced = try rebuild(rig, isForced: true)
        #expect(forced.isWritten && forced.doubts == refused.doubts)
        #expect(try rig.memory.readAll(group + "/quarantine/" + name, limit: 99) == [1, 2, 3])
        try rig.open()
        for pair in try rig.database.scan(.everything) where pair.key != [200] {
            #expect(content[pair.key] == pair.value.value)
        }
    }

    @Test func `What is set aside survives a power cut`() throws {
        let (rig, _) = try makeRig(retainsLog: false)
        try close(rig)
        let group = ManifestRebuildTests.group
        let names = try rig.memory.list(group + "/sst")
        #expect(names.count > 1)
        for name in names { try rig.memory.replace(group + "/sst/" + name, with: [1, 2, 3]) }
        try loseManifest(rig)
        #expect(try rebuild(rig, isForced: true).setAside == names.sorted())
        for _ in 0..<8 {
            let disk = rig.memory.snapshotAfterPowerCut()
            #expect(names.allSatisfy { disk.exists(group + "/quarantine/" + $0) })
        }
    }

    @Test func `Without a log the rebuild is forced or not done`() throws {
        let (rig, content) = try makeRig(retainsLog: false)
        try rig.database.flush()
        rig.jobs.runAll()
        let sequence = rig.database.sequence
        try close(rig)
        try loseManifest(rig)
        let group = ManifestRebuildTests.group
        for name in try rig.memory.list(group + "/log") {
            try rig.memory.unlink(group + "/log/" + name)
        }
        let refused = try rebuild(rig)
        #expect(!refused.isWritten && refused.doubts.contains { $0.contains("no log") })
        #expect(try rebuild(rig, isForced: true).isWritten)
        try rig.open()
        try expect(content, rig)
        #expect(rig.database.sequence >= sequence)
        try rig.database.put([1], [1])
        try close(rig)
        try rig.open()
        #expect(try rig.database.get([1]) == [1])
    }

    @Test func `An encrypted database is rebuilt under its key, and not without it`() throws {
        let (rig, content) = try makeRig(
            retainsLog: true, rounds: 2, encryption: try testKeys(1))
        try close(rig)
        try loseManifest(rig)
        let group = ManifestRebuildTests.group
        let before = try rig.memory.list(group + "/sst")
        for keys in [KeyRing.plain, KeyRing(reading: try testKey(9))] {
            guard
                case .wrongKey? = error(of: {
                    _ = try ManifestRebuild.run(
                        rig.memory, path: DatabaseRig.path, keys: keys, isForced: true)
                })
            else {
                Issue.record("not a wrong key")
                continue
            }
        }
        #expect(try rig.memory.list(group + "/sst") == before)
        let result = try ManifestRebuild.run(
            rig.memory, path: DatabaseRig.path, keys: KeyRing(reading: try testKey(1)))
        #expect(result.isWritten && result.isExact, "\(result.doubts)")
        let manifest = try rig.memory.readAll(group + "/MANIFEST-1", limit: 1 << 20)
        #expect(manifest[8] == 2, "encrypted")
        try rig.open()
        try expect(content, rig)
    }

    // MARK: orphans

    @Test func `What is no part of the database goes to quarantine, and nothing else does`() throws
    {
        let (rig, content) = try makeRig(retainsLog: true)
        rig.jobs.runAll()
        // An input of a job that is done, as a reader may have kept it over the end.
        let group = ManifestRebuildTests.group
        let old = try #require(rig.database.tables().first)
        let name = TableHandle.fileName(old.id, generation: 0)
        try rig.memory.linkOrCopy(group + "/sst/" + name, to: group + "/kept")
        try rig.database.compactAll()
        rig.jobs.runAll()
        #expect(!rig.memory.exists(group + "/sst/" + name))
        try close(rig)
        try rig.memory.rename(group + "/kept", to: group + "/sst/" + name)
        _ = try rig.memory.open(group + "/sst/junk", .create)
        _ = try rig.memory.open(group + "/sst/00000000000fffff-f0.0.sst", .create)
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(result.isExact && result.isWritten, "\(result.doubts)")
        #expect(Set(result.setAside).isSuperset(of: ["junk", name]))
        let kept = try rig.memory.list(group + "/quarantine")
        #expect(Set(kept).isSuperset(of: ["junk", name]))
        #expect(
            try rig.memory.list(group + "/sst")
                == result.tables.map { TableHandle.fileName($0.id, generation: 0) }.sorted())
        try rig.open()
        try expect(content, rig)
        // What was set aside stays there.
        #expect(try rig.memory.list(group + "/quarantine") == kept)
    }

    /// A reader keeps the inputs of a job over the end, and another job has taken its outputs.
    @Test func `Inputs that were kept do not come back when the outputs were compacted again`()
        throws
    {
        let (rig, content) = try makeRig(retainsLog: true)
        // All inputs of the next job are tables then.
        try rig.database.flush()
        rig.jobs.runAll()
        let group = ManifestRebuildTests.group
        func names() -> [String] {
            rig.database.tables().map { TableHandle.fileName($0.id, generation: 0) }
        }
        let inputs = names()
        for name in inputs {
            try rig.memory.linkOrCopy(group + "/sst/" + name, to: group + "/kept-" + name)
        }
        try rig.database.compactAll()
        rig.jobs.runAll()
        let outputs = names()
        try rig.database.compactAll()
        rig.jobs.runAll()
        #expect((inputs + outputs).allSatisfy { !rig.memory.exists(group + "/sst/" + $0) })
        let live = names()
        try close(rig)
        for name in inputs {
            try rig.memory.rename(group + "/kept-" + name, to: group + "/sst/" + name)
        }
        try loseManifest(rig)
        let result = try rebuild(rig)
        #expect(result.isExact && result.isWritten, "\(result.doubts)")
        #expect(Set(result.setAside).isSuperset(of: inputs))
        #expect(
            result.tables.map { TableHandle.fileName($0.id, generation: 0) }.sorted()
                == live.sorted())
        try rig.open()
        try expect(content, rig)
        try rig.database.compactAll()
        try expect(content, rig)
    }

    // MARK: refusals

    @Test func `A manifest that is there, a node of a cluster and an open database are left alone`()
        throws
    {
        let (rig, content) = try makeRig(retainsLog: false, rounds: 1)
        guard case .locked? = error(of: { _ = try rebuild(rig) }) else {
            Issue.record("not locked")
            return
        }
        try close(rig)
        let whole = error { _ = try rebuild(rig) }
        #expect(whole?.description.contains("nothing to rebuild") == true)
        #expect(error { _ = try ManifestRebuild.run(rig.memory, path: "nowhere") } != nil)
        #expect(!rig.memory.exists("nowhere"))
        let own = try rig.memory.readAll(DatabaseRig.path + "/node", limit: 4096)
        let member = NodeIdentity(cluster: "birds", node: MemberID(1))
        try rig.memory.replace(DatabaseRig.path + "/node", with: member.encoded())
        guard case .identity(let reason)? = error(of: { _ = try rebuild(rig) }) else {
            Issue.record("not refused")
            return
        }
        #expect(reason.contains("from a peer"))
        try rig.memory.replace(DatabaseRig.path + "/node", with: own)
        try rig.open()
        try expect(content, rig)
    }
}
