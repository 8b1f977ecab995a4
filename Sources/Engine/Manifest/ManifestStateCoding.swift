// Bytes of the manifest state and of edits: the payloads of the manifest file's two record types.
// The state's are also what one node gives another. Layout: docs/formats/manifest.md.

extension ManifestState {
    static let format: UInt16 = 2

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 1024 + manifest.tables.count * 256)
        writer.write(ManifestState.format)
        writer.write(frontier.rawValue)
        flushed.encode(into: &writer)
        writer.write(horizon.rawValue)
        writer.write(clock)
        writer.write(bounds.index.rawValue)
        writer.write(bounds.sequence.rawValue)
        writer.writePrefixed(settings.encoded())
        writer.writePrefixed(membership.encoded())
        manifest.encode(into: &writer)
        writer.writeVarint(UInt64(standIns.count))
        for standIn in standIns { standIn.encode(into: &writer) }
        writer.writeVarint(UInt64(local.count))
        for (id, row) in local.sorted(by: { $0.key < $1.key }) {
            id.encode(into: &writer)
            row.encode(into: &writer)
        }
        writer.writeVarint(UInt64(jobEntries.count))
        for entry in jobEntries { entry.encode(into: &writer) }
        writer.writeVarint(UInt64(roots.count))
        for root in roots { root.encode(into: &writer) }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingError) {
        self = try bytes.withBytes { (buffer) throws(DecodingError) in
            var reader = ByteReader(buffer)
            let state = try ManifestState(&reader)
            try reader.expectEnd("a manifest state")
            return state
        }
    }

    private init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == ManifestState.format else {
            throw DecodingError("manifest state format \(format) is not supported")
        }
        let frontier = try reader.readLogIndex()
        self.init(genesis: .zero)
        self.frontier = frontier
        flushed = try LogPoint(&reader)
        horizon = try reader.readSequence()
        clock = try reader.read(UInt64.self)
        bounds = try LogBounds(&reader)
        settings = try LoggedSettings(decoding: reader.readPrefixed())
        membership = try Membership(decoding: reader.readPrefixed())
        manifest = try LogicalManifest(&reader)
        try readLists(&reader)
        try checkFiles()
        try check()
    }

    private mutating func readLists(_ reader: inout ByteReader) throws(DecodingError) {
        for _ in 0..<(try reader.readCount("a stand-in count")) {
            standIns.append(try StandIn(&reader))
        }
        for _ in 0..<(try reader.readCount("a file count")) {
            let id = try TableID(&reader)
            let row = try LocalTable(&reader)
            guard local.updateValue(row, forKey: id) == nil else {
                throw DecodingError("table \(id) has two files")
            }
        }
        for _ in 0..<(try reader.readCount("a job entry count")) {
            let entry = try JobEntry(&reader)
            try entry.check()
            jobEntries.append(entry)
        }
        for _ in 0..<(try reader.readCount("a root count")) {
            let root = try FrontierRoot(&reader)
            guard root.frontier > roots.last?.frontier ?? .zero, root.frontier <= frontier else {
                throw DecodingError("roots are not in order")
            }
            roots.append(root)
        }
    }
}

extension ManifestEdit {
    static let format: UInt16 = 1

    private enum Tag {
        static let flushInstalled: UInt8 = 1
        static let flushedThrough: UInt8 = 2
        static let sealInstalled: UInt8 = 3
        static let jobStarted: UInt8 = 4
        static let jobInstalled: UInt8 = 5
        static let jobCancelled: UInt8 = 6
        static let jobEntry: UInt8 = 7
        static let healed: UInt8 = 8
        static let settings: UInt8 = 9
        static let membership: UInt8 = 10
        static let bounds: UInt8 = 11
    }

