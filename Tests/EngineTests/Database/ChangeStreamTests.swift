// A follower that applies the stream of changes holds what the database holds, however often it
// stops and goes on; who comes too late is told.
import Engine
import Testing

@Suite struct ChangeStreamTests {
    /// A database somewhere else that follows another.
    private final class Follower {
        let rig: DatabaseRig
        var sequence: SequenceNumber

        init(seed: UInt64, clock: UInt64, after sequence: SequenceNumber) throws {
            rig = try DatabaseRig(seed: seed)
            rig.clock.advance(clock - rig.clock.milliseconds)
            self.sequence = sequence
        }

        func apply(_ changes: [Change]) throws {
            for change in changes {
                #expect(change.sequence > sequence)
                sequence = change.sequence
                switch change.effect {
                case .put(let key, let value, nil): try rig.database.put(key, value)
                case .put(let key, let value, let expiry?):
                    var batch = WriteBatch()
                    batch.put(key, value, expiry: expiry)
                    try rig.database.write(batch)
                case .delete(let key): try rig.database.delete(key)
                case .singleDelete(let key): try rig.database.singleDelete(key)
                case .merge(let key, let operand, let id):
                    try rig.database.merge(key, operand, by: id)
                case .deleteRange(let span): try rig.database.deleteRange(span.start, span.end)
                }
            }
        }
    }

    private func options(_ sync: DatabaseOptions.Sync = .always) -> DatabaseOptions {
        var options = DatabaseRig.smallOptions(sync: sync)
        options.retainLogBytes = 1 << 30
        return options
    }

    private func pairs(_ rig: DatabaseRig) throws -> [[UInt8]: LiveValue] {
        Dictionary(uniqueKeysWithValues: try rig.database.scan(.everything).map { ($0, $1) })
    }

    @Test(arguments: [DatabaseOptions.Sync.always, .never], 1...3 as ClosedRange<UInt64>)
    func `A follower that stops and goes on ends with the same pairs`(
        sync: DatabaseOptions.Sync, seed: UInt64
    ) throws {
        let rig = try DatabaseRig(seed: seed, options(sync))
        let follower = try Follower(
            seed: seed + 100, clock: rig.clock.milliseconds, after: rig.database.sequence)
        var source = ChangeSource(seed: seed, keys: 200)
        var model = KeyValueModel(keys: 200)
        var random = SeededRandom(seed: seed)
        var stream = try rig.database.changes(after: follower.sequence)
        for step in 1...1_500 {
            let changes = source.changes(now: rig.clock.milliseconds, on: model)
            try rig.database.write(changes.batch)
            for change in changes { model.apply(change) }
            rig.runJobs(random.below(2))
            if random.oneIn(20) {
                try follower.apply(try stream.take(maxBytes: random.below(5_000)))
            }
            if random.oneIn(60) { stream = try rig.database.changes(after: follower.sequence) }
            if step % 400 == 0 {
                try rig.close()
                try rig.open()
                stream = try rig.database.changes(after: follower.sequence)
            }
        }
        while true {
            let changes = try stream.take()
            guard !changes.isEmpty else { break }
            try follower.apply(changes)
        }
        #expect(follower.sequence == rig.database.sequence)
        #expect(try pairs(rig) == pairs(follower.rig))
        #expect(try stream.take().isEmpty)
    }

