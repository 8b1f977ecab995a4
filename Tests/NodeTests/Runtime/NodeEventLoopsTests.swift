import NIOCore
import Node
import Testing

@Suite struct NodeEventLoopsTests {
    @Test func theMachineDecidesUnlessTheSettingDoes() {
        func threads(_ wanted: Int, on processors: Int) -> Int {
            NodeEventLoops(clientThreads: wanted, processors: processors).clientThreads
        }
        #expect(threads(0, on: 1) == 0 && threads(0, on: 2) == 0)
        #expect(threads(0, on: 3) == 2 && threads(0, on: 64) == 2)
        #expect(threads(1, on: 1) == 1 && threads(4, on: 64) == 4)
    }

    @Test(arguments: [0, 1, 2])
    func loopsRunBetweenStartAndStop(_ wanted: Int) async throws {
        let loops = NodeEventLoops(clientThreads: wanted, processors: 1)
        #expect(loops.clients == nil && loops.replica == nil)
        try await loops.start()
        let replica = try #require(loops.replica)
        let shared = loops.clients?.makeIterator().contains { $0 === replica }
        #expect(shared == (wanted == 0))
        #expect(try await replica.submit { true }.get())
        await loops.stop()
        #expect(loops.clients == nil && loops.replica == nil)
    }
}
