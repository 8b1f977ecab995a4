// What one node asked its peers for in vain. A read may fail for want of a block, but only if the
// node did ask, a moment ago, and nobody whom it reached had the block. Whether that was so is
// judged when it asks (`SimulatedProcess.block`); here is what was found then. Pure.
import Engine

package struct UnansweredQuestions {
    /// When each was asked for, the latest last: heals ask beside reads, and after a clock was set
    /// back the pause of an earlier question may be the one that still holds.
    private var blocks: [BlockAddress: [ClockMilliseconds]] = [:]
    private var reads: [ClockMilliseconds] = []
    private static let timesMax = 64

    package init() {}

    /// Nobody had the block when the node's own clock showed `now`.
    package mutating func noteBlock(_ address: BlockAddress, now: ClockMilliseconds) {
        UnansweredQuestions.add(now, to: &blocks[address, default: []])
    }

    /// Nobody answered a read in its place.
    package mutating func noteRead(now: ClockMilliseconds) {
        UnansweredQuestions.add(now, to: &reads)
    }

    private static func add(_ time: ClockMilliseconds, to times: inout [ClockMilliseconds]) {
        if times.count == timesMax { times.removeFirst() }
        times.append(time)
    }

    /// Whether what stands here is why something that reads many keys fails with `error`.
    package func explainScan(_ error: EngineError, now: ClockMilliseconds) -> Bool {
        guard case .blockLost(let address, _) = error else { return false }
        return isRecent(blocks[address] ?? [], now)
    }

    /// The same for one key, which a peer may answer though it does not have the block.
    package func explainRead(_ error: EngineError, now: ClockMilliseconds) -> Bool {
        explainScan(error, now: now) && isRecent(reads, now)
    }

    /// As long as the node asks nobody again.
    private func isRecent(_ times: [ClockMilliseconds], _ now: ClockMilliseconds) -> Bool {
        times.contains { $0 <= now && now - $0 < FruitlessQuestions.pauseMilliseconds }
    }
}
