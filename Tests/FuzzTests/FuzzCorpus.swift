// The committed inputs of each target, in Tests/Fuzz/Corpus.

import Foundation

enum FuzzCorpus {
    private static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fuzz/Corpus")

    static var names: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: directory.path) }
    }

    /// In the order of their names, so that a seed always means the same.
    static func inputs(of name: String) throws -> [[UInt8]] {
        let target = directory.appending(path: name)
        return try FileManager.default.contentsOfDirectory(atPath: target.path).sorted()
            .map { try [UInt8](Data(contentsOf: target.appending(path: $0))) }
    }
}
