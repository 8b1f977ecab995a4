// A transaction as the oracle sees it: the model at its begin with its own changes, what it has
// read, and whether others wrote that meanwhile.
import Engine

struct OracleTransaction {
    private(set) var model: KeyValueModel
    let now: UInt64
    private(set) var changes: [KeyValueModel.Change] = []
    /// Something that was read was surely written: the commit must fail.
    private(set) var mustConflict = false
    /// A range delete by others may overlap a range that was read between its keys.
    private(set) var mayConflict = false
    private var keys: Set<Int> = []
    private var foreign: [KeyValueModel.Change] = []
    /// Keys whose value comes from its own writes alone.
    private var own: Set<Int> = []

    init(model: KeyValueModel, now: UInt64) {
        self.model = model
        self.now = now
    }

    mutating func get(_ key: Int) -> [UInt8]? {
        if !own.contains(key) { noteRead(key...key) }
        return model.get(key, now: now)
    }

    mutating func scan(_ start: Int, _ end: Int?, reverse: Bool, limit: Int)
        -> [(key: Int, value: [UInt8])]
    {
        var live = model.live(start, end, now: now)
        if reverse { live.reverse() }
        let shown = live.prefix(limit)
        var (first, last) = (start, (end ?? model.values.count) - 1)
        if shown.count == limit, let edge = shown.last {
            if reverse { first = edge } else { last = edge }
        }
        if first <= last { noteRead(first...last) }
        return shown.map { ($0, model.get($0, now: now) ?? []) }
    }

    private mutating func noteRead(_ range: ClosedRange<Int>) {
        keys.formUnion(range)
        judge()
    }

    mutating func noteForeign(_ changes: [KeyValueModel.Change]) {
        foreign += changes
        judge()
    }

    private mutating func judge() {
        for change in foreign {
            switch change {
            case .put(let key, _, _), .delete(let key), .merge(let key, _), .singleDelete(let key):
                if keys.contains(key) { mustConflict = true }
            case .deleteRange(let start, let end):
                let range = start..<max(start, end ?? model.values.count)
                if keys.contains(where: { range.contains($0) }) { mustConflict = true }
                mayConflict = mayConflict || !keys.isEmpty
            case .deletePrefix(let prefix):
                if keys.contains(where: { KeyValueModel.key($0).starts(with: prefix) }) {
                    mustConflict = true
                }
                mayConflict = mayConflict || !keys.isEmpty
            }
        }
        mayConflict = mayConflict || mustConflict
    }

    mutating func write(_ change: KeyValueModel.Change, to transaction: Transaction) throws {
        switch change {
        case .put(let key, let value, nil):
            transaction.put(KeyValueModel.key(key), value)
            own.insert(key)
        case .put(let key, let value, let expiry?):
            transaction.put(KeyValueModel.key(key), value, expiry: expiry)
            own.insert(key)
        case .delete(let key):
            transaction.delete(KeyValueModel.key(key))
            own.insert(key)
        case .merge(let key, let operand):
            try transaction.merge(KeyValueModel.key(key), operand.bytes, by: operand.id)
        case .deleteRange(let start, let end):
            transaction.deleteRange(
                KeyValueModel.key(start), end.map { KeyValueModel.key($0) })
            own.formUnion(start..<max(start, end ?? model.values.count))
        case .singleDelete, .deletePrefix: return
        }
        model.apply(change)
        changes.append(change)
    }
}

extension KeyValueModel.Change {
    /// What a transaction of the oracle does: no key that is only deleted singly, no prefix.
    var isPlain: Bool {
        switch self {
        case .singleDelete, .deletePrefix: return false
        case .put(let key, _, _), .delete(let key), .merge(let key, _):
            return !KeyValueModel.isSingle(key)
        case .deleteRange: return true
        }
    }
}
