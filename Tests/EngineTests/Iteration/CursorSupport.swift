// What the tests of cursors, reads and merges share: a cursor over an array that makes misuse
// visible, and a brute-force model of what a reader must see.

import Engine

struct ModelEntry: Equatable, CustomStringConvertible {
    var key: [UInt8]
    var trailer: Trailer
    var value: [UInt8]

    init(_ key: [UInt8], _ sequence: UInt64, _ kind: ValueKind = .put, _ value: [UInt8] = []) {
        self.key = key
        trailer = Trailer(SequenceNumber(sequence), kind)
        self.value = value
    }

    init(_ key: String, _ sequence: UInt64, _ kind: ValueKind = .put, _ value: String = "") {
        self.init([UInt8](key.utf8), sequence, kind, [UInt8](value.utf8))
    }

    /// A put that expires.
    static func expiring(_ key: String, _ sequence: UInt64, at expiry: UInt64, _ value: String)
        -> ModelEntry
    {
        var writer = ByteWriter()
        writer.write(expiry)
        writer.write(raw: [UInt8](value.utf8))
        return ModelEntry([UInt8](key.utf8), sequence, .expiringPut, writer.bytes)
    }

    /// An operand.
    static func merge(_ key: String, _ sequence: UInt64, _ id: MergeOperatorID, _ operand: [UInt8])
        -> ModelEntry
    {
        ModelEntry([UInt8](key.utf8), sequence, .merge, MergeOperand.stored(id, operand))
    }

    var description: String {
        "\(String(decoding: key, as: UTF8.self))@\(trailer.sequence)"
    }

    static func isBefore(_ left: ModelEntry, _ right: ModelEntry) -> Bool {
        left.key == right.key ? left.trailer > right.trailer : left.key.isKeyBefore(right.key)
    }
}

func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }
func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

func tombstone(_ start: String, _ end: String?, _ sequence: UInt64) -> RangeTombstone {
    RangeTombstone(
        span: KeySpan(start: bytes(start), end: end.map { bytes($0) }),
        sequence: SequenceNumber(sequence))
}

/// Over sorted entries. Key and value live in buffers that every move overwrites, so a borrowed
/// pointer used too late reads wrong bytes.
final class ArrayCursor: EntryCursor {
    private let entries: [ModelEntry]
    private var index = -1
    private var keyBuffer = ScratchBytes()
    private var valueBuffer = ScratchBytes()
    /// Entries that cannot be read.
    var lost: Set<Int> = []

    init(_ entries: [ModelEntry]) { self.entries = entries.sorted(by: ModelEntry.isBefore) }

    var isValid: Bool { entries.indices.contains(index) }
    var key: UnsafeRawBufferPointer { keyBuffer.bytes }
    var value: UnsafeRawBufferPointer { valueBuffer.bytes }
    var trailer: Trailer { entries[index].trailer }

    private func move(to place: Int) throws(EngineError) {
        index = min(max(place, -1), entries.count)
        if lost.contains(index) {
            index = -1
            throw .blockLost(
                BlockAddress(
                    table: TableID(index: LogIndex(1), kind: .flush, ordinal: 0),
                    ordinal: BlockOrdinal(0)), reason: "planted")
        }
        let entry = isValid ? entries[index] : ModelEntry("~~~~~~~~~~~~~~~~", 1, .put, "~~~~~~~~")
        entry.key.withUnsafeBytes { keyBuffer.assign($0) }
        entry.value.withUnsafeBytes { valueBuffer.assign($0) }
    }

    func seekToFirst() throws(EngineError) { try move(to: 0) }
    func seekToLast() throws(EngineError) { try move(to: entries.count - 1) }
    func seek(_ key: UnsafeRawBufferPointer, _ trailer: Trailer) throws(EngineError) {
        let key = [UInt8](key)
        try move(
            to: entries.partitionPoint {
                $0.key == key ? $0.trailer > trailer : $0.key.isKeyBefore(key)
            })
    }
    func seekBefore(_ key: UnsafeRawBufferPointer) throws(EngineError) {
        let key = [UInt8](key)
        try move(to: entries.partitionPoint { $0.key.isKeyBefore(key) } - 1)
    }
    func next() throws(EngineError) { try move(to: index + 1) }
    func previous() throws(EngineError) { try move(to: index - 1) }
}

