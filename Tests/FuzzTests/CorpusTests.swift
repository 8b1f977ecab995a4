// Every input that the fuzzers found worth keeping, and every one that once trapped.

import Foundation
import FuzzTargets
import Testing

@Suite struct CorpusTests {
    private static let corpus = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fuzz/Corpus")

    @Test(arguments: FuzzTarget.all.map(\.name))
    func everyInputIsDecodedOrRefused(name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let directory = Self.corpus.appending(path: name)
        let inputs = try FileManager.default.contentsOfDirectory(
            at: directory, includingPropertiesForKeys: nil)
        #expect(!inputs.isEmpty, "no corpus for \(name)")
        for input in inputs {
            try Data(contentsOf: input).withUnsafeBytes { target.run($0) }
        }
    }

    @Test func noCorpusWithoutItsTarget() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.corpus.path)
        #expect(Set(names) == Set(FuzzTarget.all.map(\.name)))
    }
}
