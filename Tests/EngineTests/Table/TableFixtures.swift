// What the table and memtable tests share: a file in memory, a seeded generator, a sorted-array
// model of a table, and menders.

import Engine
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A file in memory that tests may damage.
final class TableTestFile: File {
    let path: String
    private let content: Mutex<[UInt8]>
    private let reads = Atomic<Int>(0)
    private let syncs = Atomic<Int>(0)

    init(_ bytes: [UInt8] = [], path: String = "test.sst") {
        self.path = path
        content = Mutex(bytes)
    }

    var bytes: [UInt8] {
        get { content.withLock { $0 } }
        set { content.withLock { $0 = newValue } }
    }
    var readCount: Int { reads.load(ordering: .relaxed) }
    var syncCount: Int { syncs.load(ordering: .relaxed) }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FileError)
        -> Int
    {
        reads.wrappingAdd(1, ordering: .relaxed)
        return content.withLock { bytes in
            guard offset < UInt64(bytes.count) else { return 0 }
            let count = min(buffer.count, bytes.count - Int(offset))
            bytes.withUnsafeBytes { raw in
                let start = Int(offset)
                buffer.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: raw[start..<(start + count)]))
            }
            return count
        }
    }

    func readFromMedium(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer)
        throws(FileError) -> Int
    { try read(at: offset, into: buffer) }

    func write(_ more: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        let copy = [UInt8](more)
        content.withLock { bytes in
            let end = Int(offset) + copy.count
            if bytes.count < end {
                bytes.append(contentsOf: [UInt8](repeating: 0, count: end - bytes.count))
            }
            bytes.replaceSubrange(Int(offset)..<end, with: copy)
        }
    }

    func sync() throws(FileError) { syncs.wrappingAdd(1, ordering: .relaxed) }
    func size() throws(FileError) -> UInt64 { content.withLock { UInt64($0.count) } }
    func truncate(to size: UInt64) throws(FileError) {
        content.withLock { $0.removeLast($0.count - Int(size)) }
    }
    func map(size: Int) throws(FileError) -> any FileMapping {
        throw FileError(operation: "map", path: path, code: 95)
    }
}

/// splitmix64.
struct TableTestRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}

struct TestEntry: Equatable, CustomStringConvertible {
    var key: [UInt8]
    var trailer: Trailer
    var value: [UInt8]

    static func isBefore(_ left: TestEntry, _ right: TestEntry) -> Bool {
        if left.key != right.key { return left.key.isKeyBefore(right.key) }
        return left.trailer > right.trailer
    }
    var description: String {
        "(\(key.prefix(12)), \(trailer.sequence.rawValue), \(value.count) B)"
    }
}

/// A sorted array of versions: what a memtable or a table must behave like.
struct TestModel {
    var entries: [TestEntry]

    init(_ unsorted: [TestEntry]) { entries = unsorted.sorted(by: TestEntry.isBefore) }

    func lookup(_ key: [UInt8], _ sequence: SequenceNumber) -> TestEntry? {
        let place = seek(key, .seek(sequence))
        guard place < entries.count, entries[place].key == key else { return nil }
        return entries[place]
    }
    func seek(_ key: [UInt8], _ trailer: Trailer) -> Int {
        let target = TestEntry(key: key, trailer: trailer, value: [])
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if TestEntry.isBefore(entries[middle], target) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
    func seekBefore(_ key: [UInt8]) -> Int? {
        let place = seek(key, Trailer(rawValue: .max))
        return place == 0 ? nil : place - 1
    }

    /// Random versions of keys that share prefixes, with several versions of some keys.
    static func random(_ count: Int, _ random: inout TableTestRandom, hugeValues: Bool = false)
        -> TestModel
    {
        var entries: [TestEntry] = []
        var sequence: UInt64 = 1
        var keys: [[UInt8]] = []
        for _ in 0..<count {
            let key =
                keys.isEmpty || random.below(4) > 0
                ? randomKey(&random) : keys[random.below(keys.count)]
            keys.append(key)
            sequence += UInt64(random.below(1000)) + 1
            let kind: ValueKind = [.put, .put, .delete, .expiringPut][random.below(4)]
            let huge = hugeValues && random.below(200) == 0
            let length =
                kind == .delete ? 0 : huge ? 100_000 : random.below(5) == 0 ? 0 : random.below(120)
            entries.append(
                TestEntry(
                    key: key, trailer: Trailer(SequenceNumber(sequence), kind),
                    value: random.bytes(length)))
        }
        return TestModel(entries)
    }

    static func randomKey(_ random: inout TableTestRandom) -> [UInt8] {
        switch random.below(6) {
        case 0: return random.bytes(random.below(4))
        case 1: return [UInt8](repeating: 0x61, count: 40) + random.bytes(2)
        case 2: return [UInt8]("user:".utf8) + random.bytes(3)
        case 3: return [UInt8](repeating: 0, count: random.below(12))
        default: return [UInt8]("key\(random.below(3000))".utf8)
        }
    }
}

func withBytes<R>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try bytes.withUnsafeBytes(body)
}

func hash(_ key: [UInt8]) -> UInt64 { withBytes(key) { Checksum.hash64($0) } }

