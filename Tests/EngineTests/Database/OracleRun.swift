// One database and one model, driven by a seed over the whole public API, with crashes in between.
// Every answer of the database must be the model's.
import Engine
import Testing

struct OracleFailure: Error, CustomStringConvertible {
    var description: String
}

/// Where a database lives: on one thread with files in memory, or in the real world.
protocol OracleHost: AnyObject {
    var database: Database { get }
    var clock: ManualClock { get }
    var notes: Notes { get }
    /// A moment for background work.
    func runJobs(_ count: Int)
    func close() throws
    func open() throws
    var historyWindow: UInt64 { get }
    /// Whether there is a log to follow.
    var keepsLog: Bool { get }
}

final class OracleRun<Host: OracleHost> {
    let rig: Host
    let keys: Int
    private var source: ChangeSource
    private var random: SeededRandom
    /// For reads of several keys, so that the other operations of a seed do not depend on them.
    private var lookups: SeededRandom
    /// Likewise for ingests. Without `loadsSingles` they leave out keys that are deleted singly:
    /// what a seed does to those depends on what is there.
    private var loads: SeededRandom
    private let loadsSingles: Bool
    private(set) var loaded = 0
    var upkeep: OracleUpkeep
    private(set) var model: KeyValueModel
    private var snapshots: [(snapshot: Snapshot, model: KeyValueModel)] = []
    /// States to come back to, oldest first.
    private var past: [(sequence: SequenceNumber, clock: UInt64, model: KeyValueModel)] = []

    private let isSynced: Bool
    /// States that a power cut may go back to, oldest first; the last is `model`. Only kept without
    /// a synced log, else there is but one.
    private var history: [KeyValueModel] = []
    /// Of a write that threw: it may have happened.
    private var pending: [KeyValueModel.Change] = []
    private var changesOfLastWrite: [KeyValueModel.Change] = []
    private(set) var crashes = 0
    private(set) var writes = 0

    init(
        _ rig: Host, seed: UInt64, isSynced: Bool = true, keys: Int = 600,
        isAscending: Bool = false, loadsSingles: Bool = false
    ) {
        self.rig = rig
        self.keys = keys
        lookups = SeededRandom(seed: seed &+ 77)
        loads = SeededRandom(seed: seed &+ 78)
        self.loadsSingles = loadsSingles
        upkeep = OracleUpkeep(seed: seed &+ 79)
        source = ChangeSource(seed: seed &* 31, keys: keys)
        source.isAscending = isAscending
        random = SeededRandom(seed: seed &* 17)
        model = KeyValueModel(keys: keys)
        self.isSynced = isSynced
        history = [model]
    }

    var now: UInt64 { rig.clock.milliseconds }

    private func fail(_ text: String) -> OracleFailure { OracleFailure(description: text) }

    // MARK: operations

    func step() throws {
        // They overlap all that is there; ascending tables are to overlap little.
        if !source.isAscending, loads.oneIn(12) { try load() }
        try keepUp()
        switch random.below(100) {
        case 0..<50: try write()
        case 50..<64:
            for _ in 0..<3 { try checkGet() }
            try checkGets()
        case 64..<72: try checkScan()
        case 72..<76: try useSnapshot()
        case 76: try readThePast()
        case 77: try runTransaction()
        case 78..<94: rig.runJobs(1 + random.below(6))
        case 94, 95: rig.clock.advance(UInt64(random.below(40)))
        case 96, 97: if random.oneIn(3) { try flush() }
        case 98: if random.oneIn(8) { try rig.database.compactAll() }
        default: if random.oneIn(6) { try reopen() }
        }
    }

    private func write() throws {
        let changes = source.changes(now: now, on: model)
        pending = changes
        if changes.count > 1 {
            try rig.database.write(changes.batch)
        } else {
            try writeOne(changes[0])
        }
        settle()
    }

    private func writeOne(_ change: KeyValueModel.Change) throws {
        switch change {
        case .put(let key, let value, nil):
            try rig.database.put(KeyValueModel.key(key), value)
        case .put: try rig.database.write([change].batch)
        case .delete(let key): try rig.database.delete(KeyValueModel.key(key))
        case .merge(let key, let operand):
            try rig.database.merge(KeyValueModel.key(key), operand.bytes, by: operand.id)
        case .singleDelete(let key): try rig.database.singleDelete(KeyValueModel.key(key))
        case .deletePrefix(let prefix): try rig.database.deletePrefix(prefix)
        case .deleteRange(let start, let end):
            try rig.database.deleteRange(
                KeyValueModel.key(start), end.map { KeyValueModel.key($0) })
        }
    }

    /// The pending write was acknowledged.
    private func settle() {
        changesOfLastWrite = pending
        for change in pending { model.apply(change) }
        pending = []
        writes += 1
        if random.oneIn(20) {
            past.append((rig.database.sequence, now, model))
            if past.count > 12 { past.removeFirst() }
        }
        noteHistory()
    }

    private func noteHistory() {
        if isSynced { history.removeAll() }
        history.append(model)
    }

