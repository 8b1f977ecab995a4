// Texts of filter settings, and the policy that they come to.
import Engine
import Node
import Testing

@Suite struct FilterSettingsTests {
    @Test func `Prefix extractors read back`() throws {
        let texts: [(String, PrefixExtractor)] = [
            ("none", .none), ("fixed:8", .fixed(length: 8)),
            ("delimiter:/", .delimiter(byte: 0x2f, occurrence: 1)),
            ("delimiter:/:2", .delimiter(byte: 0x2f, occurrence: 2)),
            ("delimiter:::3", .delimiter(byte: 0x3a, occurrence: 3)),
        ]
        for (text, extractor) in texts {
            #expect(try SettingParsing.prefixExtractor(text) == extractor)
            let shown = SettingParsing.format(prefixExtractor: extractor)
            #expect(try SettingParsing.prefixExtractor(shown) == extractor)
        }
        for text in ["", "fixed", "fixed:0", "fixed:256", "delimiter:", "delimiter://", "x:1"] {
            #expect(throws: SettingProblem.self) { try SettingParsing.prefixExtractor(text) }
        }
    }

    @Test func `Bits of levels read back`() throws {
        let levels = try SettingParsing.filterLevels("3=0,0=14")
        #expect(levels.map(\.level) == [0, 3])
        #expect(SettingParsing.format(filterLevels: levels) == "0=14,3=0")
        #expect(try SettingParsing.filterLevels("none").isEmpty)
        for text in ["", "0", "7=1", "0=65", "1=2,1=3", "0=1,", "=1"] {
            #expect(throws: SettingProblem.self) { try SettingParsing.filterLevels(text) }
        }
    }

    @Test func `The defaults are the engine's`() {
        let settings = NodeConfiguration.FilterSettings()
        #expect(settings.policy(sizeRatio: 10) == FilterPolicy())
        #expect(NodeConfiguration().loggedSettings == LoggedSettings())
    }

    @Test func `Settings become a policy`() {
        var settings = NodeConfiguration.FilterSettings()
        settings.kind = .bloom
        settings.oneIn = 100
        settings.allocation = .monkey
        settings.expectsHits = true
        settings.partitionAbove = 1 << 20
        settings.prefix = .fixed(length: 3)
        let policy = settings.policy(sizeRatio: 8)
        #expect(policy.kind == .bloom && policy.expectsHits)
        #expect(policy.budget == .falsePositive(oneIn: 100))
        #expect(policy.allocation == .monkey(sizeRatio: 8, deepestLevel: 4))
        #expect(policy.partitionAbove == 1 << 20 && policy.prefix == .fixed(length: 3))
    }
}
