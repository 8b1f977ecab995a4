// A model of the log under crashes: seeded appends, syncs, truncations, trims and flushes, stopped
// at a random step and struck by a power cut or a kill. What a returned sync covered is never lost,
// what was truncated never returns, and what comes back is a prefix of what was written.
import Engine
import Testing

private struct LogModel {
    /// What the log must hold, by index from `floor + 1`; entries beyond `durable` may be lost.
    var entries: [Entry] = []
    var durable = 0
    /// While an operation runs that may or may not have happened: entries it adds, or where it
    /// cuts.
    var pending: [Entry] = []
    var pendingCut: Int?
    /// Entries below this were trimmed or may be.
    var flushed = 0

    /// Least and most entries that may be there after a crash now.
    var least: Int { min(durable, pendingCut ?? durable) }

    mutating func settle(_ count: Int) {
        entries = Array((entries + pending).prefix(count))
        durable = count
        pending = []
        pendingCut = nil
        flushed = min(flushed, count)
    }
}

@Suite struct LogPowerCutTests {
    @Test(arguments: [LogSyncPolicy.always, .never])
    func nothingSyncedIsLostInThreeHundredCrashes(_ policy: LogSyncPolicy) throws {
        for seed in 1...3 as ClosedRange<UInt64> {
            try run(seed: seed, rounds: policy == .always ? 100 : 40, policy)
        }
    }

    /// And no nonce comes twice, whatever was cut, recycled, rewound or written again.
    @Test(arguments: [LogSyncPolicy.always, .never])
    func nothingSyncedIsLostFromAnEncryptedLog(_ policy: LogSyncPolicy) throws {
        let watch = SealWatch()
        let keys = KeyRing(try testKeys(1), random: seededNumbers(5), observer: watch.observer)
        try run(seed: 4, rounds: 60, policy, keys: keys)
        #expect(watch.count > 500)
        #expect(watch.repeated.isEmpty)
    }

    private func run(
        seed: UInt64, rounds: Int, _ policy: LogSyncPolicy, keys: KeyRing = .plain
    ) throws {
        var random = SeededRandom(seed: seed)
        let rig = try LogRig(seed: seed, sync: policy, keys: keys)
        var model = LogModel()
        var term: UInt64 = 1
        for round in 0..<rounds {
            term += UInt64(random.below(2))
            if random.oneIn(2) { rig.fileSystem.stop(after: random.below(60)) }
            try operate(rig, &model, &random, term, policy)
            try crash(rig, &model, &random, "seed \(seed), round \(round)")
        }
    }

    /// A few operations, or as many as happen before the process stops.
    private func operate(
        _ rig: LogRig, _ model: inout LogModel, _ random: inout SeededRandom, _ term: UInt64,
        _ policy: LogSyncPolicy
    ) throws {
        for _ in 0..<(1 + random.below(8)) {
            do {
                try step(rig, &model, &random, term, policy)
            } catch let error as EngineError {
                if case .invalid = error { throw error }
                return
            }
        }
    }

    private func step(
        _ rig: LogRig, _ model: inout LogModel, _ random: inout SeededRandom, _ term: UInt64,
        _ policy: LogSyncPolicy
    ) throws {
        switch random.below(12) {
        case 0...5:
            let bytes = random.oneIn(6) ? 6000 : random.below(1200)
            let isSynced = policy == .always ? !random.oneIn(3) : random.oneIn(20)
            let group = rig.make(
                1 + random.below(5), term: term, bytes: bytes,
                commit: policy == .always ? UInt64(model.durable) : 0,
                salt: UInt8(random.below(256)))
            model.pending = group
            try rig.log.append(group, sync: isSynced)
            model.entries += group
            model.pending = []
            if isSynced { model.durable = model.entries.count }
        case 6:
            _ = try rig.log.sync()
            model.durable = model.entries.count
        case 7, 8:
            let cut = model.flushed + random.below(model.entries.count - model.flushed + 1)
            model.pendingCut = cut
            try rig.log.truncate(after: LogIndex(UInt64(cut)))
            model.entries.removeLast(model.entries.count - cut)
            model.durable = min(model.durable, cut)
            model.pendingCut = nil
        case 9:
            try flush(rig, &model)
        case 10:
            if rig.base.position.index > .zero {
                try rig.log.trim(through: rig.base.position.index)
            }
        default:
            try rig.log.prepareNext()
        }
    }

    /// Moves S to the end of the last segment that is durable as a whole.
    private func flush(_ rig: LogRig, _ model: inout LogModel) throws {
        let ends = try rig.segmentFirsts().map { Int($0) - 1 }
        guard let end = ends.last(where: { $0 <= model.durable && $0 > model.flushed }) else {
            return
        }
        rig.base.settings = rig.log.settings(before: LogIndex(UInt64(end) + 1))
        rig.base.position = model.entries[end - 1].position
        model.flushed = end
    }

    private func crash(
        _ rig: LogRig, _ model: inout LogModel, _ random: inout SeededRandom, _ place: String
    ) throws {
        if random.oneIn(3) {
            rig.fileSystem.restart()
        } else {
            rig.fileSystem.powerCut()
        }
        if random.oneIn(3) {
            // And once more while it opens.
            rig.fileSystem.stop(after: random.below(12))
            try? rig.open()
            rig.fileSystem.powerCut()
        }
        try rig.open()
        let count = Int(rig.log.last.index.rawValue)
        let possible = model.entries + model.pending
        #expect(count >= model.least, "\(place): lost synced entries")
        #expect(count <= possible.count, "\(place): entries from nowhere")
        #expect(rig.log.holes.isEmpty, "\(place)")
        let held = try rig.all()
        let first = Int(rig.log.first.rawValue)
        #expect(first <= model.flushed + 1, "\(place): unflushed entries trimmed")
        #expect(
            held.headers == possible[(first - 1)..<count].map(\.header),
            "\(place): another history")
        model.settle(count)
    }
}