    package static func encoded(_ edits: [ManifestEdit]) -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(ManifestEdit.format)
        writer.writeVarint(UInt64(edits.count))
        for edit in edits { edit.encode(into: &writer) }
        return writer.bytes
    }

    package static func decoded(_ bytes: UnsafeRawBufferPointer) throws(DecodingError)
        -> [ManifestEdit]
    {
        var reader = ByteReader(bytes)
        let format = try reader.read(UInt16.self)
        guard format == ManifestEdit.format else {
            throw DecodingError("manifest edit format \(format) is not supported")
        }
        var edits: [ManifestEdit] = []
        for _ in 0..<(try reader.readCount("an edit count")) {
            edits.append(try ManifestEdit(&reader))
        }
        try reader.expectEnd("manifest edits")
        return edits
    }

    private func encode(into writer: inout ByteWriter) {
        switch self {
        case .flushInstalled(let standIn, let local, let horizon):
            writer.write(Tag.flushInstalled)
            standIn.encode(into: &writer)
            LocalTable.encode(local, into: &writer)
            writer.write(horizon.rawValue)
        case .flushedThrough(let point):
            writer.write(Tag.flushedThrough)
            point.encode(into: &writer)
        case .sealInstalled(let index, let record, let local, let horizon):
            writer.write(Tag.sealInstalled)
            writer.write(index.rawValue)
            record.encode(into: &writer)
            LocalTable.encode(local, into: &writer)
            writer.write(horizon.rawValue)
        case .jobStarted(let index, let spec):
            writer.write(Tag.jobStarted)
            writer.write(index.rawValue)
            spec.encode(into: &writer)
        case .jobInstalled(let index, let record, let local):
            writer.write(Tag.jobInstalled)
            writer.write(index.rawValue)
            record.encode(into: &writer)
            LocalTable.encode(local, into: &writer)
        case .jobCancelled(let index, let record):
            writer.write(Tag.jobCancelled)
            writer.write(index.rawValue)
            record.encode(into: &writer)
        case .jobEntry(let entry):
            writer.write(Tag.jobEntry)
            entry.encode(into: &writer)
        case .healed(let id, let replacing, let row):
            writer.write(Tag.healed)
            id.encode(into: &writer)
            writer.write(replacing)
            row.encode(into: &writer)
        case .settings(let settings):
            writer.write(Tag.settings)
            writer.writePrefixed(settings.encoded())
        case .membership(let membership):
            writer.write(Tag.membership)
            writer.writePrefixed(membership.encoded())
        case .bounds(let bounds):
            writer.write(Tag.bounds)
            writer.write(bounds.index.rawValue)
            writer.write(bounds.sequence.rawValue)
        }
    }

    private init(_ reader: inout ByteReader) throws(DecodingError) {
        let tag = try reader.read(UInt8.self)
        switch tag {
        case Tag.flushInstalled:
            self = .flushInstalled(
                try StandIn(&reader), local: try LocalTable.list(&reader),
                horizon: try reader.readSequence())
        case Tag.flushedThrough: self = .flushedThrough(try LogPoint(&reader))
        case Tag.sealInstalled:
            self = .sealInstalled(
                at: try reader.readLogIndex(), try SealRecord(&reader),
                local: try LocalTable.list(&reader),
                horizon: try reader.readSequence())
        case Tag.jobStarted:
            self = .jobStarted(
                at: try reader.readLogIndex(), try CompactionSpec(&reader))
        case Tag.jobInstalled:
            self = .jobInstalled(
                at: try reader.readLogIndex(), try CompactedRecord(&reader),
                local: try LocalTable.list(&reader))
        case Tag.jobCancelled:
            self = .jobCancelled(
                at: try reader.readLogIndex(), try CancelledRecord(&reader))
        case Tag.jobEntry: self = .jobEntry(try JobEntry(&reader))
        case Tag.healed:
            self = .healed(
                try TableID(&reader), replacing: try reader.read(UInt32.self),
                try LocalTable(&reader))
        case Tag.settings:
            self = .settings(try LoggedSettings(decoding: reader.readPrefixed()))
        case Tag.membership:
            self = .membership(try Membership(decoding: reader.readPrefixed()))
        case Tag.bounds: self = .bounds(try LogBounds(&reader))
        default: throw DecodingError("manifest edit \(tag) is unknown")
        }
    }
}

// MARK: - Parts

extension LogPoint {
    func encode(into writer: inout ByteWriter) {
        writer.write(position)
        writer.write(nextSequence.rawValue)
        writer.write(clock)
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        position = try reader.readPosition()
        nextSequence = try reader.readSequence()
        clock = try reader.read(UInt64.self)
        guard nextSequence > .zero else { throw DecodingError("a next sequence of 0") }
    }
}

extension LogBounds {
    init(_ reader: inout ByteReader) throws(DecodingError) {
        index = try reader.readLogIndex()
        sequence = try reader.readSequence()
        // The ones behind are the next to be given out.
        guard index + 1 < LogIndex.limit, sequence < SequenceNumber.max else {
            throw DecodingError("bounds without room behind them")
        }
    }
}

extension LocalTable {
    func encode(into writer: inout ByteWriter) {
        writer.write(generation)
        writer.write(codec)
        writer.write(fileBytes)
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        generation = try reader.read(UInt32.self)
        codec = try reader.read(UInt8.self)
        fileBytes = try reader.readTableBytes()
        guard generation < .max else { throw DecodingError("the last generation of a file") }
    }

    static func encode(_ rows: [LocalTable], into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(rows.count))
        for row in rows { row.encode(into: &writer) }
    }

    static func list(_ reader: inout ByteReader) throws(DecodingError) -> [LocalTable] {
        var rows: [LocalTable] = []
        for _ in 0..<(try reader.readCount("a file count")) { rows.append(try LocalTable(&reader)) }
        return rows
    }
}

extension StandIn {
    func encode(into writer: inout ByteWriter) {
        writer.write(segment.first.rawValue)
        writer.write(segment.last.rawValue)
        TableRecord.encode(tables, into: &writer)
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        let first = try reader.readLogIndex()
        let last = try reader.readLogIndex()
        segment = SegmentBounds(first: first, last: last)
        tables = try TableRecord.outputs(
            &reader, of: JobID(index: last, kind: .flush), level: 0)
    }
}

extension JobEntry {
    func encode(into writer: inout ByteWriter) {
        writer.write(index.rawValue)
        writer.write(kind.rawValue)
        writer.writePrefixed(payload)
    }

    init(_ reader: inout ByteReader) throws(DecodingError) {
        index = try reader.readLogIndex()
        let rawKind = try reader.read(UInt8.self)
        guard let kind = EntryKind(rawValue: rawKind) else {
            throw DecodingError("entry kind \(rawKind) is unknown")
        }
        self.kind = kind
        payload = try reader.readPrefixedArray(atMost: Limits.entryPayloadBytes)
    }
}

extension ByteReader {
    /// A count of things that take at least one byte each.
    mutating func readCount(_ what: String) throws(DecodingError) -> Int {
        try readVarint(atMost: UInt64(remaining), what)
    }
}
