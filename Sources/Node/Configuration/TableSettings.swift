// The settings of blocks and blob files: their sizes, which seed the log's first `settings` entry,
// and how this node stores blocks, which is its own affair.
import Engine

extension SettingCatalog {
    static let table: [SettingDefinition] = [
        .size(
            "table.block-bytes", \.table.blockBytes,
            UInt64(LevelBlockBytes.range.lowerBound)...UInt64(LevelBlockBytes.range.upperBound)),
        SettingDefinition(
            key: "table.block-levels", allowed: "none, or level=size such as 5=16KiB,6=32KiB",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.table.blockLevels = try SettingParsing.blockLevels(text)
            }, show: { SettingParsing.format(blockLevels: $0.table.blockLevels) }),
        .size("table.blob-threshold", \.table.blobThreshold, 0...UInt64(Limits.valueBytesMax)),
        // The engine takes smaller ones, which would be many files.
        .size(
            "table.blob-file-bytes", \.table.blobFileBytes,
            (1 << 20)...BlobPlan.fileBytesRange.upperBound),
        SettingDefinition(
            key: "table.compression", allowed: Compression.allowed,
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.table.compression.base = try SettingParsing.compression(text)
            }, show: { $0.table.compression.base.description }),
        SettingDefinition(
            key: "table.compression-levels",
            allowed: "none, or level=compression such as 0=lz4,6=zstd-dict:9",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.table.compression.levels = try SettingParsing.compressionLevels(text)
            }, show: { SettingParsing.format(compressionLevels: $0.table.compression.levels) }),
    ]
}

extension SettingParsing {
    /// "lz4", "zstd:3", "zstd-dict:19".
    package static func compression(_ text: String) throws(SettingProblem) -> Compression {
        guard let compression = Compression(text) else {
            throw SettingProblem("\"\(text)\" is none of \(Compression.allowed)")
        }
        return compression
    }

    /// "0=lz4,6=zstd:19": level and compression; "none".
    package static func compressionLevels(_ text: String) throws(SettingProblem)
        -> [LevelCompression]
    {
        try levels(text, "compression", "0=lz4").map { (level, text) throws(SettingProblem) in
            LevelCompression(level: level, compression: try compression(text))
        }
    }

    package static func format(compressionLevels levels: [LevelCompression]) -> String {
        levels.isEmpty
            ? "none" : levels.map { "\($0.level)=\($0.compression)" }.joined(separator: ",")
    }

    /// "5=16KiB,6=32KiB": level and block size; "none".
    package static func blockLevels(_ text: String) throws(SettingProblem) -> [LevelBlockBytes] {
        let range = LevelBlockBytes.range
        return try levels(text, "block size", "5=16KiB").map {
            (level, text) throws(SettingProblem) in
            let bytes = try size(text, UInt64(range.lowerBound)...UInt64(range.upperBound))
            return LevelBlockBytes(level: level, bytes: UInt32(bytes))
        }
    }

    package static func format(blockLevels levels: [LevelBlockBytes]) -> String {
        levels.isEmpty
            ? "none"
            : levels.map { "\($0.level)=\(format(size: UInt64($0.bytes)))" }.joined(separator: ",")
    }

    /// The parts of "level=what,level=what", by level; none of "none".
    private static func levels(_ text: String, _ what: String, _ example: String)
        throws(SettingProblem) -> [(level: UInt8, text: String)]
    {
        var levels: [(level: UInt8, text: String)] = []
        if text == "none" { return levels }
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", maxSplits: 1)
            guard sides.count == 2 else {
                throw SettingProblem("\"\(part)\" is no level with its \(what); write \(example)")
            }
            levels.append((UInt8(try integer(String(sides[0]), 0...6)), String(sides[1])))
        }
        levels.sort { $0.level < $1.level }
        for (one, next) in zip(levels, levels.dropFirst()) where one.level == next.level {
            throw SettingProblem("level \(one.level) is named twice")
        }
        return levels
    }
}
