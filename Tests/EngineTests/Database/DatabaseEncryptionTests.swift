// A database with keys: nothing of it is readable on disk, a wrong key changes nothing, and keys
// come, change and go while the data stays.
import Engine
import Testing

@Suite struct DatabaseEncryptionTests {
    private func options(_ keys: EncryptionKeys?) -> DatabaseOptions {
        var options = DatabaseRig.smallOptions()
        options.encryption = keys
        return options
    }

    private func key(_ number: Int) -> [UInt8] { Array("marker-key-\(10_000 + number)".utf8) }
    private func value(_ number: Int) -> [UInt8] {
        Array("marker value \(number) marker value".utf8)
    }

    private func fill(_ rig: DatabaseRig, _ numbers: Range<Int>) throws {
        for number in numbers {
            try rig.database.put(key(number), value(number))
            if number % 40 == 0 { rig.runJobs(2) }
        }
    }

    private func expectAll(_ rig: DatabaseRig, _ numbers: Range<Int>) throws {
        for number in numbers where try rig.database.get(key(number)) != value(number) {
            Issue.record("key \(number)")
        }
    }

    /// Every file under the database's directory, by path.
    private func files(_ rig: DatabaseRig) throws -> [String: [UInt8]] {
        var all: [String: [UInt8]] = [:]
        for directory in [
            "", "/group-0", "/group-0/log", "/group-0/sst", "/group-0/staged",
            "/group-0/quarantine",
        ] {
            let path = DatabaseRig.path + directory
            for name in try rig.memory.list(path) {
                guard let bytes = try? rig.memory.readAll(path + "/" + name, limit: 1 << 30) else {
                    continue
                }
                all[path + "/" + name] = bytes
            }
        }
        return all
    }