extension EntryCursor {
    var modelEntry: ModelEntry {
        var entry = ModelEntry([UInt8](key), 0, .put, [UInt8](value))
        entry.trailer = trailer
        return entry
    }

    /// Moves on both ways, in turn.
    func collectForward() throws(EngineError) -> [ModelEntry] {
        var entries: [ModelEntry] = []
        while isValid {
            entries.append(modelEntry)
            if entries.count.isMultiple(of: 2) {
                try next()
            } else if let entry = try advance() {
                invariant(
                    entry.key.elementsEqual(key) && entry.trailer == trailer
                        && entry.value.elementsEqual(value), "advance shows another entry")
            } else {
                invariant(!isValid, "advance hides an entry")
            }
        }
        return entries
    }

    func collectReverse() throws(EngineError) -> [ModelEntry] {
        var entries: [ModelEntry] = []
        while isValid {
            entries.append(modelEntry)
            try previous()
        }
        return entries
    }

    func seek(at key: [UInt8], _ trailer: Trailer) throws(EngineError) {
        try withKey(key) { (key) throws(EngineError) in try seek(key, trailer) }
    }

    func seek(before key: [UInt8]) throws(EngineError) {
        try withKey(key) { (key) throws(EngineError) in try seekBefore(key) }
    }
}

/// Every version and range tombstone ever written, and what a reader must see of them.
struct ModelStore {
    private var entries: [[UInt8]: [ModelEntry]] = [:]
    var tombstones: [RangeTombstone] = []

    init(entries: [ModelEntry] = []) {
        for entry in entries { add(entry) }
    }

    /// Whether the newest version is a put that no range tombstone hides, expired or not.
    func holds(_ key: [UInt8]) -> Bool {
        guard let newest = (entries[key] ?? []).max(by: { $0.trailer < $1.trailer }),
            newest.trailer.kind == .put || newest.trailer.kind == .expiringPut
        else { return false }
        return !tombstones.contains {
            $0.span.contains(key) && $0.sequence > newest.trailer.sequence
        }
    }

    mutating func add(_ entry: ModelEntry) { entries[entry.key, default: []].append(entry) }

    func get(_ key: [UInt8], at sequence: SequenceNumber, now: ClockMilliseconds) -> LiveValue? {
        let deleted =
            tombstones.filter { $0.sequence <= sequence && $0.span.contains(key) }
            .map(\.sequence).max() ?? .zero
        let versions = (entries[key] ?? []).filter {
            $0.trailer.sequence <= sequence && $0.trailer.sequence > deleted
        }
        let newestFirst = versions.sorted { $0.trailer > $1.trailer }
        let merges = newestFirst.prefix { $0.trailer.kind == .merge }
        let base = newestFirst.dropFirst(merges.count).first.flatMap { live($0, now: now) }
        if merges.isEmpty { return base }
        let operands = merges.reversed().map { entry in
            KeyValueModel.Operand(
                id: MergeOperatorID(UInt16(entry.value[0]) | UInt16(entry.value[1]) << 8),
                bytes: Array(entry.value.dropFirst(2)))
        }
        return LiveValue(value: MergeReference.fold(operands, onto: base?.value))
    }

    private func live(_ newest: ModelEntry, now: ClockMilliseconds) -> LiveValue? {
        switch newest.trailer.kind {
        case .put: return LiveValue(value: newest.value)
        case .expiringPut:
            let expiry = newest.value.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
            return expiry <= now
                ? nil : LiveValue(value: [UInt8](newest.value.dropFirst(8)), expiry: expiry)
        default: return nil
        }
    }

    func scan(_ span: KeySpan, at sequence: SequenceNumber, now: ClockMilliseconds)
        -> [(key: [UInt8], value: LiveValue)]
    {
        let keys = entries.keys.filter { span.contains($0) }
        return keys.sorted { $0.isKeyBefore($1) }.compactMap { key in
            get(key, at: sequence, now: now).map { (key, $0) }
        }
    }
}

func same(
    _ left: [(key: [UInt8], value: LiveValue)], _ right: [(key: [UInt8], value: LiveValue)]
) -> Bool {
    left.elementsEqual(right) { $0.key == $1.key && $0.value == $1.value }
}
