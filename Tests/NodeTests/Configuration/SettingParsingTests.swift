import Engine
import Node
import Testing

@Suite struct SettingParsingTests {
    private static let wide: ClosedRange<UInt64> = 0...UInt64.max

    @Test(
        arguments: [
            ("0", 0), ("4096", 4096), ("4096B", 4096), ("64KiB", 64 << 10), ("64MiB", 64 << 20),
            ("8GiB", 8 << 30), ("2TiB", 2 << 40), ("1mib", 1 << 20),
        ] as [(String, UInt64)])
    func sizes(text: String, bytes: UInt64) throws {
        #expect(try SettingParsing.size(text, Self.wide) == bytes)
    }

    @Test(arguments: ["", "MiB", "-1", "1.5MiB", "1 MiB", "1XiB", "99999999999TiB", "0x10"])
    func notSizes(text: String) {
        #expect(throws: SettingProblem.self) { try SettingParsing.size(text, Self.wide) }
    }

    @Test func decimalUnitsAreExplained() {
        #expect(throws: SettingProblem("\"64MB\" is not a size such as 64MiB; write MiB")) {
            try SettingParsing.size("64MB", Self.wide)
        }
    }

    @Test(
        arguments: [
            ("0", 0), ("300ms", 300), ("5s", 5000), ("10m", 600_000), ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] as [(String, UInt64)])
    func durations(text: String, milliseconds: UInt64) throws {
        #expect(try SettingParsing.duration(text, Self.wide) == milliseconds)
        #expect(SettingParsing.format(milliseconds: milliseconds) == text)
    }

    @Test(arguments: ["", "300", "ms", "-1s", "1.5s", "1w", "999999999999999999d"])
    func notDurations(text: String) {
        #expect(throws: SettingProblem.self) { try SettingParsing.duration(text, Self.wide) }
    }

    @Test(arguments: [1, 1023, 1024, 65_536, 5 << 20, 3 << 30, 7 << 40, (1 << 20) + 1] as [UInt64])
    func shownSizesReadBack(bytes: UInt64) throws {
        #expect(try SettingParsing.size(SettingParsing.format(size: bytes), Self.wide) == bytes)
    }

    @Test func flags() throws {
        for text in ["true", "on", "yes", "TRUE"] { #expect(try SettingParsing.flag(text)) }
        for text in ["false", "off", "no"] { #expect(try !SettingParsing.flag(text)) }
        #expect(throws: SettingProblem.self) { try SettingParsing.flag("1") }
    }

    @Test func clusterNames() throws {
        #expect(try SettingParsing.name("orders-2") == "orders-2")
        for text in ["", "Orders", "a/b", "a_b", String(repeating: "a", count: 64)] {
            #expect(throws: SettingProblem.self) { try SettingParsing.name(text) }
        }
    }

    @Test func addresses() throws {
        #expect(try SettingParsing.address("db.local:7380") == ("db.local", 7380))
        #expect(try SettingParsing.address("[::1]:1") == ("::1", 1))
        for text in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:1", "a b:1", "a/b:1", "[]:1"] {
            #expect(throws: SettingProblem.self) { try SettingParsing.address(text) }
        }
    }

    /// Both ends of each numeric range are accepted, one step beyond is not, and the refusal names
    /// the range.
    @Test func everyRangeEndsWhereItSays() throws {
        var checked = 0
        for setting in SettingCatalog.all {
            let ends = setting.allowed.components(separatedBy: " to ")
            guard ends.count == 2, setting.key != "cluster.id" else { continue }
            for (end, step) in zip(ends, [-1, 1]) {
                var configuration = NodeConfiguration()
                try setting.apply(end, "", &configuration)
                #expect(setting.show(configuration) == end, "\(setting.key)")
                guard let beyond = Self.beyond(end, step) else { continue }
                do {
                    try setting.apply(beyond, "", &configuration)
                    Issue.record("\(setting.key) accepts \(beyond)")
                } catch {
                    let isNamed = error.message.contains(setting.allowed)
                    #expect(isNamed || error.message.contains("is not a"), "\(error.message)")
                }
            }
            checked += 1
        }
        #expect(checked >= 25)
    }

    /// The text of the value one above or below, in the smallest unit of its kind.
    private static func beyond(_ text: String, _ step: Int) -> String? {
        if let size = try? SettingParsing.size(text, wide), text.last == "B" || Int(text) != nil {
            let (value, overflow) = Int(size).addingReportingOverflow(step)
            return overflow ? nil : String(value)
        }
        if let duration = try? SettingParsing.duration(text, wide) {
            return "\(Int(duration) + step)ms"
        }
        return nil
    }
}

extension String {
    fileprivate func components(separatedBy separator: String) -> [String] {
        self.split(separator: separator).map(String.init)
    }
}
