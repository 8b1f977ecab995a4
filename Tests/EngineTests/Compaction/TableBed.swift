// Tables in a file system in memory, for tests of reads and merges: builds memtables, flushes and
// compacts them through the real jobs, and opens what they wrote.

import Engine

/// For handles whose files do not exist.
final class NoFiles: TableSource {
    func openReader(_ handle: TableHandle, mending: Bool) throws(EngineError) -> TableReader {
        throw .tableLost(handle.id, reason: "there is no file")
    }

    func noteOpen(_ table: OpenTable) {}
}

extension TableHandle {
    /// A handle that only its record matters of.
    static func fake(
        _ index: UInt64, level: UInt8 = 1, points: (String, String)?,
        span: (String, String?)? = nil,
        sequences: ClosedRange<UInt64> = 1...100,
        source: any TableSource = NoFiles(),
        remove: @escaping @Sendable (String) -> Void = { _ in }
    ) -> TableHandle {
        let range = points.map {
            TableRecord.PointRange(smallest: bytes($0.0), largest: bytes($0.1))
        }
        let wide =
            span.map { KeySpan(start: bytes($0.0), end: $0.1.map { bytes($0) }) }
            ?? range.map { KeySpan(smallest: $0.smallest, largest: $0.largest) } ?? .everything
        let record = TableRecord(
            id: TableID(index: LogIndex(index), kind: .compaction, ordinal: 0), level: level,
            canonicalBytes: 0, points: range, span: wide,
            smallestSequence: SequenceNumber(sequences.lowerBound),
            largestSequence: SequenceNumber(sequences.upperBound),
            entryCount: range == nil ? 0 : 1, deleteCount: 0, rangeTombstoneCount: 0, entrySum: 0,
            digest: .zero)
        return TableHandle(
            record: record, generation: 0, fileBytes: 0, codec: .none, source: source,
            remove: remove)
    }
}

final class TableBed {
    let fileSystem: MemoryFileSystem
    private(set) var source: OpenTables
    let codec: Compression
    var shape = TableShape(blockBytes: 256, filterBitsPerKey: 10)
    var filters: [any CompactionFilter] = []
    /// Of flushes.
    var blobs = BlobPlan.off

    init(codec: Compression = .lz4, openLimit: Int = 512) throws {
        fileSystem = MemoryFileSystem(seed: 1)
        try fileSystem.createDirectory("sst")
        self.codec = codec
        source = OpenTables(
            fileSystem, directory: "sst", cache: BlockCache(capacity: 1 << 20), limit: openLimit)
    }

    static func memtable(_ entries: [ModelEntry], _ tombstones: [RangeTombstone] = []) -> Memtable {
        let memtable = Memtable()
        for entry in entries { memtable.insert(entry) }
        for tombstone in tombstones { memtable.insert(tombstone) }
        return memtable
    }

    /// Files of outputs.
    var factory: TableMerge.FileFactory {
        let fileSystem = fileSystem
        return { (id) throws(EngineError) in
            do throws(FileError) {
                return try fileSystem.open(
                    "sst/" + TableHandle.fileName(id, generation: 0), .create)
            } catch {
                throw .file(error)
            }
        }
    }

    func handle(_ output: MergeResult.Output) -> TableHandle {
        let fileSystem = fileSystem
        return TableHandle(
            record: output.record, generation: 0, fileBytes: output.fileBytes, codec: codec.codec,
            source: source
        ) { name in try? fileSystem.unlink("sst/" + name) }
    }

    func path(_ table: TableHandle) -> String { "sst/" + table.fileName }

    /// The same table as a process that has cached nothing sees it.
    func reopened(_ table: TableHandle) -> TableHandle {
        let cold = OpenTables(
            fileSystem, directory: "sst", cache: BlockCache(capacity: 1 << 20), limit: 512)
        return TableHandle(
            record: table.record, generation: table.generation, fileBytes: table.fileBytes,
            codec: table.codec, source: cold
        ) { _ in }
    }

    func flush(_ memtable: Memtable, at index: UInt64, horizon: UInt64? = nil) throws
        -> [TableHandle]
    {
        let job = FlushJob(
            memtable, lastIndex: LogIndex(index), shape: shape, blobs: blobs,
            horizon: horizon.map { SequenceNumber($0) })
        let result = try job.run(
            codec: codec, makeFile: factory)
        guard let result, result.isBalanced else { throw EngineError.invalid(reason: "flush") }
        return result.outputs.map { handle($0) }
    }

    func spec(
        _ inputs: [TableHandle], to level: UInt8, target: UInt64 = 1 << 20, horizon: UInt64 = 0,
        clock: UInt64 = 0, bottommost: Bool = false,
        functions: JobFunctionNames = TestMerge.names
    ) -> CompactionSpec {
        CompactionSpec(
            inputs: inputs.map { CompactionSpec.Input($0.record) }, outputLevel: level,
            targetBytes: target, horizon: SequenceNumber(horizon), clock: clock,
            blockBytes: UInt32(shape.blockBytes), filter: shape.filter,
            isBottommost: bottommost, functions: functions)
    }

    func compact(
        _ inputs: [TableHandle], _ spec: CompactionSpec, at index: UInt64,
        witnesses: [TableHandle] = [], blobs: [TableHandle] = [], threads: JobThreads? = nil
    ) throws -> MergeResult {
        let job = try CompactionJob(
            spec, at: LogIndex(index), inputs: inputs, witnesses: witnesses,
            blobs: BlobFiles(blobs), registry: TestMerge.registry(filters: filters))
        let result = try job.run(
            codec: codec, threads: threads, makeFile: factory)
        guard let result else { throw EngineError.invalid(reason: "cancelled") }
        return result
    }

    /// Compacts and opens the outputs; throws if the books do not balance.
    func compacted(_ inputs: [TableHandle], _ spec: CompactionSpec, at index: UInt64) throws
        -> [TableHandle]
    {
        let result = try compact(inputs, spec, at: index)
        guard result.isBalanced else { throw EngineError.invalid(reason: "unbalanced") }
        return result.outputs.map { handle($0) }
    }
}

extension Memtable {
    func insert(_ entry: ModelEntry) {
        entry.key.withUnsafeBytes { key in
            entry.value.withUnsafeBytes { insert(key, entry.trailer, $0) }
        }
    }
}

extension ReadView {
    convenience init(
        _ memtables: [Memtable] = [], standIns: [TableHandle] = [], tables: [TableHandle]
    ) throws {
        self.init(
            memtables: memtables, standIns: standIns, version: try Version(tables),
            mergeOperators: try TestMerge.registry().mergeOperators)
    }

    func text(_ key: String, at sequence: UInt64 = 1 << 40, now: UInt64 = 0) throws -> String? {
        try get(bytes(key), at: SequenceNumber(sequence), now: now, io: .blocking).map {
            String(decoding: $0.value, as: UTF8.self)
        }
    }

    func keys(
        _ span: KeySpan = .everything, at sequence: UInt64 = 1 << 40, reverse: Bool = false
    ) throws -> [String] {
        try scan(span, reverse: reverse, at: SequenceNumber(sequence), now: 0).map {
            String(decoding: $0.key, as: UTF8.self)
        }
    }
}