    private func load() throws {
        let changes = model.load(loadsSingles: loadsSingles, &loads)
        guard !changes.isEmpty else { return }
        pending = changes
        do throws(IngestError) {
            try rig.database.ingest(changes.compactMap(\.pair))
        } catch {
            guard error.count == 0 else { throw fail("half of an ingest of one group is in") }
            throw error.cause
        }
        loaded += changes.count
        changesOfLastWrite = pending
        for change in pending { model.apply(change) }
        pending = []
        noteHistory()
    }

    private func flush() throws {
        try rig.database.flush()
        history = [model]
    }

    private func checkGet() throws {
        let key = source.key()
        let found = try rig.database.get(KeyValueModel.key(key))
        guard found == model.get(key, now: now) else { throw fail("get of key \(key)") }
    }

    private func checkGets() throws {
        let keys = (0..<(1 + lookups.below(40))).map { _ in lookups.below(self.keys) }
        let found = try rig.database.multiGet(keys.map { KeyValueModel.key($0) })
        guard found == keys.map({ model.get($0, now: now) }) else {
            throw fail("a get of keys \(keys)")
        }
    }

    private func checkScan() throws {
        let (start, end) = source.span()
        let isReverse = random.oneIn(2)
        let limit = random.oneIn(4) ? Int.max : 1 + random.below(20)
        let found = try rig.database.scan(
            KeySpan(start: KeyValueModel.key(start), end: end.map { KeyValueModel.key($0) }),
            reverse: isReverse, limit: limit)
        try compare(found, model, start, end, isReverse, limit, "scan")
    }

    private func compare(
        _ found: [(key: [UInt8], value: LiveValue)], _ model: KeyValueModel, _ start: Int,
        _ end: Int?, _ isReverse: Bool, _ limit: Int, _ what: String
    ) throws {
        var numbers = model.live(start, end, now: now)
        if isReverse { numbers.reverse() }
        let expected = numbers.prefix(limit)
        guard found.count == expected.count else {
            throw fail("\(what) found \(found.count) pairs, not \(expected.count)")
        }
        for (pair, number) in zip(found, expected) {
            guard pair.key == KeyValueModel.key(number),
                pair.value == model.read(number, now: now)
            else { throw fail("\(what) differs at key \(number)") }
        }
    }

    private func useSnapshot() throws {
        switch random.below(3) {
        case 0 where snapshots.count < 4:
            snapshots.append((rig.database.snapshot(), model))
        case 1 where snapshots.count > 1:
            snapshots.remove(at: random.below(snapshots.count))
        default:
            guard !snapshots.isEmpty else { return }
            let (snapshot, old) = snapshots[random.below(snapshots.count)]
            let keys = [source.key(), lookups.below(self.keys)]
            let found = try snapshot.multiGet(keys.map { KeyValueModel.key($0) })
            guard found == keys.map({ old.get($0, now: now) }) else {
                throw fail("a snapshot's get of keys \(keys)")
            }
            let isReverse = random.oneIn(2)
            try compare(
                try snapshot.scan(.everything, reverse: isReverse), old, 0, nil, isReverse, .max,
                "a snapshot's scan")
        }
    }

    private func readThePast() throws {
        guard !past.isEmpty else { return }
        let state = past[random.below(past.count)]
        let snapshot: Snapshot
        do {
            snapshot = try rig.database.snapshot(asOf: state.sequence)
        } catch EngineError.historyGone(let oldest) {
            let window = rig.historyWindow
            guard oldest > state.sequence, state.clock + window <= now else {
                throw fail("sequence \(state.sequence) is gone within the window")
            }
            return
        }
        let key = source.key()
        guard try snapshot.get(KeyValueModel.key(key)) == state.model.get(key, now: now) else {
            throw fail("a get of key \(key) as of \(state.sequence)")
        }
        try compare(
            try snapshot.scan(.everything), state.model, 0, nil, false, .max,
            "a scan as of \(state.sequence)")
    }

    /// A transaction with other writes in between, of which some touch what it reads.
    private func runTransaction() throws {
        let transaction = try rig.database.begin()
        var own = OracleTransaction(model: model, now: now)
        for _ in 0..<(1 + random.below(8)) {
            switch random.below(8) {
            case 0, 1: try write(to: transaction, &own)
            case 2, 3: try checkScan(of: transaction, &own)
            case 4:
                try write()
                own.noteForeign(changesOfLastWrite)
            default: try checkGet(of: transaction, &own)
            }
            if loads.oneIn(12) {
                changesOfLastWrite = []
                try load()
                own.noteForeign(changesOfLastWrite)
            }
            if random.oneIn(6) { rig.runJobs(1 + random.below(4)) }
        }
        if random.oneIn(5) {
            transaction.rollback()
        } else {
            try commit(transaction, own)
        }
    }

    private func commit(_ transaction: Transaction, _ own: OracleTransaction) throws {
        pending = own.changes
        do throws(EngineError) {
            try transaction.commit()
        } catch {
            guard case .conflict = error else { throw error }
            pending = []
            guard own.mayConflict else { throw fail("a conflict without a cause") }
            return
        }
        guard !own.mustConflict || own.changes.isEmpty else { throw fail("a conflict was missed") }
        if !own.changes.isEmpty { settle() }
    }