extension EntryCursor {
    var entry: TestEntry {
        TestEntry(key: [UInt8](key), trailer: trailer, value: [UInt8](value))
    }
    func seek(_ key: [UInt8], _ trailer: Trailer) throws {
        try withBytes(key) { try seek($0, trailer) }
    }
    func seekBefore(_ key: [UInt8]) throws { try withBytes(key) { try seekBefore($0) } }
}

/// Compares a cursor with the model: both directions, seeks, turns in the middle.
func expectCursor(
    _ cursor: any EntryCursor, matches model: TestModel, _ random: inout TableTestRandom
) throws {
    var forward: [TestEntry] = []
    try cursor.seekToFirst()
    while cursor.isValid {
        forward.append(cursor.entry)
        // Both ways to move on, in turn.
        if forward.count.isMultiple(of: 2) {
            try cursor.next()
        } else {
            let entry = try cursor.advance()
            #expect(entry.map { [UInt8]($0.key) } == cursor.current.map { [UInt8]($0.key) })
            #expect(entry.map { [UInt8]($0.value) } == cursor.current.map { [UInt8]($0.value) })
        }
    }
    #expect(forward == model.entries)
    var backward: [TestEntry] = []
    try cursor.seekToLast()
    while cursor.isValid {
        backward.append(cursor.entry)
        try cursor.previous()
    }
    #expect(backward == model.entries.reversed())
    for _ in 0..<200 {
        let known =
            model.entries.isEmpty || random.below(3) == 0
            ? TestModel.randomKey(&random) : model.entries[random.below(model.entries.count)].key
        let trailer = Trailer.seek(SequenceNumber(UInt64(random.below(1_500_000))))
        var place = model.seek(known, trailer)
        try cursor.seek(known, trailer)
        for _ in 0..<8 {
            guard model.entries.indices.contains(place) else {
                #expect(!cursor.isValid)
                break
            }
            guard cursor.isValid, cursor.entry == model.entries[place] else {
                Issue.record("after a seek to \(known): not \(model.entries[place])")
                break
            }
            if random.below(2) == 0 {
                place += 1
                try cursor.next()
            } else {
                place -= 1
                try cursor.previous()
            }
        }
        try cursor.seekBefore(known)
        if let before = model.seekBefore(known) {
            try #require(cursor.isValid)
            #expect(cursor.entry == model.entries[before])
        } else {
            #expect(!cursor.isValid)
        }
    }
}

/// Runs `body` with 0..<count, each on a thread of its own, and waits. Not tasks: their pool has as
/// many threads as cores, and one that spins would starve the others.
func runOnThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Start {
        let number: Int
        let body: @Sendable (Int) -> Void
        init(_ number: Int, _ body: @escaping @Sendable (Int) -> Void) {
            self.number = number
            self.body = body
        }
    }
    let threads = (0..<count).map { number in
        var thread = pthread_t()
        let start = Unmanaged.passRetained(Start(number, body))
        pthread_create(
            &thread, nil,
            { raw in
                guard let raw else { return nil }
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                start.body(start.number)
                return nil
            }, start.toOpaque())
        return thread
    }
    for thread in threads { pthread_join(thread, nil) }
}

let testTable = TableID(index: LogIndex(77), kind: .flush, ordinal: 3)

func buildTable(
    _ model: TestModel, tombstones: [RangeTombstone] = [], file: TableTestFile,
    shape: TableShape = TableShape(blockBytes: 4096, filterBitsPerKey: 10),
    codec: Compression = .none, generation: UInt64 = 0, keys: KeyRing = .plain
) throws -> TableRecord {
    let builder = TableBuilder(
        file: file, id: testTable, level: 0, shape: shape, codec: codec, keys: keys,
        generation: generation)
    for entry in model.entries {
        try withBytes(entry.key) { key in
            try withBytes(entry.value) { value in try builder.add(key, entry.trailer, value) }
        }
    }
    for tombstone in tombstones { builder.add(tombstone) }
    let (record, fileBytes) = try builder.finish()
    #expect(fileBytes == UInt64(file.bytes.count))
    #expect(file.syncCount == 1)
    return record
}

extension TableReader {
    func lookup(_ key: [UInt8], at sequence: SequenceNumber, io: ReadIO = .blocking) throws
        -> TestEntry?
    {
        let found = try withBytes(key) {
            try lookup($0, hash: hash(key), at: sequence, io: io)
        }
        return found.map { TestEntry(key: key, trailer: $0.trailer, value: $0.value) }
    }
}

/// A mender that has a good copy of the table.
final class CopyMender: BlockMender {
    private let source: TableReader
    private let mended = Mutex<[BlockOrdinal]>([])
    private let notes = Mutex<[String]>([])

    init(_ source: TableReader) { self.source = source }

    var asked: [BlockOrdinal] { mended.withLock { $0 } }
    var noted: [String] { notes.withLock { $0 } }

    func mend(
        _ address: BlockAddress, record: TableRecord, expected: Digest128?, reason: String
    ) throws(EngineError) -> [UInt8] {
        mended.withLock { $0.append(address.ordinal) }
        return try source.canonicalBlock(address.ordinal, fromMedium: false)
    }

    func noteDamage(_ table: TableID, block: BlockOrdinal?, reason: String) {
        notes.withLock { $0.append(reason) }
    }
}
