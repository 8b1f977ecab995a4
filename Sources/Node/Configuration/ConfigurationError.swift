// What is wrong with a configuration: all of it at once, one line per problem, each naming the
// place (file and line, variable or flag), the key and the remedy.

package struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// "node.yaml:12", "MARTLET_LOG_SYNC", "--set"; nil for what no single source is to blame for.
    package var origin: String?
    package var key: String?
    package var message: String

    package init(origin: String? = nil, key: String? = nil, _ message: String) {
        self.origin = origin
        self.key = key
        self.message = message
    }

    package var description: String {
        [origin, key, message].compactMap { $0 }.joined(separator: ": ")
    }
}

package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [ConfigurationProblem]

    package init(_ problems: [ConfigurationProblem]) { self.problems = problems }

    package var description: String {
        problems.map(\.description).joined(separator: "\n")
    }
}

/// Why a text is no value of a setting; the loader adds where it stood.
package struct SettingProblem: Error, Sendable, Equatable {
    package var message: String
    package init(_ message: String) { self.message = message }
}
