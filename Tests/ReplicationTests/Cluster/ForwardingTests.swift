// Commands that a follower hands to the leader, through the simulated network.
import Engine
import Replication
import Simulation
import Synchronization
import Testing

@Suite struct ForwardingTests {
    /// What the leader's handler and the followers' completions saw.
    private final class Seen: Sendable {
        struct State {
            /// Where the handler's frame stood, of the first call and the last.
            var firstFrame: UInt?
            var lastFrame: UInt = 0
            var answers = 0
            var wrong = 0
        }
        let state = Mutex(State())
    }

    /// A handler is called as often as clients write; a call must not cost more than the one before.
    @Test func everyForwardCostsTheSame() throws {
        let cluster = SimulatedCluster(ClusterSettings(seed: 5))
        #expect(cluster.run(atMost: 5_000) { !cluster.leaders.isEmpty })
        let leader = try #require(cluster.leaders.first)
        let followers = cluster.running.filter { $0.replica !== leader.replica }
        let seen = Seen()
        leader.replica.setForwardHandler { request, reply in
            var here: UInt8 = 0
            let frame = withUnsafePointer(to: &here) { UInt(bitPattern: $0) }
            seen.state.withLock {
                if $0.firstFrame == nil { $0.firstFrame = frame }
                $0.lastFrame = frame
            }
            reply(request.reversed())
        }
        let count = 4_000
        for number in 0..<count {
            let request = withUnsafeBytes(of: UInt32(number).littleEndian) { [UInt8]($0) }
            followers[number % followers.count].replica.forward(request) { outcome in
                seen.state.withLock {
                    $0.answers += 1
                    if case .answered(let bytes) = outcome, bytes == request.reversed() { return }
                    $0.wrong += 1
                }
            }
            if number % 100 == 0 { cluster.run(milliseconds: 200) }
        }
        cluster.run(milliseconds: 2_000)
        let result = seen.state.withLock { $0 }
        #expect(result.answers == count && result.wrong == 0)
        let first = try #require(result.firstFrame)
        let grown = max(first, result.lastFrame) - min(first, result.lastFrame)
        #expect(grown < 64 << 10, "the stack is \(grown) bytes deeper than at first")
    }
}
