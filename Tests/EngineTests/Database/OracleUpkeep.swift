// What the oracle does beside reads and writes: it compacts spans, asks filters for prefixes,
// follows the stream of changes, and copies the database. It draws numbers of its own, so that the
// other operations of a seed do not depend on it.
import Engine

struct OracleUpkeep {
    var random: SeededRandom
    private(set) var follower: ChangeFollower?
    private(set) var followed = 0
    private(set) var copies = 0

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    /// A follower keeps its state over an orderly close, and begins anew after a crash: without
    /// syncs that may have taken back what it was told.
    mutating func databaseClosed(orderly: Bool) {
        if orderly { follower?.stream = nil } else { follower = nil }
    }

    /// Takes all that was written since the last time and compares what it comes to with `model`.
    mutating func follow(_ database: Database, _ model: KeyValueModel) throws {
        var current =
            follower ?? ChangeFollower(sequence: database.sequence, model: model)
        follower = nil
        do {
            followed += try current.catchUp(database, random.oneIn(2) ? 1 << 20 : 300)
        } catch EngineError.changesGone(let oldest) {
            guard oldest > current.sequence else {
                throw OracleFailure(description: "changes after \(current.sequence) are gone")
            }
            return
        }
        guard current.model == model else {
            throw OracleFailure(
                description: "the changes through \(current.sequence) make another state")
        }
        follower = current
    }

    mutating func copy(_ rig: DatabaseRig, _ model: KeyValueModel) throws {
        copies += 1
        let path = "copy-\(copies)"
        try rig.database.checkpoint(to: path)
        let jobs = ManualJobs(seed: random.next(), .random)
        let copy = try rig.openCopy(path, jobs)
        let now = rig.clock.milliseconds
        let found = try copy.scan(.everything)
        let live = model.live(0, nil, now: now)
        guard found.map(\.key) == live.map({ KeyValueModel.key($0) }),
            found.map(\.value) == live.compactMap({ model.read($0, now: now) })
        else { throw OracleFailure(description: "copy \(copies) differs") }
        try copy.close()
        jobs.runAll()
        try rig.removeAll(path)
    }
}

/// Somebody who keeps a state of his own by the changes of a database.
struct ChangeFollower {
    private(set) var sequence: SequenceNumber
    private(set) var model: KeyValueModel
    var stream: ChangeStream?

    /// Returns how many changes there were.
    mutating func catchUp(_ database: Database, _ maxBytes: Int) throws -> Int {
        let stream = try stream ?? database.changes(after: sequence)
        self.stream = stream
        var count = 0
        while true {
            let changes = try stream.take(maxBytes: maxBytes)
            if changes.isEmpty { break }
            for change in changes {
                guard change.sequence == sequence + 1 else {
                    throw OracleFailure(
                        description: "change \(change.sequence) comes after \(sequence)")
                }
                sequence = change.sequence
                try model.apply(change.effect)
            }
            count += changes.count
        }
        guard sequence == database.sequence else {
            throw OracleFailure(
                description: "changes end at \(sequence), not at \(database.sequence)")
        }
        return count
    }
}

extension KeyValueModel {
    fileprivate mutating func apply(_ effect: Engine.Change.Effect) throws {
        switch effect {
        case .put(let key, let value, let expiry):
            apply(.put(try KeyValueModel.number(key), value, expiry: expiry))
        case .delete(let key): apply(.delete(try KeyValueModel.number(key)))
        case .singleDelete(let key): apply(.singleDelete(try KeyValueModel.number(key)))
        case .merge(let key, let operand, let id):
            apply(.merge(try KeyValueModel.number(key), Operand(id: id, bytes: operand)))
        case .deleteRange(let span):
            for key in values.indices where span.contains(KeyValueModel.key(key)) {
                apply(.delete(key))
            }
        }
    }

    /// Of a key that `key` made.
    private static func number(_ key: [UInt8]) throws -> Int {
        guard !key.isEmpty else { return 0 }
        let number = key.dropFirst().prefix(4).reduce(0) { $0 * 10 + Int($1) }
        guard KeyValueModel.key(number) == key else {
            throw OracleFailure(description: "\(key) is no key of the model")
        }
        return number
    }

    /// Whether a key that is there begins with `prefix`.
    func holds(_ prefix: [UInt8], now: UInt64) -> Bool {
        values.indices.contains {
            values[$0] != nil && KeyValueModel.key($0).starts(with: prefix)
                && get($0, now: now) != nil
        }
    }
}

extension OracleRun {
    /// Now and then one of the above.
    func keepUp() throws {
        switch upkeep.random.below(200) {
        case 0:
            let (first, last) = (upkeep.random.below(keys), upkeep.random.below(keys))
            try rig.database.compact(
                KeySpan(
                    start: KeyValueModel.key(min(first, last)),
                    end: upkeep.random.oneIn(4) ? nil : KeyValueModel.key(max(first, last))))
        case 1..<8 where rig.keepsLog: try upkeep.follow(rig.database, model)
        case 8..<20:
            let prefix = Array(
                KeyValueModel.key(upkeep.random.below(keys)).prefix(upkeep.random.below(7)))
            if try !rig.database.mayContainPrefix(prefix), model.holds(prefix, now: now) {
                throw OracleFailure(description: "a filter misses the prefix \(prefix)")
            }
        default: return
        }
    }
}

extension OracleRun where Host == DatabaseRig {
    /// What a checkpoint holds is what is there now, after whatever came before.
    func checkCopy() throws { try upkeep.copy(rig, model) }
}
