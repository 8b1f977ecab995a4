// Functions of the embedding program that shape the outputs of jobs, as settings and `compact`
// entries name them. A member that does not have exactly these fails the job, typed: a name without
// its version would let two members write different tables and call them one.

/// A registered merge operator: jobs fold by it.
public struct MergeOperatorReference: Hashable, Sendable {
    public var id: MergeOperatorID
    public var version: UInt16
    public var isAssociative: Bool

    public init(id: MergeOperatorID, version: UInt16, isAssociative: Bool) {
        self.id = id
        self.version = version
        self.isAssociative = isAssociative
    }
}

/// A compaction filter and what it does: another version may decide differently.
public struct CompactionFilterID: Hashable, Sendable, CustomStringConvertible {
    public var id: UInt32
    public var version: UInt32

    public init(id: UInt32, version: UInt32) {
        self.id = id
        self.version = version
    }

    public var description: String { "\(id) version \(version)" }
}

/// The functions that jobs are to use.
public struct JobFunctionNames: Hashable, Sendable {
    /// By id; those of the engine itself are not named.
    public var mergeOperators: [MergeOperatorReference] = []
    /// Called for what jobs write; nil for none.
    public var compactionFilter: CompactionFilterID?

    public init() {}

    public var isEmpty: Bool { mergeOperators.isEmpty && compactionFilter == nil }

    /// Registered merge operators at most: their names fit into a segment's header.
    public static let mergeOperatorsMax = 32

    /// varint count, per operator `id u16, version u16, associative u8`; `filter u8`, with 1
    /// `id u32, version u32`.
    package func encode(into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(mergeOperators.count))
        for named in mergeOperators {
            writer.write(named.id.rawValue)
            writer.write(named.version)
            writer.write(UInt8(named.isAssociative ? 1 : 0))
        }
        writer.write(UInt8(compactionFilter == nil ? 0 : 1))
        if let compactionFilter {
            writer.write(compactionFilter.id)
            writer.write(compactionFilter.version)
        }
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let count = try reader.readVarint(
            atMost: UInt64(JobFunctionNames.mergeOperatorsMax), "an operator count")
        var last = MergeOperatorID.firstCustom.rawValue - 1
        for _ in 0..<count {
            let id = try reader.read(UInt16.self)
            guard id > last else { throw DecodingError("merge operators are not in order") }
            last = id
            let version = try reader.read(UInt16.self)
            mergeOperators.append(
                MergeOperatorReference(
                    id: MergeOperatorID(id), version: version,
                    isAssociative: try reader.readFlag()))
        }
        guard try reader.readFlag() else { return }
        let id = try reader.read(UInt32.self)
        compactionFilter = CompactionFilterID(id: id, version: try reader.read(UInt32.self))
    }
}
