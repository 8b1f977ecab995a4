// What no replica could answer a moment ago. Reads wait for replicas in a pool that all share, so
// what is lost everywhere is asked for again only after a pause, and then by one read at a time;
// the others fail at once. Pure.

package struct FruitlessQuestions {
    package enum Question: Hashable {
        /// The bytes of a block.
        case block(BlockAddress)
        /// The answer to a read that needs the block.
        case read(BlockAddress)
    }

    package static let pauseMilliseconds: UInt64 = 5_000
    /// More than this and the memory starts over.
    package static let questionsMax = 4_096

    private var until: [Question: UInt64] = [:]

    package init() {}

    package var count: Int { until.count }

    /// Whether to ask now. If so after a pause, the next one begins: nobody else asks meanwhile.
    package mutating func mayAsk(_ question: Question, now: UInt64) -> Bool {
        guard let end = until[question] else { return true }
        // A clock that was set back must not make the pause longer.
        if now < end, end - now <= FruitlessQuestions.pauseMilliseconds { return false }
        until[question] = now + FruitlessQuestions.pauseMilliseconds
        return true
    }

    /// Somebody is there who may know the answers.
    package mutating func forget() { until.removeAll() }

    package mutating func note(_ question: Question, isAnswered: Bool, now: UInt64) {
        if isAnswered {
            until[question] = nil
            return
        }
        if until.count >= FruitlessQuestions.questionsMax { until.removeAll() }
        until[question] = now + FruitlessQuestions.pauseMilliseconds
    }
}