    private func write(to transaction: Transaction, _ own: inout OracleTransaction) throws {
        // Keys that are deleted singly would need their rule kept across transactions.
        for change in source.changes(now: own.now, on: own.model)
        where change.isPlain {
            try own.write(change, to: transaction)
        }
    }

    private func checkGet(of transaction: Transaction, _ own: inout OracleTransaction) throws {
        let key = source.key()
        let found = try transaction.get(KeyValueModel.key(key))
        guard found == own.get(key) else { throw fail("a transaction's get of key \(key)") }
    }

    private func checkScan(of transaction: Transaction, _ own: inout OracleTransaction) throws {
        let (start, end) = source.span()
        let isReverse = random.oneIn(2)
        let limit = random.oneIn(4) ? Int.max : 1 + random.below(20)
        let found = try transaction.scan(
            KeySpan(start: KeyValueModel.key(start), end: end.map { KeyValueModel.key($0) }),
            reverse: isReverse, limit: limit)
        let expected = own.scan(start, end, reverse: isReverse, limit: limit)
        guard found.map(\.key) == expected.map({ KeyValueModel.key($0.key) }),
            found.map(\.value) == expected.map(\.value)
        else { throw fail("a transaction's scan") }
    }

    private func reopen() throws {
        snapshots = []
        upkeep.databaseClosed(orderly: true)
        try rig.close()
        history = [model]
        do {
            try rig.open()
        } catch EngineError.file(let cause) where cause.isNoSpace {
            (rig as? DatabaseRig)?.memory.capacity = .max
            try rig.open()
        }
        try checkAll()
    }

    /// All keys at once, forward.
    func checkAll() throws {
        try compare(
            try rig.database.scan(.everything), model, 0, nil, false, .max, "a scan of all")
    }
}

// MARK: - Crashes

extension OracleRun where Host == DatabaseRig {
    /// Goes on until a change of the disk fails, then takes the process or the power away and opens
    /// again.
    func crash() throws {
        if !random.oneIn(4) { rig.memory.stop(after: random.below(90)) }
        for _ in 0..<(20 + random.below(200)) {
            do {
                try step()
                pending = []
            } catch let error as EngineError {
                try checkStopped(error)
                break
            }
        }
        try crashNow()
    }

    /// What a dying disk may answer.
    private func checkStopped(_ error: EngineError) throws {
        switch error {
        case .poisoned, .file, .busy: break
        default: throw fail("the disk stopped, and the database said: \(error)")
        }
    }

    private func crashNow() throws {
        crashes += 1
        snapshots = []
        past = []
        upkeep.databaseClosed(orderly: false)
        let given = rig.store.manifest.bounds
        let isPowerCut = !random.oneIn(3)
        if isPowerCut { rig.powerCut() } else { rig.kill() }
        if random.oneIn(3) {
            // And once more while it opens.
            rig.memory.stop(after: random.below(30))
            do {
                try rig.open()
                rig.jobs.runAll()
            } catch let error as EngineError {
                try checkStopped(error)
            }
            rig.powerCut()
        }
        try rig.open()
        try checkNothingTwice(given)
        try recover()
    }

    /// No index and no sequence that a durable edit recorded is given out again.
    private func checkNothingTwice(_ given: LogBounds) throws {
        let tail = rig.store.appliedTail
        guard tail.position.index > given.index, tail.nextSequence > given.sequence else {
            throw fail("index \(tail.position.index) is used again after \(given.index)")
        }
        for table in rig.database.tables() where table.largestSequence >= tail.nextSequence {
            throw fail("table \(table.id) holds a sequence that comes again")
        }
    }

    /// Lets the disk run full for a while: what is refused was not applied, what is there is read.
    func squeeze() throws {
        rig.memory.capacity = rig.memory.usedBytes + UInt64(random.below(6000))
        defer {
            rig.memory.capacity = .max
            // What failed is tried again after a second; until then writes may be refused.
            rig.clock.advance(1_000)
        }
        for _ in 0..<60 {
            do {
                try step()
            } catch let error as EngineError {
                pending = []
                switch error {
                case .busy: break
                case .file(let cause) where cause.isNoSpace: break
                default: throw fail("the disk was full, and the database said: \(error)")
                }
            }
        }
        try checkAll()
    }

    /// Finds the state that survived: the newest acknowledged, the one with the pending write, or,
    /// without a synced log, any since the last flush.
    private func recover() throws {
        var withPending = model
        for change in pending { withPending.apply(change) }
        pending = []
        let found = try rig.database.scan(.everything)
        let candidates = [withPending] + history.reversed()
        for candidate in candidates {
            do {
                try compare(found, candidate, 0, nil, false, .max, "")
                model = candidate
                history = [model]
                return
            } catch is OracleFailure {}
        }
        throw fail("after crash \(crashes) the database holds what never was")
    }
}
