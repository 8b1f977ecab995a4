// One setting: its key, how a text becomes its value, how its value is shown. The catalog is the
// only place that knows the keys; the loader, `CONFIG GET` and the tests walk it.

package struct SettingDefinition: Sendable {
    /// Dotted and dashed, as in YAML: "log.segment-bytes".
    package let key: String
    /// What may be given, for people.
    package let allowed: String
    /// Sets the value from `text`; paths are taken relative to `directory`.
    package let apply:
        @Sendable (_ text: String, _ directory: String, inout NodeConfiguration)
            throws(SettingProblem) -> Void
    package let show: @Sendable (NodeConfiguration) -> String

    typealias Path<Value> = any WritableKeyPath<NodeConfiguration, Value> & Sendable

    static func size(_ key: String, _ path: Path<UInt64>, _ range: ClosedRange<UInt64>) -> Self {
        Self(
            key: key,
            allowed: SettingParsing.format(size: range.lowerBound) + " to "
                + SettingParsing.format(size: range.upperBound),
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try SettingParsing.size(text, range)
            }, show: { SettingParsing.format(size: $0[keyPath: path]) })
    }

    static func duration(_ key: String, _ path: Path<UInt64>, _ range: ClosedRange<UInt64>)
        -> Self
    {
        Self(
            key: key,
            allowed: SettingParsing.format(milliseconds: range.lowerBound) + " to "
                + SettingParsing.format(milliseconds: range.upperBound),
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try SettingParsing.duration(text, range)
            }, show: { SettingParsing.format(milliseconds: $0[keyPath: path]) })
    }

    static func integer(_ key: String, _ path: Path<Int>, _ range: ClosedRange<Int>) -> Self {
        Self(
            key: key, allowed: "\(range.lowerBound) to \(range.upperBound)",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try SettingParsing.integer(text, range)
            }, show: { String($0[keyPath: path]) })
    }

    static func flag(_ key: String, _ path: Path<Bool>) -> Self {
        Self(
            key: key, allowed: "true or false",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try SettingParsing.flag(text)
            }, show: { String($0[keyPath: path]) })
    }

    static func choice<Value: CaseIterable & RawRepresentable<String> & Sendable>(
        _ key: String, _ path: Path<Value>
    ) -> Self {
        Self(
            key: key, allowed: Value.allCases.map(\.rawValue).joined(separator: ", "),
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try SettingParsing.choice(text, Value.self)
            }, show: { $0[keyPath: path].rawValue })
    }

    /// A path in the file system, relative to where it was written.
    static func file(_ key: String, _ path: Path<String>) -> Self {
        Self(
            key: key, allowed: "a path",
            apply: { (text, directory, configuration) throws(SettingProblem) in
                guard !text.isEmpty, !text.utf8.contains(0) else {
                    throw SettingProblem("\"\(text)\" is not a path")
                }
                let isRooted = text.hasPrefix("/") || directory.isEmpty
                configuration[keyPath: path] = isRooted ? text : directory + "/" + text
            }, show: { $0[keyPath: path] })
    }

    static func text(
        _ key: String, _ path: Path<String>, allowed: String,
        _ parse: @escaping @Sendable (String) throws(SettingProblem) -> String
    ) -> Self {
        Self(
            key: key, allowed: allowed,
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration[keyPath: path] = try parse(text)
            }, show: { $0[keyPath: path] })
    }
}
