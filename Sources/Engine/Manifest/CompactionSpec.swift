// Payload of a `compact` entry: everything that shapes the bytes of a job's outputs. Two members
// that run the same spec on the same inputs write the same tables, so whatever is not here must be
// constant in code.
//
// Invariants (checked when decoding): at least one input; inputs sorted by (level, id), no two
// alike; they come from one level or from that level and the output level, which is the same or the
// next one, or from level 0 any; what is moved comes from one level and goes down; boundaries are
// keys, in order, of a merge that reads its inputs. Made by `CompactionPlanner`, read by
// `LogicalManifest` and the executor.

package struct CompactionSpec: Hashable, Sendable {
    /// A table that the job reads. The digest pins its content, whatever the id says.
    package struct Input: Hashable, Sendable, Comparable {
        package var id: TableID
        package var level: UInt8
        package var digest: Digest128

        package init(id: TableID, level: UInt8, digest: Digest128) {
            self.id = id
            self.level = level
            self.digest = digest
        }

        package init(_ record: TableRecord) {
            self.init(id: record.id, level: record.level, digest: record.digest)
        }

        package static func < (left: Input, right: Input) -> Bool {
            left.level != right.level ? left.level < right.level : left.id < right.id
        }
    }

    /// What becomes of the inputs.
    package enum Action: UInt8, Hashable, Sendable {
        /// They are merged into outputs; or, with witnesses, let go unread.
        case merge = 0
        /// They stay as they are, file and all, and are at the output level from then on. Nothing
        /// is read or written, so `compacted` names no table.
        case move = 1
        /// They go, unread, with all they hold: what FIFO does with its oldest tables. Nothing
        /// older than they are may be left in their hull, or it would be seen again.
        case drop = 2
    }

    /// Where an output ends and the next begins. Judged on canonical lengths only, and never
    /// between two versions of one user key.
    package enum CutRule: UInt8, Hashable, Sendable {
        /// Before the first user key at which the output's canonical bytes have reached
        /// `targetBytes`.
        case targetBytes = 1
    }

    package private(set) var action = Action.merge
    /// Sorted by (level, id).
    package var inputs: [Input]
    package var outputLevel: UInt8
    package var cutRule: CutRule
    /// Canonical bytes at which an output is cut.
    package var targetBytes: UInt64
    /// Of two versions at or below it, the older is garbage.
    package var horizon: SequenceNumber
    /// "Now" for expiry, already less the largest clock offset.
    package var clock: ClockMilliseconds
    package var blockBytes: UInt32
    /// Filters of the outputs, as the settings have them for their level.
    package var filter: FilterShape
    /// Format of the tables to write.
    package var tableFormat: UInt16
    /// Nothing older than the inputs exists in their hull, so tombstones may go.
    package var isBottommost: Bool
    /// What the embedding program adds.
    package var functions: JobFunctionNames
    /// If there are any, the job reads no input: range tombstones of these tables, at or below the
    /// horizon, hide all that the inputs hold, and the inputs go. Sorted; reserved, and kept.
    package var witnesses: [Input]
    /// Blob files that go: values in them that the inputs refer to move to blob files of the job.
    /// Sorted.
    package var collected: [TableID]
    /// Canonical bytes at which such a file is cut.
    package var blobFileBytes: UInt64
    /// User keys before which a part of the job ends and the next begins, in order. Each part is
    /// merged by itself, and its outputs have ordinals from `firstOrdinal(ofPart:)` on.
    package var boundaries: [[UInt8]] = []

    package init(
        inputs: [Input], outputLevel: UInt8, cutRule: CutRule = .targetBytes, targetBytes: UInt64,
        horizon: SequenceNumber, clock: ClockMilliseconds, blockBytes: UInt32,
        filter: FilterShape, tableFormat: UInt16 = CompactionSpec.currentTableFormat,
        isBottommost: Bool, functions: JobFunctionNames = JobFunctionNames(),
        witnesses: [Input] = [], collected: [TableID] = [],
        blobFileBytes: UInt64 = BlobPlan.defaultFileBytes
    ) {
        self.inputs = inputs.sorted()
        self.outputLevel = outputLevel
        self.cutRule = cutRule
        self.targetBytes = targetBytes
        self.horizon = horizon
        self.clock = clock
        self.blockBytes = blockBytes
        self.filter = filter
        self.tableFormat = tableFormat
        self.isBottommost = isBottommost
        self.functions = functions
        self.witnesses = witnesses.sorted()
        self.collected = collected.sorted()
        self.blobFileBytes = blobFileBytes
    }

    /// A job that shapes no bytes. What only a merge needs is constant, and not logged.
    private init(_ action: Action, _ inputs: [Input], outputLevel: UInt8) {
        self.init(
            inputs: inputs, outputLevel: outputLevel,
            targetBytes: CompactionSpec.targetBytesRange.lowerBound, horizon: .zero, clock: 0,
            blockBytes: LevelBlockBytes.range.lowerBound, filter: .none, isBottommost: false)
        self.action = action
    }

    /// Moves tables of one level down to another, where nothing is in their hull.
    package static func move(_ inputs: [Input], to level: UInt8) -> CompactionSpec {
        CompactionSpec(.move, inputs, outputLevel: level)
    }

    /// Lets tables of one level go.
    package static func drop(_ inputs: [Input]) -> CompactionSpec {
        CompactionSpec(.drop, inputs, outputLevel: inputs.first?.level ?? 0)
    }

    package var partCount: Int { boundaries.count + 1 }

    /// Whatever a part writes, the ordinals of the next are behind its own.
    package static func firstOrdinal(ofPart part: Int) -> UInt32 {
        UInt32(part * Limits.jobTables)
    }

    /// The part that writes a table of this ordinal.
    package static func part(ofOrdinal ordinal: UInt32) -> Int {
        Int(ordinal) / Limits.jobTables
    }

    /// The table format that this build writes.
    package static let currentTableFormat: UInt16 = 2
    /// Bounds of `targetBytes`.
    package static let targetBytesRange: ClosedRange<UInt64> = (1 << 10)...(16 << 30)

    /// The level that the inputs come from; the others are at `outputLevel`.
    package var sourceLevel: UInt8 { inputs.first?.level ?? 0 }

    /// The smallest span that holds all of `records`; nil without any.
    package static func hull(of records: some Sequence<TableRecord>) -> KeySpan? {
        var hull: KeySpan?
        for record in records { hull = hull.map { $0.union(record.span) } ?? record.span }
        return hull
    }

    /// A table that could not stand beside the others in a sorted level; nil if all can.
    package static func firstOverlap(_ records: [TableRecord]) -> TableID? {
        let row = records.sorted { $0.span.start.isKeyBefore($1.span.start) }
        return zip(row, row.dropFirst()).first { left, right in
            left.span.end.map { right.span.start.isKeyBefore($0) } ?? true
        }?.1.id
    }
}

