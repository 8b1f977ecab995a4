// Puts the layers together: flags over `MARTLET_*` variables over the YAML file over defaults. Each
// layer is a provider of swift-configuration; texts become values by the catalog alone, so a
// setting means the same wherever it is given. All problems are reported at once.
import Configuration
import Engine

package struct ConfigurationSources: Sendable {
    /// Path of the YAML file; nil reads none.
    package var file: String?
    package var environment: [String: String]
    /// `key=value` texts of `--set`; of two for one key the last counts.
    package var overrides: [String]

    package init(
        file: String?, environment: [String: String] = [:], overrides: [String] = []
    ) {
        self.file = file
        self.environment = environment
        self.overrides = overrides
    }
}

package enum ConfigurationLoader {
    package static let environmentPrefix = "MARTLET_"

    package static func load(_ sources: ConfigurationSources) throws(ConfigurationError)
        -> NodeConfiguration
    {
        var layers: [Layer] = []
        var problems: [ConfigurationProblem] = []
        layers.append(overrideLayer(sources.overrides, &problems))
        layers.append(environmentLayer(sources.environment, &problems))
        if let file = sources.file {
            layers.append(try fileLayer(file, &problems))
        }
        var configuration = NodeConfiguration()
        for setting in SettingCatalog.all {
            for layer in layers {
                guard let found = layer.text(of: setting.key) else { continue }
                do throws(SettingProblem) {
                    try setting.apply(found.text, layer.directory, &configuration)
                } catch {
                    problems.append(
                        .init(origin: found.origin, key: setting.key, error.message))
                }
                break
            }
        }
        if problems.isEmpty { problems = ConfigurationRules.problems(of: configuration) }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        return configuration
    }

    /// One source of settings, with what messages and relative paths need to know of it.
    private struct Layer {
        var provider: any ConfigProvider
        var prefix: [String] = []
        var directory = ""
        var origin: (_ key: String) -> String?

        func text(of key: String) -> (text: String, origin: String?)? {
            let parts = prefix + key.split(separator: ".").map(String.init)
            let found = try? provider.value(forKey: AbsoluteConfigKey(parts), type: .string)
            guard case .string(let text)? = found?.value?.content else { return nil }
            return (text, origin(key))
        }
    }

    private static func overrideLayer(
        _ overrides: [String], _ problems: inout [ConfigurationProblem]
    ) -> Layer {
        var values: [AbsoluteConfigKey: ConfigValue] = [:]
        for override in overrides {
            guard let equals = override.firstIndex(of: "="), equals != override.startIndex else {
                problems.append(.init(origin: "--set \(override)", "is not key=value"))
                continue
            }
            let key = String(override[..<equals])
            guard SettingCatalog.keys.contains(key) else {
                problems.append(unknown(key, origin: "--set"))
                continue
            }
            values[absolute(key)] = ConfigValue(
                .string(String(override[override.index(after: equals)...])), isSecret: false)
        }
        return Layer(
            provider: InMemoryProvider(name: "flags", values: values), origin: { _ in "--set" })
    }

    /// Variables that were meant for a setting and name none. Others with the prefix are not ours:
    /// platforms and scripts make such, too.
    package static func unknownVariables(in environment: [String: String])
        -> [ConfigurationProblem]
    {
        let known = Set(SettingCatalog.keys.map(variable))
        let unknown = environment.keys.filter {
            $0.hasPrefix(environmentPrefix) && !known.contains($0) && isMeantForSetting($0)
        }
        return unknown.sorted().map { name in
            let hint = NearestKey.suggestion(for: name, among: known.sorted())
            return ConfigurationProblem(
                origin: name, "unknown variable" + (hint.map { "; did you mean \($0)?" } ?? ""))
        }
    }

    /// It begins like a section, or is two typing errors away from a setting.
    private static func isMeantForSetting(_ name: String) -> Bool {
        let sections = Set(SettingCatalog.keys.compactMap { $0.split(separator: ".").first })
        if sections.contains(where: { name.hasPrefix(variable(String($0)) + "_") }) { return true }
        return SettingCatalog.keys.contains {
            NearestKey.editDistance(Array(name.utf8), Array(variable($0).utf8)) <= 2
        }
    }

    private static func environmentLayer(
        _ environment: [String: String], _ problems: inout [ConfigurationProblem]
    ) -> Layer {
        problems += unknownVariables(in: environment)
        return Layer(
            provider: EnvironmentVariablesProvider(environmentVariables: environment),
            prefix: ["martlet"], origin: variable)
    }

    private static func fileLayer(_ path: String, _ problems: inout [ConfigurationProblem])
        throws(ConfigurationError) -> Layer
    {
        let text = try read(path)
        let sections = Set(
            SettingCatalog.keys.compactMap { key in
                key.lastIndex(of: ".").map { String(key[..<$0]) }
            })
        let file = SettingsFile(path: path, text: text, sections: sections)
        problems += file.problems
        var values: [AbsoluteConfigKey: ConfigValue] = [:]
        var lines: [String: Int] = [:]
        for entry in file.entries {
            guard SettingCatalog.keys.contains(entry.key) else {
                problems.append(unknown(entry.key, origin: file.origin(line: entry.line)))
                continue
            }
            values[absolute(entry.key)] = ConfigValue(.string(entry.text), isSecret: false)
            lines[entry.key] = entry.line
        }
        return Layer(
            provider: InMemoryProvider(name: path, values: values),
            directory: path.contains("/") ? parentDirectory(of: path) : "",
            origin: { file.origin(line: lines[$0] ?? 0) })
    }

    private static func read(_ path: String) throws(ConfigurationError) -> String {
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try SmallFile.read(path, limit: SettingsFile.bytesMax)
        } catch {
            throw ConfigurationError([.init(error.description)])
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ConfigurationError([.init(origin: path, "is not UTF-8 text")])
        }
        return text
    }

    private static func absolute(_ key: String) -> AbsoluteConfigKey {
        AbsoluteConfigKey(key.split(separator: ".").map(String.init))
    }

    /// "log.segment-bytes" → "MARTLET_LOG_SEGMENT_BYTES".
    package static func variable(_ key: String) -> String {
        environmentPrefix
            + String(key.uppercased().map { $0.isLetter || $0.isNumber ? $0 : "_" })
    }

    private static func unknown(_ key: String, origin: String) -> ConfigurationProblem {
        let hint = NearestKey.suggestion(for: key, among: SettingCatalog.keys)
        return .init(
            origin: origin, key: key,
            "unknown key" + (hint.map { "; did you mean \($0)?" } ?? ""))
    }
}
