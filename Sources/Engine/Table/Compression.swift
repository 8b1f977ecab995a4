// How a node stores the blocks of its tables: which codec and how hard it tries, for all tables or
// level by level. Local: it changes no digest, replicas need not agree, and a file says of each
// block how it was stored, so a change holds for the files that are written from then on.

public enum Compression: Hashable, Sendable {
    case none
    /// Fast, about half the size.
    case lz4
    /// About a third of the size. Level 1 is the fastest, 22 the smallest.
    case zstd(level: Int)
    /// With a dictionary that is trained from the first blocks of each file and stored in it: small
    /// blocks get as small as large ones.
    case zstdDictionary(level: Int)

    public static let zstdLevels = 1...22
    public static let zstdLevelDefault = 3
    /// For messages: what `init(_:)` reads.
    public static let allowed =
        "none, lz4, zstd, zstd:LEVEL, zstd-dict or zstd-dict:LEVEL, LEVEL 1-22"

    /// Reads "none", "lz4", "zstd", "zstd:19", "zstd-dict", "zstd-dict:19".
    public init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var level = Compression.zstdLevelDefault
        if parts.count == 2 {
            guard let given = Int(parts[1]), Compression.zstdLevels.contains(given),
                String(given) == parts[1]
            else { return nil }
            level = given
        }
        switch (parts[0], parts.count) {
        case ("none", 1): self = .none
        case ("lz4", 1): self = .lz4
        case ("zstd", _): self = .zstd(level: level)
        case ("zstd-dict", _): self = .zstdDictionary(level: level)
        default: return nil
        }
    }

    /// One that makes blocks of `codec`, of whose effort a file does not tell.
    init(like codec: BlockCodec) {
        switch codec {
        case .none: self = .none
        case .lz4: self = .lz4
        case .zstd: self = .zstd(level: Compression.zstdLevelDefault)
        case .zstdDictionary: self = .zstdDictionary(level: Compression.zstdLevelDefault)
        }
    }

    /// The codec of blocks that shrink.
    package var codec: BlockCodec {
        switch self {
        case .none: return .none
        case .lz4: return .lz4
        case .zstd: return .zstd
        case .zstdDictionary: return .zstdDictionary
        }
    }

    var zstdLevel: Int? {
        switch self {
        case .none, .lz4: return nil
        case .zstd(let level), .zstdDictionary(let level): return level
        }
    }

    var isValid: Bool { zstdLevel.map { Compression.zstdLevels.contains($0) } ?? true }
}

extension Compression: CustomStringConvertible {
    public var description: String {
        guard let zstdLevel else { return codec.description }
        return "\(codec):\(zstdLevel)"
    }
}

/// The compression of tables at one level.
public struct LevelCompression: Hashable, Sendable {
    public var level: UInt8
    public var compression: Compression

    public init(level: UInt8, compression: Compression) {
        self.level = level
        self.compression = compression
    }
}

/// The compression of every table that a node writes.
public struct CompressionPolicy: Hashable, Sendable {
    public var base: Compression
    /// Levels that differ from `base`; the first that names a level counts.
    public var levels: [LevelCompression]

    public init(_ base: Compression, levels: [LevelCompression] = []) {
        self.base = base
        self.levels = levels
    }

    public static let none = CompressionPolicy(.none)
    public static let lz4 = CompressionPolicy(.lz4)

    /// That of a table written to `level`.
    public subscript(level: UInt8) -> Compression {
        levels.first { $0.level == level }?.compression ?? base
    }

    /// Why no store can work with it; nil if one can.
    var problem: String? {
        for compression in [base] + levels.map(\.compression) where !compression.isValid {
            return "compression is \(compression); allowed is \(Compression.allowed)"
        }
        for own in levels where own.level >= TableRecord.levelCount {
            return "compression names level \(own.level); the deepest is"
                + " \(TableRecord.levelCount - 1)"
        }
        return nil
    }
}
