// Texts of block sizes and compressions.
import Engine
import Node
import Testing

@Suite struct TableSettingsTests {
    private func load(_ settings: String...) throws -> NodeConfiguration {
        try NodeTests.load(set: settings)
    }

    @Test func `Every compression is accepted and shown`() throws {
        for text in ["none", "lz4", "zstd:1", "zstd:22", "zstd-dict:3"] {
            let configuration = try load("table.compression=\(text)")
            #expect(configuration.table.compression.base.description == text)
        }
        #expect(try load("table.compression=zstd").table.compression.base == .zstd(level: 3))
    }

    @Test func `An unknown compression is refused with the valid ones`() {
        for text in ["zip", "zstd:23", "zstd:fast", "LZ4", "zstd-dict:0"] {
            let error = #expect(throws: ConfigurationError.self) {
                _ = try load("table.compression=\(text)")
            }
            let message = error?.description ?? ""
            #expect(message.contains("table.compression"))
            for name in ["none", "lz4", "zstd:LEVEL", "zstd-dict:LEVEL", "1-22"] {
                #expect(message.contains(name), "\(message)")
            }
        }
    }

    @Test func `Levels have their own compression and block size`() throws {
        let configuration = try load(
            "table.compression=zstd:3", "table.compression-levels=6=zstd-dict:19,0=lz4",
            "table.block-levels=5=16KiB,6=32KiB")
        let compression = configuration.table.compression
        #expect(compression[0] == .lz4 && compression[1] == .zstd(level: 3))
        #expect(compression[6] == .zstdDictionary(level: 19))
        #expect(
            SettingParsing.format(compressionLevels: compression.levels)
                == "0=lz4,6=zstd-dict:19")
        let settings = configuration.loggedSettings
        #expect(settings.blockBytes(level: 4) == 4096)
        #expect(settings.blockBytes(level: 5) == 16 << 10)
        #expect(settings.blockBytes(level: 6) == 32 << 10)
        #expect(
            SettingParsing.format(blockLevels: configuration.table.blockLevels)
                == "5=16KiB,6=32KiB")
        #expect(try load("table.compression-levels=none").table.compression == .lz4)
        #expect(try load("table.block-levels=none").table.blockLevels.isEmpty)
    }

    @Test func `Blob files are set for the log, and their collection for the leader`() throws {
        let plain = try load().loggedSettings
        #expect(plain.blobThreshold == 0 && plain.blobFileBytes == 64 << 20)
        let configuration = try load(
            "table.blob-threshold=1KiB", "table.blob-file-bytes=8MiB",
            "compaction.blob-dead-percent=40", "compaction.blob-age-percent=10")
        #expect(configuration.loggedSettings.blobThreshold == 1024)
        #expect(configuration.loggedSettings.blobFileBytes == 8 << 20)
        #expect(configuration.compaction.blobDeadPercent == 40)
        #expect(configuration.compaction.blobAgePercent == 10)
        for text in [
            "table.blob-threshold=513MiB", "table.blob-file-bytes=1023KiB",
            "compaction.blob-dead-percent=101",
        ] {
            #expect(throws: ConfigurationError.self) { _ = try load(text) }
        }
    }

    @Test func `Malformed levels are refused`() {
        for text in ["", "0", "7=lz4", "0=zip", "1=lz4,1=none", "0=lz4,", "=lz4"] {
            #expect(throws: SettingProblem.self) { try SettingParsing.compressionLevels(text) }
        }
        for text in ["", "0", "7=4KiB", "0=255", "0=2MiB", "1=4KiB,1=8KiB", "=4KiB"] {
            #expect(throws: SettingProblem.self) { try SettingParsing.blockLevels(text) }
        }
    }
}
