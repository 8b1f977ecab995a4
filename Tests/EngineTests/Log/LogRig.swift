// A log over the in-memory file system, as the tests of the log drive it: entries made on the fly,
// crashes of the process and of the power, and a look at what is left.
import Engine
import Testing

final class LogRig {
    static let genesis = logGenesis(cluster: "test", group: 0)
    static let directory = "d/log"
    static let statePath = "d/state"

    let fileSystem: MemoryFileSystem
    var options = LogOptions(sync: .always)
    var base = LogBase()
    var hardState: HardState
    var log: Log
    var recovery: LogRecovery
    private var nonce: UInt64 = 1

    init(
        seed: UInt64 = 1, sync: LogSyncPolicy = .always, segmentBytes: UInt64 = 4096,
        fileSystem: MemoryFileSystem? = nil, keys: KeyRing = .plain
    ) throws {
        let files = fileSystem ?? MemoryFileSystem(seed: seed)
        self.fileSystem = files
        try files.createDirectory("d")
        options.sync = sync
        options.aheadBytes = 4096
        options.keys = keys
        base.settings.segmentBytes = segmentBytes
        (hardState, log, recovery) = try LogRig.open(files, options, base, nonce: 1)
    }

    /// A rig over a copy of another's files as a power cut would leave them.
    init(afterPowerCutOf other: LogRig) throws {
        fileSystem = other.fileSystem.snapshotAfterPowerCut()
        options = other.options
        base = other.base
        (hardState, log, recovery) = try LogRig.open(fileSystem, options, base, nonce: 99)
    }

    private static func open(
        _ files: MemoryFileSystem, _ options: LogOptions, _ base: LogBase, nonce: UInt64
    ) throws -> (HardState, Log, LogRecovery) {
        let hardState = try HardState.open(files, statePath, nonce: nonce, keys: options.keys)
        let (log, recovery) = try Log.open(
            files, directory, hardState: hardState, genesis: genesis, group: 0, options: options,
            base: base)
        return (hardState, log, recovery)
    }

    func open() throws {
        nonce += 1
        (hardState, log, recovery) = try LogRig.open(fileSystem, options, base, nonce: nonce)
    }

    func kill() throws {
        fileSystem.restart()
        try open()
    }

    func powerCut() throws {
        fileSystem.powerCut()
        try open()
    }

    // MARK: Entries

    /// Entries that continue the log, of about `bytes` payload each.
    func make(
        _ count: Int, term: UInt64 = 1, bytes: Int = 100, commit: UInt64 = 0, salt: UInt8 = 0
    ) -> [Entry] {
        var previous = log.last
        return (0..<count).map { _ in
            let entry = LogRig.entry(
                after: previous, term: term, bytes: bytes, commit: commit, salt: salt)
            previous = entry.position
            return entry
        }
    }

    static func entry(
        after previous: Position, term: UInt64 = 1, bytes: Int = 100, commit: UInt64 = 0,
        salt: UInt8 = 0, kind: EntryKind = .write, payload: [UInt8]? = nil
    ) -> Entry {
        let index = previous.index + 1
        let fill = UInt8(truncatingIfNeeded: index.rawValue &* 7 &+ term) ^ salt
        return Entry(
            kind: kind, payload: payload ?? [UInt8](repeating: fill, count: bytes),
            previous: previous.index == .zero ? genesis : previous.checksum, group: 0,
            term: Term(term), index: index, firstSequence: SequenceNumber(index.rawValue),
            clock: 1000 + index.rawValue, commit: LogIndex(commit))
    }

    @discardableResult
    func append(
        _ count: Int, term: UInt64 = 1, bytes: Int = 100, sync: Bool = true, commit: UInt64 = 0,
        salt: UInt8 = 0
    ) throws -> [Entry] {
        let entries = make(count, term: term, bytes: bytes, commit: commit, salt: salt)
        try log.append(entries, sync: sync)
        return entries
    }

    /// What the log holds, from its first entry to its last or to its first hole.
    func all() throws -> [Entry] { try LogRig.all(log) }

    static func all(_ log: Log) throws -> [Entry] {
        var result: [Entry] = []
        var next = log.first
        while next <= log.last.index {
            let part: [Entry]
            do { part = try log.entries(from: next, maxBytes: 1000) } catch {
                guard case .logHole = error else { throw error }
                break
            }
            guard let last = part.last else { break }
            result += part
            next = last.index + 1
        }
        return result
    }

    // MARK: Files

    func path(_ first: UInt64) -> String { LogRig.directory + "/" + hex16(first) + ".seg" }

    func segmentFirsts() throws -> [UInt64] {
        try fileSystem.list(LogRig.directory).filter { $0.hasSuffix(".seg") }
            .compactMap { UInt64($0.prefix(16), radix: 16) }
    }

    func raw(_ path: String) throws -> [UInt8] {
        try fileSystem.readAll(path, limit: 1 << 30)
    }

    /// Writes bytes behind the log's back, durably.
    func poke(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
        let file = try fileSystem.open(path, .createOrWrite)
        try file.writeAll(bytes, at: UInt64(offset))
        try file.sync()
    }

    /// Where the frame of an entry starts in its segment's file.
    func frameOffset(_ entry: Entry, in path: String) throws -> Int {
        let bytes = try raw(path)
        let needle = entry.encoded[0..<16]
        let place = bytes.indices.first { offset in
            offset + 16 <= bytes.count && bytes[offset] == needle[0]
                && bytes[offset..<(offset + 16)].elementsEqual(needle)
        }
        return try #require(place) - 48
    }

    /// Flips a bit of an entry's payload.
    func rotEntry(_ entry: Entry, in first: UInt64) throws {
        let offset = try frameOffset(entry, in: path(first))
        fileSystem.flip(path(first), UInt64(offset + 48 + 84 + 3), mask: 0x10)
    }

    /// Flips a bit of an entry's frame, so that its length is lost.
    func rotFrame(_ entry: Entry, in first: UInt64) throws {
        let offset = try frameOffset(entry, in: path(first))
        fileSystem.flip(path(first), UInt64(offset + 9), mask: 0x10)
    }
}

extension Array where Element == Entry {
    var headers: [EntryHeader] { map(\.header) }
    var indexes: [UInt64] { map(\.index.rawValue) }
}