    @Test func `Whatever is asked for, one change is taken at least`() throws {
        let rig = try DatabaseRig(options())
        let stream = try rig.database.changes(after: rig.database.sequence)
        for number in 0..<3 as Range<UInt8> { try rig.database.put([number], [number]) }
        for maxBytes in [Int.min, -1, 0] { #expect(try stream.take(maxBytes: maxBytes).count == 1) }
        #expect(try stream.take(maxBytes: .min).isEmpty)
    }

    @Test func `Half of a batch that was taken is not told again`() throws {
        let rig = try DatabaseRig(options())
        var batch = WriteBatch()
        for number in 0..<10 as Range<UInt8> { batch.put([number], [number]) }
        try rig.database.write(batch)
        let first = try rig.database.changes(after: SequenceNumber(0)).take()
        #expect(first.count == 10)
        for place in 0..<10 {
            let rest = try rig.database.changes(after: first[place].sequence).take()
            #expect(rest == Array(first[(place + 1)...]))
        }
    }

    /// Where the log starts, if `body` is refused for it.
    private func start(of body: () throws -> Void) throws -> SequenceNumber? {
        do {
            try body()
        } catch let error as EngineError {
            guard case .changesGone(let oldest) = error else { throw error }
            return oldest
        }
        return nil
    }

    @Test func `Who comes after the log was trimmed is told where it starts`() throws {
        let rig = try DatabaseRig()
        let stream = try rig.database.changes(after: rig.database.sequence)
        for number in 0..<2_000 {
            try rig.database.put([UInt8(number & 255)], [UInt8](repeating: 1, count: 50))
            rig.runJobs(1)
        }
        try rig.database.flush()
        try rig.database.put([1], [2])
        let after = rig.database.sequence
        let oldest = [
            try start(of: { _ = try stream.take() }),
            try start(of: { _ = try rig.database.changes(after: SequenceNumber(3)) }),
        ]
        for oldest in oldest {
            let oldest = try #require(oldest)
            #expect(oldest > SequenceNumber(3) && oldest <= after)
            let rest = try rig.database.changes(after: oldest).take()
            #expect(rest.last?.effect == .put(key: [1], value: [2], expiry: nil))
        }
        // A snapshot first, and then what follows it.
        let snapshot = rig.database.snapshot()
        #expect(try rig.database.changes(after: snapshot.sequence).take().isEmpty)
        try rig.database.delete([1])
        let change = try rig.database.changes(after: snapshot.sequence).take()
        #expect(change.map(\.effect) == [.delete(key: [1])])
    }

    @Test func `Who has taken all goes on where the log was trimmed`() throws {
        let rig = try DatabaseRig()
        let stream = try rig.database.changes(after: rig.database.sequence)
        for number in 0..<20 as Range<UInt8> {
            try rig.database.put([number], [1])
            #expect(try stream.take().count == 1)
            // What follows in the log, and is trimmed with it, is the engine's own.
            try rig.database.flush()
            try rig.database.compactAll()
            #expect(try stream.take().isEmpty)
        }
    }

    @Test func `What is damaged in kept segments is said, and what follows it can be followed`()
        throws
    {
        let rig = try DatabaseRig(options())
        var sequences: [SequenceNumber] = []
        for number in 0..<300 {
            try rig.database.put([UInt8(number & 255)], [UInt8](repeating: 1, count: 50))
            sequences.append(rig.database.sequence)
            rig.runJobs(1)
        }
        try rig.database.flush()
        try rig.close()
        // An early frame of the second segment.
        let directory = DatabaseRig.group + "/log"
        let names = try rig.memory.list(directory).filter { $0.hasSuffix(".seg") }
        let file = try rig.memory.open(directory + "/" + names[1], .write)
        try file.writeAll([UInt8](repeating: 0, count: 700), at: 1_500)
        try rig.open()
        let stream = try rig.database.changes(after: sequences[0])
        let oldest = try start { while try !stream.take(maxBytes: 500).isEmpty {} }
        let first = try #require(oldest)
        #expect(first > sequences[1] && first < sequences[50])
        for sequence in sequences where sequence >= first {
            let changes = try rig.database.changes(after: sequence).take(maxBytes: 1 << 20)
            #expect(changes.first?.sequence == (sequence == sequences[299] ? nil : sequence + 1))
        }
        try rig.database.delete([1])
        let after = rig.database.snapshot().sequence
        #expect(try rig.database.changes(after: after).take().isEmpty)
    }

    @Test func `A log beyond its bound is trimmed for streams, too`() throws {
        var options = options()
        options.retainLogBytes = 40_000
        let rig = try DatabaseRig(options)
        for number in 0..<3_000 {
            try rig.database.put([UInt8(number & 255)], [UInt8](repeating: 1, count: 50))
            rig.runJobs(1)
        }
        try rig.database.flush()
        try rig.database.put([1], [2])
        let directory = DatabaseRig.group + "/log"
        let sizes = try rig.memory.list(directory).map {
            try rig.memory.open(directory + "/" + $0, .read).size()
        }
        #expect((20_000...120_000).contains(sizes.reduce(0, +)))
    }

    @Test func `What is not written yet cannot be followed`() throws {
        let rig = try DatabaseRig()
        let next = rig.database.sequence + 1
        #expect(throws: EngineError.self) { try rig.database.changes(after: next) }
    }
}
