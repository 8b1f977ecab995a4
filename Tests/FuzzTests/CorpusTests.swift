// Every input that the fuzzers found worth keeping, and every one that once trapped.

import FuzzTargets
import Testing

@Suite struct CorpusTests {
    @Test(arguments: FuzzTarget.all.map(\.name))
    func everyInputIsDecodedOrRefused(name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let inputs = try FuzzCorpus.inputs(of: name)
        #expect(!inputs.isEmpty, "no corpus for \(name)")
        for input in inputs { input.withUnsafeBytes { target.run($0) } }
    }

    @Test func noCorpusWithoutItsTarget() throws {
        #expect(try Set(FuzzCorpus.names) == Set(FuzzTarget.all.map(\.name)))
    }
}