// MARK: - Bytes

extension CompactionSpec {
    static let format: UInt16 = 2
    /// As `format`, with functions and witnesses before the inputs; never without any.
    static let extendedFormat: UInt16 = 3
    /// Anything but a merge: action, output level and inputs alone.
    static let metadataFormat: UInt16 = 4
    /// As `extendedFormat`, with the blob files to be collected before the inputs; never without.
    static let collectingFormat: UInt16 = 5

    /// As `collectingFormat`, if need be without blob files, with the boundaries of parts before
    /// the inputs; never without.
    static let dividedFormat: UInt16 = 6

    private var isExtended: Bool { !functions.isEmpty || !witnesses.isEmpty }

    /// Of a merge.
    private var mergeFormat: UInt16 {
        if !boundaries.isEmpty { return CompactionSpec.dividedFormat }
        if !collected.isEmpty { return CompactionSpec.collectingFormat }
        return isExtended ? CompactionSpec.extendedFormat : CompactionSpec.format
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + inputs.count * 30 + collected.count * 13)
        encode(into: &writer)
        return writer.bytes
    }

    package func encode(into writer: inout ByteWriter) {
        guard action == .merge else {
            writer.write(CompactionSpec.metadataFormat)
            writer.write(action.rawValue)
            writer.write(outputLevel)
            return CompactionSpec.encode(inputs, into: &writer)
        }
        writer.write(mergeFormat)
        writer.write(outputLevel)
        writer.write(cutRule.rawValue)
        writer.write(targetBytes)
        writer.write(horizon.rawValue)
        writer.write(clock)
        writer.write(blockBytes)
        filter.encode(into: &writer)
        writer.write(tableFormat)
        writer.write(UInt8(isBottommost ? 1 : 0))
        if mergeFormat != CompactionSpec.format {
            functions.encode(into: &writer)
            CompactionSpec.encode(witnesses, into: &writer)
        }
        if !collected.isEmpty || !boundaries.isEmpty {
            writer.write(blobFileBytes)
            writer.writeVarint(UInt64(collected.count))
            for file in collected { file.encode(into: &writer) }
        }
        if !boundaries.isEmpty {
            writer.writeVarint(UInt64(boundaries.count))
            for boundary in boundaries { writer.writePrefixed(boundary) }
        }
        CompactionSpec.encode(inputs, into: &writer)
    }

    private static func encode(_ tables: [Input], into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(tables.count))
        for table in tables {
            table.id.encode(into: &writer)
            writer.write(table.level)
            writer.write(table.digest)
        }
    }

    private static func decodeTables(_ reader: inout ByteReader) throws(DecodingError) -> [Input] {
        let count = try reader.readVarint(atMost: UInt64(Limits.jobTables), "an input count")
        var tables: [Input] = []
        for _ in 0..<count {
            let id = try TableID(&reader)
            guard !id.kind.isBlob else { throw DecodingError("blob file \(id) is no table") }
            let level = try reader.read(UInt8.self)
            tables.append(Input(id: id, level: level, digest: try reader.readDigest()))
        }
        return tables
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        switch format {
        case CompactionSpec.format, CompactionSpec.extendedFormat,
            CompactionSpec.collectingFormat, CompactionSpec.dividedFormat:
            self = try CompactionSpec(merging: &reader, format)
        case CompactionSpec.metadataFormat:
            let rawAction = try reader.read(UInt8.self)
            guard let action = Action(rawValue: rawAction), action != .merge else {
                throw DecodingError("compaction action \(rawAction) is unknown")
            }
            let outputLevel = try reader.read(UInt8.self)
            let inputs = try CompactionSpec.decodeTables(&reader)
            self.init(action, inputs, outputLevel: outputLevel)
            // Sorting would hide that they were not.
            self.inputs = inputs
        default: throw DecodingError("compaction format \(format) is not supported")
        }
        try check()
    }

    private init(merging reader: inout ByteReader, _ format: UInt16) throws(DecodingError) {
        outputLevel = try reader.read(UInt8.self)
        let rawRule = try reader.read(UInt8.self)
        guard let cutRule = CutRule(rawValue: rawRule) else {
            throw DecodingError("cut rule \(rawRule) is unknown")
        }
        self.cutRule = cutRule
        targetBytes = try reader.read(UInt64.self)
        horizon = try reader.readSequence()
        clock = try reader.read(UInt64.self)
        blockBytes = try reader.read(UInt32.self)
        filter = try FilterShape(&reader)
        tableFormat = try reader.read(UInt16.self)
        isBottommost = try reader.readFlag()
        functions = JobFunctionNames()
        witnesses = []
        collected = []
        blobFileBytes = BlobPlan.defaultFileBytes
        if format != CompactionSpec.format {
            functions = try JobFunctionNames(&reader)
            witnesses = try CompactionSpec.decodeTables(&reader)
        }
        if format == CompactionSpec.collectingFormat || format == CompactionSpec.dividedFormat {
            blobFileBytes = try reader.read(UInt64.self)
            collected = try CompactionSpec.decodeBlobs(&reader)
        }
        if format == CompactionSpec.dividedFormat {
            boundaries = try CompactionSpec.decodeBoundaries(&reader)
        }
        inputs = try CompactionSpec.decodeTables(&reader)
        guard format == mergeFormat else {
            throw DecodingError("a compaction of another format than it says")
        }
    }

    private static func decodeBlobs(_ reader: inout ByteReader) throws(DecodingError) -> [TableID] {
        let count = try reader.readVarint(atMost: UInt64(Limits.jobTables), "a blob file count")
        var files: [TableID] = []
        for _ in 0..<count {
            let file = try TableID(&reader)
            guard file.kind.isBlob, files.last.map({ $0 < file }) ?? true else {
                throw DecodingError("blob files to collect are not in order")
            }
            files.append(file)
        }
        return files
    }

    private static func decodeBoundaries(_ reader: inout ByteReader) throws(DecodingError)
        -> [[UInt8]]
    {
        let count = try reader.readVarint(atMost: UInt64(Limits.jobParts - 1), "a boundary count")
        var boundaries: [[UInt8]] = []
        for _ in 0..<count {
            boundaries.append(try reader.readPrefixedArray(atMost: Limits.keyBytes))
        }
        return boundaries
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("a compaction")
    }

    /// What holds for every spec, whatever the manifest.
    private func check() throws(DecodingError) {
        guard tableFormat == CompactionSpec.currentTableFormat else {
            throw DecodingError("table format \(tableFormat) is not supported")
        }
        guard CompactionSpec.targetBytesRange.contains(targetBytes),
            LevelBlockBytes.range.contains(blockBytes)
        else { throw DecodingError("a compaction's parameter is out of its range") }
        guard !inputs.isEmpty else { throw DecodingError("a compaction without inputs") }
        guard collected.isEmpty || witnesses.isEmpty,
            BlobPlan.fileBytesRange.contains(blobFileBytes)
        else { throw DecodingError("blob files to collect") }
        let source = sourceLevel
        guard outputLevel < TableRecord.levelCount, source <= outputLevel,
            outputLevel - source <= 1 || source == 0
        else { throw DecodingError("a compaction from level \(source) to \(outputLevel)") }
        let isFitting =
            switch action {
            case .merge: true
            case .move: outputLevel > source
            case .drop: outputLevel == source
            }
        guard isFitting else {
            throw DecodingError("a \(action) from level \(source) to \(outputLevel)")
        }
        var tables = Set<TableID>(minimumCapacity: inputs.count)
        var last: Input?
        for input in inputs {
            if let last, !(last < input) { throw DecodingError("inputs are not in order") }
            guard input.level == source || (action == .merge && input.level == outputLevel) else {
                throw DecodingError("an input at level \(input.level)")
            }
            guard tables.insert(input.id).inserted else {
                throw DecodingError("table \(input.id) is an input twice")
            }
            last = input
        }
        try checkWitnesses(tables)
        try checkBoundaries()
    }

    private func checkBoundaries() throws(DecodingError) {
        guard !boundaries.isEmpty else { return }
        guard witnesses.isEmpty else { throw DecodingError("a job that reads nothing has parts") }
        var last: [UInt8] = []
        for boundary in boundaries {
            guard last.isKeyBefore(boundary) else {
                throw DecodingError("boundaries are not in order")
            }
            last = boundary
        }
    }

    private func checkWitnesses(_ inputs: Set<TableID>) throws(DecodingError) {
        var last: Input?
        for witness in witnesses {
            guard last.map({ $0 < witness }) ?? true, witness.level < TableRecord.levelCount else {
                throw DecodingError("witnesses are not in order")
            }
            guard !inputs.contains(witness.id) else {
                throw DecodingError("table \(witness.id) is an input and a witness")
            }
            last = witness
        }
        guard witnesses.isEmpty || outputLevel == sourceLevel else {
            throw DecodingError("a job that drops tables moves none")
        }
    }
}
