// Random histories against a model that keeps a plain list of tables and judges each entry by
// brute force from the rules as the design states them.
import Engine
import Testing

private struct NaiveManifest {
    var live: [TableRecord] = []
    var jobs: [(index: UInt64, spec: CompactionSpec)] = []
    var waiting: [ClosedRange<UInt64>] = []

    private func hull(_ spec: CompactionSpec) -> KeySpan? {
        let named = Set(spec.inputs.map(\.id))
        return CompactionSpec.hull(of: live.filter { named.contains($0.id) })
    }

    private func reservedLevels(_ spec: CompactionSpec) -> Set<UInt8> {
        Set(spec.inputs.map(\.level) + [spec.outputLevel]).subtracting([0])
    }

    /// Outputs of one job have their sequences in common; they count in the order of their ids.
    private func age(_ table: TableRecord) -> (SequenceNumber, TableID) {
        (table.largestSequence, table.id)
    }

    func isVoid(_ spec: CompactionSpec) -> Bool {
        for input in spec.inputs {
            guard
                live.contains(where: {
                    $0.id == input.id && $0.level == input.level && $0.digest == input.digest
                })
            else { return true }
        }
        guard let hull = hull(spec) else { return true }
        let named = Set(spec.inputs.map(\.id))
        for job in jobs {
            if !named.isDisjoint(with: job.spec.inputs.map(\.id)) { return true }
            let levels = reservedLevels(spec).intersection(reservedLevels(job.spec))
            if !levels.isEmpty, let other = self.hull(job.spec), other.overlaps(hull) {
                return true
            }
        }
        for table in live where !named.contains(table.id) {
            if spec.outputLevel > 0, table.level == spec.outputLevel, table.span.overlaps(hull) {
                return true
            }
            guard table.level == 0 else { continue }
            let inputsAtZero = live.filter { $0.level == 0 && named.contains($0.id) }
            let isOlderThanOne = inputsAtZero.contains { age(table) < age($0) }
            let isYoungerThanOne = inputsAtZero.contains { age(table) > age($0) }
            if spec.outputLevel == 0, isOlderThanOne, isYoungerThanOne { return true }
            let youngest = inputsAtZero.map(\.largestSequence).max()
            if spec.outputLevel == 0, table.largestSequence == youngest { return true }
            if spec.outputLevel > 0, isOlderThanOne, table.span.overlaps(hull) { return true }
        }
        return false
    }

    mutating func finish(_ index: UInt64, _ tables: [TableRecord]) -> Bool {
        guard let at = jobs.firstIndex(where: { $0.index == index }) else { return false }
        let named = Set(jobs[at].spec.inputs.map(\.id))
        live.removeAll { named.contains($0.id) }
        live += tables
        jobs.remove(at: at)
        return true
    }

    var root: Digest128 {
        var writer = ByteWriter()
        for table in live.sorted(by: { $0.id < $1.id }) {
            var record = ByteWriter()
            table.encode(into: &record)
            writer.write(Digest128(of: record.bytes))
        }
        return Digest128(of: writer.bytes)
    }
}

@Suite struct LogicalManifestModelTests {
    /// How often histories come to each outcome, so that a run that tests nothing is seen.
    private struct Tally {
        var started = 0
        var void = 0
        var done = 0
        var sealsRefused = 0
    }

    @Test func randomHistoriesAgreeWithTheModel() {
        var tally = Tally()
        for seed: UInt64 in 1...40 { run(seed, &tally) }
        #expect(tally.started > 400 && tally.void > 400)
        #expect(tally.done > 250 && tally.sealsRefused > 50)
    }