    private func epochs(_ rig: DatabaseRig) throws -> Set<UInt32> {
        let directory = DatabaseRig.group + "/sst/"
        return Set(
            try rig.memory.list(directory).map {
                try TableImport.localHeader(rig.memory.open(directory + $0, .read)).keyEpoch
            })
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never])
    func nothingIsReadableOnDisk(sync: DatabaseOptions.Sync) throws {
        for isEncrypted in [true, false] {
            var options = options(isEncrypted ? try testKeys(1) : nil)
            options.sync = sync
            options.store.compression = .none
            let rig = try DatabaseRig(options)
            try fill(rig, 0..<300)
            try rig.database.deleteRange(key(50), key(60))
            try rig.database.compactAll()
            // What a damaged block leads to is written down, too.
            let sst = DatabaseRig.group + "/sst/"
            let name = try #require(try rig.memory.list(sst).first)
            try rig.close()
            rig.memory.flip(sst + name, 300)
            try rig.open()
            #expect(throws: EngineError.self) { try rig.database.scan(.everything) }
            rig.runJobs(20)
            try fill(rig, 300..<330)
            let seen = try files(rig).filter { $0.value.contains("marker") }.map(\.key)
            #expect(seen.isEmpty == isEncrypted, "\(seen)")
            #expect(try files(rig).keys.contains(DatabaseRig.group + "/ledger"))
        }
    }

    @Test func aWrongKeyChangesNothing() throws {
        let rig = try DatabaseRig(options(try testKeys(1)))
        try fill(rig, 0..<200)
        try rig.database.flush()
        try rig.close()
        let before = try files(rig)
        let other = try EncryptionKeys(current: 1, keys: [1: testKey(50)])
        for keys in [other, try testKeys(2), nil] {
            rig.options.encryption = keys
            let error = #expect(throws: EngineError.self) { try rig.open() }
            guard case .wrongKey(epoch: 1, _, let isMissing)? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(isMissing == (keys?.current != 1))
            #expect("\(error as Any)".contains("epoch 1"))
            #expect(try files(rig) == before)
        }
        rig.options.encryption = try testKeys(1)
        try rig.open()
        try expectAll(rig, 0..<200)
    }

    /// Files that only tables need: an old key that is wrong shows at open, not at the first read.
    @Test func aWrongOldKeyIsToldAtOpen() throws {
        var options = options(try testKeys(1))
        options.store.heal.isAutomatic = false
        options.store.compaction.isEnabled = false
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<200)
        try rig.database.flush()
        try rig.close()
        rig.options.encryption = try testKeys(2, 1)
        try rig.open()
        #expect(try epochs(rig) == [1])
        try fill(rig, 200..<400)
        try rig.database.flush()
        rig.jobs.runAll()
        try rig.close()
        let before = try files(rig)
        rig.options.encryption = try EncryptionKeys(
            current: 2, keys: [2: testKey(2), 1: testKey(99)])
        let error = #expect(throws: EngineError.self) { try rig.open() }
        guard case .wrongKey(epoch: 1, _, isMissing: false)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let sst = before.filter { $0.key.contains("/sst/") }
        #expect(try files(rig).filter { $0.key.contains("/sst/") } == sst)
    }

    /// Whatever becomes of damage: sound tables are written anew from here, and nothing that only
    /// lacked its key is evidence.
    @Test(arguments: HealOptions.Source.allCases, [false, true])
    func keysComeChangeAndGo(source: HealOptions.Source, keepsEvidence: Bool) throws {
        var options = options(nil)
        options.store.heal.source = source
        options.store.heal.keepEvidence = keepsEvidence
        let rig = try DatabaseRig(options)
        try fill(rig, 0..<150)
        try rig.database.flush()
        var count = 150
        var steps: [(keys: EncryptionKeys?, epoch: UInt32)] = []
        steps.append((try testKeys(1), 1))
        steps.append((try testKeys(2, 1), 2))
        steps.append((try testKeys(2), 2))
        steps.append((try testKeys(0, 2), 0))
        steps.append((nil, 0))
        for step in steps {
            try rig.close()
            rig.options.encryption = step.keys
            try rig.open()
            rig.jobs.runAll()
            #expect(try epochs(rig) == [step.epoch])
            #expect(rig.store.healer.hints.all.isEmpty)
            #expect(rig.store.healer.ledger.rows().isEmpty, "a rotation is no damage")
            try expectAll(rig, 0..<count)
            // Far enough that no segment of the old epoch is kept.
            try fill(rig, count..<(count + 150))
            count += 150
            try rig.database.flush()
            try rig.database.compactAll()
            rig.jobs.runAll()
            try expectAll(rig, 0..<count)
            let seen = try files(rig).filter { $0.value.contains("marker") }.map(\.key)
            #expect(seen.isEmpty == (step.epoch != 0), "\(seen)")
        }
    }

    /// Whether the cut comes while the directory is opened with a new key, or while its tables are
    /// written anew: what is in two epochs opens with both keys, and the rotation comes to its end.
    @Test(arguments: [UInt32(2), 0])
    func aPowerCutAnywhereInARotationLosesNothing(epoch: UInt32) throws {
        let before = try DatabaseRig(options(try testKeys(1)))
        try fill(before, 0..<90)
        try before.database.flush()
        before.jobs.runAll()
        try before.close()

        func open(_ files: MemoryFileSystem) throws -> DatabaseRig {
            try DatabaseRig(options(try testKeys(epoch, 1)), memory: files)
        }
        let whole = before.memory.snapshotAfterPowerCut()
        try open(whole).jobs.runAll()
        let steps = whole.operationCount
        #expect(steps > 40)
        for step in 0..<steps {
            let files = before.memory.snapshotAfterPowerCut()
            files.stop(after: step)
            // Refused if the cut comes that early.
            if let cut = try? open(files) { cut.jobs.runAll() }
            files.powerCut()
            let rig = try open(files)
            try expectAll(rig, 0..<90)
            rig.jobs.runAll()
            try expectAll(rig, 0..<90)
            let found = try epochs(rig)
            #expect(found == [epoch], "after \(step) steps")
            #expect(rig.store.healer.hints.all.isEmpty, "after \(step) steps")
        }
    }

    @Test func saltsAreNeverTheSame() throws {
        let watch = SealWatch()
        let rig = try DatabaseRig(options(try testKeys(1)), watch: watch)
        for round in 0..<6 {
            try fill(rig, (round * 60)..<(round * 60 + 60))
            try rig.database.flush()
            if round % 2 == 0 { rig.kill() } else { rig.powerCut() }
            try rig.open()
        }
        try rig.database.compactAll()
        #expect(watch.salts > 25)
        #expect(watch.count > 500 && watch.repeated.isEmpty)
    }
}
