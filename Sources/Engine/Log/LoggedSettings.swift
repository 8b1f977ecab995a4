// Settings that shape bytes must be the same on every replica, so they are entries of the log. A
// segment and its flush use those in force before the segment's first entry.

/// The settings that the log carries. The defaults hold from the log's first entry on.
public struct LoggedSettings: Hashable, Sendable {
    /// Payload bytes that end a segment.
    public var segmentBytes: UInt64 = 64 << 20
    /// Canonical bytes at which a data block is cut.
    public var blockBytes: UInt32 = 4096
    /// Levels whose data blocks are cut elsewhere, sorted by level, each at most once.
    public var blockLevels: [LevelBlockBytes] = []
    /// Which filters tables get.
    public var filter = FilterPolicy()
    /// Functions of the embedding program that compactions use.
    public var functions = JobFunctionNames()
    /// Values of so many bytes leave their keys at a flush and go to blob files, which compactions
    /// do not write anew with every level; 0 leaves all where they are. What is in tables already
    /// stays as it is.
    public var blobThreshold: UInt32 = 0
    /// Canonical bytes at which a blob file is cut.
    public var blobFileBytes = BlobPlan.defaultFileBytes

    public init() {}

    /// Without blob files: as long as both of their settings are the defaults.
    static let plainFormat: UInt16 = 4
    static let format: UInt16 = 5

    private var isPlain: Bool {
        blobThreshold == 0 && blobFileBytes == BlobPlan.defaultFileBytes
    }

    /// Canonical bytes at which a data block of a table at `level` is cut.
    package func blockBytes(level: UInt8) -> UInt32 {
        blockLevels.first { $0.level == level }?.bytes ?? blockBytes
    }

    /// The budget of `filter` as bits per key; 0 writes no filter.
    public var filterBitsPerKey: UInt32 {
        get {
            guard case .bitsPerKey(let bits) = filter.budget else {
                return UInt32(filter.budget.bits(filter.kind))
            }
            return bits
        }
        set { filter.budget = .bitsPerKey(newValue) }
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(isPlain ? LoggedSettings.plainFormat : LoggedSettings.format)
        writer.write(segmentBytes)
        writer.write(blockBytes)
        writer.write(UInt8(clamping: blockLevels.count))
        for own in blockLevels {
            writer.write(own.level)
            writer.write(own.bytes)
        }
        filter.encode(into: &writer)
        functions.encode(into: &writer)
        if !isPlain {
            writer.write(blobThreshold)
            writer.write(blobFileBytes)
        }
        return writer.bytes
    }

    package init(_ reader: inout ByteReader) throws(DecodingError) {
        let format = try reader.read(UInt16.self)
        guard format == LoggedSettings.plainFormat || format == LoggedSettings.format else {
            throw DecodingError("settings format \(format) is not supported")
        }
        segmentBytes = try reader.read(UInt64.self)
        blockBytes = try reader.read(UInt32.self)
        let count = try reader.read(UInt8.self)
        guard count <= TableRecord.levelCount else {
            throw DecodingError("the blocks of \(count) levels")
        }
        for _ in 0..<count {
            let own = LevelBlockBytes(
                level: try reader.read(UInt8.self), bytes: try reader.read(UInt32.self))
            guard own.level < TableRecord.levelCount,
                blockLevels.last.map({ $0.level < own.level }) ?? true
            else { throw DecodingError("the blocks of levels are not in order") }
            blockLevels.append(own)
        }
        filter = try FilterPolicy(&reader)
        functions = try JobFunctionNames(&reader)
        if format == LoggedSettings.format {
            blobThreshold = try reader.read(UInt32.self)
            blobFileBytes = try reader.read(UInt64.self)
            guard !isPlain else { throw DecodingError("settings of another format than they say") }
        }
        let range = LevelBlockBytes.range
        guard (4 << 10...4 << 30).contains(segmentBytes), range.contains(blockBytes),
            blockLevels.allSatisfy({ range.contains($0.bytes) }),
            blobThreshold <= Limits.valueBytesMax, BlobPlan.fileBytesRange.contains(blobFileBytes)
        else { throw DecodingError("a setting is out of its range") }
    }

    package init(decoding payload: UnsafeRawBufferPointer) throws(DecodingError) {
        var reader = ByteReader(payload)
        try self.init(&reader)
        try reader.expectEnd("settings")
    }
}

/// The block size of one level.
public struct LevelBlockBytes: Hashable, Sendable {
    /// Of a data block, canonical bytes.
    public static let range: ClosedRange<UInt32> = 256...1 << 20

    public var level: UInt8
    public var bytes: UInt32

    public init(level: UInt8, bytes: UInt32) {
        self.level = level
        self.bytes = bytes
    }
}