    private func run(_ seed: UInt64, _ tally: inout Tally) {
        var random = SeededRandom(seed: seed)
        var tables = SimulatedTables()
        var model = NaiveManifest()
        for step in 0..<150 {
            switch random.below(10) {
            case 0, 1:
                tables.endSegment(&random)
                model.waiting.append(tables.unsealed[tables.unsealed.count - 1].segment)
            case 2, 3: seal(&tables, &model, &random, &tally)
            case 4, 5, 6: start(&tables, &model, &random, &tally)
            case 7, 8: finish(&tables, &model, &random, &tally)
            default: cancel(&tables, &model, &random)
            }
            let live = tables.manifest.tables.sortedByID
            #expect(live == model.live.sorted { $0.id < $1.id }, "seed \(seed) step \(step)")
            #expect(tables.manifest.stateRoot() == model.root, "seed \(seed) step \(step)")
            #expect(tables.manifest.jobs.map(\.index.rawValue) == model.jobs.map(\.index))
            #expect(tables.firstBrokenLevel() == nil, "seed \(seed) step \(step)")
            #expect(tables.firstWrongRead() == nil, "seed \(seed) step \(step)")
            for record in live { #expect(tables.manifest.tables.record(record.id) == record) }
        }
        checkBytes(tables.manifest)
    }

    private func seal(
        _ tables: inout SimulatedTables, _ model: inout NaiveManifest,
        _ random: inout SeededRandom, _ tally: inout Tally
    ) {
        guard !tables.unsealed.isEmpty else { return }
        let position = random.oneIn(3) ? random.below(tables.unsealed.count) : 0
        let record = tables.unsealed[position].table
        if case .sealed = tables.seal(position) {
            #expect(position == 0)
            model.live.append(record)
            model.waiting.removeFirst()
        } else {
            #expect(position > 0)
            tally.sealsRefused += 1
        }
    }

    private func start(
        _ tables: inout SimulatedTables, _ model: inout NaiveManifest,
        _ random: inout SeededRandom, _ tally: inout Tally
    ) {
        guard let job = randomSpec(tables.manifest, &random) else { return }
        let isVoid = model.isVoid(job)
        switch tables.start(job) {
        case .jobStarted(let pending):
            #expect(!isVoid, "\(job)")
            model.jobs.append((pending.index.rawValue, job))
            tally.started += 1
        case .jobVoid(let reason):
            #expect(isVoid, "\(reason)")
            tally.void += 1
        case let other: Issue.record("\(other)")
        }
    }

    private func finish(
        _ tables: inout SimulatedTables, _ model: inout NaiveManifest,
        _ random: inout SeededRandom, _ tally: inout Tally
    ) {
        guard !tables.manifest.jobs.isEmpty else { return }
        let job = tables.manifest.jobs[random.below(tables.manifest.jobs.count)]
        let records = tables.compute(job, keysPerTable: 2).records
        if case .jobDone = tables.finish(job, keysPerTable: 2) {
            let isKnown = model.finish(job.index.rawValue, records)
            #expect(isKnown)
            tally.done += 1
        } else {
            Issue.record("job \(job.index) could not finish")
        }
        guard random.oneIn(4) else { return }
        let again = tables.apply(
            .compacted, Sample.compacted(job.index.rawValue, records).encoded())
        #expect(again == .void(.unknownJob(job.index)))
    }

    private func cancel(
        _ tables: inout SimulatedTables, _ model: inout NaiveManifest,
        _ random: inout SeededRandom
    ) {
        guard !tables.manifest.jobs.isEmpty else { return }
        let job = tables.manifest.jobs[random.below(tables.manifest.jobs.count)]
        let record = CancelledRecord(job: job.index, reason: .requested)
        let outcome = tables.apply(.cancelled, record.encoded())
        #expect(outcome == .jobCancelled(job, record))
        model.jobs.removeAll { $0.index == job.index.rawValue }
    }

    /// Half of them sensible: a run of one level with what it overlaps below.
    private func randomSpec(_ manifest: LogicalManifest, _ random: inout SeededRandom)
        -> CompactionSpec?
    {
        let levels = (0..<4 as Range<UInt8>).filter { !manifest.tables.tables(at: $0).isEmpty }
        guard !levels.isEmpty else { return nil }
        let level = levels[random.below(levels.count)]
        let candidates = manifest.tables.tables(at: level)
        let first = random.below(candidates.count)
        let count = 1 + random.below(min(4, candidates.count - first))
        var inputs = Array(candidates[first..<(first + count)])
        let output = random.oneIn(4) ? level : level + 1
        if random.oneIn(3) {
            inputs = inputs.filter { _ in !random.oneIn(4) }
        } else if output > level, let hull = CompactionSpec.hull(of: inputs) {
            inputs += manifest.tables.overlapping(hull, at: output)
        }
        guard !inputs.isEmpty, let hull = CompactionSpec.hull(of: inputs) else { return nil }
        if random.oneIn(20) { inputs[0].digest = .zero }
        // Inside level 0 a delete may hide what lies below or beside.
        let isBottommost = output > 0 && manifest.isBottommost(hull, below: output)
        let sources = inputs.filter { $0.level == level }
        return sources.isEmpty ? nil : Sample.spec(inputs, to: output, bottommost: isBottommost)
    }

    private func checkBytes(_ manifest: LogicalManifest) {
        var writer = ByteWriter()
        manifest.encode(into: &writer)
        let decoded = writer.bytes.withUnsafeBytes { bytes -> LogicalManifest? in
            var reader = ByteReader(bytes)
            return try? LogicalManifest(&reader)
        }
        #expect(decoded?.tables == manifest.tables)
        #expect(decoded?.jobs == manifest.jobs)
        #expect(decoded?.sealedThrough == manifest.sealedThrough)
    }
}
