// Traps of opening and of the manifest that others fell into, each as a test.
import Engine
import Testing

@Suite struct RecoveryTrapTests {
    private static let group = DatabaseRig.group

    private func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    private func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 200)
    }

    @Test func `Trap 10: CURRENT names a manifest only when its data and name are synced`() throws {
        let disk = MemoryFileSystem(seed: 1)
        try disk.createDirectory("m")
        let files = RecordingFileSystem(disk)
        let genesis = logGenesis(cluster: "birds", group: 0)
        let manifest = try ManifestFile.create(
            files, directory: "m",
            identity: ManifestIdentity(genesis: genesis, group: 0, node: MemberID(1)),
            state: ManifestState(genesis: genesis))
        #expect(
            files.syncs.map(\.path) == [
                "m/MANIFEST-1", "m/MANIFEST-1.mirror", "m", "m/CURRENT.new", "m",
            ])
        #expect(files.syncs[2].names == ["MANIFEST-1", "MANIFEST-1.mirror"])
        #expect(files.syncs[4].names?.contains("CURRENT") == true)
        try manifest.rewrite()
        #expect(
            files.syncs.dropFirst(5).map(\.path) == [
                "m/MANIFEST-2", "m/MANIFEST-2.mirror", "m", "m/CURRENT.new", "m",
            ])
    }

    @Test func `Trap 12: whatever the store has installed is in the manifest's file`() throws {
        for seed in 1...4 as ClosedRange<UInt64> {
            let rig = try DatabaseRig(seed: seed)
            var random = SeededRandom(seed: seed)
            for step in 0..<160 {
                switch random.below(8) {
                case 0: try rig.database.delete(key(random.below(60)))
                case 1: try rig.database.deleteRange(key(random.below(60)), key(random.below(60)))
                case 2: try rig.database.flush()
                default: try rig.database.put(key(random.below(60)), value(step))
                }
                guard step % 4 == 0 else { continue }
                rig.jobs.runAll()
                let copy = rig.memory.snapshotAfterPowerCut()
                let found = try ManifestInspection.inspect(copy, RecoveryTrapTests.group)
                #expect(found.state == rig.store.manifest, "seed \(seed), step \(step)")
            }
            try rig.database.compactAll()
            rig.jobs.runAll()
            let found = try ManifestInspection.inspect(rig.memory, RecoveryTrapTests.group)
            #expect(found.state == rig.store.manifest)
            #expect(rig.store.manifest.frontier > LogIndex.zero)
        }
    }

    @Test func `An open removes every file that the manifest does not name, and no other`() throws {
        var orphans = 0
        for seed in 1...12 as ClosedRange<UInt64> {
            let rig = try DatabaseRig(seed: seed)
            var random = SeededRandom(seed: seed)
            for step in 0..<(40 + random.below(80)) {
                try rig.database.put(key(random.below(80)), value(step))
                rig.runJobs(random.below(3))
            }
            if seed % 2 == 0 { rig.powerCut() } else { rig.kill() }
            let copy = rig.memory.snapshotAfterPowerCut()
            let before = try #require(
                try ManifestInspection.inspect(copy, RecoveryTrapTests.group).state)
            let sst = RecoveryTrapTests.group + "/sst"
            let files = Set(try rig.memory.list(sst))
            // Of tables, stand-ins among them.
            let named = before.local.map { id, local in
                TableHandle.fileName(id, generation: UInt64(local.generation))
            }
            #expect(files.isSuperset(of: named), "seed \(seed)")
            orphans += files.count - named.count
            try rig.open()
            #expect(Set(try rig.memory.list(sst)) == Set(named), "seed \(seed)")
            #expect(try rig.memory.list(RecoveryTrapTests.group + "/staged").isEmpty)
        }
        #expect(orphans > 0)
    }

    @Test func `Trap 18: one bad block costs what it holds, and no filter hides a key`() throws {
        var options = DatabaseRig.smallOptions(segmentBytes: 1 << 20)
        options.store.compaction.isEnabled = false
        options.store.compression = .none
        let rig = try DatabaseRig(options)
        for number in 0..<60 { try rig.database.put(key(number), value(number)) }
        try rig.database.deleteRange(key(60), key(70))
        try rig.database.flush()
        try rig.close()
        rig.jobs.runAll()
        let name = try #require(rig.memory.list(RecoveryTrapTests.group + "/sst").first)
        let path = RecoveryTrapTests.group + "/sst/" + name
        var served: [String: Int] = [:]
        for block in try blocks(path, rig.memory) {
            let offset = try #require(block.offset)
            // Behind the block's header.
            let place = offset + 64 + UInt64(block.storedBytes ?? 0) / 2
            rig.memory.flip(path, place)
            rig.options.store.heal.isAutomatic = false
            try rig.open()
            var count = 0
            for number in 0..<60 {
                do {
                    #expect(try rig.database.get(key(number)) == value(number), "\(block.type)")
                    count += 1
                } catch {
                    #expect(isLoss(error), "\(block.type): \(error)")
                }
            }
            served[block.type] = min(served[block.type] ?? 60, count)
            try rig.close()
            rig.jobs.runAll()
            rig.memory.flip(path, place)
        }
        // Without an index nobody knows where a key would be, and without the range tombstones
        // which of them were deleted. Everything else costs a block of data, or nothing.
        #expect(served["filter"] == 60 && served["properties"] == 60)
        #expect((50..<60).contains(served["data"] ?? 0), "\(served)")
        #expect(served["index"] != nil && served["leaves"] != nil && served.count >= 6)
    }

    private func blocks(_ path: String, _ files: MemoryFileSystem) throws -> [BlockSummary] {
        let file = try files.open(path, .read)
        let reader = try TableReader.open(
            file: file, record: try TableReader.describe(file), cache: BlockCache(capacity: 0))
        var found: [BlockSummary] = []
        reader.forEachBlock { found.append($0) }
        return found
    }

    private func isLoss(_ error: EngineError) -> Bool {
        switch error {
        case .blockLost, .tableLost: return true
        default: return false
        }
    }
}
