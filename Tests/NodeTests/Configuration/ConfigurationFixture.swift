// Loads configurations from texts, through a real file as a node does.
import Foundation
import Node
import Testing

/// A directory that goes away with the test.
final class TemporaryDirectory {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "martlet-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws -> String {
        let file = path + "/" + name
        try text.write(toFile: file, atomically: false, encoding: .utf8)
        return file
    }
}

/// The repository's root, from this file's place in it.
let repositoryRoot = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path

func load(
    yaml: String? = nil, environment: [String: String] = [:], set overrides: [String] = []
) throws -> NodeConfiguration {
    let directory = try TemporaryDirectory()
    let file = try yaml.map { try directory.write("node.yaml", $0) }
    let needed = ["data.directory=/data"]
    return try ConfigurationLoader.load(
        ConfigurationSources(
            file: file, environment: environment, overrides: needed + overrides)
    )
}

/// The problems that loading reports, file paths shortened to the file's name.
func problems(
    yaml: String? = nil, environment: [String: String] = [:], set overrides: [String] = []
) throws -> [String] {
    do {
        _ = try load(yaml: yaml, environment: environment, set: overrides)
        return []
    } catch let error as ConfigurationError {
        return error.problems.map { problem in
            let text = problem.description
            guard let slash = text.range(of: "node.yaml"), text.hasPrefix("/") else { return text }
            return String(text[slash.lowerBound...])
        }
    }
}
