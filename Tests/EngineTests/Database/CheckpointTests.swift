// A checkpoint opens by itself and holds what was there; the original goes on; a crash leaves a
// whole one or none.
import Engine
import Testing

@Suite struct CheckpointTests {
    private static let copy = "copy"

    private func filled(_ seed: UInt64, keys: Int = 300) throws -> (DatabaseRig, KeyValueModel) {
        let rig = try DatabaseRig(seed: seed)
        var model = KeyValueModel(keys: keys)
        var source = ChangeSource(seed: seed, keys: keys)
        for _ in 0..<600 {
            let changes = source.changes(now: rig.clock.milliseconds, on: model)
            try rig.database.write(changes.batch)
            for change in changes { model.apply(change) }
            rig.runJobs(1)
        }
        return (rig, model)
    }

    private func open(_ rig: DatabaseRig, _ jobs: ManualJobs) throws -> Database {
        let clock = rig.clock
        return try Database.open(
            rig.memory, CheckpointTests.copy, rig.options,
            DatabaseEnvironment(
                jobs: jobs, wall: { clock.milliseconds }, monotonic: { clock.milliseconds },
                yield: { jobs.runOne() }, seed: 99))
    }

    private func check(_ database: Database, _ model: KeyValueModel, _ now: UInt64) throws {
        let found = try database.scan(.everything)
        let expected = model.live(0, nil, now: now)
        #expect(found.map(\.key) == expected.map { KeyValueModel.key($0) })
        #expect(found.map(\.value) == expected.compactMap { model.read($0, now: now) })
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `It opens by itself with all that was written, and both go on`(seed: UInt64) throws {
        let (rig, model) = try filled(seed)
        try rig.database.checkpoint(to: CheckpointTests.copy)
        let jobs = ManualJobs(seed: seed, .random)
        let copy = try open(rig, jobs)
        try check(copy, model, rig.clock.milliseconds)

        // The original deletes everything, files included.
        try rig.database.deletePrefix([])
        try rig.database.compactAll()
        try check(copy, model, rig.clock.milliseconds)
        try copy.put(bytes("new"), [1])
        try copy.compactAll()
        #expect(try copy.get(bytes("new")) == [1])
        #expect(try rig.database.get(bytes("new")) == nil)
        try copy.close()
        jobs.runAll()
        let again = try open(rig, jobs)
        #expect(try again.get(bytes("new")) == [1])
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `After a power cut a finished one is whole`(seed: UInt64) throws {
        let (rig, model) = try filled(seed, keys: 60)
        try rig.database.checkpoint(to: CheckpointTests.copy)
        rig.powerCut()
        let copy = try open(rig, ManualJobs(seed: seed, .random))
        try check(copy, model, rig.clock.milliseconds)
    }

    @Test func `One of an encrypted database is encrypted`() throws {
        var options = DatabaseRig.smallOptions()
        options.encryption = try testKeys(1)
        let rig = try DatabaseRig(options)
        for number in 0..<100 {
            try rig.database.put(bytes("marker \(number)"), bytes("marker"))
        }
        try rig.database.checkpoint(to: CheckpointTests.copy)
        for directory in ["", "/group-0", "/group-0/sst"] {
            let path = CheckpointTests.copy + directory
            for name in try rig.memory.list(path) {
                let content = try? rig.memory.readAll(path + "/" + name, limit: 1 << 30)
                #expect(content?.contains("marker") != true, "\(path)/\(name)")
            }
        }
        let copy = try open(rig, ManualJobs(seed: 1, .random))
        #expect(try copy.get(bytes("marker 7")) == bytes("marker"))
    }

    @Test func `One that was interrupted is refused, never an empty database`() throws {
        var refused = 0
        for steps in 0..<40 {
            let (rig, model) = try filled(7, keys: 60)
            try rig.database.flush()
            rig.memory.stop(after: steps)
            do {
                try rig.database.checkpoint(to: CheckpointTests.copy)
                #expect(steps > 5)
                break
            } catch {}
            rig.powerCut()
            do {
                let copy = try open(rig, ManualJobs(seed: 1, .random))
                // The last step may have been done, and only its sync was refused.
                try check(copy, model, rig.clock.milliseconds)
            } catch let error as EngineError {
                switch error {
                case .corrupt, .identity: refused += 1
                default: throw error
                }
            }
        }
        #expect(refused > 2)
    }

    @Test func `Where there are no links, files are copied and synced`() throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let memory = MemoryFileSystem(seed: seed)
            let rig = try DatabaseRig(
                seed: seed, memory: memory, wrapped: { InterruptedFileSystem($0, hasLinks: false) })
            try rig.database.put(bytes("a"), [1])
            try rig.database.checkpoint(to: CheckpointTests.copy)
            rig.powerCut()
            let copy = try open(rig, ManualJobs(seed: 1, .random))
            #expect(try copy.get(bytes("a")) == [1])
        }
    }

    @Test func `An existing directory is refused`() throws {
        let rig = try DatabaseRig()
        do {
            try rig.database.checkpoint(to: DatabaseRig.path)
            Issue.record("it wrote into a directory in use")
        } catch EngineError.invalid(let reason) {
            #expect(reason == "data exists; a checkpoint makes its own directory")
        }
    }
}
